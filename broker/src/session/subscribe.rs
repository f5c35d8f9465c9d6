//! SUBSCRIBE: stored batches are pushed as they are committed, within the subscriber's credit.
//!
//! Nothing is queued for a subscriber: it waits for one number, the high watermark, and reads one
//! page of stored bytes at a time. Without credit it holds nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::CreditGrant;
use quorate_protocol::End;
use quorate_protocol::ErrorCode;
use quorate_protocol::Gap;
use quorate_protocol::GapReason;
use quorate_protocol::Kind;
use quorate_protocol::Message;
use quorate_protocol::Offset;
use quorate_protocol::Progress;
use quorate_protocol::SlowPolicy;
use quorate_protocol::Start;
use quorate_protocol::StreamAccept;
use quorate_protocol::StreamOpen;
use quorate_protocol::SubscribeParams;
use quorate_protocol::Text;
use tokio::sync::watch;

use crate::auth::Operation;
use crate::partition::Leadership;
use crate::partition::Partition;
use crate::partition::PartitionReadError;
use crate::partition::PartitionStatus;
use crate::session::connection::Session;
use crate::session::credit::SubscriberCredit;
use crate::session::cursor::Cursor;
use crate::session::cursor::Slow;
use crate::session::cursor::Step;
use crate::session::open;
use crate::session::page;
use crate::session::stream::Refusal;
use crate::session::stream::Stop;
use crate::session::stream::Stream;
use crate::transport::Frame;

/// Serves one subscription until either side ends it.
pub(super) async fn serve(
    session: &Arc<Session>,
    opened: &StreamOpen,
    stream: &mut Stream,
) -> Result<(), Stop> {
    let params: SubscribeParams = open::params(opened)?;
    let slow = slow_policy(params.slow)?;
    let start = Start::try_from(params.start)
        .map_err(|error| Refusal::new(ErrorCode::INVALID_ARGUMENT, error.to_string()))?;
    let partition = open::target(session, opened, Operation::Subscribe)?;
    open::await_leader(session, &partition, opened.deadline_ms).await?;
    // Watched from before the start is looked up, which fails without a leader: no loss is missed.
    let leadership = partition.leadership();
    let next = partition
        .resolve_start(start)
        .await
        .map_err(Refusal::from)?;
    let _counted = partition.subscriber_joined();
    let PartitionStatus {
        log_start,
        high_watermark,
        ..
    } = partition.describe();
    let accept = StreamAccept {
        start: next,
        log_start,
        high_watermark,
        credit: params.credit,
    };
    stream.send(&accept).await?;
    let subscription = Subscription {
        session: Arc::clone(session),
        stream,
        high_watermark: partition.high_watermark(),
        leadership,
        partition,
        cursor: Cursor::new(next, slow, SubscriberCredit::new(params.credit)),
        chunks: Vec::new(),
    };
    subscription.run().await
}

fn slow_policy(policy: SlowPolicy) -> Result<Slow, Refusal> {
    match policy {
        SlowPolicy::PAUSE => Ok(Slow::Pause),
        SlowPolicy::SKIP_TO_LATEST => Ok(Slow::SkipToLatest),
        SlowPolicy::DISCONNECT => Ok(Slow::Disconnect),
        other => {
            let detail = format!("slow policy {other:?} is not known");
            Err(Refusal::new(ErrorCode::INVALID_ARGUMENT, detail))
        }
    }
}

/// One open SUBSCRIBE stream.
struct Subscription<'a> {
    session: Arc<Session>,
    stream: &'a mut Stream,
    partition: Partition,
    high_watermark: watch::Receiver<Offset>,
    leadership: watch::Receiver<Leadership>,
    cursor: Cursor,
    /// Pieces of the page being sent; empty between pages.
    chunks: Vec<Bytes>,
}

enum Event {
    Frame(Option<Frame>),
    Moved,
    Leadership,
    Slow,
    Ending,
}

