//! Source files as the walls see them: without comments, strings' contents and tests.

use std::path::Path;
use std::path::PathBuf;

/// The folders whose code ships.
pub(crate) const CRATES: [&str; 8] = [
    "protocol", "storage", "broker", "sdk", "ffi", "certs", "bench", "cli",
];

pub(crate) struct Source {
    /// Relative to the workspace, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Source {
    /// Production code only: comments stripped, cut at the tests.
    pub(crate) fn production(&self) -> String {
        production(&self.text)
    }
}

pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a workspace")
        .to_path_buf()
}

/// All `.rs` files below `folder` of the workspace but those of `tests` folders, in a fixed order.
pub(crate) fn files(folder: &str) -> Vec<Source> {
    let root = workspace();
    let mut found = Vec::new();
    collect(&root.join(folder), &mut found);
    found.sort();
    found
        .into_iter()
        .map(|path| Source {
            text: std::fs::read_to_string(&path).expect("a readable source file"),
            path: path
                .strip_prefix(&root)
                .expect("inside")
                .to_string_lossy()
                .replace('\\', "/"),
        })
        .collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a directory entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "tests") {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Strips comments, blanks string contents, cuts at `#[cfg(test)]`.
pub(crate) fn production(text: &str) -> String {
    let code = strip(text);
    match code.find("#[cfg(test)]") {
        Some(at) => code[..at].to_owned(),
        None => code,
    }
}

fn strip(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if c == '"' {
            out.push_str("\"\"");
            string(rest)
        } else if let Some(length) = raw_string(rest) {
            out.push_str("\"\"");
            length
        } else if let Some(length) = char_literal(rest) {
            out.push_str("' '");
            length
        } else {
            out.push(c);
            c.len_utf8()
        };
        rest = &rest[skipped..];
    }
    out
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn raw_string(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('r')?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    body[hashes..].starts_with('"').then(|| {
        let end = format!("\"{}", "#".repeat(hashes));
        let from = 1 + hashes + 1;
        rest[from..]
            .find(&end)
            .map_or(rest.len(), |at| from + at + end.len())
    })
}

/// A character literal, which may hold a quote; a lifetime is none.
fn char_literal(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    let mut chars = body.char_indices();
    let (_, first) = chars.next()?;
    if first == '\\' {
        let end = body.char_indices().skip(2).find(|(_, c)| *c == '\'')?.0;
        return Some(1 + end + 1);
    }
    let (at, second) = chars.next()?;
    (second == '\'').then_some(1 + at + 1)
}

#[test]
fn comments_strings_and_tests_are_not_production_code() {
    let text = "use a; // use quinn\n/* use /* rustls */ */ let s = \"use raft \\\" x\"; let c = '\"'; let l: &'a str;\nr#\"use \"toml\"\"#;\n#[cfg(test)]\nmod tests { use rcgen; }";
    let code = production(text);
    for absent in ["quinn", "rustls", "raft", "toml", "rcgen"] {
        assert!(!code.contains(absent), "{absent} is left in: {code}");
    }
    assert!(code.contains("use a;") && code.contains("&'a str"));
}

#[test]
fn nothing_hides_behind_the_tests() {
    for folder in CRATES {
        for file in files(&format!("{folder}/src")) {
            let code = strip(&file.text);
            let at = code.find("#[cfg(test)]").map(|at| &code[at..]);
            if let Some(tail) = at {
                let after = tail.trim_start_matches("#[cfg(test)]").trim_start();
                assert!(
                    after.starts_with("mod tests") && ends_with_the_module(after),
                    "{}: `#[cfg(test)] mod tests` must be the last item and the only one",
                    file.path
                );
            }
        }
    }
}

fn ends_with_the_module(code: &str) -> bool {
    let mut depth = 0_usize;
    for (at, c) in code.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return code[at + 1..].trim().is_empty(),
            '}' => depth = depth.saturating_sub(1),
            ';' if depth == 0 => return code[at + 1..].trim().is_empty(),
            _ => {}
        }
    }
    false
}
