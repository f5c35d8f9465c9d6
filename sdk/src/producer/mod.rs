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
mod rebuild;
mod send_all;
mod sender;
mod window;

pub(crate) use budget::Budget;
pub(crate) use publish::Producers;

pub use builder::ProducerBuilder;
pub use delivery::Delivery;
pub use permit::Permit;
pub use publish::Publish;
pub use send_all::BatchReceipt;

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
        let (partition, cost) = shared.check(&message)?;
        if !shared.wants_breath() {
            match shared.push(&message, partition, shared.terms(cost, timeout)) {
                Err(Refused::Full) => {}
                pushed => return pushed.map_err(refusal),
            }
        }
        self.wait_and_send(message, partition, shared.terms(cost, timeout))
            .await
    }

    /// Lets others run, waits for room if there is none, then sends.
    #[cold]
    async fn wait_and_send(
        &self,
        message: Message,
        partition: u32,
        terms: Terms,
    ) -> Result<Delivery> {
        let shared = &*self.shared;
        shared.since_breath.store(0, Ordering::Relaxed);
        tokio::task::yield_now().await;
        match shared.push(&message, partition, terms) {
            Err(Refused::Full) => {}
            pushed => return pushed.map_err(refusal),
        }
        shared.common.room.take(terms.cost).await?;
        let taken = Taken {
            shared,
            bytes: terms.cost,
        };
        let prepaid = Terms {
            prepaid: true,
            ..terms
        };
        let delivery = shared.push(&message, partition, prepaid).map_err(refusal)?;
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
        let (partition, cost) = match self.shared.check(&message) {
            Ok(checked) => checked,
            Err(error) => return Err(TrySendError::Invalid(message, error)),
        };
        let terms = self.shared.terms(cost, self.shared.timeout);
        self.shared
            .push(&message, partition, terms)
            .map_err(|refused| match refused {
                Refused::Full => TrySendError::Full(message),
                Refused::Closed(_) => TrySendError::Closed(message),
                refused @ Refused::Batch(_) => TrySendError::Invalid(message, refusal(refused)),
            })
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
        let after = self.shared.counts();
        Ok(CloseReport {
            flushed: after.acked - before.acked,
            abandoned: after.failed - before.failed,
        })
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
    fn check(&self, message: &Message) -> Result<(u32, usize)> {
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

    #[inline]
    fn terms(&self, cost: usize, timeout: Duration) -> Terms {
        Terms {
            cost,
            prepaid: false,
            wall_us: self.common.core.clock.wall_micros_coarse(),
            timeout,
        }
    }

    #[inline]
    fn wants_breath(&self) -> bool {
        self.since_breath.load(Ordering::Relaxed) > BREATH_BYTES
    }

    #[inline]
    fn push(&self, message: &Message, partition: u32, terms: Terms) -> Result<Delivery, Refused> {
        let lane = self.lane(partition).map_err(Refused::Closed)?;
        let pushed = lane.push(message, terms)?;
        // Not exact between threads, and need not be.
        let since = self.since_breath.load(Ordering::Relaxed);
        self.since_breath
            .store(since + terms.cost, Ordering::Relaxed);
        if pushed.filled {
            self.chooser.batch_is_full(partition);
        }
        Ok(Delivery::new(pushed.state, pushed.index))
    }

    #[inline]
    fn lane(&self, partition: u32) -> Result<&Arc<Lane>> {
        let slot = usize::try_from(partition).ok();
        let slot = slot.and_then(|slot| self.lanes.get(slot));
        let slot = slot.ok_or_else(|| Error::invalid("no such partition"))?;
        Ok(slot.get_or_init(|| self.open_lane(partition)))
    }

    fn open_lane(&self, partition: u32) -> Arc<Lane> {
        let place = Arc::new(Place {
            topic: Arc::clone(&self.topic),
            partition: PartitionId::new(partition),
        });
        let lane = Arc::new(Lane::new(self.common.clone(), place, self.producer));
        if self.closed.load(Ordering::Relaxed) {
            lane.close(Error::closed("producer"));
        }
        self.common
            .core
            .tracker
            .spawn(sender::run(Arc::clone(&lane)));
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

/// Why a message was not accepted, as an error.
#[cold]
fn refusal(refused: Refused) -> Error {
    match refused {
        Refused::Closed(error) => error,
        Refused::Batch(error) => Error::new(ErrorCode::BATCH_TOO_LARGE, error.to_string()),
        Refused::Full => Error::new(ErrorCode::WOULD_BLOCK, "the producer's buffers are full"),
    }
}
