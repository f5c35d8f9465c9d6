//! The tables of `docs/PROTOCOL.md` say what the source says.
//!
//! `UPDATE_PROTOCOL_DOC=1` rewrites the text between the markers.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use quorate_protocol::ErrorClass;
use quorate_protocol::ErrorCode;
use quorate_protocol::Kind;
use quorate_protocol::Limits;
use quorate_protocol::Outcome;

/// Sources of messages, in the order of the document.
const MESSAGES: [&str; 11] = [
    "hello",
    "control",
    "topology",
    "stream",
    "produce",
    "subscribe",
    "admin",
    "cluster",
    "peer/hello",
    "peer/request",
    "peer/snapshot",
];

fn crate_folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document() -> PathBuf {
    crate_folder().join("../docs/PROTOCOL.md")
}

fn source(room: &str) -> String {
    let path = crate_folder().join(format!("src/{room}.rs"));
    let text = fs::read_to_string(path).unwrap();
    text.split("#[cfg(test)]").next().unwrap().to_owned()
}

fn kinds() -> String {
    let limits = Limits {
        batch_bytes_max: 0,
        established: true,
    };
    let mut table = String::from("| kind | name | largest body |\n|---|---|---|\n");
    for kind in (0..=u8::MAX).map(Kind::new) {
        let Some(name) = kind.name() else { continue };
        let max = match (kind, kind.body_len_max(&limits) / 1024) {
            (Kind::PUBLISH | Kind::RECORDS, extra) => format!("batch limit + {extra} KiB"),
            (Kind::ENVELOPE, kib) => format!("8 MiB + {} KiB", kib - 8 * 1024),
            (Kind::SNAPSHOT_CHUNK, _) => "1 MiB + 64 bytes".to_owned(),
            (_, kib) if kib % 1024 == 0 => format!("{} MiB", kib / 1024),
            (_, kib) => format!("{kib} KiB"),
        };
        writeln!(table, "| `0x{:02X}` | {name} | {max} |", kind.get()).unwrap();
    }
    table
}

/// Structures that travel, with their fields, read from the source text.
fn messages() -> String {
    let mut table = String::from("| message or part | fields |\n|---|---|\n");
    for room in MESSAGES {
        let text = source(room);
        for item in text.split("Serialize, Deserialize)]\npub struct ").skip(1) {
            let (name, rest) = item.split_once(" {").unwrap();
            let body = rest.split_once("\n}").unwrap().0;
            let fields = body
                .lines()
                .filter_map(|line| line.trim().strip_prefix("pub "));
            let fields = fields.map(|field| format!("`{}`", field.trim_end_matches(',')));
            let fields: Vec<_> = fields.collect();
            writeln!(table, "| {name} | {} |", fields.join(", ")).unwrap();
        }
    }
    table
}

/// Codes with their values, read from the source text.
fn codes() -> String {
    let mut table = String::from("| code | values |\n|---|---|\n");
    for room in MESSAGES {
        for item in source(room).split("wire_code! {").skip(1) {
            let item = item.split_once("\n}").unwrap().0;
            let head = item.lines().find(|line| line.ends_with(") {")).unwrap();
            let name = head.trim().trim_end_matches(" {");
            let values = item
                .lines()
                .filter_map(|line| line.trim().strip_suffix(','));
            let values = values.filter_map(|line| line.split_once(" = "));
            let values: Vec<_> = values
                .map(|(name, value)| format!("{value} {name}"))
                .collect();
            writeln!(table, "| `{name}` | {} |", values.join(", ")).unwrap();
        }
    }
    table
}

fn errors() -> String {
    let mut table =
        String::from("| code | name | meaning | retry | outcome |\n|---|---|---|---|---|\n");
    for info in ErrorCode::ALL {
        let retry = if info.code.is_retryable() {
            "yes"
        } else {
            "no"
        };
        let outcome = match info.code.outcome() {
            Outcome::Unknown => "unknown",
            _ if info.code.class() == ErrorClass::Local => "",
            _ => "not applied",
        };
        let (code, name, title) = (info.code, info.name, info.title);
        writeln!(table, "| {code} | {name} | {title} | {retry} | {outcome} |").unwrap();
    }
    table
}

#[test]
fn the_document_says_what_the_source_says() {
    let stored = fs::read_to_string(document()).unwrap();
    let mut expected = stored.clone();
    for (name, table) in [
        ("kinds", kinds()),
        ("messages", messages()),
        ("codes", codes()),
        ("errors", errors()),
    ] {
        let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
        let (before, rest) = expected.split_once(&open).unwrap();
        let (_, after) = rest.split_once(&close).unwrap();
        expected = format!("{before}{open}{table}{close}{after}");
    }
    if std::env::var_os("UPDATE_PROTOCOL_DOC").is_some() {
        fs::write(document(), &expected).unwrap();
        return;
    }
    assert!(
        stored == expected,
        "docs/PROTOCOL.md is stale: run `UPDATE_PROTOCOL_DOC=1 cargo test -p quorate-protocol`"
    );
}
