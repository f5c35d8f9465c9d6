//! A batch as a producer made it, before the leader gives it a place.

use std::fmt;

use bytes::Bytes;
use bytes::BytesMut;

use crate::batch::layout;
use crate::batch::layout::BatchError;
use crate::batch::layout::producer_section;
use crate::batch::record_batch::RecordBatch;
use crate::ids::GroupId;
use crate::ids::HybridTime;
use crate::ids::Offset;
use crate::ids::Term;

/// A producer's batch whose structure and body checksum were checked.
pub struct DraftBatch(BytesMut);

/// The place the leader gives a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The leader's term.
    pub term: Term,
    /// The time of the append.
    pub append_time: HybridTime,
    /// The Raft group.
    pub group: GroupId,
}

producer_section!(DraftBatch);

impl DraftBatch {
    /// Checks `bytes`, which must be exactly one batch without a place.
    ///
    /// # Errors
    /// They are not, or the body checksum does not match.
    pub fn parse(bytes: BytesMut) -> Result<Self, BatchError> {
        layout::check_whole(&bytes)?;
        let unset = |from: usize, to: usize| bytes.get(from..to).is_some_and(is_zero);
        if !unset(0, layout::BATCH_LEN) || !unset(layout::GROUP, layout::MAGIC) {
            return Err(BatchError::AlreadyStamped);
        }
        layout::check_producer_section(&bytes)?;
        Ok(Self(bytes))
    }

    /// Wraps bytes that were just built.
    pub(crate) const fn built(bytes: BytesMut) -> Self {
        Self(bytes)
    }

    /// Writes the place into the bytes.
    pub fn stamp(mut self, stamp: Stamp) -> RecordBatch {
        let bytes = &mut self.0;
        layout::put(
            bytes,
            layout::BASE_OFFSET,
            &stamp.base_offset.get().to_le_bytes(),
        );
        layout::put(bytes, layout::TERM, &stamp.term.get().to_le_bytes());
        layout::put(
            bytes,
            layout::APPEND_TIME,
            &stamp.append_time.get().to_le_bytes(),
        );
        layout::put(bytes, layout::GROUP, &stamp.group.get().to_le_bytes());
        let checksum = layout::header_checksum(bytes);
        layout::put(bytes, layout::HEADER_CRC, &checksum.to_le_bytes());
        RecordBatch::stamped(self.0.freeze())
    }

    /// The records section, compressed if the attributes say so.
    pub fn payload(&self) -> &[u8] {
        self.0
            .get(layout::records_at(&self.0)..)
            .unwrap_or_default()
    }

    /// The batch's bytes, to be sent and sent again.
    pub fn into_bytes(self) -> Bytes {
        self.0.freeze()
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

impl fmt::Debug for DraftBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DraftBatch")
            .field("producer_id", &self.producer_id())
            .field("base_sequence", &self.base_sequence())
            .field("records", &self.record_count())
            .field("attributes", &self.attributes())
            .field("bytes", &self.len())
            .finish_non_exhaustive()
    }
}
