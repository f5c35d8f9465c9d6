//! Reads the text of `quorate.toml` into keys, values and the line each stands on.

use toml::Spanned;
use toml::de::DeString;
use toml::de::DeTable;
use toml::de::DeValue;

use crate::config::error::ConfigError;
use crate::config::merge::Entry;
use crate::config::merge::Raw;
use crate::config::merge::Source;
use crate::config::peers::RawPeer;

/// The one section that is a list of tables.
const PEERS: &str = "peers";

/// What a file says.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Every `section.key`.
    pub(crate) entries: Vec<Entry>,
    /// Every `[[peers]]`.
    pub(crate) peers: Vec<RawPeer>,
}

/// Reads a file's text. Problems are added to `errors`.
pub(crate) fn contents(path: &str, text: &str, errors: &mut Vec<ConfigError>) -> Contents {
    let (document, problems) = DeTable::parse_recoverable(text);
    let place = Place { path, text };
    for problem in &problems {
        let at = problem.span().map_or(0, |span| span.start);
        errors.push(place.syntax(at, problem.message()));
    }
    let mut contents = Contents::default();
    if !problems.is_empty() {
        return contents;
    }
    for (section, value) in document.get_ref() {
        let at = section.span().start;
        match value.get_ref() {
            DeValue::Array(peers) if section.get_ref() == PEERS => {
                let read = peers.iter().map(|peer| place.peer(peer, errors));
                contents.peers = read.collect::<Vec<_>>().into_iter().flatten().collect();
            }
            _ if section.get_ref() == PEERS => {
                errors.push(place.syntax(at, "write [[peers]] with two brackets, once per broker"));
            }
            DeValue::Table(table) => {
                contents
                    .entries
                    .extend(place.fields(table, &format!("{}.", section.get_ref())));
            }
            other => contents.entries.push(Entry {
                key: section.get_ref().to_string(),
                raw: raw(other),
                source: place.source(at),
            }),
        }
    }
    contents
}

/// Where in which file something stands.
struct Place<'a> {
    path: &'a str,
    text: &'a str,
}

impl Place<'_> {
    fn source(&self, at: usize) -> Source {
        Source::File {
            path: self.path.to_owned(),
            line: line_of(self.text, at),
        }
    }

    fn syntax(&self, at: usize, reason: &str) -> ConfigError {
        ConfigError::Syntax {
            path: self.path.to_owned(),
            line: line_of(self.text, at),
            reason: reason.to_owned(),
        }
    }

    fn fields(&self, table: &DeTable<'_>, prefix: &str) -> Vec<Entry> {
        let entry = |(name, value): (&Spanned<DeString<'_>>, &Spanned<DeValue<'_>>)| Entry {
            key: format!("{prefix}{}", name.get_ref()),
            raw: raw(value.get_ref()),
            source: self.source(name.span().start),
        };
        table.iter().map(entry).collect()
    }

    fn peer(&self, peer: &Spanned<DeValue<'_>>, errors: &mut Vec<ConfigError>) -> Option<RawPeer> {
        let at = peer.span().start;
        let DeValue::Table(table) = peer.get_ref() else {
            errors.push(self.syntax(at, "each of peers is a table: [[peers]]"));
            return None;
        };
        Some(RawPeer {
            fields: self.fields(table, ""),
            source: self.source(at),
        })
    }
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Raw::Number(number),
            Err(_) => Raw::Other(number.as_str().to_owned()),
        },
        DeValue::Float(number) => Raw::Other(number.as_str().to_owned()),
        DeValue::Boolean(value) => Raw::Other(value.to_string()),
        DeValue::Datetime(value) => Raw::Other(value.to_string()),
        DeValue::Array(_) => Raw::Other("an array".to_owned()),
        DeValue::Table(_) => Raw::Other("a table".to_owned()),
    }
}

fn line_of(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    before.filter(|byte| **byte == b'\n').count() + 1
}
