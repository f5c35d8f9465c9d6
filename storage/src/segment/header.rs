//! The static sector: which log a segment belongs to and where it begins. Written once.

use quorate_protocol::{GroupId, GroupTag, LogIndex, Offset, Term};

use super::SECTOR;
use crate::layout::{FieldReader, FieldWriter, checked};

const MAGIC: &[u8; 8] = b"QRTSEGM\x01";
const VERSION: u16 = 1;
const HEADER_LEN: usize = 56;

/// Contents of the static sector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub(crate) group: GroupId,
    pub(crate) tag: GroupTag,
    pub(crate) base_index: LogIndex,
    pub(crate) base_offset: Offset,
    /// Term of the entry before the first.
    pub(crate) term_before: Term,
    /// Chain value after the entry before the first.
    pub(crate) chain_seed: u32,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        FieldWriter::new(SECTOR)
            .bytes(MAGIC)
            .u16(VERSION)
            .u16(0)
            .u32(self.group.get())
            .u64(self.tag.get())
            .u64(self.base_index.get())
            .u64(self.base_offset.get())
            .u64(self.term_before.get())
            .u32(self.chain_seed)
            .crc()
            .padded(SECTOR)
    }

    /// The header, or why there is none.
    pub(crate) fn decode(page: &[u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "the file is shorter than a segment header";
        let sector = page.get(..HEADER_LEN).ok_or(SHORT)?;
        let fields = checked(sector).ok_or("the segment header fails its checksum")?;
        let mut fields = FieldReader::new(fields);
        if fields.bytes(MAGIC.len()) != Some(MAGIC) {
            return Err("the file is not a segment");
        }
        if fields.u16() != Some(VERSION) {
            return Err("the segment has a format version this release does not know");
        }
        Self::decode_fields(&mut fields).ok_or(SHORT)
    }

    fn decode_fields(fields: &mut FieldReader<'_>) -> Option<Self> {
        fields.u16()?;
        Some(Self {
            group: GroupId::new(fields.u32()?),
            tag: GroupTag::new(fields.u64()?),
            base_index: LogIndex::new(fields.u64()?),
            base_offset: Offset::new(fields.u64()?),
            term_before: Term::new(fields.u64()?),
            chain_seed: fields.u32()?,
        })
    }

    /// Binds the durable marks to this very header.
    pub(crate) fn fingerprint(&self) -> u32 {
        crate::layout::crc32c(&self.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_its_bytes_and_any_flip_is_seen() {
        let header = SegmentHeader {
            group: GroupId::new(7),
            tag: GroupTag::new(8),
            base_index: LogIndex::new(9),
            base_offset: Offset::new(10),
            term_before: Term::new(11),
            chain_seed: 12,
        };
        let bytes = header.encode();
        assert_eq!(bytes.len(), SECTOR);
        assert_eq!(SegmentHeader::decode(&bytes), Ok(header));
        for at in 0..HEADER_LEN {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(SegmentHeader::decode(&flipped).is_err(), "byte {at}");
            assert!(SegmentHeader::decode(&bytes[..at]).is_err());
        }
    }
}
