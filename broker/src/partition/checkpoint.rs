//! The derived state of a partition in bytes: what a replica needs to go on after an entry.
//!
//! Equal states have equal bytes, and bytes that are not exactly one state are refused.

use bytes::Bytes;
use quorate_protocol::ControlRecord;
use quorate_protocol::HybridTime;
use quorate_protocol::Offset;
use quorate_protocol::ProducerEpoch;
use quorate_protocol::ProducerId;
use quorate_protocol::Sequence;
use quorate_protocol::Term;

use crate::partition::codec::CodecError;
use crate::partition::codec::Reader;
use crate::partition::codec::Writer;
use crate::partition::dedup::Dedup;
use crate::partition::dedup::Numbers;
use crate::partition::dedup::Place;
use crate::partition::dedup::WindowLimits;

const VERSION: u16 = 1;

pub(crate) fn encode(dedup: &Dedup) -> Bytes {
    let mut writer = Writer::default();
    writer.u16(VERSION);
    dedup.encode(&mut writer);
    Bytes::from(writer.into_bytes())
}

/// Reads a state; no bytes at all are the state at birth.
pub(crate) fn decode(state: &[u8], window: WindowLimits) -> Result<Dedup, CodecError> {
    if state.is_empty() {
        return Ok(Dedup::new(window));
    }
    let mut reader = Reader::new(state);
    let version = reader.u16()?;
    if version != VERSION {
        return Err(CodecError::Version(version));
    }
    let dedup = Dedup::decode(&mut reader, window)?;
    reader.finish()?;
    Ok(dedup)
}

/// The control record that notes: all messages of this batch are in the log from `first` on.
pub(crate) fn duplicates_record(numbers: Numbers, first: Place) -> ControlRecord {
    let mut writer = Writer::default();
    writer.u64(numbers.producer.get());
    writer.u32(numbers.epoch.get());
    writer.u64(numbers.base_sequence.get());
    writer.u32(numbers.count);
    writer.u32(numbers.body_crc);
    writer.u64(first.base_offset.get());
    writer.u64(first.term.get());
    writer.u64(first.append_time.get());
    ControlRecord::Duplicates(Bytes::from(writer.into_bytes()))
}

/// Reads the content of such a note.
pub(crate) fn decode_duplicates(note: &[u8]) -> Result<(Numbers, Place), CodecError> {
    let mut reader = Reader::new(note);
    let numbers = Numbers {
        producer: ProducerId::new(reader.u64()?),
        epoch: ProducerEpoch::new(reader.u32()?),
        base_sequence: Sequence::new(reader.u64()?),
        count: reader.u32()?,
        body_crc: reader.u32()?,
    };
    let first = Place {
        base_offset: Offset::new(reader.u64()?),
        term: Term::new(reader.u64()?),
        append_time: HybridTime::new(reader.u64()?),
    };
    reader.finish()?;
    Ok((numbers, first))
}
