//! Types that travel have a fixed, bounded form: checked on the source text.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// What a field may not be: its width, order or size would not be fixed.
const FORBIDDEN_TYPES: [&str; 12] = [
    "usize", "isize", "f32", "f64", "HashMap", "BTreeMap", "HashSet", "BTreeSet", "IndexMap",
    "Vec", "String", "Box",
];

/// Attributes that the field-by-field encoding does not honour when reading.
const FORBIDDEN_ATTRIBUTES: [&str; 5] = [
    "default",
    "flatten",
    "untagged",
    "tag",
    "skip_serializing_if",
];

/// A derived wire type: its name and the words of its body.
struct Derived {
    name: String,
    words: BTreeSet<String>,
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|w| !w.is_empty())
}

fn without_comments(source: &str) -> String {
    let code = source
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    code.collect::<Vec<_>>().join("\n")
}

/// The text from `at` to the end of the item that begins there.
fn item_at(source: &str, at: usize) -> &str {
    let rest = source.get(at..).unwrap_or_default();
    let mut depth = 0usize;
    for (here, c) in rest.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return rest.get(..=here).unwrap_or(rest),
            '}' => depth -= 1,
            ';' if depth == 0 => return rest.get(..=here).unwrap_or(rest),
            _ => {}
        }
    }
    rest
}

/// What is wrong with the wire types of one source text; collects the types on the way.
fn violations(source: &str, types: &mut Vec<Derived>) -> Vec<String> {
    let source = without_comments(source);
    let mut found = Vec::new();
    for (at, _) in source.match_indices("serde(") {
        let attribute = source
            .get(at..)
            .and_then(|s| s.split(']').next())
            .unwrap_or_default();
        for word in words(attribute).filter(|word| FORBIDDEN_ATTRIBUTES.contains(word)) {
            found.push(format!("serde({word})"));
        }
    }
    for (at, _) in source.match_indices("derive(") {
        let rest = source.get(at..).unwrap_or_default();
        let derived = rest.split(')').next().unwrap_or_default();
        if !words(derived).any(|word| matches!(word, "Serialize" | "Deserialize")) {
            continue;
        }
        let item = item_at(&source, at + derived.len());
        check_item(item, &mut found, types);
    }
    found
}

fn check_item(item: &str, found: &mut Vec<String>, types: &mut Vec<Derived>) {
    let mut names = words(item).skip_while(|word| !matches!(*word, "struct" | "enum"));
    let (keyword, name) = (
        names.next().unwrap_or_default(),
        names.next().unwrap_or_default(),
    );
    if keyword == "enum" {
        found.push(format!("enum {name}"));
    }
    let body: BTreeSet<String> = names.map(str::to_owned).collect();
    if body.is_empty() && !item.contains('$') {
        found.push(format!("{name} has no field"));
    }
    for word in body
        .iter()
        .filter(|word| FORBIDDEN_TYPES.contains(&word.as_str()))
    {
        found.push(format!("{name} has a {word}"));
    }
    types.push(Derived {
        name: name.to_owned(),
        words: body,
    });
}

/// Types that contain themselves, however many steps away.
fn recursive(types: &[Derived]) -> Vec<String> {
    let parts: BTreeMap<&str, &BTreeSet<String>> = types
        .iter()
        .map(|derived| (derived.name.as_str(), &derived.words))
        .collect();
    let reaches_itself = |start: &str| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![start]);
        while let Some(name) = open.pop() {
            for word in parts.get(name).copied().into_iter().flatten() {
                if word == start {
                    return true;
                }
                if parts.contains_key(word.as_str()) && seen.insert(word) {
                    open.push(word);
                }
            }
        }
        false
    };
    let names = types.iter().map(|derived| derived.name.as_str());
    names
        .filter(|name| reaches_itself(name))
        .map(str::to_owned)
        .collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn wire_types_have_a_fixed_and_bounded_form() {
    let mut types = Vec::new();
    for path in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let source = fs::read_to_string(&path).unwrap();
        let production = source.split("#[cfg(test)]").next().unwrap_or_default();
        let found = violations(production, &mut types);
        assert!(found.is_empty(), "{}: {found:?}", path.display());
    }
    assert_eq!(recursive(&types), Vec::<String>::new());
    assert!(
        types.len() > 40,
        "the scan found only {} types",
        types.len()
    );
}

#[test]
fn the_check_notices_each_fault() {
    let faulty = [
        (
            "#[derive(Serialize)] pub struct A { n: usize }",
            "A has a usize",
        ),
        (
            "#[derive(Clone, Deserialize)] struct A { n: Option<f64>, }",
            "A has a f64",
        ),
        (
            "#[derive(Serialize)] struct A(std::collections::HashMap<u8, u8>);",
            "A has a HashMap",
        ),
        (
            "#[derive(Serialize)] struct A { list: Vec<u8> }",
            "A has a Vec",
        ),
        (
            "#[derive(serde::Serialize)] struct A { name: String }",
            "A has a String",
        ),
        ("#[derive(Serialize)]\npub enum A { B, C }", "enum A"),
        ("#[derive(Serialize)] pub struct A;", "A has no field"),
        ("#[derive(Serialize)] pub struct A {}", "A has no field"),
        (
            "#[derive(Serialize)] struct A { #[serde(default)] n: u8 }",
            "serde(default)",
        ),
        (
            "#[derive(Serialize)] struct A { #[serde(flatten)] n: u8 }",
            "serde(flatten)",
        ),
        (
            "#[derive(Serialize)] #[serde(tag = \"x\")] struct A { n: u8 }",
            "serde(tag)",
        ),
        ("#[serde(untagged)] struct A { n: u8 }", "serde(untagged)"),
        (
            "#[serde(skip_serializing_if = \"f\")] n: u8",
            "serde(skip_serializing_if)",
        ),
    ];
    for (source, expected) in faulty {
        let found = violations(source, &mut Vec::new());
        assert_eq!(found, [expected], "{source}");
    }
    let sound = "#[derive(Serialize)] pub struct A { n: u64, /* */ list: Bounded<u8, 4> } // Vec";
    assert_eq!(violations(sound, &mut Vec::new()), Vec::<String>::new());
}

#[test]
fn the_check_notices_types_that_contain_themselves() {
    let mut types = Vec::new();
    let source = "#[derive(Serialize)] struct A { b: Bounded<B, 2> }
        #[derive(Serialize)] struct B { a: Option<C> }
        #[derive(Serialize)] struct C(A);
        #[derive(Serialize)] struct D { a: A }";
    assert_eq!(violations(source, &mut types), Vec::<String>::new());
    assert_eq!(recursive(&types), ["A", "B", "C"]);
}
