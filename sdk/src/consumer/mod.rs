//! Following a topic: records are pushed under credit, checked, and given out in order.
//!
//! Invariant: `next` sends nothing; a missing record is always an `Err` in its place.

mod builder;
mod cursor;
mod decode;
mod feed;
mod queue;

pub(crate) use decode::BatchReader;
pub(crate) use decode::Source;

pub use builder::Subscribe;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

use futures_core::Stream;
use quorate_protocol::ErrorCode;
use quorate_protocol::Offset;
use quorate_protocol::PartitionId;
use quorate_protocol::TopicInfo;
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::sync::DropGuard;

use crate::client::Handle;
use crate::config::SubscribeOptions;
use crate::consumer::cursor::Cursor;
use crate::consumer::cursor::Errors;
use crate::consumer::cursor::Taken;
use crate::consumer::feed::Feed;
use crate::consumer::feed::Progressed;
use crate::consumer::queue::Hub;
use crate::consumer::queue::Partition;
use crate::error::Error;
use crate::error::Result;
use crate::position::Start;
use crate::record::Record;

/// A partition's part of the prefetch is at least this much.
const SHARE_MIN: usize = 64 << 10;

/// The records of a topic, as they are committed. A `Stream`; resumes by itself after lost
/// connections, without loss or repetition.
///
/// ```no_run
/// # async fn follow(client: quorate::Client) -> quorate::Result<()> {
/// use quorate::Start;
/// let mut orders = client.subscribe("orders").from(Start::Last(10)).await?;
/// while let Some(record) = orders.next().await {
///     let record = record?;
///     println!("{} {:?}", record.offset, record.text());
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Subscription {
    handle: Arc<Handle>,
    topic: Arc<str>,
    topic_id: quorate_protocol::TopicId,
    options: SubscribeOptions,
    hub: Arc<Hub>,
    cursors: Vec<Cursor>,
    /// The partition that is read now.
    turn: usize,
    errors: Errors,
    starting: Vec<oneshot::Receiver<Result<()>>>,
    patience: Option<Pin<Box<Sleep>>>,
    cancel: Option<DropGuard>,
}

impl Subscription {
    fn new(
        handle: Arc<Handle>,
        topic: &TopicInfo,
        partitions: Vec<PartitionId>,
        options: SubscribeOptions,
    ) -> Self {
        let hub = Arc::new(Hub::default());
        let name: Arc<str> = Arc::from(topic.name.as_str());
        let share = (options.prefetch_bytes / partitions.len().max(1)).max(SHARE_MIN);
        let cursors = partitions.into_iter().map(|id| {
            let queue = Arc::new(Partition::new(id, &hub, share));
            Cursor::new(queue, Arc::clone(&name))
        });
        let mut subscription = Self {
            cursors: cursors.collect(),
            handle,
            topic: name,
            topic_id: topic.id,
            hub,
            turn: 0,
            errors: Errors::new(),
            starting: Vec::new(),
            patience: None,
            cancel: None,
            options,
        };
        subscription.spawn_feeds();
        subscription
    }

    /// Starts a task per partition.
    fn spawn_feeds(&mut self) {
        let core = &self.handle.core;
        let wall_micros = core.clock.wall_micros();
        let cancel = CancellationToken::new();
        self.starting.clear();
        for cursor in &self.cursors {
            let feed = Feed {
                core: Arc::clone(core),
                topic: Arc::clone(&self.topic),
                topic_id: self.topic_id,
                queue: Arc::clone(&cursor.queue),
                start: self.options.from.on_the_wire(wall_micros),
                until: self.options.until.on_the_wire(wall_micros),
                on_truncated: self.options.on_truncated,
                when_slow: self.options.when_slow,
                progress: Progressed::default(),
            };
            let (started, starting) = oneshot::channel();
            self.starting.push(starting);
            core.tracker.spawn(feed.run(cancel.clone(), started));
        }
        self.cancel = Some(cancel.drop_guard());
    }

    /// Waits until every partition was accepted.
    async fn started(&mut self) -> Result<()> {
        for starting in std::mem::take(&mut self.starting) {
            starting
                .await
                .map_err(|_| Error::closed("subscription"))??;
        }
        Ok(())
    }

    /// The same, within the time that a broker has for an answer.
    async fn started_in_time(&mut self) -> Result<()> {
        let limit = self.handle.core.options.client.request_timeout;
        let topic = Arc::clone(&self.topic);
        let started = tokio::time::timeout(limit, self.started()).await;
        started.unwrap_or_else(|_| {
            let message = format!("`{topic}` did not accept a subscription in time");
            Err(Error::new(ErrorCode::TIMEOUT, message))
        })
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The next record; none once the end asked for is reached. Cancel-safe.
    ///
    /// # Errors
    /// As an item: records are missing here ([`crate::ErrorKind::Gap`]; the stream goes on), or a
    /// partition cannot be read on.
    pub async fn next(&mut self) -> Option<Result<Record>> {
        if self.is_plain()
            && let Some(cursor) = self.cursors.get_mut(self.turn)
            && let Some(item) = cursor.next_in_batch()
        {
            return Some(item);
        }
        poll_fn(|cx| self.poll_record(cx)).await
    }

    /// At least one and at most `max` records, as many as are there; an empty list once the end
    /// asked for is reached. Cancel-safe.
    ///
    /// # Errors
    /// As for [`Self::next`]; an error comes after the records before it.
    pub async fn next_batch(&mut self, max: usize) -> Result<Vec<Record>> {
        let Some(first) = self.next().await else {
            return Ok(Vec::new());
        };
        let mut records = vec![first?];
        while records.len() < max {
            match self.try_record() {
                Some(Ok(record)) => records.push(record),
                Some(Err(error)) => {
                    self.errors.push_front(error);
                    break;
                }
                None => break,
            }
        }
        Ok(records)
    }

    /// The offset of the next record of each partition.
    #[must_use]
    pub fn position(&self) -> BTreeMap<PartitionId, Offset> {
        let positions = self
            .cursors
            .iter()
            .map(|cursor| (cursor.queue.id, cursor.position()));
        positions.collect()
    }

    /// Committed records that were not yet taken, as far as known.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.cursors.iter().filter_map(Cursor::lag).sum()
    }

