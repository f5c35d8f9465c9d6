//! What is written reads back equal; whatever else is read is an error, never a panic.

use bytes::Bytes;
use bytes::BytesMut;
use proptest::prelude::*;
use quorate_protocol::*;

use crate::samples::OwnedRecord;
use crate::samples::Sample;
use crate::samples::Source;
use crate::samples::WIRE_TYPES;
use crate::samples::draft_of;
use crate::samples::envelope_body;
use crate::samples::records_of;

fn sampled_records(choices: &[Vec<u8>]) -> Vec<OwnedRecord> {
    let sample = |bytes: &Vec<u8>| OwnedRecord::sample(&mut Source::bytes(bytes));
    choices.iter().map(sample).collect()
}

/// Changes a few bytes, and perhaps the length.
fn damaged(
    mut bytes: Vec<u8>,
    hits: &[(prop::sample::Index, u8)],
    cut: Option<prop::sample::Index>,
) -> Vec<u8> {
    for (at, byte) in hits {
        if !bytes.is_empty() {
            let at = at.index(bytes.len());
            if let Some(slot) = bytes.get_mut(at) {
                *slot = *byte;
            }
        }
    }
    if let Some(cut) = cut {
        bytes.truncate(cut.index(bytes.len() + 1));
    }
    bytes
}

fn hits() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec(any::<(prop::sample::Index, u8)>(), 0..4)
}

