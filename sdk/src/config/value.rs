//! Reading one option's text: durations, sizes, counts, words.

use std::time::Duration;

/// The unit a bare number has, given by the end of the key's name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Unit {
    Microseconds,
    Milliseconds,
}

/// `5`, `500us`, `5ms`, `5s`, `5m`, `5h`, `7d`.
pub(super) fn duration(text: &str, unit: Unit) -> Result<Duration, String> {
    let (number, suffix) = split(text);
    let wrong = || format!("`{text}` is no duration; write for example `500ms` or `5s`");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let micros_each: u64 = match (suffix, unit) {
        ("us", _) | ("", Unit::Microseconds) => 1,
        ("ms", _) | ("", Unit::Milliseconds) => 1_000,
        ("s", _) => 1_000_000,
        ("m", _) => 60_000_000,
        ("h", _) => 3_600_000_000,
        ("d", _) => 86_400_000_000,
        _ => return Err(wrong()),
    };
    let micros = number.checked_mul(micros_each).ok_or_else(wrong)?;
    Ok(Duration::from_micros(micros))
}

/// `65536`, `64KiB`, `1MiB`, `2GiB`, `500kB`, `1MB`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let (number, suffix) = split(text);
    let wrong = || format!("`{text}` is no size; write for example `65536` or `64KiB`");
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let each: u64 = match suffix {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(wrong()),
    };
    number.checked_mul(each).ok_or_else(wrong)
}

/// A size between two bounds, as `usize`.
pub(super) fn bytes_between(text: &str, min: u64, max: u64) -> Result<usize, String> {
    let size = bytes(text)?;
    if !(min..=max).contains(&size) {
        return Err(format!("{size} is outside {min}..={max} bytes"));
    }
    usize::try_from(size).map_err(|_| format!("{size} bytes do not fit this machine"))
}

/// A duration of at least `min`.
pub(super) fn duration_from(text: &str, unit: Unit, min: Duration) -> Result<Duration, String> {
    let value = duration(text, unit)?;
    if value < min {
        return Err(format!("{value:?} is below the minimum {min:?}"));
    }
    Ok(value)
}

/// A whole number.
pub(super) fn count<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is no number in range"))
}

/// One of several words.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("`{text}` is none of {}", known.join("|"))
    })
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    (number, suffix.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_their_own_unit_or_the_names() {
        let read = |text| duration(text, Unit::Milliseconds);
        assert_eq!(read("5"), Ok(Duration::from_millis(5)));
        assert_eq!(read("5us"), Ok(Duration::from_micros(5)));
        assert_eq!(read("7d"), Ok(Duration::from_secs(604_800)));
        assert!(read("-1").is_err());
        assert!(read("1.5s").is_err());
        assert!(read("18446744073709551615d").is_err());
    }

    #[test]
    fn sizes_tell_binary_from_decimal() {
        assert_eq!(bytes("1MiB"), Ok(1_048_576));
        assert_eq!(bytes("1MB"), Ok(1_000_000));
        assert!(bytes("1 mib").is_err());
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_known_ones() {
        let error = word("x", &[("a", 1), ("b", 2)]).unwrap_err();
        assert_eq!(error, "`x` is none of a|b");
    }
}
