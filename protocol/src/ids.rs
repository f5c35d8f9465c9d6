//! Numbers that identify or count: one type each, so none can stand in for another.
//!
//! Invariant: no `Deref`, no `From`; only arithmetic that has a meaning.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Serialize;

use crate::checksum::crc32c;

macro_rules! number {
    ($($(#[$doc:meta])* $name:ident($raw:ty);)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($raw);

        impl $name {
            /// Wraps the raw number.
            pub const fn new(raw: $raw) -> Self {
                Self(raw)
            }

            /// The raw number.
            pub const fn get(self) -> $raw {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    )+};
}

number! {
    /// Gapless position of a record in a partition.
    Offset(u64);
    /// Position of an entry in a Raft log; blank and control entries take one too.
    LogIndex(u64);
    /// Raft term.
    Term(u64);
    /// Distinguishes successive incarnations of one group number.
    GroupTag(u64);
    /// One replica of one group, never reused.
    ReplicaId(u64);
    /// Who numbered a batch; bound to a principal.
    ProducerId(u64);
    /// Counts a producer's records on one partition; never wraps.
    Sequence(u64);
    /// An amount of bytes.
    ByteSize(u64);
    /// Cumulative demand a receiver has granted.
    Credit(u64);
    /// A partition's number within its topic.
    PartitionId(u32);
    /// A Raft group's number; 0 holds the cluster's metadata.
    GroupId(u32);
    /// Successive memberships of a consumer group.
    Generation(u32);
    /// Successive owners of a named producer; the newest fences the others.
    ProducerEpoch(u32);
    /// A broker of the cluster, from 1.
    BrokerId(u16);
    /// Wall clock and logical counter in one comparable number: 52 bits of microseconds since
    /// 1970, 12 bits logical.
    HybridTime(u64);
}

macro_rules! uuid {
    ($($(#[$doc:meta])* $name:ident;)+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u128);

        impl $name {
            /// Wraps the raw number.
            pub const fn new(raw: u128) -> Self {
                Self(raw)
            }

            /// The raw number; its big-endian bytes are the UUID's.
            pub const fn get(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_uuid(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "("))?;
                write_uuid(self.0, f)?;
                f.write_str(")")
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_uuid(text).map(Self)
            }
        }
    )+};
}

uuid! {
    /// A topic's identity; a recreated topic has another.
    TopicId;
    /// The application's identity of a message, deduplicated within a window.
    MessageId;
    /// One accepted client connection.
    SessionId;
    /// One run of a client process.
    InstanceId;
    /// One data folder of a broker, made with it and never again.
    StorageId;
}

/// The text is no UUID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no UUID: expected 32 hexadecimal digits as 8-4-4-4-12")]
pub struct ParseIdError {
    text: String,
}

fn write_uuid(raw: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        raw >> 96,
        (raw >> 80) & 0xffff,
        (raw >> 64) & 0xffff,
        (raw >> 48) & 0xffff,
        raw & 0xffff_ffff_ffff
    )
}

fn parse_uuid(text: &str) -> Result<u128, ParseIdError> {
    let wrong = || ParseIdError {
        text: text.chars().take(64).collect(),
    };
    if text.len() != 36 {
        return Err(wrong());
    }
    let mut raw = 0u128;
    for (at, c) in text.chars().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if c != '-' {
                return Err(wrong());
            }
        } else {
            let digit = c.to_digit(16).ok_or_else(wrong)?;
            raw = raw << 4 | u128::from(digit);
        }
    }
    Ok(raw)
}

impl Offset {
    /// The first offset of every partition.
    pub const ZERO: Self = Self(0);

    /// The offset after this one; stays at the largest.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// This offset plus `count` records.
    pub const fn checked_add(self, count: u64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// Records from `start` to this offset, zero if `start` is later.
    pub const fn distance_from(self, start: Self) -> u64 {
        self.0.saturating_sub(start.0)
    }
}

impl Sequence {
    /// The first sequence of every producer epoch.
    pub const ZERO: Self = Self(0);

    /// The sequence after this one; stays at the largest.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// This sequence plus `count` records.
    pub const fn checked_add(self, count: u64) -> Option<Self> {
        match self.0.checked_add(count) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }

    /// Records from `start` to this sequence, zero if `start` is later.
    pub const fn distance_from(self, start: Self) -> u64 {
        self.0.saturating_sub(start.0)
    }
}

impl LogIndex {
    /// The index before every entry.
    pub const ZERO: Self = Self(0);

    /// The index after this one; stays at the largest.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The index before this one; stays at zero.
    pub const fn prev(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl Term {
    /// The term before every election.
    pub const ZERO: Self = Self(0);
}

impl HybridTime {
    const LOGICAL_BITS: u32 = 12;
    const LOGICAL_MASK: u16 = 0x0fff;

    /// The earliest time.
    pub const ZERO: Self = Self(0);

    /// Joins microseconds since 1970 (52 bits are kept) and a logical counter (12 bits are kept).
    pub const fn from_parts(micros: u64, logical: u16) -> Self {
        Self(micros << Self::LOGICAL_BITS | (logical & Self::LOGICAL_MASK) as u64)
    }

    /// Microseconds since 1970.
    pub const fn micros(self) -> u64 {
        self.0 >> Self::LOGICAL_BITS
    }

    /// The counter within one microsecond.
    pub const fn logical(self) -> u16 {
        let [low, high, ..] = self.0.to_le_bytes();
        u16::from_le_bytes([low, high]) & Self::LOGICAL_MASK
    }

    /// The smallest time that is later than this one and not before `wall_micros`.
    ///
    /// A full logical counter carries into the microseconds.
    pub const fn next_after(self, wall_micros: u64) -> Self {
        let wall = Self::from_parts(wall_micros, 0);
        let next = Self(self.0.saturating_add(1));
        if wall.0 > next.0 { wall } else { next }
    }
}

impl TopicId {
    /// CRC32C of the id's 16 little-endian bytes: ties a batch to its topic.
    pub fn hash32(self) -> u32 {
        crc32c(&self.0.to_le_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuid_text_round_trips_in_lower_case() {
        let id = TopicId::new(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(id.to_string(), "01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!("01234567-89AB-cdef-0123-456789abcdef".parse(), Ok(id));
    }

    #[test]
    fn text_that_is_no_uuid_is_refused() {
        for text in [
            "",
            "01234567-89ab-cdef-0123-456789abcde",
            "01234567089ab-cdef-0123-456789abcdef",
            "+1234567-89ab-cdef-0123-456789abcdef",
            "é1234567-89ab-cdef-0123-456789abcde",
        ] {
            assert!(text.parse::<MessageId>().is_err(), "{text}");
        }
    }

    #[test]
    fn hybrid_time_always_moves_forward() {
        let time = HybridTime::from_parts(1_700_000_000_000_000, 4095);
        assert_eq!(time.micros(), 1_700_000_000_000_000);
        assert_eq!(time.logical(), 4095);
        let carried = time.next_after(5);
        assert_eq!(carried.micros(), 1_700_000_000_000_001);
        assert_eq!(carried.logical(), 0);
        let jumped = time.next_after(1_800_000_000_000_000);
        assert_eq!(jumped, HybridTime::from_parts(1_800_000_000_000_000, 0));
    }

    #[test]
    fn distances_saturate() {
        assert_eq!(Offset::new(3).distance_from(Offset::new(9)), 0);
        assert_eq!(Offset::new(9).distance_from(Offset::new(3)), 6);
        assert_eq!(Offset::new(u64::MAX).checked_add(1), None);
        assert_eq!(LogIndex::ZERO.prev(), LogIndex::ZERO);
    }
}
