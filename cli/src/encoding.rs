//! Text forms of times and bytes in results.

use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use jiff::Timestamp;

/// RFC 3339 in UTC with microseconds.
pub(crate) fn timestamp(time: SystemTime) -> String {
    format!("{:.6}", stamp(time))
}

/// RFC 3339 in UTC with seconds, for certificates.
pub(crate) fn seconds(time: SystemTime) -> String {
    format!("{:.0}", stamp(time))
}

/// The time of day in UTC with milliseconds.
pub(crate) fn time_of_day(time: SystemTime) -> String {
    let text = format!("{:.3}", stamp(time));
    let time = text.split_once('T').map_or(text.as_str(), |(_, time)| time);
    time.trim_end_matches('Z').to_owned()
}

/// Times that a calendar cannot name stand at its border.
fn stamp(time: SystemTime) -> Timestamp {
    let border = if time < UNIX_EPOCH {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    Timestamp::try_from(time).unwrap_or(border)
}

/// Standard base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4_usize {
            let six = group >> (18 - 6 * place) & 0x3f;
            let letter = usize::try_from(six).ok().and_then(|six| ALPHABET.get(six));
            let letter = if place <= chunk.len() { letter } else { None };
            text.push(letter.map_or('=', |letter| char::from(*letter)));
        }
    }
    text
}

/// Text that cannot move the cursor or change the colours of a terminal.
pub(crate) fn visible(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if !text.contains(char::is_control) {
        return text.into_owned();
    }
    text.chars()
        .fold(String::with_capacity(text.len()), |mut shown, c| {
            if c.is_control() && c != '\t' {
                shown.extend(c.escape_default());
            } else {
                shown.push(c);
            }
            shown
        })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_have_six_decimals_in_utc() {
        let time = UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_400);
        assert_eq!(timestamp(time), "2023-11-14T22:13:20.123400Z");
        assert_eq!(seconds(time), "2023-11-14T22:13:20Z");
        assert_eq!(time_of_day(time), "22:13:20.123");
    }

    #[test]
    fn base64_matches_the_standard_vectors() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn terminal_escapes_are_shown_not_obeyed() {
        assert_eq!(visible(b"a\x1b[31mb\r\n\tc"), "a\\u{1b}[31mb\\r\\n\tc");
        assert_eq!(visible("grüße".as_bytes()), "grüße");
    }
}
