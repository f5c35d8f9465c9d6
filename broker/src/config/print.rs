//! Shows the effective configuration: every key, its value, and who set it.

use crate::config::key::KEYS;
use crate::config::key::sections;
use crate::config::merge::Settings;
use crate::config::peers::Peers;
use crate::config::settings::printed;
use crate::config::value::Printed;

/// TOML that can be used as a configuration file; the source stands in a comment.
pub(crate) fn toml(settings: &Settings, peers: &Peers) -> String {
    let mut text = String::new();
    for section in sections() {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("[{section}]\n"));
        for key in KEYS.iter().filter(|key| key.section == section) {
            let path = key.path();
            if let Some(setting) = settings.get(&path) {
                let value = printed(&path, &setting.value);
                text.push_str(&format!("{} = {value} # {}\n", key.name, setting.source));
            }
        }
    }
    text + &peers.toml()
}

/// One JSON object: `{"section.key":{"value":..,"source":".."}}`.
pub(crate) fn json(settings: &Settings, peers: &Peers) -> String {
    let members = KEYS.iter().filter_map(|key| {
        let path = key.path();
        let setting = settings.get(&path)?;
        let value = printed(&path, &setting.value);
        let source = Printed::Text(setting.source.to_string());
        Some(format!(
            "\"{path}\":{{\"value\":{value},\"source\":{source}}}"
        ))
    });
    let members = members.chain(peers.json());
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}
