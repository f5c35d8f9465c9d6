//! The task behind one partition of a subscription: keeps a SUBSCRIBE stream, checks what comes,
//! resumes where it stopped.
//!
//! Invariant: offsets handed over strictly increase; what is missing is told in its place.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::Body;
use quorate_protocol::Credit;
use quorate_protocol::CreditGrant;
use quorate_protocol::End as EndFrame;
use quorate_protocol::EndPosition;
use quorate_protocol::ErrorClass;
use quorate_protocol::ErrorCode;
use quorate_protocol::Gap as GapFrame;
use quorate_protocol::GapReason as WireReason;
use quorate_protocol::Kind;
use quorate_protocol::Offset;
use quorate_protocol::Progress;
use quorate_protocol::RecordBatch;
use quorate_protocol::SlowPolicy;
use quorate_protocol::Start as WireStart;
use quorate_protocol::StartPosition;
use quorate_protocol::StreamOpen;
use quorate_protocol::StreamType;
use quorate_protocol::SubscribeParams;
use quorate_protocol::TopicId;
use quorate_protocol::Until;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::backoff::random;
use crate::config::OnTruncated;
use crate::config::WhenSlow;
use crate::connection::Frame;
use crate::connection::PRIORITY_SUBSCRIBE;
use crate::connection::Rejected;
use crate::connection::Stream;
use crate::connection::milliseconds;
use crate::consumer::queue::Item;
use crate::consumer::queue::Partition;
use crate::core::Core;
use crate::error::Error;
use crate::error::Result;
use crate::event::Event;
use crate::record::Gap;
use crate::record::GapReason;
use crate::topology::partition;

/// The first wait before a stream is opened again.
const RETRY_MIN: Duration = Duration::from_millis(20);
/// No end by offset.
const NEVER: Offset = Offset::new(u64::MAX);

/// Follows one partition.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) core: Arc<Core>,
    pub(super) topic: Arc<str>,
    pub(super) topic_id: TopicId,
    pub(super) queue: Arc<Partition>,
    pub(super) start: StartPosition,
    pub(super) until: EndPosition,
    pub(super) on_truncated: OnTruncated,
    pub(super) when_slow: WhenSlow,
    pub(super) progress: Progressed,
}

/// How far a feed has come.
#[derive(Debug)]
pub(super) struct Progressed {
    /// The next offset; none before the first acceptance.
    next: Option<Offset>,
    /// The end by offset.
    until: Offset,
    /// The end by time.
    until_us: u64,
    /// Bytes received on the current stream.
    received: u64,
    /// Credit granted on the current stream.
    granted: u64,
}

impl Default for Progressed {
    fn default() -> Self {
        Self {
            next: None,
            until: NEVER,
            until_us: u64::MAX,
            received: 0,
            granted: 0,
        }
    }
}

/// How following ends.
enum Ended {
    /// At the end asked for, or for good.
    With(Item),
    /// By accident; it is resumed.
    Lost(Rejected),
}

impl From<Rejected> for Ended {
    fn from(rejected: Rejected) -> Self {
        Self::Lost(rejected)
    }
}

impl From<Error> for Ended {
    fn from(error: Error) -> Self {
        Self::Lost(error.into())
    }
}

impl Feed {
    /// Follows the partition until its end; `started` tells of the first acceptance.
    pub(super) async fn run(
        mut self,
        cancel: CancellationToken,
        started: oneshot::Sender<Result<()>>,
    ) {
        let mut started = Some(started);
        let client = self.core.cancel.clone();
        let last = tokio::select! {
            last = self.follow(&mut started) => last,
            () = cancel.cancelled() => return,
            () = client.cancelled() => Item::Failed(Error::closed("client")),
        };
        if let (Some(started), Item::Failed(error)) = (started, &last) {
            // Whoever subscribes may have stopped waiting.
            let _left = started.send(Err(error.clone())).is_err();
        }
        self.queue.push(last);
    }

    async fn follow(&mut self, started: &mut Option<oneshot::Sender<Result<()>>>) -> Item {
        let mut backoff = Backoff::new(RETRY_MIN, self.core.options.client.reconnect_max);
        loop {
            let ended = match self.open().await {
                Ok(stream) => {
                    backoff.reset();
                    if let Some(started) = started.take() {
                        let _left = started.send(Ok(())).is_err();
                    }
                    self.pump(stream).await
                }
                Err(rejected) => Ended::Lost(rejected),
            };
            let rejected = match ended {
                Ended::With(item) => return item,
                Ended::Lost(rejected) => rejected,
            };
            if let Err(error) = self.survive(&rejected) {
                return Item::Failed(error.at(self.place()));
            }
            let wait = self.before_next(&rejected, &mut backoff);
            tokio::time::sleep(wait).await;
        }
    }