impl Subscription<'_> {
    async fn run(mut self) -> Result<(), Stop> {
        self.send_progress().await?;
        loop {
            let now = self.session.monotonic();
            let high_watermark = *self.high_watermark.borrow_and_update();
            let event = match self.cursor.poll(now, high_watermark) {
                Step::Read { from, bytes_max } => {
                    if let Some(end) = self.send_page(from, bytes_max).await? {
                        return self.end(end).await;
                    }
                    self.glance().await?
                }
                Step::Skip { from, to } => {
                    self.send_gap(from, to, GapReason::SLOW).await?;
                    continue;
                }
                Step::Disconnect => return self.end(too_slow()).await,
                Step::Wait => Some(self.event(true, None).await?),
                Step::Stalled { until } => {
                    let patience = until.map(|until| until.saturating_sub(now));
                    Some(self.event(false, patience).await?)
                }
            };
            if let Some(event) = event
                && let Some(end) = self.handle(event)?
            {
                return self.end(end).await;
            }
        }
    }

    /// Waits for the client, for records, or for patience to end.
    async fn event(&mut self, follows: bool, patience: Option<Duration>) -> Result<Event, Stop> {
        let Self {
            session,
            stream,
            high_watermark,
            leadership,
            ..
        } = self;
        let event = tokio::select! {
            biased;
            frame = stream.receiver.next() => Event::Frame(frame?),
            () = session.ending() => Event::Ending,
            Ok(()) = high_watermark.changed(), if follows => Event::Moved,
            Ok(()) = leadership.changed() => Event::Leadership,
            () = tokio::time::sleep(patience.unwrap_or_default()), if patience.is_some() => {
                Event::Slow
            }
        };
        Ok(event)
    }

    /// Between two pages: lets others run, and takes what came up meanwhile. Whoever is far behind
    /// waits for nothing else, and must not be served for ever by a broker that leads no more.
    async fn glance(&mut self) -> Result<Option<Event>, Stop> {
        let Self {
            session,
            stream,
            leadership,
            ..
        } = self;
        let event = tokio::select! {
            biased;
            frame = stream.receiver.next() => Some(Event::Frame(frame?)),
            () = session.ending() => Some(Event::Ending),
            Ok(()) = leadership.changed() => Some(Event::Leadership),
            () = tokio::task::yield_now() => None,
        };
        Ok(event)
    }

    /// Takes an event; what the subscription ends with, if it does.
    fn handle(&mut self, event: Event) -> Result<Option<Refusal>, Stop> {
        match event {
            Event::Moved | Event::Slow => Ok(None),
            Event::Frame(Some(frame)) if frame.header.kind == Kind::CREDIT => {
                let grant = CreditGrant::decode_frame(&frame.header, &frame.body)?;
                self.cursor.credit.raise(grant.bytes, grant.records);
                Ok(None)
            }
            Event::Frame(Some(frame)) => Err(Stop::unexpected(frame.header.kind, "SUBSCRIBE")),
            Event::Frame(None) => Ok(Some(Refusal::new(
                ErrorCode::OK,
                "closed by the subscriber",
            ))),
            Event::Ending => Ok(Some(self.session.farewell())),
            Event::Leadership => {
                let now = *self.leadership.borrow_and_update();
                let lost = !now.ready;
                Ok(lost.then(|| open::not_serving(&self.session, &self.partition, now)))
            }
        }
    }

    /// Sends one page; what the subscription ends with if it cannot be read.
    async fn send_page(&mut self, from: Offset, bytes: u64) -> Result<Option<Refusal>, Stop> {
        let bytes_max = self.session.page_bytes(bytes);
        let batches = match self.partition.read(from, bytes_max).await {
            Ok(batches) => batches,
            Err(PartitionReadError::OutOfRange { start, .. }) if start > from => {
                self.send_gap(from, start, GapReason::RETENTION).await?;
                return Ok(None);
            }
            Err(error) => {
                page::log_damage(&self.partition, &error);
                return Ok(Some(error.into()));
            }
        };
        let Some(last) = batches.last() else {
            let detail = "committed records could not be found in the log";
            return Ok(Some(Refusal::new(ErrorCode::DATA_UNAVAILABLE, detail)));
        };
        let next = last.next_offset();
        let page = page::append(&mut self.chunks, batches);
        self.cursor.sent(next, page.bytes, page.records);
        let progress = self.progress();
        self.chunks.push(progress.to_frame());
        self.stream.sender.send_all(&mut self.chunks).await?;
        Ok(None)
    }

    async fn send_gap(&mut self, from: Offset, to: Offset, reason: GapReason) -> Result<(), Stop> {
        tracing::debug!(%from, %to, ?reason, "a subscriber misses records");
        self.cursor.jump(to);
        self.stream.send(&Gap { from, to, reason }).await?;
        self.send_progress().await
    }

    fn progress(&self) -> Progress {
        let high_watermark = *self.high_watermark.borrow();
        Progress {
            high_watermark,
            lag: high_watermark.distance_from(self.cursor.next()),
        }
    }

    async fn send_progress(&mut self) -> Result<(), Stop> {
        let progress = self.progress();
        self.stream.send(&progress).await
    }

    async fn end(self, reason: Refusal) -> Result<(), Stop> {
        let end = End {
            code: reason.code,
            detail: Text::clipped(&reason.detail),
        };
        self.stream.send(&end).await?;
        self.stream.finish().await
    }
}

fn too_slow() -> Refusal {
    let detail = "the subscriber took nothing for too long: resume from its last position";
    Refusal::new(ErrorCode::SLOW_CONSUMER, detail)
}
