//! Reading never takes much more memory than what is read.
//!
//! The one test of this binary counts every byte the process allocates, so it runs alone.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "protocol/samples.rs"]
mod samples;

use std::alloc::System;

use bytes::Bytes;
use bytes::BytesMut;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::strategy::Strategy;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use quorate_protocol::*;
use stats_alloc::INSTRUMENTED_SYSTEM;
use stats_alloc::Region;
use stats_alloc::StatsAlloc;

use crate::samples::OwnedRecord;
use crate::samples::Sample;
use crate::samples::Source;
use crate::samples::WIRE_TYPES;
use crate::samples::WireType;
use crate::samples::draft_of;
use crate::samples::envelope_body;
use crate::samples::message_of;
use crate::samples::records_of;

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Allowed whatever the length.
const BASE: usize = 64 * 1024;

/// Bytes allocated while `work` runs, given back or not.
fn allocated(work: impl FnOnce()) -> usize {
    let region = Region::new(HEAP);
    work();
    region.change().bytes_allocated
}

/// Reads `bytes` as this type, unless no frame can hold so many.
fn check_type(wire_type: &WireType, bytes: &[u8]) {
    let limits = Limits {
        batch_bytes_max: 1024 * 1024,
        established: true,
    };
    let max = wire_type.kind.unwrap_or(Kind::REPLY).body_len_max(&limits);
    if bytes.len() as u64 <= u64::from(max) {
        let name = format!("{} v{}", wire_type.name, wire_type.version);
        check(&name, bytes, wire_type.accepts);
    }
}

fn check(name: &str, bytes: &[u8], accepts: fn(&[u8]) -> bool) {
    let used = allocated(|| {
        accepts(bytes);
    });
    let allowed = bytes.len() * 10 + BASE;
    let front = bytes.get(..bytes.len().min(48)).unwrap();
    assert!(
        used <= allowed,
        "{name}: {used} for {} bytes: {front:02x?}",
        bytes.len()
    );
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    bytes.push(u8::try_from(value).unwrap());
    bytes
}

/// Lists of the smallest items, announced wherever a list may stand.
fn check_long_lists() {
    for wire_type in WIRE_TYPES {
        for before in 0..32 {
            for len in [8, 16, 64, 128, 1024, 4096, 10_000, 65_000] {
                for tail in [0, 100, 4000, 16_000, 200_000] {
                    let bytes = [vec![0; before], varint(len), vec![0; tail]].concat();
                    check_type(wire_type, &bytes);
                }
            }
        }
    }
}

/// Topics with as many of the smallest partitions as there may be, in a page of 1 MiB.
fn check_lists_of_lists() {
    let topic = [vec![0; 12], varint(1024), vec![0; 4 * 1024]].concat();
    let topics = 1024 * 1024 / topic.len();
    let update = [varint(0), varint(topics), topic.repeat(topics), varint(0)].concat();
    assert!(TopologyUpdate::decode_body(&update).is_ok());
    check("full topology", &update, |bytes| {
        TopologyUpdate::decode_body(bytes).is_ok()
    });
    let claim = [vec![0; 12], varint(1024), vec![0; 4 * 400]].concat();
    let update = [varint(0), varint(1024), claim.repeat(600)].concat();
    check("cut topology", &update, |bytes| {
        TopologyUpdate::decode_body(bytes).is_ok()
    });
}

/// Values as they are sent, and the same with a few bytes changed.
fn check_sampled() {
    let mut runner = TestRunner::deterministic();
    let choices = vec(any::<u8>(), 0..800);
    let hits = vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4);
    for _ in 0..400 {
        let choices = choices.new_tree(&mut runner).unwrap().current();
        let hits = hits.new_tree(&mut runner).unwrap().current();
        for wire_type in WIRE_TYPES {
            let (mut bytes, text) = (wire_type.make)(&mut Source::bytes(&choices));
            assert_eq!((wire_type.read)(&bytes).unwrap().1, text);
            check_type(wire_type, &bytes);
            check_type(wire_type, &choices);
            for (at, byte) in &hits {
                let at = at.index(bytes.len());
                bytes.splice(at..=at, [*byte]);
            }
            check_type(wire_type, &bytes);
        }
    }
}

