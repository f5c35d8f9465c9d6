//! Files stay small and are called what they are.

use crate::source;

const LINES_MAX: usize = 600;
const LINES_USUAL: usize = 400;
/// Names that end in a digit by right.
const NUMBERED: [&str; 2] = ["rfc3339", "lz4"];
const DRAWERS: [&str; 7] = [
    "utils", "util", "helpers", "helper", "common", "misc", "manager",
];

fn production_lines(text: &str) -> usize {
    text.find("#[cfg(test)]")
        .map_or(text, |at| &text[..at])
        .lines()
        .count()
}

fn is_a_drawer(path: &str) -> bool {
    path.trim_end_matches(".rs").split('/').any(|part| {
        DRAWERS.contains(&part)
            || part.ends_with(|c: char| c.is_ascii_digit()) && !NUMBERED.contains(&part)
    })
}

fn all() -> impl Iterator<Item = source::Source> {
    source::CRATES
        .into_iter()
        .flat_map(|folder| source::files(&format!("{folder}/src")))
}

#[test]
fn files_are_small() {
    let sizes: Vec<_> = all()
        .map(|file| (production_lines(&file.text), file.path))
        .collect();
    let large: Vec<_> = sizes
        .iter()
        .filter(|(lines, _)| *lines > LINES_MAX)
        .collect();
    assert!(
        large.is_empty(),
        "over {LINES_MAX} production lines: {large:?}"
    );
    let unusual = sizes
        .iter()
        .filter(|(lines, _)| *lines > LINES_USUAL)
        .count();
    assert!(
        unusual * 10 <= sizes.len(),
        "{unusual} of {} files are over {LINES_USUAL} lines",
        sizes.len()
    );
}

#[test]
fn files_have_names_that_say_what_is_in_them() {
    let drawers: Vec<_> = all()
        .map(|file| file.path)
        .filter(|path| is_a_drawer(path))
        .collect();
    assert!(drawers.is_empty(), "{drawers:?}");
}

#[test]
fn a_drawer_is_found() {
    assert!(is_a_drawer("sdk/src/utils.rs"));
    assert!(is_a_drawer("broker/src/session/session2.rs"));
    assert!(!is_a_drawer("broker/src/session/hello.rs"));
    assert_eq!(production_lines("a\nb\n#[cfg(test)]\nmod tests {}\n"), 2);
}
