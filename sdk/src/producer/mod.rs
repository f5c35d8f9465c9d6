//! Publishing: messages are numbered, batched, sent, and kept until they are answered.
//!
//! Invariant: per producer and partition, offsets follow the order of `send`, through retries.

mod batcher;
mod budget;
mod builder;
mod delivery;
mod lane;
mod partitioner;
mod permit;
mod publish;
mod pump;
mod rebuild;
mod report;
mod send_all;
mod sender;
mod window;

pub(crate) use budget::Budget;
pub(crate) use publish::Producers;

pub use builder::ProducerBuilder;
pub use delivery::Delivery;
pub use permit::Permit;
pub use publish::Publish;
pub use report::BatchReport;
pub use report::ReportSink;
pub use send_all::BatchReceipt;

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_core::Stream;
use quorate_protocol::ErrorCode;
use quorate_protocol::PartitionId;
use quorate_protocol::ProducerGranted;

use crate::client::CloseReport;
use crate::client::Handle;
use crate::error::Error;
use crate::error::Result;
use crate::message::Message;
use crate::message::MessageRef;
use crate::producer::batcher::Pushed;
use crate::producer::batcher::Refused;
use crate::producer::batcher::Terms;
use crate::producer::delivery::Place;
use crate::producer::lane::Common;
use crate::producer::lane::Counts;
use crate::producer::lane::Lane;
use crate::producer::partitioner::Chooser;

/// After this many bytes a sending task lets others run, the one that sends above all.
const BREATH_BYTES: usize = 64 << 10;

/// Publishes to one topic, in order. Clones share the order, the buffers and the identity.
///
/// ```no_run
/// # async fn publish(client: quorate::Client) -> quorate::Result<()> {
/// use quorate::Message;
/// let producer = client.producer("orders").await?;
/// let delivery = producer.send(Message::new("3 apples").key("customer-1")).await?;
/// let receipt = delivery.await?;
/// println!("{:?}", receipt.offset);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct Producer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    common: Common,
    topic: Arc<str>,
    producer: ProducerGranted,
    lanes: Box<[OnceLock<Arc<Lane>>]>,
    chooser: Chooser,
    timeout: Duration,
    record_bytes_max: usize,
    since_breath: AtomicUsize,
    closed: AtomicBool,
    sink: Option<Arc<dyn ReportSink>>,
    /// The client lives as long as its producers.
    _handle: Option<Arc<Handle>>,
}

/// A message was not accepted at once.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrySendError {
    /// The buffers are full; wait with `send` or `reserve`.
    #[error("the producer's buffers are full")]
    Full(Message),
    /// The producer is closed or was fenced.
    #[error("the producer is closed")]
    Closed(Message),
    /// This message can never be sent.
    #[error("the message cannot be sent: {1}")]
    Invalid(Message, Error),
}

