//! The task behind one partition of a subscription: keeps a SUBSCRIBE stream, checks what comes,
//! resumes where it stopped.
//!
//! Invariant: offsets handed over strictly increase; what is missing is told in its place.

use std::sync::Arc;

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
use quorate_protocol::StreamAccept;
use quorate_protocol::StreamOpen;
use quorate_protocol::StreamType;
use quorate_protocol::SubscribeParams;
use quorate_protocol::TopicId;
use quorate_protocol::Until;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

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
use crate::retry::Retry;
use crate::topology::Spot;
use crate::topology::Tried;

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
    /// The next offset; none before one is known.
    next: Option<Offset>,
    /// The broker has accepted once, so the end is known.
    accepted: bool,
    /// The end by offset.
    until: Offset,
    /// The end by time.
    until_us: u64,
    tried: Tried,
    /// Bytes received on the current stream.
    received: u64,
    /// Credit granted on the current stream.
    granted: u64,
}

impl Default for Progressed {
    fn default() -> Self {
        Self {
            next: None,
            accepted: false,
            until: NEVER,
            until_us: u64::MAX,
            tried: Tried::default(),
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
        let _user = self.core.pool.enter();
        let mut retry = Retry::new(self.core.options.client.reconnect_max);
        loop {
            let ended = match self.open().await {
                Ok(stream) => {
                    if let Some(started) = started.take() {
                        let _left = started.send(Ok(())).is_err();
                    }
                    let clock = self.core.clock;
                    let since = clock.monotonic();
                    let ended = self.pump(stream).await;
                    let lasted = clock.monotonic().saturating_sub(since);
                    retry.ended(self.progress.received > 0, lasted);
                    ended
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
            self.pause(&rejected, &mut retry).await;
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

    /// Waits before the next attempt.
    async fn pause(&self, rejected: &Rejected, retry: &mut Retry) {
        match rejected.error.code() {
            ErrorCode::OFFSET_OUT_OF_RANGE => return,
            ErrorCode::DATA_UNAVAILABLE => self.core.events.publish(Event::Unavailable {
                topic: Arc::clone(&self.topic),
                partition: self.queue.id,
                error: rejected.error.clone(),
            }),
            _ => {}
        }
        let Rejected { error, leader } = rejected;
        let (core, tried) = (&self.core, &self.progress.tried);
        core.before_next(self.spot(), tried, error, *leader, retry)
            .await;
    }

    fn spot(&self) -> Spot<'_> {
        Spot {
            name: &self.topic,
            topic: self.topic_id,
            partition: self.queue.id,
        }
    }

    async fn open(&mut self) -> Result<Stream, Rejected> {
        self.progress.tried = Tried::default();
        let topic = self.core.topic(&self.topic, false).await?;
        if topic.id != self.topic_id {
            let message = "the topic was deleted and created again";
            return Err(Error::new(ErrorCode::UNKNOWN_TOPIC, message).into());
        }
        self.progress.tried = self.core.topology.attempt(self.spot());
        let Some(leader) = self.progress.tried.leader else {
            return Err(Error::new(ErrorCode::LEADER_UNKNOWN, "it has no leader now").into());
        };
        let credit = self.queue.room().max(1);
        let credit = u64::try_from(credit).unwrap_or(u64::MAX);
        let open = self.stream_open(credit);
        let opening = self.core.pool.open(Some(leader), &open, PRIORITY_SUBSCRIBE);
        let opened = self.core.while_led(self.spot(), leader, opening).await;
        let stream = opened.map_err(Rejected::unless_behind)?;
        self.accepted(&stream.accept, credit);
        Ok(stream)
    }

    fn stream_open(&self, credit: u64) -> StreamOpen {
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
        StreamOpen {
            stream: StreamType::SUBSCRIBE,
            topic: self.topic_id,
            partition: self.queue.id,
            topology_epoch: self.core.topology.epoch(),
            deadline_ms: milliseconds(self.core.options.client.request_timeout),
            on_behalf_of: None,
            params: params.to_blob().unwrap_or_default(),
        }
    }

    fn accepted(&mut self, accept: &StreamAccept, credit: u64) {
        self.progress.received = 0;
        self.progress.granted = credit;
        if !std::mem::replace(&mut self.progress.accepted, true) {
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
        }
        self.progress.next.get_or_insert(accept.start);
        self.queue.accepted(accept.start, accept.high_watermark);
    }

    async fn pump(&mut self, mut stream: Stream) -> Ended {
        let (core, queue) = (Arc::clone(&self.core), Arc::clone(&self.queue));
        let name = Arc::clone(&self.topic);
        let spot = Spot {
            name: &name,
            topic: self.topic_id,
            partition: queue.id,
        };
        let moved = core.topology.moved(spot, Some(stream.broker));
        tokio::pin!(moved);
        loop {
            if self.is_done() {
                stream.receiver.stop();
                stream.sender.finish();
                return Ended::With(Item::Done);
            }
            tokio::select! {
                frame = stream.receiver.next() => {
                    let taken = match frame {
                        Ok(Some(frame)) => self.take(frame, &stream.name),
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
                leader = &mut moved => {
                    stream.receiver.stop();
                    return Rejected::moved(leader).into();
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

#[cfg(test)]
mod tests {
    use quorate_protocol::BatchBuilder;
    use quorate_protocol::BatchIdentity;
    use quorate_protocol::GroupId;
    use quorate_protocol::HybridTime;
    use quorate_protocol::PartitionId;
    use quorate_protocol::ProducerEpoch;
    use quorate_protocol::ProducerId;
    use quorate_protocol::RecordDraft;
    use quorate_protocol::Sequence;
    use quorate_protocol::Stamp;
    use quorate_protocol::Term;

    use super::*;
    use crate::config::Options;
    use crate::consumer::queue::Hub;

    const SHARE: usize = 1000;

    fn feed() -> Feed {
        let hub = Arc::new(Hub::default());
        let executor = tokio::runtime::Builder::new_current_thread().build();
        let executor = executor.unwrap();
        let _entered = executor.enter();
        Feed {
            core: Core::new(Options::default()),
            topic: Arc::from("t"),
            topic_id: TopicId::new(1),
            queue: Arc::new(Partition::new(PartitionId::new(0), &hub, SHARE)),
            start: StartPosition::from(WireStart::Offset(Offset::ZERO)),
            until: EndPosition::from(Until::Never),
            on_truncated: OnTruncated::Error,
            when_slow: WhenSlow::Pause,
            progress: Progressed {
                next: Some(Offset::ZERO),
                ..Progressed::default()
            },
        }
    }

    fn batch(base: u64, count: u64, micros: u64) -> RecordBatch {
        let mut builder = BatchBuilder::new(0);
        for _ in 0..count {
            let draft = RecordDraft {
                key: None,
                value: Some(b"v"),
                headers: &[],
                timestamp_us: 1,
                id: None,
            };
            builder.push(&draft).unwrap();
        }
        let identity = BatchIdentity {
            producer_id: ProducerId::new(1),
            epoch: ProducerEpoch::new(0),
            base_sequence: Sequence::ZERO,
            topic_hash: 0,
        };
        builder.finish(identity).stamp(Stamp {
            base_offset: Offset::new(base),
            term: Term::new(1),
            append_time: HybridTime::from_parts(micros, 0),
            group: GroupId::new(1),
        })
    }

    fn take(feed: &mut Feed, batches: &[RecordBatch]) {
        let body: Vec<u8> = batches
            .iter()
            .flat_map(|batch| batch.bytes().to_vec())
            .collect();
        assert!(
            feed.take_records(Bytes::from(body), &Arc::from("b"))
                .is_ok()
        );
    }

    /// What was handed over: `from..to` of batches, `!from..to` of gaps.
    fn given(feed: &Feed) -> Vec<String> {
        let items = std::iter::from_fn(|| feed.queue.pop());
        items
            .map(|item| match item {
                Item::Batch {
                    batch, from, until, ..
                } => {
                    let to = batch.next_offset().min(until);
                    format!("{}..{to}", from.max(batch.base_offset()))
                }
                Item::Missing(gap) => format!("!{}..{}", gap.from, gap.to),
                Item::Failed(error) => error.to_string(),
                Item::Done => "done".to_owned(),
            })
            .collect()
    }

    #[test]
    fn offsets_go_up_whatever_comes() {
        let mut feed = feed();
        take(&mut feed, &[batch(0, 3, 1), batch(3, 2, 1)]);
        // A repetition, an overlap, then a hole.
        take(&mut feed, &[batch(0, 3, 1), batch(4, 3, 1), batch(9, 1, 1)]);
        assert_eq!(given(&feed), ["0..3", "3..5", "5..7", "!7..9", "9..10"]);
    }

    #[test]
    fn an_announced_gap_is_told_once() {
        let mut feed = feed();
        take(&mut feed, &[batch(0, 3, 1)]);
        let gap = GapFrame {
            from: Offset::new(2),
            to: Offset::new(8),
            reason: WireReason::RETENTION,
        };
        feed.take_gap(&gap);
        feed.take_gap(&gap);
        take(&mut feed, &[batch(8, 1, 1)]);
        assert_eq!(given(&feed), ["0..3", "!3..8", "8..9"]);
    }

    #[test]
    fn the_end_by_offset_or_time_is_exact() {
        let mut by_offset = feed();
        by_offset.progress.until = Offset::new(4);
        take(
            &mut by_offset,
            &[batch(0, 3, 1), batch(3, 3, 1), batch(6, 1, 1)],
        );
        assert_eq!(given(&by_offset), ["0..3", "3..4"]);
        assert!(by_offset.is_done());

        let mut by_time = feed();
        by_time.progress.until_us = 50;
        take(&mut by_time, &[batch(0, 3, 49), batch(3, 3, 50)]);
        assert_eq!(given(&by_time), ["0..3"]);
        assert!(by_time.is_done());
    }

    #[test]
    fn a_lost_start_ends_or_moves_as_asked() {
        let error = || {
            let range = (Offset::new(10), Offset::new(90));
            Error::new(ErrorCode::OFFSET_OUT_OF_RANGE, "gone").with_range(Some(range))
        };
        let cases = [
            (OnTruncated::Earliest, "!0..10", 10),
            (OnTruncated::Latest, "!0..90", 90),
        ];
        for (choice, gap, next) in cases {
            let mut feed = feed();
            feed.on_truncated = choice;
            feed.truncated(&error()).unwrap();
            assert_eq!(given(&feed), [gap]);
            assert_eq!(feed.progress.next, Some(Offset::new(next)));
        }
        assert!(feed().truncated(&error()).is_err());
    }

    #[test]
    fn a_lost_start_does_not_lose_the_end() {
        let mut feed = feed();
        feed.progress.next = None;
        feed.until = EndPosition::from(Until::Tail);
        feed.on_truncated = OnTruncated::Earliest;
        let range = (Offset::new(10), Offset::new(12));
        let error = Error::new(ErrorCode::OFFSET_OUT_OF_RANGE, "gone").with_range(Some(range));
        feed.truncated(&error).unwrap();
        let accept = StreamAccept {
            start: Offset::new(10),
            log_start: Offset::new(10),
            high_watermark: Offset::new(12),
            credit: Credit::new(1000),
        };
        feed.accepted(&accept, 1000);
        take(&mut feed, &[batch(10, 3, 1)]);
        assert_eq!(given(&feed), ["!0..10", "10..12"]);
        assert!(feed.is_done());
    }

    #[test]
    fn credit_is_given_back_as_records_are_taken() {
        let mut feed = feed();
        feed.progress.granted = 1000;
        let batch = batch(0, 3, 1);
        let len = batch.len();
        take(&mut feed, std::slice::from_ref(&batch));
        assert!(feed.grant().is_none());
        feed.queue.release(len);
        let grant = feed.grant().unwrap();
        assert_eq!(grant.bytes.get(), u64::try_from(SHARE + len).unwrap());
        assert_eq!(grant.records.get(), u64::MAX);
        assert!(feed.grant().is_none());
    }

    #[test]
    fn a_damaged_batch_is_never_handed_over() {
        let mut feed = feed();
        let mut bytes = batch(0, 3, 1).bytes().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        assert!(
            feed.take_records(Bytes::from(bytes), &Arc::from("b"))
                .is_err()
        );
        assert!(given(&feed).is_empty());
    }

    #[test]
    fn refusals_that_no_retry_can_mend_end_the_partition() {
        let mut feed = feed();
        let mut survives = |code| feed.survive(&Error::new(code, "x").into()).is_ok();
        assert!(survives(ErrorCode::NOT_LEADER));
        assert!(survives(ErrorCode::CONNECT));
        assert!(survives(ErrorCode::SLOW_CONSUMER));
        assert!(!survives(ErrorCode::AUTHORIZATION_FAILED));
        assert!(!survives(ErrorCode::UNKNOWN_TOPIC));
        assert!(!survives(ErrorCode::IDENTITY_FILES));
    }
}
