//! The brokers a cluster begins with: the `[[peers]]` of the file.
//!
//! They stand in the file only, as a whole: neither environment nor flags change one of them.

use std::collections::BTreeSet;

use quorate_protocol::BrokerId;

use crate::config::error::ConfigError;
use crate::config::key::Form;
use crate::config::merge::Entry;
use crate::config::merge::Source;
use crate::config::merge::Value;
use crate::config::merge::check_form;
use crate::config::value::Printed;
use crate::config::value::Unit;

/// Brokers a cluster may have.
const PEERS_MAX: usize = 64;
const ID: Form = Form::Number {
    unit: Unit::One,
    min: 1,
    max: 65_535,
};

/// What each entry must say.
pub(crate) const FIELDS: [(&str, Form, &str, &str); 3] = [
    ("id", ID, "1", "Its node.id."),
    ("name", Form::Name, "\"broker-1\"", "Its node.name."),
    (
        "addr",
        Form::HostPort,
        "\"broker-1.example.org:4748\"",
        "Where other brokers reach it: its listeners.advertise_peer.",
    ),
];

/// One broker of those a cluster begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSeed {
    /// Its number.
    pub id: BrokerId,
    /// Its name.
    pub name: String,
    /// Where other brokers reach it: `HOST:PORT`.
    pub address: String,
}

/// One `[[peers]]` as the file has it.
#[derive(Debug)]
pub(crate) struct RawPeer {
    pub(crate) fields: Vec<Entry>,
    pub(crate) source: Source,
}

/// Checked entries, each with the place it stands at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers(Vec<(PeerSeed, Source)>);

impl Peers {
    /// Checks every entry by itself and against the others.
    pub(crate) fn check(raw: Vec<RawPeer>, errors: &mut Vec<ConfigError>) -> Self {
        if let Some(beyond) = raw.get(PEERS_MAX) {
            let reason = format!("a cluster has at most {PEERS_MAX} brokers");
            errors.push(refused(&beyond.source, reason));
        }
        let mut peers = Self::default();
        for peer in raw.into_iter().take(PEERS_MAX) {
            let source = peer.source.clone();
            if let Some(seed) = seed(peer, errors) {
                peers.0.push((seed, source));
            }
        }
        peers.refuse_repeated(errors);
        peers
    }

    /// The brokers, in the order of the file.
    pub(crate) fn seeds(&self) -> Vec<PeerSeed> {
        self.0.iter().map(|(seed, _)| seed.clone()).collect()
    }

    /// The entry of this broker must say what its own section says.
    pub(crate) fn conflict(&self, id: BrokerId, name: &str) -> Option<ConfigError> {
        let other_name = |(seed, _): &&(PeerSeed, Source)| seed.id == id && seed.name != name;
        let other_id = |(seed, _): &&(PeerSeed, Source)| seed.id != id && seed.name == name;
        if let Some((seed, source)) = self.0.iter().find(other_name) {
            let given = &seed.name;
            let reason = format!("broker {id} is `{given}` here, but its node.name is `{name}`");
            return Some(refused(source, reason));
        }
        let (seed, source) = self.0.iter().find(other_id)?;
        let given = seed.id;
        let reason = format!("`{name}` is broker {given} here, but its node.id is {id}");
        Some(refused(source, reason))
    }

    /// TOML that reads back as the same entries.
    pub(crate) fn toml(&self) -> String {
        let entry = |(seed, source): &(PeerSeed, Source)| {
            let name = Printed::Text(seed.name.clone());
            let address = Printed::Text(seed.address.clone());
            format!(
                "\n[[peers]] # {source}\nid = {}\nname = {name}\naddr = {address}\n",
                seed.id
            )
        };
        self.0.iter().map(entry).collect()
    }

    /// The member of the JSON object; absent without entries.
    pub(crate) fn json(&self) -> Option<String> {
        let (_, first) = self.0.first()?;
        let entry = |(seed, _): &(PeerSeed, Source)| {
            let name = Printed::Text(seed.name.clone());
            let address = Printed::Text(seed.address.clone());
            format!("{{\"id\":{},\"name\":{name},\"addr\":{address}}}", seed.id)
        };
        let entries: Vec<_> = self.0.iter().map(entry).collect();
        let source = Printed::Text(first.to_string());
        Some(format!(
            "\"peers\":{{\"value\":[{}],\"source\":{source}}}",
            entries.join(",")
        ))
    }

    fn refuse_repeated(&self, errors: &mut Vec<ConfigError>) {
        let mut known = BTreeSet::new();
        for (seed, source) in &self.0 {
            for (field, value) in [
                ("id", seed.id.to_string()),
                ("name", seed.name.clone()),
                ("addr", seed.address.clone()),
            ] {
                if !known.insert((field, value.clone())) {
                    let reason = format!("two brokers have the {field} {value}");
                    errors.push(refused(source, reason));
                }
            }
        }
    }
}

fn refused(source: &Source, reason: String) -> ConfigError {
    ConfigError::Peer {
        source_of: source.clone(),
        reason,
    }
}

fn seed(peer: RawPeer, errors: &mut Vec<ConfigError>) -> Option<PeerSeed> {
    let mut number = None;
    let mut texts = [None, None];
    let before = errors.len();
    for entry in &peer.fields {
        let Some((index, (_, form, ..))) = field(&entry.key) else {
            let shown: String = entry.key.chars().take(64).collect();
            let reason = format!("it takes id, name and addr, not `{shown}`");
            errors.push(refused(&entry.source, reason));
            continue;
        };
        match check_form(&named(entry), *form) {
            Ok(Value::Number(id)) => number = u16::try_from(id).ok(),
            Ok(Value::Text(text)) => {
                if let Some(slot) = texts.get_mut(index.saturating_sub(1)) {
                    *slot = Some(text);
                }
            }
            Err(error) => errors.push(error),
        }
    }
    for (name, _, example, _) in &FIELDS {
        if !peer.fields.iter().any(|entry| entry.key == *name) {
            let reason = format!("`{name}` is not set: add `{name} = {example}`");
            errors.push(refused(&peer.source, reason));
        }
    }
    if errors.len() > before {
        return None;
    }
    let [name, address] = texts;
    Some(PeerSeed {
        id: BrokerId::new(number?),
        name: name?,
        address: address?,
    })
}

type Field = (&'static str, Form, &'static str, &'static str);

fn field(name: &str) -> Option<(usize, &'static Field)> {
    let mut fields = FIELDS.iter().enumerate();
    fields.find(|(_, (known, ..))| *known == name)
}

/// As messages name it.
fn named(entry: &Entry) -> Entry {
    Entry {
        key: format!("peers.{}", entry.key),
        ..entry.clone()
    }
}
