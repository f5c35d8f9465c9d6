//! Contexts: named sets of client options that the `quorate` command keeps in a file.

use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;

use toml::Table;
use toml::Value;

use crate::failure::Failure;

/// Names the context to use.
const VARIABLE: &str = "QUORATE_CONTEXT";
/// Sections of a context that other programs read.
const FOREIGN: [&str; 1] = ["gateway"];

/// The options of the context of this name; without one, of `QUORATE_CONTEXT` or the current one,
/// if there is any.
pub(crate) fn options(name: Option<&str>) -> Result<Vec<(String, String)>, Failure> {
    let variable = env::var(VARIABLE).ok().filter(|name| !name.is_empty());
    let Some(path) = path() else {
        return match name.or(variable.as_deref()) {
            Some(name) => Err(Failure::invalid(format!(
                "context `{name}`: neither XDG_CONFIG_HOME nor HOME names a directory"
            ))),
            None => Ok(Vec::new()),
        };
    };
    let file = path.display().to_string();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Failure::invalid(format!("cannot read {file}: {error}"))),
    };
    let name = name.map(str::to_owned).or(variable);
    of(&text, name).map_err(|why| Failure::invalid(format!("{file}: {why}")))
}

fn path() -> Option<PathBuf> {
    let absolute = |name| {
        let path = env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let config = absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))?;
    Some(config.join("quorate").join("contexts.toml"))
}

/// The options of a context in the text of the file.
fn of(text: &str, name: Option<String>) -> Result<Vec<(String, String)>, String> {
    let table: Table = text
        .parse()
        .map_err(|error: toml::de::Error| error.to_string().trim_end().to_owned())?;
    let current = table.get("current").and_then(Value::as_str);
    let Some(name) = name.or_else(|| current.map(str::to_owned)) else {
        return Ok(Vec::new());
    };
    let contexts = table.get("contexts").and_then(Value::as_table);
    let sections = contexts.and_then(|all| all.get(&name)?.as_table());
    let sections = sections.ok_or_else(|| format!("there is no context `{name}`"))?;
    let mut options = Vec::new();
    for (section, keys) in sections {
        if FOREIGN.contains(&section.as_str()) {
            continue;
        }
        for (key, value) in keys.as_table().into_iter().flatten() {
            let option = format!("{section}.{key}");
            let value = plain(value).ok_or_else(|| {
                format!("`{option}` of context `{name}` is neither text, number nor list")
            })?;
            options.push((option, value));
        }
    }
    Ok(options)
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        Value::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(plain).collect();
            items.map(|items| items.join(","))
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "current = 'dev'\n\
        [contexts.dev.client]\nservers = ['a:1', 'b:2']\nconnect_timeout_ms = 5\n\
        [contexts.dev.gateway]\nurl = 'https://x'\n\
        [contexts.odd.client]\nservers = 1.5\n";

    #[test]
    fn a_context_gives_the_clients_options() {
        let options = of(FILE, None).unwrap();
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let expected = [
            pair("client.connect_timeout_ms", "5"),
            pair("client.servers", "a:1,b:2"),
        ];
        assert_eq!(options.len(), 2);
        assert!(expected.iter().all(|option| options.contains(option)));
        assert_eq!(of(FILE, Some("dev".to_owned())).unwrap(), options);
    }

    #[test]
    fn what_is_missing_or_odd_is_named() {
        assert_eq!(of("", None).unwrap(), []);
        let named = |name: &str| of(FILE, Some(name.to_owned())).unwrap_err();
        assert!(named("prod").contains("no context `prod`"));
        assert!(named("odd").contains("`client.servers`"));
        assert!(of("current = \n", None).is_err());
    }
}