impl Producer {
    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.shared.topic
    }

    /// Whether messages are refused: it was closed, or a newer producer of its name took over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.has_ended()
    }

    /// Accepts a message: waits only for room in the buffers, and fixes the order. The receipt
    /// comes with the returned [`Delivery`].
    ///
    /// Cancel-safe: dropped before it is ready, nothing is queued.
    ///
    /// # Errors
    /// The message is too large or names a partition that does not exist, or the producer ended.
    pub async fn send(&self, message: impl Into<Message>) -> Result<Delivery> {
        self.send_within(message.into(), self.shared.timeout).await
    }

    #[inline]
    async fn send_within(&self, message: Message, timeout: Duration) -> Result<Delivery> {
        let shared = &*self.shared;
        if !shared.wants_breath() {
            let terms = shared.terms(timeout);
            match message.lend(|message| shared.accept(message, terms)) {
                Err(Refused::Full) => {}
                pushed => return delivery(pushed),
            }
        }
        self.wait_and_send(message, timeout).await
    }

    /// Lets others run, waits for room if there is none, then sends.
    #[cold]
    async fn wait_and_send(&self, message: Message, timeout: Duration) -> Result<Delivery> {
        let shared = &*self.shared;
        shared.since_breath.store(0, Ordering::Relaxed);
        tokio::task::yield_now().await;
        let terms = shared.terms(timeout);
        match message.lend(|message| shared.accept(message, terms)) {
            Err(Refused::Full) => {}
            pushed => return delivery(pushed),
        }
        let taken = shared
            .take_room(message.lend(|message| message.cost()))
            .await?;
        let terms = Terms {
            prepaid: true,
            ..shared.terms(timeout)
        };
        let pushed = message.lend(|message| shared.accept(message, terms));
        let delivery = delivery(pushed)?;
        taken.keep();
        Ok(delivery)
    }

    /// Accepts a message if there is room now.
    ///
    /// # Errors
    /// There is none, or the message or the producer is not in order; the message comes back.
    #[expect(
        clippy::result_large_err,
        reason = "a refused message is given back whole"
    )]
    pub fn try_send(&self, message: impl Into<Message>) -> Result<Delivery, TrySendError> {
        let message = message.into();
        if self.shared.closed.load(Ordering::Relaxed) {
            return Err(TrySendError::Closed(message));
        }
        let terms = self.shared.terms(self.shared.timeout);
        match message.lend(|message| self.shared.accept(message, terms)) {
            Ok(pushed) => Ok(Delivery::new(pushed.state, pushed.index)),
            Err(Refused::Full) => Err(TrySendError::Full(message)),
            Err(Refused::Closed(_)) => Err(TrySendError::Closed(message)),
            Err(refused) => Err(TrySendError::Invalid(message, refusal(refused))),
        }
    }

    /// Accepts a borrowed message if there is room now: copies it into its batch and allocates
    /// nothing else. From any thread. If it has a tag, the sink given to
    /// [`ProducerBuilder::reports_to`] hears how it ended.
    ///
    /// # Errors
    /// There is no room ([`ErrorCode::WOULD_BLOCK`]), or the message or the producer is not in
    /// order; nothing was accepted.
    pub fn try_send_ref(&self, message: &MessageRef<'_>, tag: Option<NonZeroU64>) -> Result<()> {
        let shared = &*self.shared;
        let terms = Terms {
            tag,
            ..shared.terms(shared.timeout)
        };
        shared.accept(message, terms).map_err(refusal)?;
        Ok(())
    }

    /// The same, but waits for room. Cancel-safe: dropped before it is ready, nothing is queued.
    ///
    /// # Errors
    /// The message or the producer is not in order; nothing was accepted.
    pub async fn send_ref(&self, message: &MessageRef<'_>, tag: Option<NonZeroU64>) -> Result<()> {
        let shared = &*self.shared;
        shared.check(message)?;
        let taken = shared.take_room(message.cost()).await?;
        let terms = Terms {
            tag,
            prepaid: true,
            ..shared.terms(shared.timeout)
        };
        shared.accept(message, terms).map_err(refusal)?;
        taken.keep();
        Ok(())
    }

    /// Messages accepted whose end is not known.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.shared.lanes().map(|lane| lane.in_flight()).sum()
    }

    /// Waits for room for a message of `bytes` (value, key and headers). Cancel-safe.
    ///
    /// # Errors
    /// So much never fits, or the producer is closed.
    pub async fn reserve(&self, bytes: usize) -> Result<Permit> {
        permit::reserve(self, bytes).await
    }

    /// Sends every message of a stream in order and waits for all receipts.
    ///
    /// # Errors
    /// The first failure; the messages before it were sent.
    pub async fn send_all<S>(&self, messages: S) -> Result<BatchReceipt>
    where
        S: Stream,
        S::Item: Into<Message>,
    {
        send_all::send_all(self, messages).await
    }

    /// Waits until everything accepted so far is answered. Cancel-safe.
    ///
    /// # Errors
    /// Something accepted since the last flush failed; the first failure.
    pub async fn flush(&self) -> Result<()> {
        let mut first = Ok(());
        for lane in self.shared.lanes() {
            first = first.and(lane.flush().await);
        }
        first
    }

    /// Closes within `limit`: what is not answered by then is given up, and its end is `Unknown`
    /// if it was sent. Can be repeated.
    ///
    /// # Errors
    /// None at present; failures are counted in the report.
    pub async fn close_within(&self, limit: Duration) -> Result<CloseReport> {
        let before = self.shared.counts();
        if tokio::time::timeout(limit, self.close()).await.is_err() {
            self.shared.common.cancel.cancel();
            self.close().await?;
        }
        Ok(self.shared.report_since(before))
    }

    /// Refuses new messages and waits until the accepted ones are answered. Can be repeated.
    ///
    /// # Errors
    /// None at present; failures are counted in the report.
    pub async fn close(&self) -> Result<CloseReport> {
        let before = self.shared.counts();
        self.shared.close();
        for lane in self.shared.lanes() {
            // Counted below.
            let _counted = lane.flush().await.is_err();
        }
        Ok(self.shared.report_since(before))
    }
}

impl Producer {
    /// Messages acked and failed so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let Counts { acked, failed } = self.shared.counts();
        (acked, failed)
    }
}

impl Shared {
    /// Where the message goes and how much room it takes.
    #[inline]
    fn check(&self, message: &MessageRef<'_>) -> Result<(u32, usize)> {
        let cost = message.cost();
        if cost > self.record_bytes_max {
            return Err(self.too_large(cost));
        }
        Ok((self.chooser.choose(message)?, cost))
    }

