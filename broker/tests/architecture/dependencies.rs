//! Crates point one way; versions stand once, with a reason; floors hold; the tree stays small.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use toml::Table;

use crate::source;

/// Which of our crates each crate may name in its normal dependencies.
const DIRECTIONS: [(&str, &[&str]); 8] = [
    ("protocol", &[]),
    ("storage", &["quorate-protocol"]),
    ("broker", &["quorate-protocol", "quorate-storage"]),
    ("sdk", &["quorate-protocol"]),
    ("ffi", &["quorate"]),
    ("certs", &[]),
    ("bench", &["quorate"]),
    (
        "cli",
        &[
            "quorate",
            "quorate-bench",
            "quorate-broker",
            "quorate-certs",
        ],
    ),
];
const FLOORS: [(&str, [u64; 3]); 12] = [
    ("quinn", [0, 11, 12]),
    ("quinn-proto", [0, 11, 19]),
    ("rustls", [0, 23, 46]),
    ("rustls-webpki", [0, 103, 16]),
    ("aws-lc-rs", [1, 19, 0]),
    ("aws-lc-sys", [0, 39, 0]),
    ("bytes", [1, 11, 1]),
    ("lz4_flex", [0, 12, 1]),
    ("h2", [0, 4, 16]),
    ("crossbeam-epoch", [0, 9, 20]),
    ("tracing-subscriber", [0, 3, 20]),
    ("raft", [0, 7, 0]),
];
const BANNED: [&str; 7] = [
    "rustls-pemfile",
    "bincode",
    "atomic-polyfill",
    "memmap",
    "memmap2",
    "openssl",
    "native-tls",
];
/// Ratchet: raised only with a reason in the commit.
const LOCKED_MAX: usize = 260;

fn read(path: &str) -> Table {
    let text = std::fs::read_to_string(source::workspace().join(path)).expect("a manifest");
    text.parse().expect("TOML")
}

fn names(manifest: &Table, section: &str) -> Vec<String> {
    manifest
        .get(section)
        .and_then(|deps| deps.as_table())
        .map_or_else(Vec::new, |deps| deps.keys().cloned().collect())
}

fn locked() -> Vec<(String, [u64; 3])> {
    let lock = read("Cargo.lock");
    let packages = lock
        .get("package")
        .and_then(|packages| packages.as_array())
        .expect("packages");
    packages
        .iter()
        .map(|package| {
            let text = |key: &str| {
                package
                    .get(key)
                    .and_then(|value| value.as_str())
                    .expect("text")
            };
            (text("name").to_owned(), version(text("version")))
        })
        .collect()
}

fn version(text: &str) -> [u64; 3] {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let mut parts = core.split('.').map(|part| part.parse().expect("a number"));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

#[test]
fn crates_depend_in_one_direction() {
    for (folder, allowed) in DIRECTIONS {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        for name in names(&manifest, "dependencies") {
            let ours = name == "quorate" || name.starts_with("quorate-");
            assert!(
                !ours || allowed.contains(&name.as_str()),
                "{folder} must not depend on {name}"
            );
        }
    }
}

#[test]
fn versions_stand_in_the_workspace_only_each_with_its_job() {
    let text = std::fs::read_to_string(source::workspace().join("Cargo.toml")).expect("Cargo.toml");
    let section = text
        .split("[workspace.dependencies]")
        .nth(1)
        .expect("shared dependencies");
    for line in section.lines().take_while(|line| !line.starts_with('[')) {
        let declares = line.contains('=') && !line.starts_with('#');
        assert!(
            !declares || line.contains(" # "),
            "say what it is for: {line}"
        );
    }
    for (folder, _) in DIRECTIONS {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let Some(deps) = manifest.get(section).and_then(|deps| deps.as_table()) else {
                continue;
            };
            for (name, spec) in deps {
                let shared = spec.get("workspace").and_then(toml::Value::as_bool) == Some(true);
                assert!(
                    shared,
                    "{folder}: {name} must take its version from the workspace"
                );
            }
        }
    }
}

#[test]
fn every_shared_dependency_has_a_user() {
    let shared: BTreeSet<_> = read("Cargo.toml")
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies")?.as_table())
        .expect("shared dependencies")
        .keys()
        .cloned()
        .collect();
    let mut used = BTreeSet::new();
    for folder in source::CRATES.iter().chain(&["tests"]) {
        if source::workspace().join(folder).join("Cargo.toml").exists() {
            let manifest = read(&format!("{folder}/Cargo.toml"));
            used.extend(names(&manifest, "dependencies"));
            used.extend(names(&manifest, "dev-dependencies"));
        }
    }
    let idle: Vec<_> = shared.difference(&used).collect();
    assert!(idle.is_empty(), "no crate uses {idle:?}");
}

#[test]
fn locked_versions_are_at_or_above_their_floors() {
    let floors: BTreeMap<_, _> = FLOORS.into_iter().collect();
    for (name, version) in locked() {
        if let Some(floor) = floors.get(name.as_str()) {
            assert!(
                version >= *floor,
                "{name} {version:?} is below its floor {floor:?}"
            );
        }
        assert!(!BANNED.contains(&name.as_str()), "{name} is banned");
    }
}

#[test]
fn the_dependency_tree_stays_small() {
    let count = locked().len();
    assert!(
        count <= LOCKED_MAX,
        "{count} locked crates, at most {LOCKED_MAX}"
    );
}

#[test]
fn a_version_below_its_floor_is_found() {
    assert!(version("0.11.17") < version("0.11.19"));
    assert!(version("1.0.0+spec-1.1.0") == [1, 0, 0]);
}
