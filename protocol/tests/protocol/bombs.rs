//! Few bytes that claim to be many.

use bytes::Bytes;
use bytes::BytesMut;
use quorate_protocol::*;

use crate::samples::WIRE_TYPES;

/// The five bytes that announce a list of a thousand million items.
const THOUSAND_MILLION: [u8; 5] = [0x80, 0x94, 0xeb, 0xdc, 0x03];

#[test]
fn announced_lengths_are_refused_wherever_they_stand() {
    for wire_type in WIRE_TYPES {
        for before in 0..64 {
            for fill in [0, 1] {
                let mut bytes = vec![fill; before];
                bytes.extend(THOUSAND_MILLION);
                bytes.resize(bytes.len() + 16, 0);
                assert!(
                    (wire_type.read)(&bytes).is_err() || before > 0,
                    "{}",
                    wire_type.name
                );
            }
        }
    }
}

#[test]
fn a_thousand_million_items_are_refused_from_five_bytes() {
    for bytes in [&THOUSAND_MILLION[..], &[0xff; 5], &[0xff; 16]] {
        assert!(MetadataRequest::from_bytes(bytes).is_err());
        assert!(TopicList::from_bytes(bytes).is_err());
        assert!(Acks::decode_body(bytes).is_err());
        assert!(TopologyUpdate::decode_body(&[&[0], bytes].concat()).is_err());
    }
}

#[test]
fn no_input_nests() {
    for byte in 0..=255 {
        let deep = vec![byte; 100_000];
        for wire_type in WIRE_TYPES {
            assert!(
                (wire_type.read)(&deep).is_err(),
                "{} of {byte}",
                wire_type.name
            );
        }
    }
}

#[test]
fn an_envelope_cannot_announce_more_than_it_holds() {
    let announce = |messages: u32, entries: u32| {
        let mut body = vec![0; 4];
        body.extend(messages.to_le_bytes());
        body.extend([0, 0, 0, 0, 1, 0, 0, 0]);
        body.extend([0; 56]);
        body.extend(entries.to_le_bytes());
        Envelope::decode(Bytes::from(body))
    };
    assert!(announce(1, 0).is_ok());
    for (messages, entries) in [(1, 1), (1, u32::MAX), (2, 0), (u32::MAX, 0)] {
        assert!(announce(messages, entries).is_err());
    }
}

#[test]
fn bits_without_a_meaning_are_refused_in_an_envelope() {
    let message = |number: u8, flags: u8| {
        let mut body = vec![0, 0, 0, 0, 1, 0, 0, 0];
        body.extend([0, 0, 0, 0, number, flags, 0, 0]);
        body.extend([0; 32 + 32]);
        body
    };
    for (number, fields, flags) in [
        (2, 16, 0),
        (3, 32, 0),
        (4, 16, 0),
        (5, 16, 0),
        (6, 32, 3),
        (7, 16, 3),
        (8, 16, 0),
        (9, 8, 1),
        (10, 0, 0),
        (11, 0, 0),
    ] {
        for given in 0..=u8::MAX {
            let mut body = message(number, given);
            body.truncate(48 + fields);
            let read = Envelope::decode(Bytes::from(body));
            assert_eq!(
                read.is_ok(),
                given & !flags == 0,
                "type {number}, flags {given}"
            );
        }
    }
    for number in [0, 12, u8::MAX] {
        assert!(Envelope::decode(Bytes::from(message(number, 0))).is_err());
    }
    for reserved in [1, 2, 3, 14, 15] {
        let mut body = message(3, 0);
        body[reserved] = 1;
        assert!(Envelope::decode(Bytes::from(body)).is_err(), "{reserved}");
    }
}

type Change = fn(&mut Vec<u8>);

/// A batch with a valid checksum around whatever its fields claim.
fn batch_with(change: impl FnOnce(&mut Vec<u8>)) -> Result<DraftBatch, BatchError> {
    let mut builder = BatchBuilder::new(0);
    let record = RecordDraft {
        key: None,
        value: Some(b"value"),
        headers: &[],
        timestamp_us: 1,
        id: None,
    };
    builder.push(&record).unwrap();
    let draft = builder.finish(BatchIdentity {
        producer_id: ProducerId::new(1),
        epoch: ProducerEpoch::new(0),
        base_sequence: Sequence::ZERO,
        topic_hash: 0,
    });
    let mut bytes = draft.into_bytes().to_vec();
    change(&mut bytes);
    let checksum = crc32c(bytes.get(44..).unwrap()).to_le_bytes();
    bytes.get_mut(40..44).unwrap().copy_from_slice(&checksum);
    DraftBatch::parse(BytesMut::from(&bytes[..]))
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    let room = bytes.get_mut(at..at + 4).unwrap();
    room.copy_from_slice(&value.to_le_bytes());
}

#[test]
fn a_batch_cannot_claim_more_than_it_holds() {
    assert!(batch_with(|_| ()).is_ok());
    let cases: &[(&str, Change)] = &[
        ("no record", |b| put(b, 60, 0)),
        ("too many records", |b| put(b, 60, 65_537)),
        ("more records than bytes", |b| put(b, 60, 65_536)),
        ("ids that are not there", |b| b[44] = 1 << 4),
        ("uncompressed length of another batch", |b| put(b, 88, 1000)),
        ("compressed to a thousandth", |b| {
            b[44] = 1;
            put(b, 88, 64 << 20);
        }),
        ("more than 64 MiB", |b| {
            b[44] = 1;
            put(b, 88, (64 << 20) + 1);
        }),
        ("unknown codec", |b| b[44] = 3),
        ("reserved attribute", |b| b[44] = 1 << 5),
        ("reserved field", |b| b[46] = 1),
        ("latest time before the first", |b| b[80] = 0),
        ("compressed control record", |b| b[44] = 1 << 3 | 1),
    ];
    for (what, change) in cases {
        assert!(batch_with(change).is_err(), "{what}");
    }
}

#[test]
fn a_record_cannot_claim_more_than_the_batch() {
    let whole = [6, 0, 0, 0, 2, b'x', 0];
    assert!(records(&whole, 1, 0).all(|record| record.is_ok()));
    for at in 0..whole.len() {
        for byte in [0xff, 0x7f, 0x80] {
            let mut wrong = whole;
            wrong[at] = byte;
            if at != 5 && at != 2 {
                assert!(
                    records(&wrong, 1, 0).any(|record| record.is_err()),
                    "{at} {byte}"
                );
            }
        }
    }
    let huge_count = [
        5 + 10,
        0,
        0,
        0,
        0,
        0xff,
        0xff,
        0xff,
        0xff,
        0xff,
        0xff,
        0xff,
        0xff,
        0xff,
        1,
        0,
    ];
    assert!(records(&huge_count, 1, 0).any(|record| record.is_err()));
}