    fn place(&self) -> String {
        format!("{}/{}", self.topic, self.queue.id)
    }

    /// Whether it goes on after this.
    fn survive(&mut self, rejected: &Rejected) -> Result<()> {
        let error = &rejected.error;
        match error.code() {
            ErrorCode::OFFSET_OUT_OF_RANGE => self.truncated(error),
            ErrorCode::SLOW_CONSUMER if self.when_slow == WhenSlow::Disconnect => {
                Err(error.clone())
            }
            code if code.is_retryable() => Ok(()),
            code if code.class() == ErrorClass::Local && code != ErrorCode::IDENTITY_FILES => {
                match code {
                    ErrorCode::CLOSED => Ok(()),
                    _ => Err(error.clone()),
                }
            }
            _ => Err(error.clone()),
        }
    }

    /// The start is no longer in the log.
    fn truncated(&mut self, error: &Error) -> Result<()> {
        let Some((start, end)) = error.offsets() else {
            return Err(error.clone());
        };
        let to = match self.on_truncated {
            OnTruncated::Error => return Err(error.clone()),
            OnTruncated::Earliest => start,
            OnTruncated::Latest => end,
        };
        let from = match (self.progress.next, WireStart::try_from(self.start)) {
            (Some(next), _) => next,
            (None, Ok(WireStart::Offset(offset))) => offset,
            (None, _) => start,
        };
        if from < to {
            self.missing(from, to, GapReason::Retention);
        }
        self.progress.next = Some(to);
        Ok(())
    }

    fn before_next(&self, rejected: &Rejected, backoff: &mut Backoff) -> Duration {
        let wait = backoff.next(random());
        if rejected.error.code() == ErrorCode::OFFSET_OUT_OF_RANGE {
            return Duration::ZERO;
        }
        if let Some(leader) = rejected.leader
            && backoff.attempts() == 1
        {
            self.core
                .topology
                .set_leader(self.topic_id, self.queue.id, leader);
            return Duration::ZERO;
        }
        self.core.topology.forget(&self.topic);
        rejected.error.retry_after().unwrap_or(wait)
    }

    async fn open(&mut self) -> Result<Stream, Rejected> {
        let topic = self.core.topic(&self.topic, false).await?;
        if topic.id != self.topic_id {
            let message = "the topic was deleted and created again";
            return Err(Error::new(ErrorCode::UNKNOWN_TOPIC, message).into());
        }
        let known = partition(&topic, self.queue.id);
        let Some(leader) = known.and_then(|known| known.leader) else {
            return Err(Error::new(ErrorCode::LEADER_UNKNOWN, "it has no leader now").into());
        };
        let credit = self.queue.room().max(1);
        let credit = u64::try_from(credit).unwrap_or(u64::MAX);
        let start = match self.progress.next {
            Some(next) => StartPosition::from(WireStart::Offset(next)),
            None => self.start,
        };
        let params = SubscribeParams {
            start,
            slow: match self.when_slow {
                WhenSlow::Pause => SlowPolicy::PAUSE,
                WhenSlow::SkipToLatest => SlowPolicy::SKIP_TO_LATEST,
                WhenSlow::Disconnect => SlowPolicy::DISCONNECT,
            },
            credit: Credit::new(credit),
        };
        let open = StreamOpen {
            stream: StreamType::SUBSCRIBE,
            topic: self.topic_id,
            partition: self.queue.id,
            topology_epoch: self.core.topology.epoch(),
            deadline_ms: milliseconds(self.core.options.client.request_timeout),
            on_behalf_of: None,
            params: params.to_blob().unwrap_or_default(),
        };
        let opening = self.core.pool.open(Some(leader), &open, PRIORITY_SUBSCRIBE);
        let stream = opening.await?;
        self.accepted(&stream, credit);
        Ok(stream)
    }

    fn accepted(&mut self, stream: &Stream, credit: u64) {
        let accept = &stream.accept;
        self.progress.received = 0;
        self.progress.granted = credit;
        if self.progress.next.is_none() {
            let tail = accept.high_watermark;
            match Until::try_from(self.until) {
                Ok(Until::Offset(offset)) => self.progress.until = offset,
                Ok(Until::Time(micros)) => {
                    self.progress.until_us = micros;
                    // What comes from now on is later than a time that has passed.
                    if micros <= self.core.clock.wall_micros() {
                        self.progress.until = tail;
                    }
                }
                Ok(Until::Never) => {}
                _ => self.progress.until = tail,
            }
            self.progress.next = Some(accept.start);
        }
        self.queue.accepted(accept.start, accept.high_watermark);
    }

