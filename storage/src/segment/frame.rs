//! Frames: one entry each, chained so that a frame of an overwritten tail can never follow a newer one.

use quorate_protocol::{BATCH_BYTES_MAX, BATCH_HEADER_LEN, HybridTime, LogIndex, Offset, Term};

use crate::entry::EntryKind;
use crate::layout::{Crc, FieldReader, FieldWriter, crc32c};

/// Length of a frame's own fields; the batch follows.
pub(crate) const FRAME_LEN: usize = 24;
/// Where a batch says its length behind byte 40, and where the checksum of its body stands.
const BATCH_LEN_AT: usize = 28;
const BODY_CRC_AT: usize = 40;
/// What pads a frame to eight bytes.
pub(crate) const PADDING: [u8; 8] = [0; 8];
const ALIGNMENT: usize = 8;

/// Bytes that a batch of this length takes in a segment.
#[must_use]
pub fn frame_len(batch_len: usize) -> u64 {
    (FRAME_LEN + padded(batch_len)) as u64
}

/// A batch's length with its padding.
pub(crate) const fn padded(batch_len: usize) -> usize {
    batch_len.next_multiple_of(ALIGNMENT)
}

/// A frame's own fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Frame {
    pub(crate) index: LogIndex,
    pub(crate) batch_len: usize,
    pub(crate) kind: EntryKind,
    pub(crate) chain: u32,
}

impl Frame {
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.unchained().u32(self.chain).crc().done()
    }

    /// Checks the fields; says nothing about the chain.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "a frame ends behind the file";
        let bytes = bytes.get(..FRAME_LEN).ok_or(SHORT)?;
        let body = crate::layout::checked(bytes).ok_or("a frame fails its checksum")?;
        Self::decode_fields(body).ok_or("a frame has fields out of range")
    }

    fn decode_fields(body: &[u8]) -> Option<Self> {
        let mut fields = FieldReader::new(body);
        let index = LogIndex::new(fields.u64()?);
        let batch_len = usize::try_from(fields.u32()?).ok()?;
        let kind = EntryKind::from_byte(fields.u8()?)?;
        let reserved_is_zero = fields.bytes(3)? == [0; 3];
        let chain = fields.u32()?;
        let sound = reserved_is_zero && (BATCH_HEADER_LEN..=BATCH_BYTES_MAX).contains(&batch_len);
        sound.then_some(Self {
            index,
            batch_len,
            kind,
            chain,
        })
    }

    /// Length in the segment, padding included.
    pub(crate) fn total_len(&self) -> u64 {
        frame_len(self.batch_len)
    }

    fn unchained(&self) -> FieldWriter {
        let len = u32::try_from(self.batch_len).unwrap_or(u32::MAX);
        FieldWriter::new(FRAME_LEN)
            .u64(self.index.get())
            .u32(len)
            .bytes(&[self.kind.to_byte(), 0, 0, 0])
    }

    /// The chain value this frame must carry behind `previous`.
    pub(crate) fn chain_after(&self, previous: u32, header_crc: u32, body_crc: u32) -> u32 {
        next_chain(previous, &self.unchained().done(), header_crc, body_crc)
    }
}

/// Folds one frame into the chain.
pub(crate) fn next_chain(previous: u32, fields: &[u8], header_crc: u32, body_crc: u32) -> u32 {
    let mut chain = Crc::new();
    chain.update(&previous.to_le_bytes());
    chain.update(fields);
    chain.update(&header_crc.to_le_bytes());
    chain.update(&body_crc.to_le_bytes());
    chain.value()
}

/// What the log has to know of a batch, read from its first bytes alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BatchSummary {
    pub(crate) base_offset: Offset,
    pub(crate) term: Term,
    pub(crate) time: HybridTime,
    pub(crate) header_crc: u32,
    pub(crate) body_crc: u32,
    pub(crate) record_count: u32,
}

impl BatchSummary {
    /// Reads the fields and checks the header's checksum, not that of the body.
    pub(crate) fn decode(batch: &[u8]) -> Option<Self> {
        let mut fields = FieldReader::new(batch.get(..BATCH_HEADER_LEN)?);
        let stamped = fields.bytes(24)?;
        let header_crc = fields.u32()?;
        let fixed = fields.bytes(12)?;
        let mut crc = Crc::new();
        crc.update(stamped);
        crc.update(fixed);
        (crc.value() == header_crc).then_some(())?;
        let body_crc = fields.u32()?;
        fields.bytes(16)?;
        let record_count = fields.u32()?;
        let mut stamped = FieldReader::new(stamped);
        Some(Self {
            base_offset: Offset::new(stamped.u64()?),
            term: Term::new(stamped.u64()?),
            time: HybridTime::new(stamped.u64()?),
            header_crc,
            body_crc,
            record_count,
        })
    }
}

/// Whether a batch has the length it says and its body matches its checksum.
pub(crate) fn batch_is_whole(batch: &[u8]) -> bool {
    let mut fields = FieldReader::new(batch);
    let body_crc = (|| {
        fields.bytes(BODY_CRC_AT)?;
        fields.u32()
    })();
    let body = batch.get(BODY_CRC_AT + 4..).unwrap_or_default();
    let mut fields = FieldReader::new(batch.get(BATCH_LEN_AT..).unwrap_or_default());
    let len = fields
        .u32()
        .map(|len| crate::layout::in_memory(u64::from(len)));
    len == batch.len().checked_sub(BODY_CRC_AT) && body_crc == Some(crc32c(body))
}
