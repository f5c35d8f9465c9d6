//! A batch with its place in the log.

use std::fmt;

use bytes::Buf;
use bytes::Bytes;

use crate::batch::layout;
use crate::batch::layout::BatchError;
use crate::batch::layout::producer_section;
use crate::ids::GroupId;
use crate::ids::HybridTime;
use crate::ids::Offset;
use crate::ids::Term;

/// A stamped batch whose structure and checksums were checked. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordBatch(Bytes);

producer_section!(RecordBatch);

impl RecordBatch {
    /// Checks `bytes`, which must be exactly one batch.
    ///
    /// # Errors
    /// They are not, or a checksum does not match.
    pub fn parse(bytes: Bytes) -> Result<Self, BatchError> {
        layout::check_whole(&bytes)?;
        check_stamp(&bytes)?;
        layout::check_producer_section(&bytes)?;
        Ok(Self(bytes))
    }

    /// Checks and takes the first batch of `bytes`, which is left untouched on an error.
    ///
    /// # Errors
    /// The bytes do not begin with a whole batch, or a checksum does not match.
    pub fn split_first(bytes: &mut Bytes) -> Result<Self, BatchError> {
        let len = layout::whole_len(bytes)?;
        let first = Self::parse(bytes.slice(..len))?;
        bytes.advance(len);
        Ok(first)
    }

    /// Wraps bytes that were just stamped.
    pub(crate) const fn stamped(bytes: Bytes) -> Self {
        Self(bytes)
    }

    /// The batch's bytes.
    pub const fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The batch's bytes, owned.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The offset of the first record; of a control batch, the offset of the next record.
    pub fn base_offset(&self) -> Offset {
        Offset::new(layout::u64_at(&self.0, layout::BASE_OFFSET))
    }

    /// The offset after the last record; a control batch takes none.
    pub fn next_offset(&self) -> Offset {
        let records = if self.attributes().control {
            0
        } else {
            self.record_count()
        };
        let next = self.base_offset().checked_add(u64::from(records));
        next.unwrap_or(Offset::new(u64::MAX))
    }

    /// The term it was appended in.
    pub fn term(&self) -> Term {
        Term::new(layout::u64_at(&self.0, layout::TERM))
    }

    /// When the leader appended it.
    pub fn append_time(&self) -> HybridTime {
        HybridTime::new(layout::u64_at(&self.0, layout::APPEND_TIME))
    }

    /// CRC32C of the broker's header.
    pub fn header_crc(&self) -> u32 {
        layout::u32_at(&self.0, layout::HEADER_CRC)
    }

    /// The Raft group it belongs to.
    pub fn group(&self) -> GroupId {
        GroupId::new(layout::u32_at(&self.0, layout::GROUP))
    }

    /// The records, compressed as the attributes say.
    pub fn payload(&self) -> Bytes {
        let at = layout::records_at(&self.0).min(self.0.len());
        self.0.slice(at..)
    }
}

fn check_stamp(bytes: &[u8]) -> Result<(), BatchError> {
    let stored = layout::u32_at(bytes, layout::HEADER_CRC);
    let computed = layout::header_checksum(bytes);
    if stored != computed {
        return Err(BatchError::HeaderChecksum { stored, computed });
    }
    Ok(())
}

impl fmt::Debug for RecordBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordBatch")
            .field("group", &self.group())
            .field("term", &self.term())
            .field("base_offset", &self.base_offset())
            .field("records", &self.record_count())
            .field("attributes", &self.attributes())
            .field("bytes", &self.len())
            .finish_non_exhaustive()
    }
}
