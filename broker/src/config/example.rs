//! The commented example configuration, generated from the table of keys.

use crate::config::key::Default;
use crate::config::key::Form;
use crate::config::key::KEYS;
use crate::config::key::Key;
use crate::config::key::sections;
use crate::config::merge::shown_example;
use crate::config::peers::FIELDS;
use crate::config::value::Unit;

const INTRODUCTION: &str = "\
# Configuration of a Quorate broker. The lines without a leading # are required,
# and the advertised addresses unless the listeners have one that others can reach.
# Default < this file < environment (QUORATE_SECTION__KEY) < --set section.key=value.
# A number is in the unit the key ends in; text may carry its own: \"5s\", \"1MiB\".
# Relative paths start at the broker's working directory.
";

const PEERS: &str = "
# The brokers the cluster begins with, this one included: the same entries on each of them.
# Read only by a first start (--init); without any, this broker is the cluster. A broker that
# joins later lists those that are there, without itself. Maximum: 64 entries.
#[[peers]]
";

/// The text of `docs/quorate.toml`.
#[must_use]
pub fn example_toml() -> String {
    let mut text = INTRODUCTION.to_owned();
    for section in sections() {
        text.push_str(&format!("\n[{section}]\n"));
        for key in KEYS.iter().filter(|key| key.section == section) {
            describe(key, &mut text);
        }
    }
    text.push_str(PEERS);
    for (name, _, example, meaning) in FIELDS {
        text.push_str(&format!("# {meaning}\n#{name} = {example}\n"));
    }
    text
}

fn describe(key: &Key, text: &mut String) {
    let (default, line) = match key.default {
        Default::Required(example) => ("required".to_owned(), (false, example)),
        Default::Value(value) => (value.to_owned(), (true, value)),
        Default::Derived(rule, example) => (rule.to_owned(), (true, example)),
    };
    text.push_str(&format!("# {}\n# Default: {default}.", key.meaning));
    match key.form {
        Form::Number { unit, min, max } => {
            let shown = |bound: u64| bare(unit, bound);
            text.push_str(&format!(
                " Minimum: {}. Maximum: {}.",
                shown(min),
                shown(max)
            ));
        }
        Form::Word(words) => text.push_str(&format!(" One of: {}.", words.join(", "))),
        _ => {}
    }
    let (commented, value) = line;
    let mark = if commented { "#" } else { "" };
    let value = match key.form {
        Form::Number { .. } if value.bytes().all(|byte| byte.is_ascii_digit()) => value.to_owned(),
        Form::Number { .. } => format!("\"{value}\""),
        _ => shown_example(key, value),
    };
    text.push_str(&format!("\n{mark}{} = {value}\n", key.name));
}

fn bare(unit: Unit, bound: u64) -> String {
    let printed = unit.print(bound * unit.factor()).to_string();
    printed.trim_matches('"').to_owned()
}
