//! The durable mark: how far an earlier flush is known to have reached.
//!
//! Two sectors are written in turn, so one survives a torn write. A mark only grows, except when the log is
//! truncated below it, which first lowers both; so the longer valid one counts.

use quorate_protocol::LogIndex;

use super::{Cursor, SECTOR};
use crate::layout::{FieldReader, FieldWriter, checked};

const MAGIC: u32 = 0x4b52_4d51;
const MARK_LEN: usize = 28;

/// Positions of the two sectors.
pub(crate) const MARK_SECTORS: [u64; 2] = [512, 1024];

/// What was durable when it was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct DurableMark {
    /// Position behind the last durable frame.
    pub(crate) length: u64,
    /// Index of that frame; the one before the segment if it has none.
    pub(crate) last_index: LogIndex,
}

impl DurableMark {
    /// Everything up to a place.
    pub(crate) fn at(end: &Cursor) -> Self {
        Self {
            length: end.position,
            last_index: end.last_index(),
        }
    }

    /// One sector; `fingerprint` is that of the segment's header.
    pub(crate) fn encode(&self, fingerprint: u32) -> Vec<u8> {
        FieldWriter::new(SECTOR)
            .u32(MAGIC)
            .u32(fingerprint)
            .u64(self.length)
            .u64(self.last_index.get())
            .crc()
            .padded(SECTOR)
    }

    /// The mark of a segment from its page 0: the longer of the valid ones.
    pub(crate) fn newest(page: &[u8], fingerprint: u32) -> Option<Self> {
        MARK_SECTORS
            .iter()
            .filter_map(|at| Self::decode(page, *at, fingerprint))
            .max()
    }

    fn decode(page: &[u8], at: u64, fingerprint: u32) -> Option<Self> {
        let sector = page.get(usize::try_from(at).ok()?..)?.get(..MARK_LEN)?;
        let mut fields = FieldReader::new(checked(sector)?);
        let ours = fields.u32()? == MAGIC && fields.u32()? == fingerprint;
        ours.then_some(())?;
        Some(Self {
            length: fields.u64()?,
            last_index: LogIndex::new(fields.u64()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(marks: [&DurableMark; 2]) -> Vec<u8> {
        let mut page = vec![0; 4096];
        for (mark, at) in marks.iter().zip(MARK_SECTORS) {
            page[usize::try_from(at).unwrap()..][..SECTOR].copy_from_slice(&mark.encode(5));
        }
        page
    }

    #[test]
    fn the_longer_valid_mark_counts() {
        let short = DurableMark {
            length: 5000,
            last_index: LogIndex::new(3),
        };
        let long = DurableMark {
            length: 6000,
            last_index: LogIndex::new(4),
        };
        let mut page = page([&short, &long]);
        assert_eq!(DurableMark::newest(&page, 5), Some(long));
        page[1030] ^= 4;
        assert_eq!(DurableMark::newest(&page, 5), Some(short));
        page[520] ^= 4;
        assert_eq!(DurableMark::newest(&page, 5), None);
    }

    #[test]
    fn a_mark_of_another_segment_is_no_mark() {
        let mark = DurableMark {
            length: 5000,
            last_index: LogIndex::new(3),
        };
        assert_eq!(DurableMark::newest(&page([&mark, &mark]), 6), None);
    }
}
