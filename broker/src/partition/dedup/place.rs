//! Where the first copy of something stands in the log.

use quorate_protocol::HybridTime;
use quorate_protocol::Offset;
use quorate_protocol::Term;

use crate::partition::codec::CodecError;
use crate::partition::codec::Reader;
use crate::partition::codec::Writer;

/// Offset, term and append time of a batch or of a run of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) base_offset: Offset,
    pub(crate) term: Term,
    pub(crate) append_time: HybridTime,
}

impl Place {
    pub(super) const ZERO: Self = Self {
        base_offset: Offset::ZERO,
        term: Term::new(0),
        append_time: HybridTime::new(0),
    };

    /// Writes the distance from `last`; places of one producer or window mostly grow a little.
    pub(super) fn encode(&self, writer: &mut Writer, last: &Self) {
        writer.varint(zigzag(last.base_offset.get(), self.base_offset.get()));
        writer.varint(zigzag(last.term.get(), self.term.get()));
        writer.varint(zigzag(last.append_time.get(), self.append_time.get()));
    }

    pub(super) fn decode(reader: &mut Reader<'_>, last: &Self) -> Result<Self, CodecError> {
        Ok(Self {
            base_offset: Offset::new(unzigzag(last.base_offset.get(), reader.varint()?)),
            term: Term::new(unzigzag(last.term.get(), reader.varint()?)),
            append_time: HybridTime::new(unzigzag(last.append_time.get(), reader.varint()?)),
        })
    }
}

fn zigzag(from: u64, to: u64) -> u64 {
    let difference = to.wrapping_sub(from);
    let sign = if difference >> 63 == 1 { u64::MAX } else { 0 };
    (difference << 1) ^ sign
}

fn unzigzag(from: u64, distance: u64) -> u64 {
    let sign = if distance & 1 == 1 { u64::MAX } else { 0 };
    from.wrapping_add((distance >> 1) ^ sign)
}
