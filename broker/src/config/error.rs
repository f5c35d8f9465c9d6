//! One problem with the configuration: what, where, and what to do.

use thiserror::Error;

use crate::config::merge::Source;

/// A setting that cannot be accepted. All of them are reported at once.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// The operating system's answer.
        reason: String,
    },
    /// The file is not TOML, or not a table of sections.
    #[error("{path}:{line}: {reason}")]
    Syntax {
        /// The file.
        path: String,
        /// Where in it.
        line: usize,
        /// What the parser expected.
        reason: String,
    },
    /// No such key.
    #[error("unknown key `{key}` ({source_of})")]
    UnknownKey {
        /// The key as written.
        key: String,
        /// Who set it.
        source_of: Source,
        /// The nearest key there is.
        nearest: Option<String>,
    },
    /// The value is of another form.
    #[error("`{key}` cannot be {value} ({source_of}): it takes {expected}")]
    WrongForm {
        /// The key.
        key: String,
        /// The value as written.
        value: String,
        /// Who set it.
        source_of: Source,
        /// What it takes.
        expected: String,
    },
    /// The value is outside of its range.
    #[error("`{key}` cannot be {value} ({source_of}): it ranges from {range}")]
    OutOfRange {
        /// The key.
        key: String,
        /// The value as written.
        value: String,
        /// Who set it.
        source_of: Source,
        /// The smallest and the largest value.
        range: String,
    },
    /// A key that has no default is not set.
    #[error("`{key}` is not set: {meaning}")]
    Missing {
        /// The key.
        key: String,
        /// What it is for.
        meaning: String,
        /// A value to begin with.
        example: String,
    },
    /// One of the `[[peers]]` cannot be.
    #[error("[[peers]] ({source_of}): {reason}")]
    Peer {
        /// Where it stands.
        source_of: Source,
        /// What is wrong with it.
        reason: String,
    },
    /// Two settings contradict each other.
    #[error("`{key}` is {value} ({source_of}): {reason}")]
    Conflict {
        /// The key to change.
        key: String,
        /// Its value.
        value: String,
        /// Who set it.
        source_of: Source,
        /// What it must satisfy.
        reason: String,
    },
}

impl ConfigError {
    /// What to do about it, if there is something better than the message.
    #[must_use]
    pub fn help(&self) -> Option<String> {
        match self {
            Self::UnknownKey {
                nearest: Some(nearest),
                ..
            } => Some(format!("did you mean `{nearest}`?")),
            Self::UnknownKey { nearest: None, .. } => {
                Some("`quorate serve --print-config` lists every key".to_owned())
            }
            Self::Missing { key, example, .. } => {
                let (section, name) = key.split_once('.').unwrap_or(("", key));
                Some(format!(
                    "add `{name} = {example}` to [{section}], or set {}",
                    env_name(key)
                ))
            }
            _ => None,
        }
    }
}

/// The environment variable of a key.
pub(crate) fn env_name(path: &str) -> String {
    format!("QUORATE_{}", path.to_uppercase().replacen('.', "__", 1))
}