    async fn pump(&mut self, mut stream: Stream) -> Ended {
        let queue = Arc::clone(&self.queue);
        loop {
            if self.is_done() {
                stream.receiver.stop();
                stream.sender.finish();
                return Ended::With(Item::Done);
            }
            tokio::select! {
                frame = stream.receiver.next() => {
                    let taken = match frame {
                        Ok(Some(frame)) => self.take(frame, &stream.broker),
                        Ok(None) => {
                            let message = "the broker ended the subscription";
                            return Error::new(ErrorCode::LEADER_UNKNOWN, message).into();
                        }
                        Err(error) => return error.into(),
                    };
                    if let Err(ended) = taken {
                        stream.receiver.stop();
                        return ended;
                    }
                }
                () = queue.freed.notified() => {
                    if let Some(grant) = self.grant()
                        && let Err(error) = stream.sender.send(&grant).await
                    {
                        return error.into();
                    }
                }
            }
        }
    }

    fn is_done(&self) -> bool {
        self.progress
            .next
            .is_some_and(|next| next >= self.progress.until)
    }

    /// The credit to announce, if it has grown.
    fn grant(&mut self) -> Option<CreditGrant> {
        let room = u64::try_from(self.queue.room()).unwrap_or(u64::MAX);
        let target = self.progress.received.saturating_add(room);
        if target <= self.progress.granted {
            return None;
        }
        self.progress.granted = target;
        Some(CreditGrant {
            bytes: Credit::new(target),
            records: Credit::new(u64::MAX),
        })
    }

    fn take(&mut self, frame: Frame, broker: &Arc<str>) -> Result<(), Ended> {
        match frame.header.kind {
            Kind::RECORDS => self.take_records(frame.body, broker),
            Kind::PROGRESS => {
                let progress: Progress = frame.decode()?;
                self.queue.committed(progress.high_watermark);
                Ok(())
            }
            Kind::GAP => {
                self.take_gap(&frame.decode()?);
                Ok(())
            }
            Kind::END => {
                let EndFrame { code, detail } = frame.decode()?;
                let detail = detail.as_str();
                let detail = if detail.is_empty() {
                    code.name()
                } else {
                    detail
                };
                Err(Error::new(code, detail).into())
            }
            kind => {
                let message = format!("{kind:?} does not belong on a SUBSCRIBE stream");
                Err(Error::new(ErrorCode::PROTOCOL_VIOLATION, message).into())
            }
        }
    }

    fn take_records(&mut self, mut body: Bytes, broker: &Arc<str>) -> Result<(), Ended> {
        let len = u64::try_from(body.len()).unwrap_or(u64::MAX);
        self.progress.received = self.progress.received.saturating_add(len);
        let counters = &self.core.counters;
        counters.bytes_received.add(len);
        while !body.is_empty() {
            let batch = RecordBatch::split_first(&mut body).map_err(|error| {
                let place = self.place();
                Error::new(
                    ErrorCode::DATA_UNAVAILABLE,
                    format!("{place}: damaged: {error}"),
                )
            })?;
            self.core
                .counters
                .records_received
                .add(u64::from(batch.record_count()));
            if self.take_batch(batch, broker) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Hands a batch over; whether the end is reached.
    fn take_batch(&mut self, batch: RecordBatch, broker: &Arc<str>) -> bool {
        let next = self.progress.next.unwrap_or_else(|| batch.base_offset());
        if batch.attributes().control || batch.next_offset() <= next {
            return false;
        }
        if batch.append_time().micros() >= self.progress.until_us {
            self.progress.until = next;
            return true;
        }
        if batch.base_offset() > next {
            self.missing(next, batch.base_offset(), GapReason::Unexplained);
        }
        let after = batch.next_offset();
        self.queue.committed(after);
        self.queue.push(Item::Batch {
            batch,
            from: next,
            until: self.progress.until,
            broker: Arc::clone(broker),
        });
        self.progress.next = Some(after);
        self.is_done()
    }

    fn take_gap(&mut self, gap: &GapFrame) {
        let from = self.progress.next.unwrap_or(gap.from).max(gap.from);
        if gap.to <= from {
            return;
        }
        let reason = match gap.reason {
            WireReason::RETENTION => GapReason::Retention,
            WireReason::SLOW => GapReason::Slow,
            WireReason::DATA_LOSS => GapReason::DataLoss,
            _ => GapReason::Unexplained,
        };
        if reason == GapReason::Slow {
            self.core.events.publish(Event::Lagging {
                topic: Arc::clone(&self.topic),
                partition: self.queue.id,
                lag: gap.to.distance_from(from),
            });
        }
        self.missing(from, gap.to, reason);
        self.progress.next = Some(gap.to);
    }

    fn missing(&self, from: Offset, to: Offset, reason: GapReason) {
        self.queue.push(Item::Missing(Gap {
            topic: Arc::clone(&self.topic),
            partition: self.queue.id,
            from,
            to,
            reason,
        }));
    }
}