    /// Waits until everything committed was once taken with `next`. Cancel-safe.
    pub fn caught_up(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut caught_up = self.hub.caught_up.subscribe();
        async move {
            // A subscription that ends has nothing left to catch up with.
            let _ended = caught_up.wait_for(|caught_up| *caught_up).await.is_err();
        }
    }

    /// Goes on from another place, in every partition.
    ///
    /// # Errors
    /// A partition refused the new start, or did not answer within `client.request_timeout_ms`; it
    /// is still asked then.
    pub async fn seek(&mut self, start: Start) -> Result<()> {
        self.cancel = None;
        self.options.from = start;
        self.hub = Arc::new(Hub::default());
        self.errors.clear();
        for cursor in &mut self.cursors {
            let queue = Partition::new(cursor.queue.id, &self.hub, cursor.queue.share);
            *cursor = Cursor::new(Arc::new(queue), Arc::clone(&self.topic));
        }
        self.spawn_feeds();
        self.started_in_time().await
    }

    /// Ends the subscription; what was received and not taken is dropped. Can be repeated.
    pub fn close(&mut self) {
        self.cancel = None;
        self.cursors.clear();
    }

    /// Whether partitions are simply read in turn.
    #[inline]
    fn is_plain(&self) -> bool {
        (self.options.ordered_within.is_zero() || self.cursors.len() < 2) && self.errors.is_empty()
    }

    fn poll_record(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Record>>> {
        if let Some(item) = self.try_record() {
            return Poll::Ready(Some(item));
        }
        if self.is_over() {
            return Poll::Ready(None);
        }
        self.hub.register(cx.waker());
        // Something may have come before the waker was in its place.
        if let Some(item) = self.try_record() {
            return Poll::Ready(Some(item));
        }
        if self.is_over() {
            return Poll::Ready(None);
        }
        self.note_caught_up();
        self.poll_patience(cx)
    }

    fn is_over(&self) -> bool {
        self.cursors.iter().all(Cursor::is_done)
    }

    /// What can be given out now.
    fn try_record(&mut self) -> Option<Result<Record>> {
        if let Some(error) = self.errors.pop_front() {
            return Some(Err(error));
        }
        if self.is_plain() {
            self.try_in_turn()
        } else {
            self.try_in_order()
        }
    }

    /// A batch of one partition, then of the next.
    fn try_in_turn(&mut self) -> Option<Result<Record>> {
        if let Some(item) = self.cursors.get_mut(self.turn)?.next_in_batch() {
            return Some(item);
        }
        for _ in 0..self.cursors.len() {
            self.turn = (self.turn + 1) % self.cursors.len().max(1);
            if let Taken::Item(item) = self.cursors.get_mut(self.turn)?.take() {
                return Some(*item);
            }
        }
        None
    }

    /// The earliest record by append time, once every partition has one or patience is over.
    fn try_in_order(&mut self) -> Option<Result<Record>> {
        let now = self.handle.core.clock.monotonic();
        for cursor in &mut self.cursors {
            if let Some(error) = cursor.look_ahead(now) {
                return Some(Err(error));
            }
        }
        let heads = self.cursors.iter().enumerate();
        let heads = heads.filter_map(|(at, cursor)| Some((at, cursor.head()?)));
        let (at, (_, since)) =
            heads.min_by_key(|(_, (record, _))| (record.hlc, record.partition))?;
        let complete = self
            .cursors
            .iter()
            .all(|cursor| cursor.head().is_some() || cursor.is_done());
        if complete || now.saturating_sub(*since) >= self.options.ordered_within {
            return self.cursors.get_mut(at)?.take_head().map(Ok);
        }
        None
    }

    /// Everything that has come is given out: is that all there is?
    fn note_caught_up(&self) {
        let all = self.cursors.iter().all(|cursor| cursor.lag() == Some(0));
        if all {
            self.hub
                .caught_up
                .send_if_modified(|caught_up| !std::mem::replace(caught_up, true));
        }
    }

    /// Wakes up when the earliest record has waited long enough for the other partitions.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Record>>> {
        let heads = self.cursors.iter().filter_map(Cursor::head);
        let Some((_, since)) = heads.min_by_key(|(record, _)| (record.hlc, record.partition))
        else {
            self.patience = None;
            return Poll::Pending;
        };
        let until = *since + self.options.ordered_within;
        let left = until.saturating_sub(self.handle.core.clock.monotonic());
        let mut patience = Box::pin(tokio::time::sleep(left));
        if patience.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
        self.patience = Some(patience);
        Poll::Pending
    }
}

impl Stream for Subscription {
    type Item = Result<Record>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_record(cx)
    }
}
