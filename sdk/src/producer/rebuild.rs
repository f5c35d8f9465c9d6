//! Making a batch again: without the records the log has already, or under another sequence.

use bytes::Bytes;
use bytes::BytesMut;
use quorate_protocol::BATCH_HEADER_LEN;
use quorate_protocol::BatchBuilder;
use quorate_protocol::BatchIdentity;
use quorate_protocol::Codec;
use quorate_protocol::DraftBatch;
use quorate_protocol::MessageId;
use quorate_protocol::RecordDraft;
use quorate_protocol::records;

use crate::codec;
use crate::error::Error;
use crate::error::Result;

const MESSAGE_ID_LEN: usize = 16;

/// A batch of the same records under `identity`, without those at `drop` (ascending). None if no
/// record is left.
pub(super) fn rebuild(
    batch: &Bytes,
    identity: BatchIdentity,
    drop: &[u32],
) -> Result<Option<(Bytes, u32)>> {
    let broken = |error: quorate_protocol::BatchError| Error::invalid(error.to_string());
    let draft = DraftBatch::parse(BytesMut::from(batch.as_ref())).map_err(broken)?;
    let attributes = draft.attributes();
    let count = draft.record_count();
    let ids: Vec<MessageId> = draft.message_ids().collect();
    let payload = batch.slice((BATCH_HEADER_LEN + ids.len() * MESSAGE_ID_LEN).min(batch.len())..);
    let plain = codec::unpack(payload, attributes.codec, draft.uncompressed_len())?;

    let mut builder = BatchBuilder::new(BATCH_HEADER_LEN + plain.len());
    let mut ids = ids.into_iter();
    for (index, record) in (0..).zip(records(&plain, count, draft.base_timestamp_us())) {
        let record = record.map_err(broken)?;
        let id = ids.next();
        if drop.binary_search(&index).is_ok() {
            continue;
        }
        let headers: Vec<_> = record.headers().collect();
        builder
            .push(&RecordDraft {
                key: record.key,
                value: record.value,
                headers: &headers,
                timestamp_us: record.timestamp_us,
                id,
            })
            .map_err(broken)?;
    }
    if builder.is_empty() {
        return Ok(None);
    }
    let left = builder.record_count();
    let rebuilt = finish(builder, identity, attributes.codec);
    Ok(Some((rebuilt, left)))
}

/// Completes a batch, compressed as asked.
pub(super) fn finish(builder: BatchBuilder, identity: BatchIdentity, codec: Codec) -> Bytes {
    match codec {
        Codec::LZ4 => builder.finish_with(identity, codec, codec::pack),
        _ => builder.finish(identity),
    }
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use quorate_protocol::ProducerEpoch;
    use quorate_protocol::ProducerId;
    use quorate_protocol::Sequence;

    use super::*;

    fn identity(base: u64) -> BatchIdentity {
        BatchIdentity {
            producer_id: ProducerId::new(7),
            epoch: ProducerEpoch::new(1),
            base_sequence: Sequence::new(base),
            topic_hash: 99,
        }
    }

    fn batch(count: u64, codec: Codec) -> Bytes {
        let mut builder = BatchBuilder::new(0);
        for n in 0..count {
            let value = format!("value {n} {}", "x".repeat(50));
            builder
                .push(&RecordDraft {
                    key: Some(b"k"),
                    value: Some(value.as_bytes()),
                    headers: &[("h", Some(b"v"))],
                    timestamp_us: 1_000 + n,
                    id: Some(MessageId::new(u128::from(n))),
                })
                .unwrap();
        }
        finish(builder, identity(10), codec)
    }

    #[test]
    fn dropped_records_are_gone_and_the_rest_is_unchanged() {
        for codec in [Codec::NONE, Codec::LZ4] {
            let (rebuilt, left) = rebuild(&batch(5, codec), identity(10), &[0, 3])
                .unwrap()
                .unwrap();
            assert_eq!(left, 3);
            let draft = DraftBatch::parse(BytesMut::from(rebuilt.as_ref())).unwrap();
            let ids: Vec<_> = draft.message_ids().map(MessageId::get).collect();
            assert_eq!(ids, [1, 2, 4]);
            assert_eq!(draft.attributes().codec, codec);
        }
    }

    #[test]
    fn another_sequence_changes_nothing_else() {
        let before = batch(3, Codec::NONE);
        let (moved, left) = rebuild(&before, identity(4), &[]).unwrap().unwrap();
        assert_eq!(left, 3);
        let (back, _) = rebuild(&moved, identity(10), &[]).unwrap().unwrap();
        assert_eq!(back, before);
    }

    #[test]
    fn nothing_is_left_of_a_wholly_known_batch() {
        let all = [0, 1, 2];
        assert!(
            rebuild(&batch(3, Codec::NONE), identity(0), &all)
                .unwrap()
                .is_none()
        );
    }
}
