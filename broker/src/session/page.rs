//! Stored batches as frames: their bytes are never copied.

use bytes::Bytes;
use quorate_protocol::RecordBatch;
use quorate_protocol::records_header;

use crate::partition::Partition;
use crate::partition::PartitionReadError;

/// What a page holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Page {
    /// Bytes of batches.
    pub(super) bytes: u64,
    /// Records in them.
    pub(super) records: u64,
}

/// Appends one Records frame with whole batches, as pieces.
pub(super) fn append(chunks: &mut Vec<Bytes>, batches: Vec<RecordBatch>) -> Page {
    let page = batches.iter().fold(Page::default(), |page, batch| Page {
        bytes: page
            .bytes
            .saturating_add(u64::try_from(batch.len()).unwrap_or(u64::MAX)),
        records: page.records.saturating_add(u64::from(batch.record_count())),
    });
    let body_len = u32::try_from(page.bytes).unwrap_or(u32::MAX);
    chunks.push(Bytes::copy_from_slice(&records_header(body_len)));
    chunks.extend(batches.into_iter().map(RecordBatch::into_bytes));
    page
}

/// Tells the operator of bytes that cannot be read.
pub(super) fn log_damage(partition: &Partition, error: &PartitionReadError) {
    if matches!(error, PartitionReadError::Unavailable(_)) {
        let spec = partition.spec();
        tracing::error!(topic = %spec.name, partition = %spec.partition, %error, "cannot read the log");
    }
}