    #[cold]
    fn too_large(&self, cost: usize) -> Error {
        let (topic, max) = (&self.topic, self.record_bytes_max);
        Error::new(
            ErrorCode::BATCH_TOO_LARGE,
            format!("{topic}: a message of about {cost} bytes exceeds the limit of {max}"),
        )
    }

    /// The terms of a message whose cost is not yet known.
    #[inline]
    fn terms(&self, timeout: Duration) -> Terms {
        Terms {
            cost: 0,
            prepaid: false,
            wall_us: self.common.core.clock.wall_micros_coarse(),
            timeout,
            tag: None,
        }
    }

    /// Waits for room. Cancel-safe.
    async fn take_room(&self, bytes: usize) -> Result<Taken<'_>> {
        self.common.room.take(bytes).await?;
        Ok(Taken {
            shared: self,
            bytes,
        })
    }

    #[inline]
    fn wants_breath(&self) -> bool {
        self.since_breath.load(Ordering::Relaxed) > BREATH_BYTES
    }

    /// Puts a message into the batch of its partition.
    #[inline]
    fn accept(&self, message: &MessageRef<'_>, terms: Terms) -> Result<Pushed, Refused> {
        let (partition, cost) = self.check(message).map_err(Refused::Invalid)?;
        let lane = self.lane(partition).map_err(Refused::Invalid)?;
        let pushed = lane.push(message, Terms { cost, ..terms })?;
        // Not exact between threads, and need not be.
        let since = self.since_breath.load(Ordering::Relaxed);
        self.since_breath.store(since + cost, Ordering::Relaxed);
        if pushed.filled {
            self.chooser.batch_is_full(partition);
        }
        Ok(pushed)
    }

    #[inline]
    fn lane(&self, partition: u32) -> Result<&Arc<Lane>> {
        let slot = usize::try_from(partition).ok();
        let slot = slot.and_then(|slot| self.lanes.get(slot));
        let slot = slot.ok_or_else(|| Error::invalid("no such partition"))?;
        Ok(slot.get_or_init(|| self.open_lane(partition)))
    }

    fn open_lane(&self, partition: u32) -> Arc<Lane> {
        let place = Place::new(
            Arc::clone(&self.topic),
            PartitionId::new(partition),
            self.sink.clone(),
        );
        let lane = Arc::new(Lane::new(self.common.clone(), place, self.producer));
        if self.closed.load(Ordering::Relaxed) {
            lane.close(Error::closed("producer"));
        }
        // Whoever sends need not be on the client's executor.
        let core = &self.common.core;
        core.tracker
            .spawn_on(sender::run(Arc::clone(&lane)), &core.executor);
        lane
    }

    fn lanes(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.lanes.iter().filter_map(OnceLock::get)
    }

    /// Whether messages are refused, by request or because a lane was fenced.
    fn has_ended(&self) -> bool {
        self.closed.load(Ordering::Relaxed) || self.lanes().any(|lane| lane.is_closed())
    }

    fn counts(&self) -> Counts {
        let all = self.lanes().map(|lane| lane.tally.read());
        all.fold(Counts::default(), |sum, lane| Counts {
            acked: sum.acked + lane.acked,
            failed: sum.failed + lane.failed,
        })
    }

    fn report_since(&self, before: Counts) -> CloseReport {
        let after = self.counts();
        CloseReport {
            flushed: after.acked - before.acked,
            abandoned: after.failed - before.failed,
        }
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        for lane in self.lanes() {
            lane.close(Error::closed("producer"));
        }
    }
}

impl Drop for Shared {
    /// The last handle is gone: what was accepted is still sent.
    fn drop(&mut self) {
        self.close();
    }
}

/// Room for one message that goes back unless it is used.
struct Taken<'a> {
    shared: &'a Shared,
    bytes: usize,
}

impl Taken<'_> {
    fn keep(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.shared.common.room.give(self.bytes);
    }
}

fn delivery(pushed: Result<Pushed, Refused>) -> Result<Delivery> {
    let pushed = pushed.map_err(refusal)?;
    Ok(Delivery::new(pushed.state, pushed.index))
}

/// Why a message was not accepted, as an error.
#[cold]
fn refusal(refused: Refused) -> Error {
    match refused {
        Refused::Closed(error) | Refused::Invalid(error) => error,
        Refused::Batch(error) => Error::new(ErrorCode::BATCH_TOO_LARGE, error.to_string()),
        Refused::Full => Error::new(ErrorCode::WOULD_BLOCK, "the producer's buffers are full"),
    }
}
