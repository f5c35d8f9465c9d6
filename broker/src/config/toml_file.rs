//! Reads the text of `quorate.toml` into keys, values and the line each stands on.

use toml::de::DeTable;
use toml::de::DeValue;

use crate::config::error::ConfigError;
use crate::config::merge::Entry;
use crate::config::merge::Raw;
use crate::config::merge::Source;

/// Every `section.key` of a file. Problems are added to `errors`.
pub(crate) fn entries(path: &str, text: &str, errors: &mut Vec<ConfigError>) -> Vec<Entry> {
    let (document, problems) = DeTable::parse_recoverable(text);
    for problem in &problems {
        errors.push(ConfigError::Syntax {
            path: path.to_owned(),
            line: line_of(text, problem.span().map_or(0, |span| span.start)),
            reason: problem.message().to_owned(),
        });
    }
    if !problems.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (section, value) in document.get_ref() {
        let place = |at: usize| Source::File {
            path: path.to_owned(),
            line: line_of(text, at),
        };
        match value.get_ref() {
            DeValue::Table(table) => found.extend(table.iter().map(|(name, value)| Entry {
                key: format!("{}.{}", section.get_ref(), name.get_ref()),
                raw: raw(value.get_ref()),
                source: place(name.span().start),
            })),
            other => found.push(Entry {
                key: section.get_ref().to_string(),
                raw: raw(other),
                source: place(section.span().start),
            }),
        }
    }
    found
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
