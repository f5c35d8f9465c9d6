//! Foreign libraries are named in their homes only, unsafe code in its own.

use crate::source;

/// (what may be named, where: path prefixes)
const HOMES: [(&[&str], &[&str]); 14] = [
    (&["raft", "protobuf", "slog"], &["broker/src/replication/"]),
    (
        &[
            "quinn",
            "quinn_proto",
            "quinn_udp",
            "rustls",
            "webpki",
            "aws_lc_rs",
        ],
        &[
            "broker/src/transport/",
            "broker/src/environment.rs",
            "sdk/src/connection/",
        ],
    ),
    (
        &["postcard"],
        &[
            "protocol/src/",
            "broker/src/metadata/command",
            "broker/src/partition/checkpoint",
        ],
    ),
    (
        &["std::fs", "rustix::fs"],
        &[
            "storage/src/file/",
            "cli/src/",
            "certs/src/",
            "broker/src/config/",
            "broker/src/transport/",
            "sdk/src/connection/",
            "sdk/src/config/",
            "ffi/src/contexts.rs",
            "bench/src/",
        ],
    ),
    (
        &["Instant::now", "SystemTime::now"],
        &[
            "broker/src/clock/",
            "sdk/src/clock.rs",
            "bench/src/",
            "cli/src/",
            "certs/src/",
        ],
    ),
    (
        &["x509_parser"],
        &["broker/src/auth/", "certs/src/", "sdk/src/connection/"],
    ),
    (&["rcgen"], &["certs/src/"]),
    (&["lz4_flex", "zstd"], &["sdk/src/"]),
    (
        &["toml"],
        &["broker/src/config/", "ffi/src/contexts.rs", "cli/src/"],
    ),
    (&["libc"], &["ffi/src/fork.rs"]),
    (
        &["clap", "clap_complete", "indicatif", "comfy_table"],
        &["cli/src/"],
    ),
    (&["hdrhistogram"], &["bench/src/"]),
    (
        &["thread::spawn", "thread::Builder", "spawn_blocking"],
        &["storage/src/file/", "ffi/src/executor.rs"],
    ),
    (
        &["println!", "eprintln!", "io::stdout", "io::stderr"],
        &["cli/src/output.rs", "cli/src/logging.rs", "ffi/src/log.rs"],
    ),
];

fn breaches(path: &str, code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (names, homes) in HOMES {
        if homes.iter().any(|home| path.starts_with(home)) {
            continue;
        }
        for name in names {
            if names_it(code, name) {
                found.push(format!("{path}: `{name}` belongs to {}", homes.join(", ")));
            }
        }
    }
    found
}

/// Whether the code names a crate (`name::`, `use name;`) or contains a path.
fn names_it(code: &str, name: &str) -> bool {
    let is_path = name.contains("::") || name.ends_with('!');
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = &code[at + name.len()..];
        let starts = !before.is_some_and(|c| {
            c.is_alphanumeric() || c == '_' || (!is_path && (c == ':' || c == '.'))
        });
        let ends = is_path && !after.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let used = code[..at].trim_end().ends_with("use") && after.starts_with([';', ' ']);
        starts && (ends || after.starts_with("::") || used)
    })
}

#[test]
fn libraries_stay_in_their_homes() {
    let found: Vec<_> = source::CRATES
        .iter()
        .flat_map(|folder| source::files(&format!("{folder}/src")))
        .flat_map(|file| breaches(&file.path, &file.production()))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_library_away_from_home_is_found() {
    for code in [
        "use quinn;",
        "use quinn::Endpoint;",
        "let e = quinn::Endpoint::x();",
        "use quinn_proto as q;",
    ] {
        assert_eq!(
            breaches("broker/src/session/mod.rs", code).len(),
            1,
            "{code}"
        );
    }
    assert_eq!(
        breaches("broker/src/session/mod.rs", "let t = Instant::now();").len(),
        1
    );
    assert_eq!(
        breaches("sdk/src/producer/mod.rs", "println!(\"\")").len(),
        1
    );
    assert!(breaches("broker/src/transport/mod.rs", "use quinn::Endpoint;").is_empty());
    assert!(breaches("broker/src/session/mod.rs", "use crate::config::toml_like;").is_empty());
}

#[test]
fn unsafe_code_is_forbidden_in_every_crate_that_needs_none() {
    for folder in source::CRATES.iter().filter(|folder| **folder != "ffi") {
        for root in ["src/lib.rs", "src/main.rs"] {
            let path = source::workspace().join(folder).join(root);
            if let Ok(text) = std::fs::read_to_string(&path) {
                assert!(text.contains("#![forbid(unsafe_code)]"), "{folder}/{root}");
            }
        }
    }
}