proptest! {
    #[test]
    fn every_message_reads_back_equal(choices in prop::collection::vec(any::<u8>(), 0..600)) {
        for wire_type in WIRE_TYPES {
            let (bytes, text) = (wire_type.make)(&mut Source::bytes(&choices));
            let (again, read) = (wire_type.read)(&bytes).unwrap();
            prop_assert_eq!(&read, &text);
            prop_assert_eq!(&again, &bytes);
        }
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for wire_type in WIRE_TYPES {
            prop_assert_eq!((wire_type.accepts)(&bytes), (wire_type.read)(&bytes).is_ok());
            // Numbers have more than one encoding, so bytes may differ; the value may not.
            if let Ok((again, text)) = (wire_type.read)(&bytes) {
                prop_assert_eq!((wire_type.read)(&again).unwrap().1, text);
            }
        }
    }

    #[test]
    fn damaged_messages_are_a_message_or_an_error(
        choices in prop::collection::vec(any::<u8>(), 0..600),
        hits in hits(),
        cut: Option<prop::sample::Index>,
    ) {
        for wire_type in WIRE_TYPES {
            let (bytes, _) = (wire_type.make)(&mut Source::bytes(&choices));
            if let Ok((again, text)) = (wire_type.read)(&damaged(bytes, &hits, cut)) {
                prop_assert_eq!((wire_type.read)(&again).unwrap().1, text);
            }
        }
    }

    #[test]
    fn every_batch_reads_back_equal(
        choices in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8),
        place in prop::collection::vec(any::<u8>(), 0..80),
        ids: bool,
    ) {
        let mut source = Source::bytes(&place);
        let (identity, stamp): (BatchIdentity, Stamp) =
            (Sample::sample(&mut source), Sample::sample(&mut source));
        let made = sampled_records(&choices);
        let sent = draft_of(&made, ids, identity).into_bytes();
        let draft = DraftBatch::parse(BytesMut::from(&sent[..])).unwrap();
        prop_assert_eq!(draft.producer_id(), identity.producer_id);
        prop_assert_eq!(draft.base_sequence(), identity.base_sequence);
        let batch = RecordBatch::parse(draft.stamp(stamp).into_bytes()).unwrap();
        prop_assert_eq!(batch.base_offset(), stamp.base_offset);
        prop_assert_eq!(batch.append_time(), stamp.append_time);
        prop_assert_eq!(&batch.bytes()[40..], &sent[40..]);
        prop_assert_eq!(batch.message_ids().len(), if ids { made.len() } else { 0 });
        prop_assert_eq!(records_of(&batch).unwrap(), made);
    }

    #[test]
    fn a_damaged_batch_is_refused(
        choices in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..5),
        hits in hits(),
        cut: Option<prop::sample::Index>,
    ) {
        let identity = Sample::sample(&mut Source::largest());
        let stamp = Sample::sample(&mut Source::largest());
        let draft = draft_of(&sampled_records(&choices), true, identity);
        let whole = draft.stamp(stamp).into_bytes();
        let wrong = damaged(whole.to_vec(), &hits, cut);
        let unchanged = wrong == whole;
        prop_assert_eq!(RecordBatch::parse(Bytes::from(wrong)).is_ok(), unchanged);
    }

    #[test]
    fn any_bytes_are_records_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        count in 0u32..20,
        base: u64,
    ) {
        let mut seen = 0;
        for record in records(&bytes, count, base) {
            let Ok(record) = record else { break };
            seen += 1;
            prop_assert_eq!(record.headers().count(), record.headers().len());
        }
        prop_assert!(seen <= count);
    }

    #[test]
    fn damaged_records_are_records_or_an_error(
        choices in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 1..5),
        hits in hits(),
        cut: Option<prop::sample::Index>,
    ) {
        let made = sampled_records(&choices);
        let identity = Sample::sample(&mut Source::smallest());
        let batch = draft_of(&made, false, identity).stamp(Sample::sample(&mut Source::smallest()));
        let payload = damaged(batch.payload().to_vec(), &hits, cut);
        for record in records(&payload, batch.record_count(), 0).flatten() {
            prop_assert_eq!(record.headers().count(), record.headers().len());
        }
    }

    #[test]
    fn every_envelope_reads_back_equal(
        choices in prop::collection::vec(any::<u8>(), 0..1500),
        value_len in 0usize..10_000,
    ) {
        let mut source = Source::bytes(&choices);
        let mut envelope = Envelope::sample(&mut source);
        for message in &mut envelope.messages {
            if let PeerBody::Append { entries, .. } = &mut message.body {
                let record = OwnedRecord {
                    key: None,
                    value: Some(vec![1; value_len]),
                    headers: Vec::new(),
                    timestamp_us: 1,
                };
                let identity = Sample::sample(&mut source);
                let batch = draft_of(&[record], false, identity).stamp(Sample::sample(&mut source));
                entries.push(PeerEntry { kind: 0, batch });
            }
        }
        let body = envelope_body(&envelope);
        let lens = envelope.messages.iter().map(Envelope::encoded_len);
        prop_assert_eq!(lens.sum::<usize>() + 8, body.len());
        prop_assert_eq!(Envelope::decode(body.clone()).unwrap(), envelope);
        let cut = body.len() / 2;
        prop_assert!(Envelope::decode(body.slice(..cut)).is_err());
        prop_assert!(Envelope::decode(body.slice(..body.len() - 1)).is_err());
    }

    #[test]
    fn a_damaged_envelope_is_an_envelope_or_an_error(
        choices in prop::collection::vec(any::<u8>(), 0..1500),
        hits in hits(),
        cut: Option<prop::sample::Index>,
    ) {
        let envelope = Envelope::sample(&mut Source::bytes(&choices));
        let body = damaged(envelope_body(&envelope).to_vec(), &hits, cut);
        if let Ok(read) = Envelope::decode(Bytes::from(body.clone())) {
            prop_assert_eq!(envelope_body(&read), body);
        }
    }

    #[test]
    fn any_bytes_are_peer_frames_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(envelope) = Envelope::decode(Bytes::from(bytes.clone())) {
            prop_assert_eq!(&envelope_body(&envelope)[..], &bytes);
        }
        prop_assert!(SnapshotChunk::decode(Bytes::from(bytes)).is_err());
    }

    #[test]
    fn a_damaged_chunk_is_refused_unless_its_place_changed(
        choices in prop::collection::vec(any::<u8>(), 0..100),
        hits in hits(),
        cut: Option<prop::sample::Index>,
    ) {
        let chunk = SnapshotChunk::sample(&mut Source::bytes(&choices));
        let body = [&chunk.frame_prefix()[FRAME_HEADER_LEN..], &chunk.bytes].concat();
        prop_assert_eq!(SnapshotChunk::decode(Bytes::from(body.clone())), Ok(chunk.clone()));
        if let Ok(read) = SnapshotChunk::decode(Bytes::from(damaged(body, &hits, cut))) {
            prop_assert_eq!(read.bytes, chunk.bytes);
        }
    }
}
