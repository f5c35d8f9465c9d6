//! Values people type that are not settings: durations, pairs, rates.

use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

/// Reads `500ms`, `5s`, `10m`, `2h`, `7d`; a bare number is in seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, u64); 6] = [
        ("us", 1),
        ("ms", 1_000),
        ("s", 1_000_000),
        ("m", 60_000_000),
        ("h", 3_600_000_000),
        ("d", 86_400_000_000),
    ];
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = if unit.is_empty() { "s" } else { unit };
    let scale = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, scale)| *scale);
    let micros = number
        .parse::<u64>()
        .ok()
        .zip(scale)
        .and_then(|(n, scale)| n.checked_mul(scale));
    micros
        .map(Duration::from_micros)
        .ok_or_else(|| "expected a duration such as 500ms, 5s, 10m, 2h or 7d".to_owned())
}

/// The text of a duration as settings take it.
pub(crate) fn setting(duration: Duration) -> String {
    format!("{}us", duration.as_micros())
}

/// Reads `128B`, `1KiB`, `1MiB`; a bare number is in bytes.
pub(crate) fn bytes(text: &str) -> Result<usize, String> {
    const UNITS: [(&str, usize); 4] = [("", 1), ("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20)];
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = UNITS.iter().find(|(name, _)| *name == unit);
    let bytes = number.parse::<usize>().ok().zip(scale);
    bytes
        .and_then(|(n, (_, scale))| n.checked_mul(*scale))
        .ok_or_else(|| "expected a size such as 128B, 1KiB or 1MiB".to_owned())
}

/// Reads `KEY=VALUE`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

/// Messages a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(NonZeroU64);

impl Rate {
    /// When the message with this index is due, counted from the first.
    pub(crate) fn due(self, index: u64) -> Duration {
        let micros = u128::from(index) * 1_000_000 / u128::from(self.0.get());
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| "expected a number of messages a second".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_and_seconds_by_default() {
        assert_eq!(duration("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        for text in ["", "s", "-5s", "1.5s", "5 s", "5x", "99999999999999999999d"] {
            assert!(duration(text).is_err(), "accepted {text:?}");
        }
    }

    #[test]
    fn a_rate_keeps_its_schedule() {
        let rate: Rate = "500".parse().unwrap();
        assert_eq!(rate.due(0), Duration::ZERO);
        assert_eq!(rate.due(1_000), Duration::from_secs(2));
        assert!("0".parse::<Rate>().is_err());
    }

    #[test]
    fn pairs_split_at_the_first_equals_sign() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(pair("=b").is_err() && pair("a").is_err());
    }
}
