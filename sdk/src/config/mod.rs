//! The client's options: `section.key` names with text values, one typed struct per section.
//!
//! Invariant: an unknown key or a bad value is refused with the key's name; nothing is ignored.

mod client;
mod producer;
mod read;
mod subscribe;
mod topic;
mod value;

pub(crate) use client::ClientOptions;
pub(crate) use producer::ProducerOptions;
pub(crate) use read::ReadOptions;
pub(crate) use subscribe::SubscribeOptions;
pub(crate) use topic::TopicOptions;

pub use producer::Compression;
pub use producer::Partitioner;
pub use subscribe::OnTruncated;
pub use subscribe::WhenSlow;
pub use topic::Flush;
pub use topic::Storage;

use crate::error::Error;
use crate::error::Result;

/// The length of a relative time such as `1h` or `90s`.
pub(crate) fn relative_time(text: &str) -> std::result::Result<std::time::Duration, String> {
    value::duration(text, value::Unit::Milliseconds)
}

/// Every section with its defaults or what was set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Options {
    pub(crate) client: ClientOptions,
    pub(crate) producer: ProducerOptions,
    pub(crate) subscribe: SubscribeOptions,
    pub(crate) read: ReadOptions,
    pub(crate) topic: TopicOptions,
}

const SECTIONS: &[(&str, &[&str])] = &[
    ("client", ClientOptions::KEYS),
    ("producer", ProducerOptions::KEYS),
    ("subscribe", SubscribeOptions::KEYS),
    ("read", ReadOptions::KEYS),
    ("topic", TopicOptions::KEYS),
];

impl Options {
    /// Sets one option by its name, such as `producer.linger_us`.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let unknown = || unknown_key(name);
        let (section, key) = name.split_once('.').ok_or_else(unknown)?;
        let set = match section {
            "client" => self.client.set(key, value),
            "producer" => self.producer.set(key, value),
            "subscribe" => self.subscribe.set(key, value),
            "read" => self.read.set(key, value),
            "topic" => self.topic.set(key, value),
            _ => return Err(unknown()),
        };
        match set {
            Ok(true) => Ok(()),
            Ok(false) => Err(unknown()),
            Err(problem) => Err(Error::invalid(format!("option `{name}`: {problem}"))),
        }
    }

    /// Takes `QUORATE_SECTION__KEY` variables; those of sections that are not the client's are
    /// the broker's and left alone.
    pub(crate) fn set_from_env(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<()> {
        for (variable, value) in variables {
            if let Some(option) = option_of_variable(&variable) {
                self.set(&option, &value)
                    .map_err(|error| error.at(&variable))?;
            }
        }
        Ok(())
    }
}

/// The option that an environment variable sets, `client.servers` for `QUORATE_CLIENT__SERVERS`;
/// none for variables that are not the client's.
#[must_use]
pub fn option_of_variable(variable: &str) -> Option<String> {
    let (section, key) = variable.strip_prefix("QUORATE_")?.split_once("__")?;
    let section = section.to_ascii_lowercase();
    let ours = SECTIONS.iter().any(|(known, _)| *known == section);
    ours.then(|| format!("{section}.{}", key.to_ascii_lowercase()))
}

fn unknown_key(name: &str) -> Error {
    let error = Error::invalid(format!("unknown option `{name}`"));
    let names = SECTIONS
        .iter()
        .flat_map(|(section, keys)| keys.iter().map(move |key| format!("{section}.{key}")));
    let near = names
        .map(|known| (distance(&known, name), known))
        .min()
        .filter(|(distance, _)| *distance <= 3);
    match near {
        Some((_, known)) => error.with_help(format!("did you mean `{known}`?")),
        None => error.with_help("options are `section.key`, such as `producer.linger_us`"),
    }
}

/// Letters to insert, remove or replace to get from one name to the other.
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (at, a) in from.chars().enumerate() {
        let mut before = at;
        let mut left = at + 1;
        for (b, slot) in to.chars().zip(row.iter_mut().skip(1)) {
            let replaced = before + usize::from(a != b);
            before = *slot;
            left = replaced.min(before + 1).min(left + 1);
            *slot = left;
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_listed_key_is_settable_or_refuses_the_value_by_name() {
        for (section, keys) in SECTIONS {
            for key in *keys {
                let name = format!("{section}.{key}");
                if let Err(error) = Options::default().set(&name, "\u{1}") {
                    assert!(!error.to_string().contains("unknown option"), "{name}");
                    assert!(error.to_string().contains(&name), "{error}");
                }
            }
        }
    }

    #[test]
    fn values_are_numbers_in_the_unit_of_the_name_or_text_with_their_own() {
        let mut options = Options::default();
        options.set("producer.linger_us", "500").unwrap();
        assert_eq!(options.producer.linger, Duration::from_micros(500));
        options.set("producer.linger_us", "2ms").unwrap();
        assert_eq!(options.producer.linger, Duration::from_millis(2));
        options.set("producer.batch_bytes_max", "64KiB").unwrap();
        assert_eq!(options.producer.batch_bytes_max, 65_536);
    }

    #[test]
    fn a_misspelt_key_is_answered_with_the_nearest() {
        let error = Options::default()
            .set("producer.linger_ms", "1")
            .unwrap_err();
        assert_eq!(error.help(), Some("did you mean `producer.linger_us`?"));
    }

    #[test]
    fn the_environment_sets_client_sections_and_leaves_the_brokers_alone() {
        let mut options = Options::default();
        let variables = [
            ("QUORATE_PRODUCER__NAME", "till-7"),
            ("QUORATE_NODE__ID", "1"),
            ("QUORATE_LOG", "debug"),
            ("HOME", "/root"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        options.set_from_env(variables.into_iter()).unwrap();
        assert_eq!(options.producer.name.as_deref(), Some("till-7"));

        let wrong = [("QUORATE_PRODUCER__NAM".to_owned(), "x".to_owned())];
        let error = options.set_from_env(wrong.into_iter()).unwrap_err();
        assert!(error.to_string().starts_with("QUORATE_PRODUCER__NAM:"));
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("linger_us", "linger_us"), 0);
        assert_eq!(distance("linger_us", "linger_ms"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
    }
}
