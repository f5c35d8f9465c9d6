//! A setting's value: numbers with a unit, and the text of each.

use std::fmt;

/// The unit a bare number of a key is in, or that its text may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// A plain count.
    One,
    /// Percent.
    Percent,
    /// Bytes.
    Byte,
    /// Milliseconds.
    Millisecond,
    /// Hours.
    Hour,
}

const SIZES: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
];

const TIMES: [(&str, u64); 6] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

impl Unit {
    /// How many base units (one, bytes, microseconds) a bare number counts.
    pub(crate) const fn factor(self) -> u64 {
        match self {
            Self::One | Self::Percent | Self::Byte => 1,
            Self::Millisecond => 1_000,
            Self::Hour => 3_600_000_000,
        }
    }

    const fn suffixes(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::One => &[],
            Self::Percent => &[("%", 1)],
            Self::Byte => &SIZES,
            Self::Millisecond | Self::Hour => &TIMES,
        }
    }

    /// What a value of this unit looks like, for messages.
    pub(crate) const fn form(self) -> &'static str {
        match self {
            Self::One => "a whole number",
            Self::Percent => "a whole number of percent",
            Self::Byte => "a number of bytes, or text such as \"64KiB\" or \"1MiB\"",
            Self::Millisecond => "a number of milliseconds, or text such as \"500ms\" or \"5s\"",
            Self::Hour => "a number of hours, or text such as \"90m\" or \"2d\"",
        }
    }

    /// Reads `5`, `5_000`, `5s` or `1 MiB` into base units. `None` if it is none of them, or too large.
    pub(crate) fn parse(self, text: &str) -> Option<u64> {
        let text = text.trim();
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '_')
            .unwrap_or(text.len());
        let (number, suffix) = text.split_at_checked(digits)?;
        if !number.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        let number: u64 = number.replace('_', "").parse().ok()?;
        let factor = match suffix.trim() {
            "" => self.factor(),
            suffix => {
                let known = self.suffixes().iter();
                known.clone().find(|(name, _)| *name == suffix)?.1
            }
        };
        number.checked_mul(factor)
    }

    /// The shortest exact text: a bare number in the key's unit, else with a smaller unit.
    pub(crate) fn print(self, base: u64) -> Printed {
        if self == Self::Byte {
            let binary = SIZES.iter().take(4);
            let whole = binary
                .clone()
                .find(|(_, factor)| base >= *factor && base.is_multiple_of(*factor));
            return match whole {
                Some((suffix, factor)) => Printed::Text(format!("{}{suffix}", base / factor)),
                None => Printed::Number(base),
            };
        }
        let factor = self.factor();
        if base.is_multiple_of(factor) {
            return Printed::Number(base / factor);
        }
        let whole = TIMES
            .iter()
            .rev()
            .find(|(_, factor)| base.is_multiple_of(*factor));
        let (suffix, factor) = whole.copied().unwrap_or(("us", 1));
        Printed::Text(format!("{}{suffix}", base / factor))
    }
}

/// A value as TOML and JSON show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Printed {
    /// A bare number.
    Number(u64),
    /// Quoted text.
    Text(String),
}

impl fmt::Display for Printed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => quote(text, f),
        }
    }
}

/// Writes a string as both a TOML basic string and a JSON string.
fn quote(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bare_numbers_are_in_the_keys_unit_and_text_carries_its_own() {
        assert_eq!(Unit::One.parse("20_000"), Some(20_000));
        assert_eq!(Unit::Byte.parse("1MiB"), Some(1 << 20));
        assert_eq!(Unit::Byte.parse("1 MB"), Some(1_000_000));
        assert_eq!(Unit::Byte.parse("4096"), Some(4096));
        assert_eq!(Unit::Millisecond.parse("5s"), Some(5_000_000));
        assert_eq!(Unit::Millisecond.parse("5"), Some(5_000));
        assert_eq!(Unit::Hour.parse("2d"), Unit::Hour.parse("48"));
        assert_eq!(Unit::Percent.parse("15%"), Some(15));
    }

    #[test]
    fn other_text_is_no_value() {
        for text in [
            "",
            " ",
            "_1",
            "-1",
            "+1",
            "1.5",
            "0x10",
            "5 parsecs",
            "5mib",
            "MiB",
            "99999999999999999999",
            "20000000TiB",
        ] {
            assert_eq!(Unit::Byte.parse(text), None, "{text:?}");
            assert_eq!(Unit::Millisecond.parse(text), None, "{text:?}");
        }
        assert_eq!(Unit::One.parse("5s"), None);
    }

    #[test]
    fn text_is_quoted_for_toml_and_json() {
        let printed = Printed::Text("a\"b\\c\n".to_owned());
        assert_eq!(printed.to_string(), r#""a\"b\\c\u000a""#);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(base in 0..u64::MAX / 2, unit in prop_oneof![
            Just(Unit::One), Just(Unit::Byte), Just(Unit::Millisecond), Just(Unit::Hour)]) {
            let text = match unit.print(base) {
                Printed::Number(number) => number.to_string(),
                Printed::Text(text) => text,
            };
            prop_assert_eq!(unit.parse(&text), Some(base));
        }
    }
}
