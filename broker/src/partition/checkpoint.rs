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

#[cfg(test)]
mod tests {
    use quorate_protocol::LogIndex;
    use quorate_protocol::MessageId;

    use super::*;

    /// What storage takes as a checkpoint's state.
    const STATE_BYTES_MAX: usize = 8 << 20;

    fn at(number: u64) -> Place {
        Place {
            base_offset: Offset::new(number * 1_000),
            term: Term::new(1 + number / 1_000),
            append_time: HybridTime::from_parts(1_700_000_000_000_000 + number * 20_011, 3),
        }
    }

    fn numbers(producer: u64, sequence: u64) -> Numbers {
        Numbers {
            producer: ProducerId::new(producer),
            epoch: ProducerEpoch::new(7),
            base_sequence: Sequence::new(sequence * 65_536),
            count: 65_536,
            body_crc: u32::MAX,
        }
    }

    #[test]
    fn the_fullest_state_fits_into_a_checkpoint() {
        let window = WindowLimits::new(u32::MAX, u64::MAX);
        let mut dedup = Dedup::new(window);
        for number in 0..160_000u64 {
            let (producer, sequence) = (number % 10_000, number / 10_000);
            let id = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
            let ids = Some(std::iter::once(MessageId::new(id)));
            let index = LogIndex::new(number + 1);
            dedup.apply_batch(index, numbers(producer, sequence), at(number), ids);
        }
        let state = encode(&dedup);
        assert!(state.len() <= STATE_BYTES_MAX, "{} bytes", state.len());
        assert_eq!(encode(&decode(&state, window).unwrap()), state);
    }

    #[test]
    fn a_note_of_duplicates_comes_back_from_its_record() {
        let (numbers, place) = (numbers(4, 9), at(5));
        let ControlRecord::Duplicates(note) = duplicates_record(numbers, place) else {
            panic!("another record")
        };
        assert_eq!(decode_duplicates(&note), Ok((numbers, place)));
        assert_eq!(decode_duplicates(&note[1..]), Err(CodecError::Truncated));
    }

    #[test]
    fn a_state_of_another_version_is_refused_by_number() {
        let refused = decode(&[2, 0], WindowLimits::new(0, 0)).map(drop);
        assert_eq!(refused, Err(CodecError::Version(2)));
    }
}
