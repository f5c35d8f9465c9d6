//! READ: one range of a partition, as fast as the client takes it, then the stream ends.

use std::sync::Arc;

use quorate_protocol::Credit;
use quorate_protocol::ErrorCode;
use quorate_protocol::Message;
use quorate_protocol::Offset;
use quorate_protocol::ReadEnd;
use quorate_protocol::ReadParams;
use quorate_protocol::RecordBatch;
use quorate_protocol::Start;
use quorate_protocol::StreamAccept;
use quorate_protocol::StreamOpen;
use quorate_protocol::Until;

use crate::auth::Operation;
use crate::partition;
use crate::partition::Partition;
use crate::partition::PartitionReadError;
use crate::partition::PartitionStatus;
use crate::session::connection::Session;
use crate::session::open;
use crate::session::page;
use crate::session::stream::Refusal;
use crate::session::stream::Stop;
use crate::session::stream::Stream;

/// What is still to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    next: Offset,
    until: Offset,
    records_left: u64,
    bytes_left: u64,
}

impl Range {
    fn is_done(&self) -> bool {
        self.next >= self.until || self.records_left == 0 || self.bytes_left == 0
    }

    /// Notes that a batch `[.., batch_end)` of this size was sent.
    fn advance(&mut self, batch_end: Offset, bytes: u64) {
        let taken = batch_end
            .min(self.until)
            .distance_from(self.next)
            .min(self.records_left);
        self.records_left -= taken;
        self.next = self.next.checked_add(taken).unwrap_or(self.until);
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
    }

    /// Keeps the batches that hold records of the range, and advances past them.
    fn take(&mut self, batches: &mut Vec<RecordBatch>) {
        batches.retain(|batch| {
            let wanted = !self.is_done();
            if wanted {
                let bytes = u64::try_from(batch.len()).unwrap_or(u64::MAX);
                self.advance(batch.next_offset(), bytes);
            }
            wanted
        });
    }
}

/// Serves one range.
pub(super) async fn serve(
    session: &Arc<Session>,
    opened: &StreamOpen,
    stream: &mut Stream,
) -> Result<(), Stop> {
    let params: ReadParams = open::params(opened)?;
    let partition = open::target(session, opened, Operation::Read)?;
    open::await_leader(session, &partition, opened.deadline_ms).await?;
    let mut range = resolve(&partition, &params).await?;
    let PartitionStatus {
        log_start,
        high_watermark,
        ..
    } = partition.describe();
    let credit = Credit::new(range.bytes_left);
    let accept = StreamAccept {
        start: range.next,
        log_start,
        high_watermark,
        credit,
    };
    stream.send(&accept).await?;
    let mut chunks = Vec::new();
    while !range.is_done() {
        let bytes_max = session.page_bytes(range.bytes_left);
        let mut batches = match partition.read(range.next, bytes_max).await {
            Ok(batches) => batches,
            // Retention was faster: the end of the page says what is left.
            Err(PartitionReadError::OutOfRange { start, .. }) if start > range.next => break,
            Err(error) => {
                page::log_damage(&partition, &error);
                return Err(Stop::fault(error.code(), error.to_string()));
            }
        };
        if batches.is_empty() {
            break;
        }
        range.take(&mut batches);
        page::append(&mut chunks, batches);
        stream.sender.send_all(&mut chunks).await?;
        tokio::task::yield_now().await;
    }
    let PartitionStatus {
        log_start,
        high_watermark,
        ..
    } = partition.describe();
    chunks.push(
        ReadEnd {
            next: range.next,
            log_start,
            high_watermark,
        }
        .to_frame(),
    );
    stream.sender.send_all(&mut chunks).await?;
    stream.finish().await
}

/// The range that positions and limits stand for now; never beyond what is committed.
async fn resolve(partition: &Partition, params: &ReadParams) -> Result<Range, Refusal> {
    let unknown = |kind: String| Refusal::new(ErrorCode::INVALID_ARGUMENT, kind);
    let from = Start::try_from(params.from).map_err(|error| unknown(error.to_string()))?;
    let until = Until::try_from(params.until).map_err(|error| unknown(error.to_string()))?;
    let end = partition.resolve_end(until).await?;
    let next = partition.resolve_start(from).await?;
    let high_watermark = partition.describe().high_watermark;
    let until = match end {
        partition::ReadEnd::Offset(offset) => offset.min(high_watermark),
        partition::ReadEnd::Time(_) | partition::ReadEnd::Never => high_watermark,
    };
    let bytes_left = match params.bytes_max {
        0 => u64::MAX,
        bytes => u64::from(bytes),
    };
    Ok(Range {
        next,
        until,
        records_left: u64::from(params.records_max),
        bytes_left,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(next: u64, until: u64, records: u64, bytes: u64) -> Range {
        Range {
            next: Offset::new(next),
            until: Offset::new(until),
            records_left: records,
            bytes_left: bytes,
        }
    }

    #[test]
    fn a_batch_that_begins_before_the_range_counts_from_the_range() {
        let mut range = range(5, 100, 10, 1000);
        range.advance(Offset::new(8), 100);
        assert_eq!(range, self::range(8, 100, 7, 900));
    }

    #[test]
    fn the_next_offset_is_where_the_record_limit_ends() {
        let mut range = range(5, 100, 3, 1000);
        range.advance(Offset::new(50), 100);
        assert_eq!(range.next, Offset::new(8));
        assert!(range.is_done());
    }

    #[test]
    fn the_end_of_the_range_cuts_its_last_batch() {
        let mut range = range(5, 7, 100, 1000);
        range.advance(Offset::new(50), 100);
        assert_eq!(range.next, Offset::new(7));
        assert!(range.is_done());
    }

    #[test]
    fn an_empty_range_is_done() {
        assert!(range(7, 7, 100, 1000).is_done());
        assert!(range(7, 3, 100, 1000).is_done());
        assert!(range(7, 9, 0, 1000).is_done());
    }
}
