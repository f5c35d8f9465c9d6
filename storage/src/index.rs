//! The sparse index of a segment: where an offset, an entry or a time is, to within 4 KiB.
//!
//! A cache and never evidence: each hit is confirmed by the frame it points to, and a file that does not
//! fit its segment is made again from the log.

use quorate_protocol::{HybridTime, LogIndex, Offset};

use crate::layout::{FieldReader, FieldWriter, checked, in_memory};
use crate::segment::Cursor;

const MAGIC: &[u8; 8] = b"QRTINDX\x01";
/// Frames this far apart are indexed; between two entries stands one frame more at most.
pub(crate) const STRIDE: u64 = 4096;
const ENTRY_LEN: usize = 32;
const HEAD_LEN: usize = 32;

/// One frame that can be found directly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IndexEntry {
    pub(crate) offset: Offset,
    pub(crate) index: LogIndex,
    pub(crate) time: HybridTime,
    position: u32,
    chain: u32,
}

impl IndexEntry {
    pub(crate) fn position(&self) -> u64 {
        u64::from(self.position)
    }

    /// Where reading begins; the term before is not known.
    pub(crate) fn cursor(&self) -> Cursor {
        Cursor {
            position: self.position(),
            next_index: self.index,
            next_offset: self.offset,
            chain: self.chain,
            term: quorate_protocol::Term::new(0),
            time: HybridTime::new(0),
        }
    }
}

/// What an index file must agree with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IndexSeal {
    /// Fingerprint of the segment's header.
    pub(crate) fingerprint: u32,
    /// Last chain value of the sealed segment.
    pub(crate) chain: u32,
    /// Position behind its last frame.
    pub(crate) frames_end: u64,
}

/// Entries in order of position.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(crate) struct SparseIndex {
    entries: Vec<IndexEntry>,
}

impl SparseIndex {
    /// Takes note of a frame that begins at `before` and was made at `time`.
    pub(crate) fn note(&mut self, before: &Cursor, time: HybridTime) {
        let due = self
            .entries
            .last()
            .is_none_or(|last| before.position >= last.position().saturating_add(STRIDE));
        if let (true, Ok(position)) = (due, u32::try_from(before.position)) {
            self.entries.push(IndexEntry {
                offset: before.next_offset,
                index: before.next_index,
                time,
                position,
                chain: before.chain,
            });
        }
    }

    /// Forgets frames at and behind a position.
    pub(crate) fn truncate(&mut self, position: u64) {
        let kept = self
            .entries
            .partition_point(|entry| entry.position() < position);
        self.entries.truncate(kept);
    }

    /// The entries from the last one for which `before` holds; all if it holds for none.
    pub(crate) fn since_last(&self, before: impl Fn(&IndexEntry) -> bool) -> &[IndexEntry] {
        let at = self.entries.partition_point(before).saturating_sub(1);
        self.entries.get(at..).unwrap_or_default()
    }

    /// The file beside a sealed segment.
    pub(crate) fn encode(&self, seal: &IndexSeal) -> Vec<u8> {
        let mut fields = FieldWriter::new(HEAD_LEN + self.entries.len() * ENTRY_LEN + 4)
            .bytes(MAGIC)
            .u32(seal.fingerprint)
            .u32(seal.chain)
            .u64(seal.frames_end)
            .u64(self.entries.len() as u64);
        for entry in &self.entries {
            fields = fields
                .u64(entry.offset.get())
                .u64(entry.index.get())
                .u64(entry.time.get())
                .u32(entry.position)
                .u32(entry.chain);
        }
        fields.crc().done()
    }

    /// Reads such a file; `None` unless it is whole and belongs to this segment as it is now.
    pub(crate) fn decode(bytes: &[u8], seal: &IndexSeal) -> Option<Self> {
        let mut fields = FieldReader::new(checked(bytes)?);
        let fits = fields.bytes(MAGIC.len())? == MAGIC
            && fields.u32()? == seal.fingerprint
            && fields.u32()? == seal.chain
            && fields.u64()? == seal.frames_end;
        let count = in_memory(fields.u64()?);
        let len = count.checked_mul(ENTRY_LEN)?.checked_add(HEAD_LEN + 4)?;
        (fits && len == bytes.len()).then_some(())?;
        let mut entries = Vec::with_capacity(count);
        while !fields.is_empty() {
            entries.push(IndexEntry {
                offset: Offset::new(fields.u64()?),
                index: LogIndex::new(fields.u64()?),
                time: HybridTime::new(fields.u64()?),
                position: fields.u32()?,
                chain: fields.u32()?,
            });
        }
        let ordered = entries.is_sorted_by(|a, b| a.position < b.position && a.index < b.index);
        ordered.then_some(Self { entries })
    }

    /// Length that the file of an index over a segment of this length cannot pass.
    pub(crate) fn file_len_max(frames_end: u64) -> u64 {
        let entries = frames_end / STRIDE + 1;
        entries
            .saturating_mul(ENTRY_LEN as u64)
            .saturating_add(HEAD_LEN as u64 + 4)
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::Term;

    use super::*;

    fn cursor(number: u64) -> Cursor {
        Cursor {
            position: 4096 + number * 1500,
            next_index: LogIndex::new(number + 2),
            next_offset: Offset::new(number * 10),
            chain: 7,
            term: Term::new(1),
            time: HybridTime::new(number),
        }
    }

    fn index() -> SparseIndex {
        let mut index = SparseIndex::default();
        for number in 0..100 {
            index.note(&cursor(number), HybridTime::new(number));
        }
        index
    }

    #[test]
    fn one_entry_stands_per_stride() {
        let index = index();
        assert_eq!(index.entries.len(), 34);
        let strides = index
            .entries
            .windows(2)
            .all(|pair| pair[1].position() - pair[0].position() >= STRIDE);
        assert!(strides);
    }

    #[test]
    fn a_lookup_begins_at_or_before_what_is_sought() {
        let index = index();
        for sought in 0..1000 {
            let found = index.since_last(|entry| entry.offset.get() <= sought);
            assert!(found[0].offset.get() <= sought);
            assert!(found.get(1).is_none_or(|next| next.offset.get() > sought));
        }
    }

    #[test]
    fn a_file_that_is_not_this_segments_index_is_refused() {
        let seal = IndexSeal {
            fingerprint: 1,
            chain: 2,
            frames_end: 3,
        };
        let index = index();
        let bytes = index.encode(&seal);
        assert_eq!(SparseIndex::decode(&bytes, &seal), Some(index));
        assert_eq!(
            SparseIndex::decode(&bytes, &IndexSeal { chain: 9, ..seal }),
            None
        );
        assert_eq!(SparseIndex::decode(&vec![0; bytes.len()], &seal), None);
        assert_eq!(SparseIndex::decode(&[], &seal), None);
        for at in 0..bytes.len() {
            assert_eq!(SparseIndex::decode(&bytes[..at], &seal), None);
        }
    }
}
