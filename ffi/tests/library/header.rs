//! The committed header is what the source says, and a C compiler accepts it without a word.

use std::path::Path;
use std::path::PathBuf;

use crate::compilers::C_STANDARDS;
use crate::compilers::CPP_STANDARDS;
use crate::compilers::Language;
use crate::compilers::compilers;
use crate::place;

/// In the order of the header.
const SOURCES: [&str; 12] = [
    "abi.rs",
    "status.rs",
    "failure.rs",
    "border.rs",
    "log.rs",
    "settings.rs",
    "client.rs",
    "producer.rs",
    "consumer.rs",
    "batch.rs",
    "admin.rs",
    "texts.rs",
];

pub(crate) fn path() -> PathBuf {
    place::workspace().join("include/quorate.h")
}

fn generated() -> String {
    let room = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(room.join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(room.join("src").join(source));
    }
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    let header = String::from_utf8(header).unwrap();
    let mut text = String::new();
    let mut lines = header.lines().peekable();
    while let Some(line) = lines.next() {
        let line = match line.trim_start() {
            "* # Safety" => line.replace("# Safety", "The caller promises:"),
            "/**" => one_line_comment(line, &mut lines).unwrap_or_else(|| line.to_owned()),
            _ => code_in_hex(line).unwrap_or_else(|| line.to_owned()),
        };
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Takes a comment of one line together.
fn one_line_comment<'a>(
    opening: &str,
    rest: &mut std::iter::Peekable<impl Iterator<Item = &'a str> + Clone>,
) -> Option<String> {
    let mut ahead = rest.clone();
    let sentence = ahead.next()?.trim_start().strip_prefix("* ")?;
    let closes = ahead.next()?.trim_start() == "*/";
    let comment = format!("{opening} {sentence} */");
    if !closes || comment.len() > 100 {
        return None;
    }
    *rest = ahead;
    Some(comment)
}

/// Codes are known as `QRT-0201`, so `-513` tells nobody anything.
fn code_in_hex(line: &str) -> Option<String> {
    let (name, value) = line.strip_prefix("#define QUORATE_E_")?.split_once(" -")?;
    let code: u16 = value.parse().ok()?;
    Some(format!("#define QUORATE_E_{name} (-0x{code:04X})"))
}

#[test]
fn the_header_is_fresh() {
    let header = generated();
    if std::env::var_os("UPDATE_HEADER").is_some() {
        std::fs::write(path(), &header).unwrap();
    }
    let committed = std::fs::read_to_string(path()).unwrap_or_default();
    assert!(
        header == committed,
        "include/quorate.h is not what ffi/src says: UPDATE_HEADER=1 cargo test -p quorate-ffi header"
    );
}

#[test]
fn every_function_says_who_may_call_it_and_what_it_waits_for() {
    let header = std::fs::read_to_string(path()).unwrap();
    let mut functions = 0;
    for (comment, name) in declarations(&header) {
        functions += 1;
        let comment = comment.split_whitespace().collect::<Vec<_>>().join(" ");
        let comment = comment.replace("* ", "");
        assert!(comment.len() > 40, "{name} is not documented");
        let waits = ["block", "Waits", "waits", "Reads a file"];
        assert!(
            waits.iter().any(|word| comment.contains(word)),
            "{name} does not say what it waits for: {comment}"
        );
        assert!(
            comment.contains("thread"),
            "{name} does not say who may call it: {comment}"
        );
    }
    assert!(functions > 30, "{functions}");
}

/// Each function with the comment before it.
pub(crate) fn declarations(header: &str) -> Vec<(&str, &str)> {
    let documented = header.split("/**").skip(1);
    let documented = documented.filter_map(|part| part.split_once("*/"));
    let functions = documented.filter_map(|(comment, code)| {
        let (before, _) = code.split_once('(')?;
        let name = before.rsplit([' ', '*', '\n']).next()?;
        name.starts_with("quorate_").then_some((comment, name))
    });
    functions.collect()
}

#[test]
fn the_header_compiles_without_a_warning_in_every_standard() {
    let dir = place::scratch();
    let source = "#include \"quorate.h\"\n\
        int main(void) { quorate_message_t m = QUORATE_MESSAGE_INIT; return m.flags != 0; }\n";
    let mut checked = 0;
    for compiler in compilers() {
        let (standards, name) = match compiler.language {
            Language::C => (C_STANDARDS.as_slice(), "header.c"),
            Language::Cpp => (CPP_STANDARDS.as_slice(), "header.cpp"),
        };
        let file = dir.path().join(name);
        std::fs::write(&file, source).unwrap();
        for standard in standards {
            compiler.check(&file, standard);
            checked += 1;
        }
    }
    assert!(checked >= C_STANDARDS.len() + CPP_STANDARDS.len());
}

#[test]
fn the_cpp_classes_compile_without_a_warning() {
    let dir = place::scratch();
    let file = dir.path().join("classes.cpp");
    std::fs::write(
        &file,
        "#include \"quorate.hpp\"\nint main() { return 0; }\n",
    )
    .unwrap();
    let all = compilers().into_iter();
    for compiler in all.filter(|compiler| compiler.language == Language::Cpp) {
        for standard in ["c++17", "c++20"] {
            compiler.check(&file, standard);
        }
    }
}
