//! How messages ended, told batch by batch instead of message by message.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

use quorate_protocol::ErrorCode;
use quorate_protocol::PartitionId;

use crate::error::Error;
use crate::error::Result;
use crate::producer::delivery::BatchState;
use crate::record::Receipt;

/// Hears how messages ended that were sent with a tag, once per batch.
///
/// For programs that would otherwise await very many deliveries: a report costs nothing per
/// message until somebody looks at it.
pub trait ReportSink: fmt::Debug + Send + Sync {
    /// A batch was answered or given up, on the executor of the client. Must not block.
    fn batch_ended(&self, report: BatchReport);
}

/// How the messages of one batch ended.
pub struct BatchReport {
    state: Arc<BatchState>,
    tags: Vec<Option<NonZeroU64>>,
}

impl BatchReport {
    pub(super) fn new(state: Arc<BatchState>, tags: Vec<Option<NonZeroU64>>) -> Self {
        Self { state, tags }
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.state.place().topic
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.state.place().partition
    }

    /// How many messages to look at, by index in the order they were sent; those behind the last
    /// one with a tag are not among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Never: a batch without a tag is not reported.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// The tag of a message, if it was sent with one.
    #[must_use]
    pub fn tag(&self, index: usize) -> Option<NonZeroU64> {
        *self.tags.get(index)?
    }

    /// How a message ended.
    ///
    /// # Errors
    /// It failed, or nobody knows; or there is no such message.
    pub fn receipt(&self, index: usize) -> Result<Receipt> {
        let known = u32::try_from(index).ok();
        let known = known.filter(|_| index < self.tags.len());
        let ended = known.and_then(|index| self.state.receipt_of(index));
        ended.unwrap_or_else(|| {
            let message = format!("the batch has no message {index}");
            Err(Error::new(ErrorCode::INVALID_ARGUMENT, message))
        })
    }
}

impl fmt::Debug for BatchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchReport")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("messages", &self.len())
            .finish_non_exhaustive()
    }
}
