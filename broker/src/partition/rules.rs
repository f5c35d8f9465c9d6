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
        if bytes > self.batch_bytes_max {
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
        if total <= self.record_bytes_max {
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
        if largest > u64::from(self.record_bytes_max) {
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
