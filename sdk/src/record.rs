//! What comes back: receipts of published messages, records of subscriptions and pages.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use quorate_protocol::HybridTime;
use quorate_protocol::MessageId;
use quorate_protocol::Offset;
use quorate_protocol::PartitionId;
use quorate_protocol::Term;

use crate::level::AckLevel;

/// Where a published message is, and what that promises.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionId,
    /// The position; none for level `none` and for forgotten duplicates.
    pub offset: Option<Offset>,
    /// The leader's term when it was appended.
    pub term: Option<Term>,
    /// When the leader appended it.
    pub timestamp: Option<SystemTime>,
    /// What the acknowledgement promises.
    pub level: AckLevel,
    /// The message was there already; this is the place of the first copy.
    pub duplicate: bool,
}

/// One record of a topic.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Record {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionId,
    /// The position in the partition.
    pub offset: Offset,
    /// The leader's term when it was appended.
    pub term: Term,
    /// When the leader appended it; never decreases with the offset.
    pub timestamp: SystemTime,
    /// The same with its logical part: comparable across partitions.
    pub hlc: HybridTime,
    /// What the producer's clock showed.
    pub producer_timestamp: SystemTime,
    /// The application's identity of the message.
    pub id: Option<MessageId>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; none if the message was published without one.
    pub value: Option<Bytes>,
    /// The headers, in order.
    pub headers: Headers,
    /// The broker that served it.
    pub broker: Arc<str>,
}

impl Record {
    /// The value, empty if there is none.
    #[must_use]
    pub fn value_bytes(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_default()
    }

    /// The value as text, if it is UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.value_bytes()).ok()
    }
}

/// A record's headers, in the order they were added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    entries: Vec<(String, Option<Bytes>)>,
}

impl Headers {
    pub(crate) fn new(entries: Vec<(String, Option<Bytes>)>) -> Self {
        Self { entries }
    }

    /// The value of the first header of this name; empty if it has none.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        let found = self.entries.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_deref().unwrap_or_default())
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&Bytes>)> {
        self.entries
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_ref()))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Records that are missing in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: PartitionId,
    /// The first missing offset.
    pub from: Offset,
    /// The offset the stream goes on at.
    pub to: Offset,
    /// Why they are missing.
    pub reason: GapReason,
}

/// Why records are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GapReason {
    /// Retention removed them.
    Retention,
    /// This subscriber was too slow and asked to skip.
    Slow,
    /// The cluster lost them.
    DataLoss,
    /// The broker gave no reason.
    Unexplained,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            GapReason::Retention => "retention removed them",
            GapReason::Slow => "this subscriber was too slow and skipped them",
            GapReason::DataLoss => "the cluster lost them",
            GapReason::Unexplained => "the broker gave no reason",
        };
        let (topic, partition) = (&self.topic, self.partition);
        let (from, to) = (self.from, self.to);
        write!(
            f,
            "{topic}/{partition}: records {from}..{to} are missing: {reason}"
        )
    }
}

/// Some records of a partition's history.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Page {
    /// The records, in order.
    pub records: Vec<Record>,
    /// Where the next page starts; none if this one reached the end asked for.
    pub next: Option<Cursor>,
    /// The partition's high watermark.
    pub tail: Offset,
}

/// Where the next page starts, as text that can be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    pub(crate) partition: PartitionId,
    pub(crate) offset: Offset,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c1-{}-{}", self.partition, self.offset)
    }
}

impl std::str::FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (partition, offset) = text.strip_prefix("c1-")?.split_once('-')?;
            Some(Self {
                partition: PartitionId::new(partition.parse().ok()?),
                offset: Offset::new(offset.parse().ok()?),
            })
        };
        parse().ok_or_else(|| format!("`{text}` is no cursor; pass back `next` of a page"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text() {
        let cursor = Cursor {
            partition: PartitionId::new(3),
            offset: Offset::new(u64::MAX),
        };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        for text in ["", "c1-3", "c2-3-4", "c1-3-x"] {
            assert!(text.parse::<Cursor>().is_err(), "{text}");
        }
    }
}
