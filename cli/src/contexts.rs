//! The file of contexts: named sets of client settings, one of which is current.
//!
//! Invariant: what this version does not know in the file survives a change.

use std::env;
use std::fs;
use std::io;
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;

use toml::Table;
use toml::Value;

use crate::failure::Failure;

const CURRENT: &str = "current";
const CONTEXTS: &str = "contexts";

/// The contexts of this user.
#[derive(Debug)]
pub(crate) struct Contexts {
    path: PathBuf,
    table: Table,
}

/// A context that gave way to another of its name.
#[derive(Debug)]
pub(crate) struct Replaced(Value);

impl Contexts {
    /// Reads `$XDG_CONFIG_HOME/quorate/contexts.toml`; a missing file holds no contexts.
    pub(crate) fn load() -> Result<Self, Failure> {
        Self::load_from(default_path()?)
    }

    fn load_from(path: PathBuf) -> Result<Self, Failure> {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(Failure::file("read", &path, &error)),
        };
        let table = text.parse().map_err(|error: toml::de::Error| {
            Failure::usage(format!("{} is not a contexts file", path.display()))
                .with_cause(error.to_string().trim_end().to_owned())
        })?;
        Ok(Self { path, table })
    }

    /// The context that is used unless another is named.
    pub(crate) fn current(&self) -> Option<&str> {
        self.table.get(CURRENT).and_then(Value::as_str)
    }

    /// The names of all contexts, sorted.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self
            .all()
            .into_iter()
            .flat_map(Table::keys)
            .map(String::as_str)
            .collect();
        names.sort_unstable();
        names
    }

    /// The settings of a context as `section.key` and text.
    pub(crate) fn settings(&self, name: &str) -> Result<Vec<(String, String)>, Failure> {
        let sections = self
            .all()
            .and_then(|all| all.get(name))
            .and_then(Value::as_table);
        let sections = sections.ok_or_else(|| self.unknown(name))?;
        let mut settings = Vec::new();
        for (section, keys) in sections {
            for (key, value) in keys.as_table().into_iter().flatten() {
                let setting = format!("{section}.{key}");
                let text = text(value).ok_or_else(|| self.not_a_value(name, &setting))?;
                settings.push((setting, text));
            }
        }
        Ok(settings)
    }

    /// Adds or replaces a context that consists of client settings, and makes it current. Gives
    /// the one it replaced.
    pub(crate) fn put(
        &mut self,
        name: &str,
        client: &[(&str, String)],
    ) -> Result<Option<Replaced>, Failure> {
        check_name(name)?;
        let client: Table = client
            .iter()
            .map(|(key, value)| ((*key).to_owned(), Value::String(value.clone())))
            .collect();
        let context = Table::from_iter([("client".to_owned(), Value::Table(client))]);
        let all = self
            .table
            .entry(CONTEXTS)
            .or_insert_with(|| Value::Table(Table::new()));
        let Some(all) = all.as_table_mut() else {
            let text = format!("`contexts` is not a table in {}", self.path.display());
            return Err(Failure::usage(text));
        };
        let replaced = all.insert(name.to_owned(), Value::Table(context));
        self.table
            .insert(CURRENT.to_owned(), Value::String(name.to_owned()));
        Ok(replaced.map(Replaced))
    }

    /// Takes back what [`put`](Self::put) replaced, unless its files are gone by now.
    pub(crate) fn restore(&mut self, name: &str, replaced: Replaced) {
        let Replaced(context) = replaced;
        let ca_file = context
            .get("client")
            .and_then(|client| client.get("ca_file"));
        let usable = ca_file
            .and_then(Value::as_str)
            .is_none_or(|path| Path::new(path).exists());
        let all = self.table.get_mut(CONTEXTS).and_then(Value::as_table_mut);
        if let (true, Some(all)) = (usable, all) {
            all.insert(name.to_owned(), context);
        }
    }

    /// Makes a context current; whether that changed anything.
    pub(crate) fn select(&mut self, name: &str) -> Result<bool, Failure> {
        if !self.contains(name) {
            return Err(self.unknown(name));
        }
        let changed = self.current() != Some(name);
        self.table
            .insert(CURRENT.to_owned(), Value::String(name.to_owned()));
        Ok(changed)
    }

    /// Removes a context; if it was current, none is current afterwards.
    pub(crate) fn remove(&mut self, name: &str) -> Result<(), Failure> {
        let all = self.table.get_mut(CONTEXTS).and_then(Value::as_table_mut);
        if all.and_then(|all| all.remove(name)).is_none() {
            return Err(self.unknown(name));
        }
        if self.current() == Some(name) {
            self.table.remove(CURRENT);
        }
        Ok(())
    }

    /// Whether there is a context of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.all().is_some_and(|all| all.contains_key(name))
    }

    /// Writes the file so that a reader sees the old or the new one.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        let draft = self
            .path
            .with_extension(format!("{}.new", std::process::id()));
        self.write(&draft)
            .and_then(|()| fs::rename(&draft, &self.path))
            .map_err(|error| Failure::file("write", &self.path, &error))
    }

    fn write(&self, draft: &Path) -> io::Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)?;
        }
        let mut options = fs::OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(draft)?;
        file.write_all(self.table.to_string().as_bytes())
    }

    fn all(&self) -> Option<&Table> {
        self.table.get(CONTEXTS).and_then(Value::as_table)
    }

    fn unknown(&self, name: &str) -> Failure {
        let shown = name.escape_default();
        let failure = Failure::usage(format!("there is no context `{shown}`"))
            .with_cause(format!("looked in {}", self.path.display()));
        match self.names().as_slice() {
            [] => failure.with_help("quorate dev"),
            names => failure.with_help(format!("known contexts: {}", names.join(", "))),
        }
    }

    fn not_a_value(&self, name: &str, setting: &str) -> Failure {
        let text = format!("`{setting}` of context `{name}` is neither text, number nor list");
        Failure::usage(text).with_cause(self.path.display().to_string())
    }
}

