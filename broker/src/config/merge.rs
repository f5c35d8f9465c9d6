//! Merges default, file, environment and flags into one value per key, each with its source.
//!
//! The stronger source wins as a whole; a weaker value is checked all the same.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use crate::config::error::ConfigError;
use crate::config::key::Default;
use crate::config::key::Form;
use crate::config::key::KEYS;
use crate::config::key::Key;
use crate::config::nearest::nearest_key;
use crate::config::value::Printed;
use crate::config::value::Unit;

/// Longest text a setting may have.
const TEXT_BYTES_MAX: usize = 256;
/// Longest path a setting may have.
const PATH_BYTES_MAX: usize = 4096;
/// Sections that belong to clients: their variables may stand in the same environment.
const CLIENT_SECTIONS: [&str; 6] = ["client", "producer", "subscribe", "group", "read", "topic"];

/// Who set a value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Nobody.
    Default,
    /// A configuration file.
    File {
        /// Its path.
        path: String,
        /// The line, from 1.
        line: usize,
    },
    /// An environment variable.
    Env {
        /// Its name.
        name: String,
    },
    /// The command line.
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "file {path}:{line}"),
            Self::Env { name } => write!(f, "env {name}"),
            Self::Flag => f.write_str("flag"),
        }
    }
}

/// A value as its source wrote it.
#[derive(Clone, Debug)]
pub(crate) enum Raw {
    /// A whole number, not negative.
    Number(u64),
    /// Text.
    Text(String),
    /// Something no key takes.
    Other(String),
}

impl fmt::Display for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => {
                let shown: String = text.chars().take(64).collect();
                write!(f, "{}", Printed::Text(shown))
            }
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// One key set by one source.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) raw: Raw,
    pub(crate) source: Source,
}

/// A checked value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// In base units: ones, bytes, microseconds.
    Number(u64),
    /// Text, a path, an address or a word.
    Text(String),
}

/// A checked value and who set it.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) value: Value,
    pub(crate) source: Source,
}

/// The merged settings, by `section.name`.
#[derive(Clone, Debug)]
pub(crate) struct Settings(BTreeMap<String, Setting>);

impl Settings {
    /// Checks and merges entries; later ones are stronger.
    pub(crate) fn merge(entries: Vec<Entry>, errors: &mut Vec<ConfigError>) -> Self {
        let mut merged = BTreeMap::new();
        for entry in entries {
            match check(&entry) {
                Ok(setting) => {
                    merged.insert(entry.key, setting);
                }
                Err(error) => errors.push(error),
            }
        }
        let mut settings = Self(merged);
        settings.fill_defaults(errors);
        settings
    }

    fn fill_defaults(&mut self, errors: &mut Vec<ConfigError>) {
        for key in &KEYS {
            let path = key.path();
            if self.0.contains_key(&path) {
                continue;
            }
            match key.default {
                Default::Value(text) => {
                    let entry = Entry {
                        key: path.clone(),
                        raw: Raw::Text(text.to_owned()),
                        source: Source::Default,
                    };
                    match check(&entry) {
                        Ok(setting) => {
                            self.0.insert(path, setting);
                        }
                        Err(error) => errors.push(error),
                    }
                }
                // A value that was refused is not missing as well.
                Default::Required(example) if !errors.iter().any(|e| concerns(e, &path)) => {
                    errors.push(ConfigError::Missing {
                        key: path,
                        meaning: key.meaning.to_owned(),
                        example: shown_example(key, example),
                    });
                }
                Default::Required(_) | Default::Derived(..) => {}
            }
        }
    }

    /// The setting of a key, absent if it is neither set nor has a default.
    pub(crate) fn get(&self, path: &str) -> Option<&Setting> {
        self.0.get(path)
    }

    /// A number in base units, 0 if absent.
    pub(crate) fn number(&self, path: &str) -> u64 {
        match self.0.get(path) {
            Some(Setting {
                value: Value::Number(number),
                ..
            }) => *number,
            _ => 0,
        }
    }

    /// A text, empty if absent.
    pub(crate) fn text(&self, path: &str) -> &str {
        match self.0.get(path) {
            Some(Setting {
                value: Value::Text(text),
                ..
            }) => text,
            _ => "",
        }
    }

    /// Sets what the server found out itself.
    pub(crate) fn derive(&mut self, path: &str, text: String) {
        let setting = Setting {
            value: Value::Text(text),
            source: Source::Default,
        };
        self.0.entry(path.to_owned()).or_insert(setting);
    }
}

