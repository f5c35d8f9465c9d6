//! Times in RFC 3339 text, such as `2026-11-20T08:00:00.5Z` or `2026-11-20T09:00:00+01:00`.

use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// The moment a text names; none before 1970.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let (fraction, zone) = fraction(rest)?;
    let seconds = days(date)?
        .checked_mul(86_400)?
        .checked_add(seconds_of_day(clock)?)?
        .checked_sub(zone_seconds(zone)?)?;
    let seconds = u64::try_from(seconds).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds) + fraction)
}

/// Days from 1970-01-01 to a date, by Howard Hinnant's civil calendar formula.
fn days(date: &str) -> Option<i64> {
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=last).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

fn seconds_of_day(clock: &str) -> Option<i64> {
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let valid = hour <= 23 && minute <= 59 && second <= 60;
    valid.then_some(hour * 3600 + minute * 60 + second.min(59))
}

fn fraction(text: &str) -> Option<(Duration, &str)> {
    let Some(rest) = text.strip_prefix('.') else {
        return Some((Duration::ZERO, text));
    };
    let end = rest.find(|c: char| !c.is_ascii_digit())?;
    let (digits, zone) = rest.split_at(end);
    if digits.is_empty() {
        return None;
    }
    let nanos = digits
        .bytes()
        .chain(std::iter::repeat(b'0'))
        .take(9)
        .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    Some((Duration::from_nanos(nanos), zone))
}

fn zone_seconds(zone: &str) -> Option<i64> {
    if zone == "Z" || zone == "z" {
        return Some(0);
    }
    let (sign, rest) = match zone.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let [hour, minute] = numbers(rest, ':', [2, 2])?;
    (hour <= 23 && minute <= 59).then_some(sign * (hour * 3600 + minute * 60))
}

fn numbers<const N: usize>(text: &str, separator: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut found = [0; N];
    for (slot, digits) in found.iter_mut().zip(digits) {
        let part = parts.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *slot = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(text: &str) -> Option<f64> {
        let time = parse(text)?;
        time.duration_since(UNIX_EPOCH)
            .ok()
            .map(|since| since.as_secs_f64())
    }

    #[test]
    fn times_with_zones_and_fractions_are_read() {
        assert_eq!(seconds("1970-01-01T00:00:00Z"), Some(0.0));
        assert_eq!(seconds("2000-02-29T12:30:15.25Z"), Some(951_827_415.25));
        assert_eq!(seconds("2026-01-01T01:00:00+01:00"), Some(1_767_225_600.0));
        assert_eq!(seconds("2025-12-31T19:00:00-05:00"), Some(1_767_225_600.0));
    }

    #[test]
    fn text_that_is_no_time_is_refused() {
        for text in [
            "",
            "2026-01-01",
            "2026-13-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "1969-12-31T23:59:59Z",
            "２026-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
