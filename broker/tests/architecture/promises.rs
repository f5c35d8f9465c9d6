//! Each promise that names a test names one that exists.

use std::collections::BTreeSet;
use std::path::Path;

use crate::source;

/// Where the tests that docs/GUARANTEES.md names are.
const TESTED: [&str; 5] = ["broker/src", "broker/tests", "sdk", "storage", "tests"];

#[test]
fn every_test_that_a_promise_names_exists() {
    let promises = source::workspace().join("docs/GUARANTEES.md");
    let promises = std::fs::read_to_string(promises).expect("the promises");
    let mut tests = BTreeSet::new();
    for folder in TESTED {
        collect(&source::workspace().join(folder), &mut tests);
    }
    let named = named(&promises);
    assert!(
        named.len() > 20,
        "the promises name hardly any test: {named:?}"
    );
    let missing: Vec<_> = named.difference(&tests).collect();
    assert!(missing.is_empty(), "no such tests: {missing:?}");
}

#[test]
fn a_name_is_the_last_part_of_a_path_and_a_setting_is_none() {
    let found = named(
        "| `retention_bytes` | `broker a::b::x_is_so`, `no_y_is_lost`, `storage log::tear` |",
    );
    assert_eq!(
        found,
        BTreeSet::from(["no_y_is_lost".to_owned(), "x_is_so".to_owned()])
    );
}

/// Sentences among the quoted words: settings and modules have fewer parts.
fn named(text: &str) -> BTreeSet<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let last = quoted.filter_map(|word| word.rsplit([':', ' ']).next());
    let settings = ["retention_time_ms"];
    last.filter(|name| name.matches('_').count() >= 2 && !settings.contains(name))
        .map(str::to_owned)
        .collect()
}

fn collect(folder: &Path, tests: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of the workspace") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, tests);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let functions = text
                .split("fn ")
                .skip(1)
                .filter_map(|rest| rest.split('(').next());
            tests.extend(functions.map(str::to_owned));
        }
    }
}