/// The environment variables that set a key. `QUORATE_X` without `__` and client keys are others'.
pub(crate) fn env_entries(variables: impl IntoIterator<Item = (String, String)>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = variables
        .into_iter()
        .filter_map(|(name, value)| {
            let (section, key) = name.strip_prefix("QUORATE_")?.split_once("__")?;
            let section = section.to_lowercase();
            if CLIENT_SECTIONS.contains(&section.as_str()) {
                return None;
            }
            Some(Entry {
                key: format!("{section}.{}", key.to_lowercase()),
                raw: Raw::Text(value),
                source: Source::Env { name },
            })
        })
        .collect();
    entries.sort_by(|a, b| a.key.cmp(&b.key));
    entries
}

/// The command line's `section.key=value` pairs.
pub(crate) fn flag_entries(flags: &[(String, String)]) -> Vec<Entry> {
    let entry = |(key, value): &(String, String)| Entry {
        key: key.clone(),
        raw: Raw::Text(value.clone()),
        source: Source::Flag,
    };
    flags.iter().map(entry).collect()
}

/// An example as it would be written in TOML.
pub(crate) fn shown_example(key: &Key, example: &str) -> String {
    match key.form {
        Form::Number { .. } => example.to_owned(),
        _ => Printed::Text(example.to_owned()).to_string(),
    }
}

fn concerns(error: &ConfigError, path: &str) -> bool {
    match error {
        ConfigError::WrongForm { key, .. } | ConfigError::OutOfRange { key, .. } => key == path,
        ConfigError::Unreadable { .. } | ConfigError::Syntax { .. } => true,
        _ => false,
    }
}

fn check(entry: &Entry) -> Result<Setting, ConfigError> {
    let Some(key) = Key::find(&entry.key) else {
        return Err(ConfigError::UnknownKey {
            key: entry.key.chars().take(64).collect(),
            source_of: entry.source.clone(),
            nearest: nearest_key(&entry.key),
        });
    };
    Ok(Setting {
        value: check_form(entry, key.form)?,
        source: entry.source.clone(),
    })
}

/// The value of an entry, if it is of this form.
pub(crate) fn check_form(entry: &Entry, form: Form) -> Result<Value, ConfigError> {
    match form {
        Form::Number { unit, min, max } => check_number(entry, unit, (min, max)),
        _ => check_text(entry, form),
    }
}

fn check_number(entry: &Entry, unit: Unit, range: (u64, u64)) -> Result<Value, ConfigError> {
    let base = match &entry.raw {
        Raw::Number(number) => number.checked_mul(unit.factor()),
        Raw::Text(text) => unit.parse(text),
        Raw::Other(_) => None,
    };
    let base = base.ok_or_else(|| wrong_form(entry, unit.form()))?;
    let (min, max) = (range.0 * unit.factor(), range.1 * unit.factor());
    if (min..=max).contains(&base) {
        return Ok(Value::Number(base));
    }
    Err(ConfigError::OutOfRange {
        key: entry.key.clone(),
        value: entry.raw.to_string(),
        source_of: entry.source.clone(),
        range: format!("{} to {}", unit.print(min), unit.print(max)),
    })
}

fn check_text(entry: &Entry, form: Form) -> Result<Value, ConfigError> {
    let expected = text_form(form);
    let ((Raw::Text(text), _) | (Raw::Other(text), Form::Word(_))) = (&entry.raw, form) else {
        return Err(wrong_form(entry, &expected));
    };
    let fits = match form {
        Form::Path => !text.is_empty() && text.len() <= PATH_BYTES_MAX && !text.contains('\0'),
        Form::Name => is_name(text),
        Form::Socket => text.parse::<SocketAddr>().is_ok(),
        Form::HostPort => is_host_port(text),
        Form::Word(words) => words.contains(&text.as_str()),
        Form::Number { .. } => false,
    };
    if fits {
        Ok(Value::Text(text.clone()))
    } else {
        Err(wrong_form(entry, &expected))
    }
}

fn text_form(form: Form) -> String {
    match form {
        Form::Path => "a path".to_owned(),
        Form::Name => "1 to 128 of a-z, 0-9, '.', '_' and '-', without '..'".to_owned(),
        Form::Socket => "IP:PORT, for example \"0.0.0.0:4747\" or \"[::]:4747\"".to_owned(),
        Form::HostPort => "HOST:PORT with a port above 0".to_owned(),
        Form::Word(words) => format!("one of {}", words.join(", ")),
        Form::Number { unit, .. } => unit.form().to_owned(),
    }
}

fn wrong_form(entry: &Entry, expected: &str) -> ConfigError {
    ConfigError::WrongForm {
        key: entry.key.clone(),
        value: entry.raw.to_string(),
        source_of: entry.source.clone(),
        expected: expected.to_owned(),
    }
}

fn is_name(text: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    (1..=128).contains(&text.len())
        && text != "."
        && !text.contains("..")
        && text.bytes().all(allowed)
}

fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let bracketed = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let host_fits = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(named),
    };
    text.len() <= TEXT_BYTES_MAX && host_fits && port.parse::<u16>().is_ok_and(|port| port > 0)
}