fn check_batches() {
    let record = OwnedRecord::sample(&mut Source::largest());
    let identity = Sample::sample(&mut Source::smallest());
    let stamp = Sample::sample(&mut Source::largest());
    let draft = draft_of(&vec![record; 4000], true, identity);
    let received = BytesMut::from(&draft.into_bytes()[..]);
    let used = allocated(|| {
        let batch = DraftBatch::parse(received).unwrap().stamp(stamp);
        let payload = batch.payload();
        let all = records(&payload, batch.record_count(), batch.base_timestamp_us());
        assert_eq!(
            all.map(|record| record.unwrap().headers().count())
                .sum::<usize>(),
            8000
        );
        assert_eq!(batch.message_ids().len(), 4000);
        assert!(ControlRecord::decode(&batch).is_err());
    });
    assert!(used <= 64, "a received batch is shared, not copied: {used}");

    let mut runner = TestRunner::deterministic();
    let noise = vec(any::<u8>(), 0..2000);
    for _ in 0..400 {
        let noise = noise.new_tree(&mut runner).unwrap().current();
        check("batch", &noise, |bytes| {
            RecordBatch::parse(Bytes::copy_from_slice(bytes)).is_ok()
        });
        check("draft", &noise, |bytes| {
            DraftBatch::parse(BytesMut::from(bytes)).is_ok()
        });
        check("records", &noise, |bytes| {
            records(bytes, 65_536, 0).all(|record| record.is_ok())
        });
        check("envelope", &noise, |bytes| {
            Envelope::decode(Bytes::copy_from_slice(bytes)).is_ok()
        });
        check("chunk", &noise, |bytes| {
            SnapshotChunk::decode(Bytes::copy_from_slice(bytes)).is_ok()
        });
        check("publish", &noise, |bytes| {
            PublishHeader::parse(bytes).is_ok()
        });
    }
    let small = draft_of(
        &[OwnedRecord::sample(&mut Source::smallest())],
        false,
        identity,
    );
    assert_eq!(records_of(&small.stamp(stamp)).unwrap().len(), 1);
}

fn check_envelopes() {
    let long = OwnedRecord {
        value: Some(vec![0; 100_000]),
        ..OwnedRecord::sample(&mut Source::smallest())
    };
    let batch = draft_of(&[long], false, Sample::sample(&mut Source::smallest()))
        .stamp(Sample::sample(&mut Source::smallest()));
    let mut message = message_of(1, &mut Source::smallest());
    if let PeerBody::Append { entries, .. } = &mut message.body {
        *entries = vec![PeerEntry { kind: 0, batch }; 50];
    }
    let (channel, messages) = (1, vec![message]);
    let envelope = Envelope { channel, messages };
    let mut frame = Vec::new();
    let used = allocated(|| frame = envelope.encode());
    assert!(used < 20_000, "large batches are not copied: {used}");
    let body = envelope_body(&envelope);
    let used = allocated(|| assert!(Envelope::decode(body).is_ok()));
    assert!(used < 20_000, "batches share what was received: {used}");

    let (channel, small) = (0, message_of(0, &mut Source::smallest()));
    let messages = vec![small; 10_000];
    let body = envelope_body(&Envelope { channel, messages });
    check("envelope", &body, |bytes| {
        Envelope::decode(Bytes::copy_from_slice(bytes)).is_ok()
    });
}

#[test]
fn reading_takes_little_memory() {
    assert!(allocated(|| drop(std::hint::black_box(vec![1u8; 5000]))) >= 5000);
    check_long_lists();
    check_lists_of_lists();
    check_sampled();
    check_batches();
    check_envelopes();
}
