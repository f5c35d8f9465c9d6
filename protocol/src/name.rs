//! Topic names: short, printable, safe in a path and a URL.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;

use crate::bounded::Text;

/// A valid topic name: 1 to 128 of `[A-Za-z0-9._-]`, not starting with `__`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Text<{ Self::LEN_MAX }>);

/// Why a text is no topic name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The name has no character.
    #[error("the topic name is empty: use 1 to 128 of A-Z a-z 0-9 . _ -")]
    Empty,
    /// The name is longer than [`TopicName::LEN_MAX`].
    #[error("the topic name has {len} bytes: at most 128 are allowed")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The name holds a character outside the allowed set.
    #[error("the topic name `{name}` holds {character:?}: use only A-Z a-z 0-9 . _ -")]
    Character {
        /// The refused name.
        name: String,
        /// Its first character that is not allowed.
        character: char,
    },
    /// The name starts with `__`.
    #[error("the topic name `{name}` starts with `__`, which is kept for internal topics")]
    Reserved {
        /// The refused name.
        name: String,
    },
}

impl TopicName {
    /// The longest name in bytes.
    pub const LEN_MAX: usize = 128;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The name as a bounded text field.
    pub fn to_text(&self) -> Text<{ Self::LEN_MAX }> {
        self.0.clone()
    }
}

impl TryFrom<&str> for TopicName {
    type Error = NameError;

    fn try_from(name: &str) -> Result<Self, NameError> {
        let too_long = || NameError::TooLong { len: name.len() };
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        let text = Text::try_from(name).map_err(|_| too_long())?;
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if let Some(character) = name.chars().find(|c| !allowed(c)) {
            let name = name.to_owned();
            return Err(NameError::Character { name, character });
        }
        if name.starts_with("__") {
            let name = name.to_owned();
            return Err(NameError::Reserved { name });
        }
        Ok(Self(text))
    }
}

impl TryFrom<String> for TopicName {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::try_from(name.as_str())
    }
}

impl std::str::FromStr for TopicName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::try_from(name)
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl Serialize for TopicName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for TopicName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::<{ Self::LEN_MAX }>::deserialize(deserializer)?;
        Self::try_from(text.as_str()).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_pass() {
        for name in ["a", "orders", "Orders.eu-1_x", "_one", &"x".repeat(128)] {
            assert_eq!(TopicName::try_from(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn bad_names_say_why() {
        assert_eq!(TopicName::try_from(""), Err(NameError::Empty));
        let long = "x".repeat(129);
        assert_eq!(
            TopicName::try_from(long.as_str()),
            Err(NameError::TooLong { len: 129 })
        );
        assert!(matches!(
            TopicName::try_from("a/b"),
            Err(NameError::Character { character: '/', .. })
        ));
        assert!(matches!(
            TopicName::try_from("__groups"),
            Err(NameError::Reserved { .. })
        ));
    }

    #[test]
    fn decoding_validates() {
        let bytes = postcard::to_stdvec("bad name").unwrap();
        assert!(postcard::from_bytes::<TopicName>(&bytes).is_err());
        let bytes = postcard::to_stdvec("good").unwrap();
        assert_eq!(
            postcard::from_bytes::<TopicName>(&bytes).unwrap().as_str(),
            "good"
        );
    }
}
