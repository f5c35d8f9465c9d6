//! The map is true: each file says what it is, ARCHITECTURE.md names each crate and room.

use crate::source;

const MAP_LINES_MAX: usize = 300;

fn map() -> String {
    std::fs::read_to_string(source::workspace().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md")
}

/// Folders directly below `folder` that hold Rust code.
fn rooms(folder: &str) -> Vec<String> {
    let mut found: Vec<_> = source::files(folder)
        .iter()
        .filter_map(|file| {
            file.path
                .strip_prefix(&format!("{folder}/"))?
                .split_once('/')
        })
        .map(|(room, _)| room.to_owned())
        .collect();
    found.dedup();
    found
}

#[test]
fn every_file_opens_with_its_purpose() {
    let silent: Vec<_> = source::CRATES
        .iter()
        .flat_map(|folder| source::files(&format!("{folder}/src")))
        .filter(|file| !file.text.starts_with("//! "))
        .map(|file| file.path)
        .collect();
    assert!(silent.is_empty(), "no `//! ` on the first line: {silent:?}");
}

#[test]
fn the_map_names_every_crate_and_every_room() {
    let map = map();
    assert!(
        map.lines().count() <= MAP_LINES_MAX,
        "ARCHITECTURE.md is no map any more"
    );
    let present = source::CRATES
        .iter()
        .filter(|folder| source::workspace().join(folder).exists());
    for folder in present {
        assert!(
            map.contains(&format!("`{folder}/`")),
            "ARCHITECTURE.md does not name `{folder}/`"
        );
        for room in rooms(&format!("{folder}/src")) {
            assert!(
                map.contains(&format!("`{room}`")),
                "ARCHITECTURE.md does not name `{room}` of {folder}"
            );
        }
    }
}
