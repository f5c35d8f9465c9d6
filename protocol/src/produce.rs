//! Publishing: a batch goes in, receipts come back in order.

use serde::Deserialize;
use serde::Serialize;

use crate::bounded::Bounded;
use crate::bounded::Text;
use crate::error_code::ErrorCode;
use crate::frame::FRAME_HEADER_LEN;
use crate::frame::Flags;
use crate::frame::FrameHeader;
use crate::ids::BrokerId;
use crate::ids::Credit;
use crate::ids::HybridTime;
use crate::ids::Offset;
use crate::ids::Sequence;
use crate::ids::Term;
use crate::kind::Kind;
use crate::message::DecodeError;
use crate::message::messages;
use crate::wire_code::wire_code;

/// Bytes of a Publish body before its batch.
pub const PUBLISH_HEADER_LEN: usize = 16;

/// Bytes of a Publish frame before its batch: frame header and publish header.
pub const PUBLISH_PREFIX_LEN: usize = FRAME_HEADER_LEN + PUBLISH_HEADER_LEN;

wire_code! {
    /// What a receipt promises.
    AckLevel(u8) {
        /// Nothing; the receipt names no place.
        NONE = 0,
        /// The leader has the records.
        LEADER = 1,
        /// A majority has the records in memory.
        QUORUM_MEMORY = 2,
        /// A majority has the records on stable storage.
        QUORUM = 3,
    }
}

/// The fixed part of a Publish body; the rest is one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishHeader {
    /// The promise asked for.
    pub level: AckLevel,
    /// No bit has a meaning yet; must be zero.
    pub flags: u8,
    /// Time the broker has to admit the batch; 0 = default.
    pub deadline_ms: u32,
    /// Append only if the log ends here.
    pub expect_offset: Option<Offset>,
}

/// Receipts for batches, in the order of their sequences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acks {
    /// The receipts.
    pub acks: Bounded<Ack, 64>,
    /// Bytes the producer may send, cumulative from the stream's start.
    pub credit: Credit,
}

/// The receipt of one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ack {
    /// The batch's first sequence.
    pub base_sequence: Sequence,
    /// Its records.
    pub count: u32,
    /// Where it is; none if it is an old duplicate whose place is forgotten.
    pub base_offset: Option<Offset>,
    /// The term it was appended in.
    pub term: Term,
    /// When it was appended.
    pub append_time: HybridTime,
    /// The promise given.
    pub level: AckLevel,
    /// Whether an earlier copy is what the log holds.
    pub duplicate: bool,
}

/// What became of batches that get no receipt. Later batches are dropped until a [`Rewind`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nack {
    /// First sequence without a receipt.
    pub from_sequence: Sequence,
    /// First sequence that was surely not appended; the fate of those between is unknown.
    pub unproposed_sequence: Sequence,
    /// Why the latter were not appended.
    pub code: ErrorCode,
    /// For people.
    pub detail: Text<1024>,
    /// Who leads the partition, if known.
    pub leader: Option<BrokerId>,
    /// When to try again; 0 = no advice.
    pub retry_after_ms: u32,
    /// Records of the batch that were published before: index in the batch, offset in the log.
    pub duplicates: Bounded<(u32, Offset), 4096>,
}

/// The producer goes on, beginning with this sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewind {
    /// The next batch's first sequence.
    pub sequence: Sequence,
}

messages! {
    Acks: ACKS v 1,
    Nack: NACK v 1,
    Rewind: REWIND v 1,
}

impl PublishHeader {
    /// The version of the Publish body's layout.
    pub const VERSION: u16 = 1;

    const NO_EXPECTATION: u64 = u64::MAX;

    /// The header's bytes.
    pub const fn encode(&self) -> [u8; PUBLISH_HEADER_LEN] {
        let [d0, d1, d2, d3] = self.deadline_ms.to_le_bytes();
        let expect = match self.expect_offset {
            Some(offset) => offset.get(),
            None => Self::NO_EXPECTATION,
        };
        let [e0, e1, e2, e3, e4, e5, e6, e7] = expect.to_le_bytes();
        let (level, flags) = (self.level.get(), self.flags);
        [
            level, flags, 0, 0, d0, d1, d2, d3, e0, e1, e2, e3, e4, e5, e6, e7,
        ]
    }

    /// Everything of a Publish frame that stands before a batch of `batch_len` bytes.
    pub fn frame_prefix(&self, batch_len: u32) -> [u8; PUBLISH_PREFIX_LEN] {
        let frame = FrameHeader {
            body_len: batch_len.saturating_add(16),
            kind: Kind::PUBLISH,
            flags: Flags::CRITICAL,
            version: Self::VERSION,
        };
        let mut prefix = [0; PUBLISH_PREFIX_LEN];
        let bytes = frame.encode().into_iter().chain(self.encode());
        for (slot, byte) in prefix.iter_mut().zip(bytes) {
            *slot = byte;
        }
        prefix
    }

    /// Reads the front of a Publish body; the batch follows at [`PUBLISH_HEADER_LEN`].
    ///
    /// # Errors
    /// The body is shorter, or reserved bits are set.
    pub fn parse(body: &[u8]) -> Result<Self, DecodeError> {
        let malformed = |why| DecodeError::Malformed {
            what: "Publish",
            why,
        };
        let Some(header) = body.first_chunk::<PUBLISH_HEADER_LEN>() else {
            return Err(malformed("the body ends inside its header"));
        };
        let [level, flags, z0, z1, d0, d1, d2, d3, expect @ ..] = *header;
        if flags != 0 || z0 != 0 || z1 != 0 {
            return Err(malformed("reserved bits are set"));
        }
        let expect = u64::from_le_bytes(expect);
        Ok(Self {
            level: AckLevel::new(level),
            flags,
            deadline_ms: u32::from_le_bytes([d0, d1, d2, d3]),
            expect_offset: (expect != Self::NO_EXPECTATION).then_some(Offset::new(expect)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_publish_header_round_trips() {
        for expect_offset in [None, Some(Offset::ZERO), Some(Offset::new(77))] {
            let header = PublishHeader {
                level: AckLevel::QUORUM,
                flags: 0,
                deadline_ms: 5000,
                expect_offset,
            };
            assert_eq!(PublishHeader::parse(&header.encode()), Ok(header));
            assert!(PublishHeader::parse(&header.encode()[..15]).is_err());
        }
    }

    #[test]
    fn reserved_bits_are_refused() {
        for at in [1, 2, 3] {
            let mut bytes = [0; PUBLISH_HEADER_LEN];
            bytes[at] = 1;
            assert!(PublishHeader::parse(&bytes).is_err());
        }
    }

    #[test]
    fn the_frame_prefix_counts_header_and_batch() {
        let header = PublishHeader {
            level: AckLevel::LEADER,
            flags: 0,
            deadline_ms: 1,
            expect_offset: None,
        };
        let prefix = header.frame_prefix(100);
        assert_eq!(prefix[..8], [120, 0, 0, 0, 0x20, 1, 1, 0]);
        assert_eq!(prefix[8..], header.encode());
    }
}
