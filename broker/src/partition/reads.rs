//! Reading a partition: committed batches only, and the offsets that positions stand for.

use std::sync::Arc;

use quorate_protocol::ErrorCode;
use quorate_protocol::Offset;
use quorate_protocol::RecordBatch;
use quorate_protocol::Start;
use quorate_protocol::Until;
use quorate_storage::Lane;
use quorate_storage::LogReader;
use quorate_storage::ReadError;
use quorate_storage::ReadMode;
use quorate_storage::ReadOutcome;
use quorate_storage::Storage;
use tokio::sync::oneshot;

use crate::partition::progress::Progress;

/// Why nothing could be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PartitionReadError {
    /// The offset is not in the log.
    #[error("offset {asked} is not in the log, which holds {start} up to {end} (exclusive)")]
    OutOfRange {
        /// The offset asked for.
        asked: Offset,
        /// The first offset kept.
        start: Offset,
        /// The first offset that is not committed.
        end: Offset,
    },
    /// Bytes of the log are damaged.
    #[error("{0}")]
    Damaged(String),
    /// The disk failed.
    #[error("{0}")]
    Unavailable(String),
    /// This replica does not serve its partition now.
    #[error("this broker does not lead the partition or is not ready to serve it")]
    NotServing,
    /// The reading side was shut down.
    #[error("the partition was closed")]
    Closed,
}

impl PartitionReadError {
    /// The code a client gets.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfRange { .. } => ErrorCode::OFFSET_OUT_OF_RANGE,
            Self::Damaged(_) | Self::Unavailable(_) => ErrorCode::DATA_UNAVAILABLE,
            Self::NotServing => ErrorCode::LEADER_NOT_READY,
            Self::Closed => ErrorCode::STALE_TOPOLOGY,
        }
    }
}

/// Where a read ends, as far as can be said now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadEnd {
    /// Before this offset; it may lie beyond the high watermark.
    Offset(Offset),
    /// Before the first record appended at this time, in microseconds since 1970, or later: none
    /// is committed yet.
    Time(u64),
    /// Nowhere.
    Never,
}

/// Reads one partition's log, never beyond the high watermark.
#[derive(Debug, Clone)]
pub(crate) struct Reads {
    log: LogReader,
    storage: Arc<dyn Storage>,
    progress: Arc<Progress>,
}

impl Reads {
    pub(crate) fn new(log: LogReader, storage: Arc<dyn Storage>, progress: Arc<Progress>) -> Self {
        Self {
            log,
            storage,
            progress,
        }
    }

    pub(crate) async fn read(
        &self,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Vec<RecordBatch>, PartitionReadError> {
        let (start, end) = self.progress.range();
        if from < start || from > end {
            return Err(PartitionReadError::OutOfRange {
                asked: from,
                start,
                end,
            });
        }
        if from == end {
            return Ok(Vec::new());
        }
        match self.log.read(from, end, bytes_max, ReadMode::NoWait) {
            Ok(ReadOutcome::Batches(batches)) => return Ok(batches),
            Ok(ReadOutcome::WouldBlock) => {}
            Err(error) => return Err(self.read_error(from, error)),
        }
        let log = self.log.clone();
        let outcome = self
            .on_read_lane(move || log.read(from, end, bytes_max, ReadMode::Blocking))
            .await?;
        match outcome {
            Ok(ReadOutcome::Batches(batches)) => Ok(batches),
            Ok(ReadOutcome::WouldBlock) => Err(PartitionReadError::Unavailable(
                "a blocking read did not read".into(),
            )),
            Err(error) => Err(self.read_error(from, error)),
        }
    }

    /// Whether the position needs no look at the end of the log: it never moves back.
    pub(crate) fn knows_start(&self, start: Start) -> bool {
        let (log_start, end) = self.progress.range();
        match start {
            Start::Earliest => true,
            Start::Offset(asked) => asked >= log_start && asked <= end,
            _ => false,
        }
    }

    pub(crate) async fn resolve_start(&self, start: Start) -> Result<Offset, PartitionReadError> {
        let (log_start, end) = self.progress.range();
        match start {
            Start::Earliest => Ok(log_start),
            Start::Offset(asked) if asked < log_start || asked > end => {
                Err(PartitionReadError::OutOfRange {
                    asked,
                    start: log_start,
                    end,
                })
            }
            Start::Offset(asked) => Ok(asked),
            Start::Time(micros) => Ok(self.offset_at(micros).await?.clamp(log_start, end)),
            Start::Last(count) => {
                Ok(Offset::new(end.get().saturating_sub(count)).clamp(log_start, end))
            }
            _ => Ok(end),
        }
    }

    pub(crate) async fn resolve_end(&self, until: Until) -> Result<ReadEnd, PartitionReadError> {
        let (_, end) = self.progress.range();
        match until {
            Until::Offset(offset) => Ok(ReadEnd::Offset(offset)),
            Until::Never => Ok(ReadEnd::Never),
            Until::Time(micros) => match self.offset_at(micros).await? {
                offset if offset < end => Ok(ReadEnd::Offset(offset)),
                _ => Ok(ReadEnd::Time(micros)),
            },
            _ => Ok(ReadEnd::Offset(end)),
        }
    }

    async fn offset_at(&self, micros: u64) -> Result<Offset, PartitionReadError> {
        let log = self.log.clone();
        let found = self
            .on_read_lane(move || log.offset_at_time(micros))
            .await?;
        found.map_err(|error| self.read_error(Offset::ZERO, error))
    }

    async fn on_read_lane<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PartitionReadError> {
        let (sender, receiver) = oneshot::channel();
        // A reader that went away needs no answer.
        self.storage
            .submit(Lane::Read, Box::new(move || drop(sender.send(work()))));
        receiver.await.map_err(|_| PartitionReadError::Closed)
    }

    fn read_error(&self, asked: Offset, error: ReadError) -> PartitionReadError {
        match error {
            ReadError::OutOfRange { .. } => {
                let (start, end) = self.progress.range();
                PartitionReadError::OutOfRange { asked, start, end }
            }
            error @ ReadError::Damaged { .. } => PartitionReadError::Damaged(error.to_string()),
            error => PartitionReadError::Unavailable(error.to_string()),
        }
    }
}
