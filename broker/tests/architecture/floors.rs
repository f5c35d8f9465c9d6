//! A room of the broker uses lower floors only.

use crate::source;

/// Rooms by floor; the files beside them are the roof.
const FLOORS: [(&str, u8); 9] = [
    ("session", 7),
    ("metadata", 5),
    ("partition", 4),
    ("replication", 3),
    ("peers", 2),
    ("transport", 1),
    ("auth", 0),
    ("config", 0),
    ("clock", 0),
];
const ROOF: [&str; 5] = [
    "lib.rs",
    "start.rs",
    "folder.rs",
    "watch.rs",
    "environment.rs",
];

fn floor(room: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(name, _)| *name == room)
        .map(|(_, floor)| *floor)
}

/// The room of a path such as `broker/src/session/hello.rs`.
fn room(path: &str) -> Option<&str> {
    path.strip_prefix("broker/src/")?
        .split_once('/')
        .map(|(room, _)| room)
}

/// What is wrong with this file's imports, one sentence each.
fn breaches(path: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for hidden in ["crate::{", "super::super", "crate::*"] {
        if code.contains(hidden) {
            found.push(format!("{path}: `{hidden}` hides which room is meant"));
        }
    }
    let Some(here) = room(path) else {
        let name = path.trim_start_matches("broker/src/");
        if !ROOF.contains(&name) {
            found.push(format!(
                "{path}: a file outside the rooms is not part of the roof"
            ));
        }
        return found;
    };
    let Some(own) = floor(here) else {
        found.push(format!("{path}: room `{here}` has no floor"));
        return found;
    };
    for rest in code.split("crate::").skip(1) {
        let used: String = rest
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        match floor(&used) {
            _ if used == here => {}
            None => found.push(format!("{path}: `crate::{used}` is no room")),
            Some(other) if other >= own => found.push(format!(
                "{path}: `{here}` (floor {own}) must not use `{used}` (floor {other})"
            )),
            Some(_) => {}
        }
    }
    found
}

#[test]
fn rooms_use_lower_floors_only() {
    let found: Vec<_> = source::files("broker/src")
        .iter()
        .flat_map(|file| breaches(&file.path, &file.production()))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn an_upward_or_sideways_import_is_found() {
    let upward = breaches(
        "broker/src/partition/reads.rs",
        "use crate::session::Session;",
    );
    assert_eq!(upward.len(), 1, "{upward:?}");
    let sideways = breaches("broker/src/config/mod.rs", "use crate::clock::Clock;");
    assert_eq!(sideways.len(), 1, "{sideways:?}");
    let hidden = breaches("broker/src/auth/mod.rs", "use crate::{config, clock};");
    assert!(!hidden.is_empty());
    let homeless = breaches("broker/src/attic/mod.rs", "");
    assert_eq!(homeless.len(), 1, "{homeless:?}");
    assert!(breaches("broker/src/session/mod.rs", "use crate::auth::Principal;").is_empty());
}
