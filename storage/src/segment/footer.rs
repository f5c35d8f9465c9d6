//! The footer of a sealed segment: all that opening a log has to know of it without reading its frames.

use quorate_protocol::{HybridTime, LogIndex, Offset, Term};

use crate::layout::{FieldReader, FieldWriter, checked, in_memory};

const MAGIC: &[u8; 8] = b"QRTFOOT\x01";
/// Length of the fixed part, which ends the file; the term runs stand before it.
pub(crate) const TRAILER_LEN: usize = 72;
const RUN_LEN: usize = 16;

/// Contents of a footer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Footer {
    pub(crate) count: u64,
    pub(crate) last_index: LogIndex,
    pub(crate) next_offset: Offset,
    pub(crate) first_time: HybridTime,
    pub(crate) last_time: HybridTime,
    /// Position behind the last frame, where the footer begins.
    pub(crate) frames_end: u64,
    pub(crate) chain: u32,
    /// CRC32C of the file from page 1 to `frames_end`.
    pub(crate) file_crc: u32,
    /// Each change of term inside the segment: first index, term.
    pub(crate) terms: Vec<(LogIndex, Term)>,
}

impl Footer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let runs = u32::try_from(self.terms.len()).unwrap_or(u32::MAX);
        let mut fields = FieldWriter::new(self.terms.len() * RUN_LEN + TRAILER_LEN);
        for (index, term) in &self.terms {
            fields = fields.u64(index.get()).u64(term.get());
        }
        fields
            .bytes(MAGIC)
            .u64(self.count)
            .u64(self.last_index.get())
            .u64(self.next_offset.get())
            .u64(self.first_time.get())
            .u64(self.last_time.get())
            .u64(self.frames_end)
            .u32(runs)
            .u32(self.chain)
            .u32(self.file_crc)
            .crc()
            .done()
    }

    /// Where the footer begins, from the file's last bytes; not yet checked.
    pub(crate) fn begins_at(trailer: &[u8]) -> Option<u64> {
        let mut fields = FieldReader::new(trailer);
        (fields.bytes(MAGIC.len())? == MAGIC).then_some(())?;
        fields.bytes(5 * 8)?;
        fields.u64()
    }

    /// Decodes a whole footer, which must be exactly `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let body = checked(bytes)?;
        let runs_len = bytes.len().checked_sub(TRAILER_LEN)?;
        let (runs, trailer) = body.split_at_checked(runs_len)?;
        let mut fields = FieldReader::new(trailer);
        (fields.bytes(MAGIC.len())? == MAGIC).then_some(())?;
        let mut footer = Self {
            count: fields.u64()?,
            last_index: LogIndex::new(fields.u64()?),
            next_offset: Offset::new(fields.u64()?),
            first_time: HybridTime::new(fields.u64()?),
            last_time: HybridTime::new(fields.u64()?),
            frames_end: fields.u64()?,
            chain: 0,
            file_crc: 0,
            terms: Vec::new(),
        };
        let count = in_memory(u64::from(fields.u32()?));
        footer.chain = fields.u32()?;
        footer.file_crc = fields.u32()?;
        (count.checked_mul(RUN_LEN)? == runs_len).then_some(())?;
        let mut runs = FieldReader::new(runs);
        while !runs.is_empty() {
            footer
                .terms
                .push((LogIndex::new(runs.u64()?), Term::new(runs.u64()?)));
        }
        Some(footer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_footer_survives_its_bytes_and_any_flip_is_seen() {
        let footer = Footer {
            count: 3,
            last_index: LogIndex::new(12),
            next_offset: Offset::new(50),
            first_time: HybridTime::new(1 << 20),
            last_time: HybridTime::new(2 << 20),
            frames_end: 8192,
            chain: 77,
            file_crc: 78,
            terms: vec![
                (LogIndex::new(10), Term::new(2)),
                (LogIndex::new(12), Term::new(4)),
            ],
        };
        let bytes = footer.encode();
        assert_eq!(bytes.len(), TRAILER_LEN + 32);
        assert_eq!(Footer::decode(&bytes), Some(footer));
        assert_eq!(Footer::begins_at(&bytes[32..]), Some(8192));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert_eq!(Footer::decode(&flipped), None, "byte {at}");
            assert_eq!(Footer::decode(&bytes[at + 1..]), None);
        }
    }
}