/// Context names stand in commands and files without quoting.
pub(crate) fn check_name(name: &str) -> Result<(), Failure> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=128).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    let shown = name.escape_default();
    Err(Failure::usage(format!("`{shown}` cannot name a context"))
        .with_help("use 1 to 128 of A-Z, a-z, 0-9, `.`, `_` and `-`"))
}

fn default_path() -> Result<PathBuf, Failure> {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let config = absolute("XDG_CONFIG_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".config")))
        .ok_or_else(|| {
            Failure::usage("neither XDG_CONFIG_HOME nor HOME names a directory for contexts")
        })?;
    Ok(config.join("quorate").join("contexts.toml"))
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Boolean(flag) => Some(flag.to_string()),
        Value::Array(items) => {
            let items: Option<Vec<_>> = items.iter().map(text).collect();
            items.map(|items| items.join(","))
        }
        Value::Float(_) | Value::Datetime(_) | Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contexts(text: &str) -> (tempfile::TempDir, Contexts) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("quorate/contexts.toml");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let contexts = Contexts::load_from(path).unwrap();
        (dir, contexts)
    }

    #[test]
    fn a_missing_file_holds_no_contexts_and_appears_on_save() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/contexts.toml");
        let mut contexts = Contexts::load_from(path.clone()).unwrap();
        assert_eq!((contexts.current(), contexts.names().len()), (None, 0));
        contexts
            .put("dev", &[("servers", "127.0.0.1:4747".to_owned())])
            .unwrap();
        contexts.save().unwrap();
        let again = Contexts::load_from(path).unwrap();
        assert_eq!(again.current(), Some("dev"));
        let servers = ("client.servers".to_owned(), "127.0.0.1:4747".to_owned());
        assert_eq!(again.settings("dev").unwrap(), [servers]);
    }

    #[test]
    fn what_is_not_known_survives_a_change() {
        let text = "theme = 'dark'\n[contexts.prod.client]\nservers = ['a:1', 'b:2']\n\
                    [contexts.prod.gateway]\nurl = 'https://x'\n";
        let (_dir, mut contexts) = contexts(text);
        contexts
            .put("dev", &[("servers", "c:3".to_owned())])
            .unwrap();
        contexts.save().unwrap();
        let again = Contexts::load_from(contexts.path.clone()).unwrap();
        assert_eq!(again.names(), ["dev", "prod"]);
        assert_eq!(
            again.table.get("theme").and_then(Value::as_str),
            Some("dark")
        );
        let settings = again.settings("prod").unwrap();
        assert!(settings.contains(&("client.servers".to_owned(), "a:1,b:2".to_owned())));
        assert!(settings.contains(&("gateway.url".to_owned(), "https://x".to_owned())));
    }

    #[test]
    fn selecting_and_removing_follow_the_current_one() {
        let (_dir, mut contexts) = contexts("[contexts.a.client]\n[contexts.b.client]\n");
        assert!(contexts.select("a").unwrap());
        assert!(!contexts.select("a").unwrap());
        contexts.remove("b").unwrap();
        assert_eq!(contexts.current(), Some("a"));
        contexts.remove("a").unwrap();
        assert_eq!(contexts.current(), None);
        let help = contexts.select("a").unwrap_err();
        assert!(help.message().contains("no context `a`"));
    }

    #[test]
    fn a_broken_file_is_named_with_the_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("contexts.toml");
        fs::write(&path, "current = \n").unwrap();
        let failure = Contexts::load_from(path).unwrap_err().to_string();
        assert!(
            failure.contains("contexts.toml") && failure.contains("line 1"),
            "{failure}"
        );
    }

    #[test]
    fn names_need_no_quotes() {
        for name in ["", "a b", "a/b", "a\"", "é"] {
            assert!(check_name(name).is_err(), "accepted {name:?}");
        }
        check_name("prod-eu.1").unwrap();
    }
}
