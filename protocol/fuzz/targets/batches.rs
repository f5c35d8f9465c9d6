//! A record batch, made to pass its checksums so that the input reaches what lies behind them.

#![no_main]

use bytes::Bytes;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use quorate_protocol::*;

const STAMP: Stamp = Stamp {
    base_offset: Offset::new(u64::MAX - 3),
    term: Term::new(2),
    append_time: HybridTime::new(3),
    group: GroupId::new(4),
};

/// Writes length, format and body checksum as they must be, and clears what the leader writes.
fn repaired(input: &[u8]) -> Option<BytesMut> {
    let mut bytes = BytesMut::from(input);
    let len = u32::try_from(bytes.len()).ok()?.checked_sub(40)?;
    bytes.get_mut(..40)?.fill(0);
    bytes.get_mut(28..32)?.copy_from_slice(&len.to_le_bytes());
    bytes.get_mut(36..39)?.copy_from_slice(&[0x51, 0x42, 1]);
    let checksum = crc32c(bytes.get(44..)?);
    bytes
        .get_mut(40..44)?
        .copy_from_slice(&checksum.to_le_bytes());
    Some(bytes)
}

fn read(batch: &RecordBatch) {
    let payload = batch.payload();
    let mut seen = 0;
    for record in records(&payload, batch.record_count(), batch.base_timestamp_us()) {
        let Ok(record) = record else { break };
        assert_eq!(record.headers().count(), record.headers().len());
        seen += 1;
    }
    assert!(seen <= batch.record_count());
    assert!(batch.next_offset() >= batch.base_offset());
    if batch.attributes().has_ids {
        assert_eq!(batch.message_ids().len(), batch.record_count() as usize);
    }
    if let Ok(record) = ControlRecord::decode(batch) {
        let again = control_batch(&record, STAMP).expect("what was read fits again");
        assert_eq!(ControlRecord::decode(&again), Ok(record));
    }
}

fuzz_target!(|input: &[u8]| {
    if let Ok(batch) = RecordBatch::parse(Bytes::copy_from_slice(input)) {
        read(&batch);
    }
    if let Some(Ok(draft)) = repaired(input).map(DraftBatch::parse) {
        let batch = draft.stamp(STAMP);
        let again = RecordBatch::parse(batch.bytes().clone()).expect("a stamped batch is valid");
        read(&again);
    }
    for record in records(input, 65_536, 0) {
        let Ok(record) = record else { break };
        assert_eq!(record.headers().count(), record.headers().len());
    }
});
