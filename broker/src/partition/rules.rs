//! What a batch must be before anything is looked up for it.
//!
//! Pure, and constant in the number of records unless the topic's records are limited below the
//! size of this batch.

use quorate_protocol::ByteSize;
use quorate_protocol::Codec;
use quorate_protocol::DraftBatch;
use quorate_protocol::ErrorCode;
use quorate_protocol::RecordView;
use quorate_protocol::TopicId;
use quorate_protocol::TopicSettings;
use quorate_protocol::records;

use crate::partition::dedup::WindowLimits;
use crate::partition::receipt::Refusal;

/// What headers, ids and lengths may add to a batch whose content has the allowed size: as much as
/// the frame around it allows.
const BATCH_FRAMING_BYTES: u64 = 4_096 - 16;
/// What headers and lengths may add to a record whose key and value have the allowed size.
const RECORD_FRAMING_BYTES: u32 = 1_024;

/// The rules of one partition, fixed while it is open.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    topic_hash: u32,
    batch_bytes_max: u64,
    record_bytes_max: u32,
    pub(crate) window: WindowLimits,
}

impl Rules {
    pub(crate) fn new(topic: TopicId, settings: &TopicSettings, batch_bytes_max: ByteSize) -> Self {
        Self {
            topic_hash: topic.hash32(),
            batch_bytes_max: batch_bytes_max.get(),
            record_bytes_max: settings.record_bytes_max,
            window: WindowLimits::new(settings.dedup_ids_max, settings.dedup_window_ms),
        }
    }

    pub(crate) fn check(&self, draft: &DraftBatch) -> Result<(), Refusal> {
        if draft.topic_hash() != self.topic_hash {
            return Err(Refusal::new(
                ErrorCode::TOPIC_MISMATCH,
                "the batch was made for another topic: ask for the topology again",
            ));
        }
        if draft.attributes().control {
            return Err(Refusal::new(
                ErrorCode::INVALID_ARGUMENT,
                "only brokers write control batches",
            ));
        }
        let bytes = u64::try_from(draft.len()).unwrap_or(u64::MAX);
        if bytes > self.batch_bytes_max.saturating_add(BATCH_FRAMING_BYTES) {
            return Err(Refusal::new(
                ErrorCode::BATCH_TOO_LARGE,
                format!(
                    "a batch of {bytes} bytes is over the limit of {}",
                    self.batch_bytes_max
                ),
            ));
        }
        let numbers_end = draft
            .base_sequence()
            .checked_add(u64::from(draft.record_count()));
        if numbers_end.is_none() {
            return Err(Refusal::new(
                ErrorCode::MALFORMED,
                "the sequence numbers run over",
            ));
        }
        self.check_records(draft)
    }

    /// Whether each record keeps the topic's limit. Compressed records are opened by nobody here:
    /// of those only a single one has a known size.
    fn check_records(&self, draft: &DraftBatch) -> Result<(), Refusal> {
        let total = draft.uncompressed_len();
        let most = self.record_bytes_max.saturating_add(RECORD_FRAMING_BYTES);
        if total <= most {
            return Ok(());
        }
        if draft.record_count() == 1 {
            return Err(self.record_too_large(u64::from(total)));
        }
        if draft.attributes().codec != Codec::NONE {
            return Ok(());
        }
        let mut largest = 0usize;
        for record in records(
            draft.payload(),
            draft.record_count(),
            draft.base_timestamp_us(),
        ) {
            let RecordView { key, value, .. } =
                record.map_err(|error| Refusal::new(ErrorCode::MALFORMED, error.to_string()))?;
            largest = largest.max(key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len));
        }
        let largest = u64::try_from(largest).unwrap_or(u64::MAX);
        if largest > u64::from(most) {
            return Err(self.record_too_large(largest));
        }
        Ok(())
    }

    fn record_too_large(&self, bytes: u64) -> Refusal {
        let limit = self.record_bytes_max;
        let detail = format!("a record of {bytes} bytes is over the topic's limit of {limit}");
        Refusal::new(ErrorCode::BATCH_TOO_LARGE, detail)
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::BatchBuilder;
    use quorate_protocol::BatchIdentity;
    use quorate_protocol::ProducerEpoch;
    use quorate_protocol::ProducerId;
    use quorate_protocol::RecordDraft;
    use quorate_protocol::Sequence;

    use super::*;

    const TOPIC: TopicId = TopicId::new(77);
    const BATCH_MAX: usize = 64 << 10;
    const RECORD_MAX: usize = 2_048;

    fn draft(topic: TopicId, sizes: &[usize], base: u64, codec: Codec) -> DraftBatch {
        let mut builder = BatchBuilder::new(1_024);
        for size in sizes {
            let record = RecordDraft {
                key: None,
                value: Some(&vec![b'x'; *size]),
                headers: &[],
                timestamp_us: 5,
                id: None,
            };
            builder.push(&record).unwrap();
        }
        let identity = BatchIdentity {
            producer_id: ProducerId::new(1),
            epoch: ProducerEpoch::new(0),
            base_sequence: Sequence::new(base),
            topic_hash: topic.hash32(),
        };
        builder.finish_with(identity, codec, <[u8]>::to_vec)
    }

    fn refused(draft: &DraftBatch) -> Option<ErrorCode> {
        let settings = TopicSettings {
            record_bytes_max: u32::try_from(RECORD_MAX).unwrap(),
            ..TopicSettings::default()
        };
        let batch_max = ByteSize::new(BATCH_MAX as u64);
        Rules::new(TOPIC, &settings, batch_max)
            .check(draft)
            .err()
            .map(|refusal| refusal.code)
    }

    #[test]
    fn the_largest_record_fits_and_a_larger_one_does_not() {
        let too_large = Some(ErrorCode::BATCH_TOO_LARGE);
        let alone = |size| refused(&draft(TOPIC, &[size], 0, Codec::NONE));
        assert_eq!(alone(RECORD_MAX), None);
        assert_eq!(alone(RECORD_MAX + 1_024), too_large);
        let among = |size| refused(&draft(TOPIC, &[10, size, 10], 0, Codec::NONE));
        assert_eq!(among(RECORD_MAX), None);
        assert_eq!(among(RECORD_MAX + 1_025), too_large);
        let compressed = draft(TOPIC, &[RECORD_MAX + 1_024], 0, Codec::LZ4);
        assert_eq!(refused(&compressed), too_large);
    }

    #[test]
    fn the_largest_batch_fits_with_its_framing_and_a_larger_one_does_not() {
        let full = vec![1_000; BATCH_MAX / 1_000];
        assert_eq!(refused(&draft(TOPIC, &full, 0, Codec::NONE)), None);
        let over = vec![1_000; BATCH_MAX / 1_000 + 5];
        let code = refused(&draft(TOPIC, &over, 0, Codec::NONE));
        assert_eq!(code, Some(ErrorCode::BATCH_TOO_LARGE));
    }

    #[test]
    fn a_batch_for_another_topic_or_past_the_last_number_is_refused() {
        let foreign = draft(TopicId::new(5), &[1], 0, Codec::NONE);
        assert_eq!(refused(&foreign), Some(ErrorCode::TOPIC_MISMATCH));
        let last = draft(TOPIC, &[1, 1], u64::MAX - 1, Codec::NONE);
        assert_eq!(refused(&last), Some(ErrorCode::MALFORMED));
    }
}
