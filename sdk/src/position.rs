//! Where reading starts and ends: `earliest|latest|offset:N|time:T|last:N`, `tail|offset:N|time:T`.

use std::str::FromStr;
use std::time::Duration;
use std::time::SystemTime;

use quorate_protocol::EndPosition;
use quorate_protocol::Offset;
use quorate_protocol::Start as WireStart;
use quorate_protocol::StartPosition;
use quorate_protocol::Until;

use crate::clock::micros_of;
use crate::rfc3339;

/// Where a subscription or a page starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// The first kept record.
    Earliest,
    /// The next record to be published.
    Latest,
    /// This offset.
    Offset(u64),
    /// The first record appended at or after this time.
    Time(SystemTime),
    /// The first record appended at or after this long ago.
    Ago(Duration),
    /// So many records before the end, per partition.
    Last(u64),
}

/// Where a subscription or a page ends; exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// What was committed at the start.
    Tail,
    /// This offset.
    Offset(u64),
    /// The first record appended at or after this time.
    Time(SystemTime),
    /// The first record appended at or after this long ago.
    Ago(Duration),
    /// Never.
    Never,
}

impl Start {
    pub(crate) fn on_the_wire(self, wall_micros: u64) -> StartPosition {
        StartPosition::from(match self {
            Self::Earliest => WireStart::Earliest,
            Self::Latest => WireStart::Latest,
            Self::Offset(offset) => WireStart::Offset(Offset::new(offset)),
            Self::Time(time) => WireStart::Time(micros_of(time)),
            Self::Ago(ago) => WireStart::Time(micros_before(wall_micros, ago)),
            Self::Last(count) => WireStart::Last(count),
        })
    }
}

impl End {
    pub(crate) fn on_the_wire(self, wall_micros: u64) -> EndPosition {
        EndPosition::from(match self {
            Self::Tail => Until::Tail,
            Self::Offset(offset) => Until::Offset(Offset::new(offset)),
            Self::Time(time) => Until::Time(micros_of(time)),
            Self::Ago(ago) => Until::Time(micros_before(wall_micros, ago)),
            Self::Never => Until::Never,
        })
    }
}

fn micros_before(wall_micros: u64, ago: Duration) -> u64 {
    wall_micros.saturating_sub(u64::try_from(ago.as_micros()).unwrap_or(u64::MAX))
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no start; write earliest|latest|offset:N|time:T|last:N");
        match text.split_once(':') {
            None if text == "earliest" => Ok(Self::Earliest),
            None if text == "latest" => Ok(Self::Latest),
            Some(("offset", offset)) => offset.parse().map(Self::Offset).map_err(|_| wrong()),
            Some(("last", count)) => count.parse().map(Self::Last).map_err(|_| wrong()),
            Some(("time", time)) => Ok(match moment(time)? {
                Moment::At(time) => Self::Time(time),
                Moment::Ago(ago) => Self::Ago(ago),
            }),
            _ => Err(wrong()),
        }
    }
}

impl FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no end; write tail|offset:N|time:T");
        match text.split_once(':') {
            None if text == "tail" => Ok(Self::Tail),
            None if text == "never" => Ok(Self::Never),
            Some(("offset", offset)) => offset.parse().map(Self::Offset).map_err(|_| wrong()),
            Some(("time", time)) => Ok(match moment(time)? {
                Moment::At(time) => Self::Time(time),
                Moment::Ago(ago) => Self::Ago(ago),
            }),
            _ => Err(wrong()),
        }
    }
}

enum Moment {
    At(SystemTime),
    Ago(Duration),
}

fn moment(text: &str) -> Result<Moment, String> {
    match text.strip_prefix('-') {
        Some(ago) => crate::config::relative_time(ago).map(Moment::Ago),
        None => rfc3339::parse(text).map(Moment::At).ok_or_else(|| {
            format!("`{text}` is no time; write for example 2026-11-20T08:00:00Z or -1h")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_as_they_are_written_in_the_manual() {
        assert_eq!("earliest".parse(), Ok(Start::Earliest));
        assert_eq!("latest".parse(), Ok(Start::Latest));
        assert_eq!("offset:42".parse(), Ok(Start::Offset(42)));
        assert_eq!("last:10".parse(), Ok(Start::Last(10)));
        assert_eq!(
            "time:-1h".parse(),
            Ok(Start::Ago(Duration::from_secs(3600)))
        );
        let new_year = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        assert_eq!(
            "time:2026-01-01T00:00:00Z".parse(),
            Ok(Start::Time(new_year))
        );
        for text in ["", "tail", "offset:-1", "last", "time:yesterday", "offset"] {
            assert!(text.parse::<Start>().is_err(), "{text}");
        }
    }

    #[test]
    fn ends_are_read_as_they_are_written_in_the_manual() {
        assert_eq!("tail".parse(), Ok(End::Tail));
        assert_eq!("offset:42".parse(), Ok(End::Offset(42)));
        assert!("latest".parse::<End>().is_err());
    }
}
