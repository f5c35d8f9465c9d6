//! The receipt of a message, when it comes.
//!
//! Messages of a batch share one state: an answer is stored once, wakers only of who awaits.

use std::fmt;
use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use parking_lot::Mutex;
use quorate_protocol::HybridTime;
use quorate_protocol::Offset;
use quorate_protocol::PartitionId;
use quorate_protocol::Term;

use crate::clock::time_of;
use crate::error::Error;
use crate::error::Result;
use crate::level::AckLevel;
use crate::producer::report::BatchReport;
use crate::producer::report::ReportSink;
use crate::record::Receipt;

/// Where batches go, and who is told of their ends.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) topic: Arc<str>,
    pub(super) partition: PartitionId,
    sink: Option<Arc<dyn ReportSink>>,
    /// Messages whose end is known.
    answered: AtomicU64,
}

impl Place {
    pub(super) fn new(
        topic: Arc<str>,
        partition: PartitionId,
        sink: Option<Arc<dyn ReportSink>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            topic,
            partition,
            sink,
            answered: AtomicU64::new(0),
        })
    }

    /// Messages whose end is known.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// How a batch ended.
#[derive(Debug, Clone)]
pub(super) enum Settled {
    /// It is in the log.
    Acked {
        base_offset: Option<Offset>,
        term: Term,
        append_time: HybridTime,
        level: AckLevel,
        duplicate: bool,
    },
    /// It was sent and nothing is promised.
    Sent,
    /// Every record of it was taken out as known.
    Known,
    /// It failed, or nobody knows.
    Failed(Error),
}

/// What the deliveries of one batch wait for.
#[derive(Debug)]
pub(super) struct BatchState {
    place: Arc<Place>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    settled: Option<Settled>,
    /// How many messages were sent with it.
    messages: u32,
    /// The tag of each message, as far as there are any.
    tags: Vec<Option<NonZeroU64>>,
    /// Records that were taken out because an earlier copy is in the log, by their first index.
    known: Vec<(u32, Offset)>,
    /// What those copies promise.
    known_level: Option<AckLevel>,
    wakers: Vec<Option<Waker>>,
}

impl BatchState {
    pub(super) fn new(place: &Arc<Place>) -> Arc<Self> {
        Arc::new(Self {
            place: Arc::clone(place),
            inner: Mutex::default(),
        })
    }

    /// The batch takes no more messages: so many are in it, with these tags.
    pub(super) fn seal(&self, messages: u32, tags: Vec<Option<NonZeroU64>>) {
        let mut inner = self.inner.lock();
        inner.messages = messages;
        inner.tags = tags;
    }

    /// Ends the wait of all deliveries and reports to the sink; the first answer stands.
    pub(super) fn settle(self: &Arc<Self>, settled: Settled) {
        let (wakers, messages, tags) = {
            let mut inner = self.inner.lock();
            if inner.settled.is_some() {
                return;
            }
            inner.settled = Some(settled);
            let wakers = std::mem::take(&mut inner.wakers);
            (wakers, inner.messages, std::mem::take(&mut inner.tags))
        };
        let place = &self.place;
        place
            .answered
            .fetch_add(u64::from(messages), Ordering::Relaxed);
        wakers.into_iter().flatten().for_each(Waker::wake);
        if let Some(sink) = &place.sink
            && !tags.is_empty()
        {
            sink.batch_ended(BatchReport::new(Arc::clone(self), tags));
        }
    }

    /// Records of the batch as it is now are committed already, at this level, and leave it; in
    /// ascending order.
    pub(super) fn take_out(&self, known: &[(u32, Offset)], level: AckLevel) {
        let mut inner = self.inner.lock();
        inner.known_level = Some(level);
        let known: Vec<_> = known
            .iter()
            .map(|(index, offset)| (first_index(&inner.known, *index), *offset))
            .collect();
        inner.known.extend(known);
        inner.known.sort_unstable();
        // Who still waits keeps its slot.
        let wakers: Vec<_> = inner.wakers.iter_mut().filter_map(Option::take).collect();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// The end of one message, if it is known.
    pub(super) fn receipt_of(&self, index: u32) -> Option<Result<Receipt>> {
        self.receipt(&self.inner.lock(), index)
    }

    fn receipt(&self, inner: &Inner, index: u32) -> Option<Result<Receipt>> {
        let known = inner
            .known
            .binary_search_by_key(&index, |(index, _)| *index);
        let blank = || Receipt {
            topic: Arc::clone(&self.place.topic),
            partition: self.place.partition,
            offset: None,
            term: None,
            timestamp: None,
            level: AckLevel::None,
            duplicate: false,
        };
        let before = match known {
            Ok(at) => {
                let (_, offset) = *inner.known.get(at)?;
                return Some(Ok(Receipt {
                    offset: Some(offset),
                    level: inner.known_level?,
                    duplicate: true,
                    ..blank()
                }));
            }
            Err(before) => u64::try_from(before).unwrap_or_default(),
        };
        Some(match inner.settled.as_ref()? {
            Settled::Acked {
                base_offset,
                term,
                append_time,
                level,
                duplicate,
            } => {
                let position = u64::from(index).saturating_sub(before);
                Ok(Receipt {
                    offset: base_offset.and_then(|base| base.checked_add(position)),
                    term: base_offset.map(|_| *term),
                    timestamp: base_offset.map(|_| time_of(append_time.micros())),
                    level: *level,
                    duplicate: *duplicate,
                    ..blank()
                })
            }
            Settled::Sent | Settled::Known => Ok(blank()),
            Settled::Failed(error) => Err(error.clone()),
        })
    }
}

/// The index a record had before `known` ones were taken out.
fn first_index(known: &[(u32, Offset)], index: u32) -> u32 {
    let mut first = index;
    for (taken, _) in known {
        if *taken <= first {
            first += 1;
        }
    }
    first
}

/// The receipt of one accepted message, to be awaited or dropped; dropping cancels nothing.
#[must_use = "await the receipt, or call `detach()` to rely on `Event::DeliveryFailed`"]
pub struct Delivery {
    state: Arc<BatchState>,
    index: u32,
    /// Where this delivery's waker is kept.
    slot: Option<usize>,
}

impl Delivery {
    pub(super) fn new(state: Arc<BatchState>, index: u32) -> Self {
        Self {
            state,
            index,
            slot: None,
        }
    }

    /// A delivery that has failed already.
    pub(super) fn failed(place: &Arc<Place>, error: Error) -> Self {
        let state = BatchState::new(place);
        state.settle(Settled::Failed(error));
        Self::new(state, 0)
    }

    /// Goes on without the receipt; a failure is an `Event::DeliveryFailed`.
    pub fn detach(self) {
        drop(self);
    }

    /// The receipt, if it has come.
    #[must_use]
    pub fn try_receipt(&self) -> Option<Result<Receipt>> {
        self.state.receipt_of(self.index)
    }

    /// The end of the whole batch: messages known from before have their receipts earlier. Stands
    /// for a message behind the last one, so its offset means nothing.
    pub(super) fn whole_batch(&self) -> Self {
        Self::new(Arc::clone(&self.state), u32::MAX)
    }

    /// Whether both are in the same batch.
    pub(super) fn is_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }
}

impl Future for Delivery {
    type Output = Result<Receipt>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let state = Arc::clone(&self.state);
        let mut inner = state.inner.lock();
        if let Some(receipt) = state.receipt(&inner, self.index) {
            return Poll::Ready(receipt);
        }
        let slot = self.slot.unwrap_or(inner.wakers.len());
        match inner.wakers.get_mut(slot) {
            Some(Some(waker)) => waker.clone_from(cx.waker()),
            Some(empty) => *empty = Some(cx.waker().clone()),
            None => inner.wakers.push(Some(cx.waker().clone())),
        }
        self.slot = Some(slot);
        Poll::Pending
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        let Some(slot) = self.slot else {
            return;
        };
        let mut inner = self.state.inner.lock();
        if let Some(waker) = inner.wakers.get_mut(slot) {
            *waker = None;
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("place", &self.state.place)
            .field("receipt", &self.try_receipt())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> Arc<BatchState> {
        let place = Place::new(Arc::from("orders"), PartitionId::new(1), None);
        BatchState::new(&place)
    }

    fn acked(base: u64) -> Settled {
        Settled::Acked {
            base_offset: Some(Offset::new(base)),
            term: Term::new(3),
            append_time: HybridTime::from_parts(1_000_000, 0),
            level: AckLevel::Quorum,
            duplicate: false,
        }
    }

    fn offset(state: &Arc<BatchState>, index: u32) -> Option<u64> {
        let receipt = Delivery::new(Arc::clone(state), index).try_receipt()?;
        receipt.unwrap().offset.map(Offset::get)
    }

    #[test]
    fn each_message_gets_its_own_offset() {
        let state = state();
        assert!(offset(&state, 0).is_none());
        state.settle(acked(100));
        assert_eq!(
            (offset(&state, 0), offset(&state, 7)),
            (Some(100), Some(107))
        );
    }

    #[test]
    fn known_records_keep_their_offsets_and_the_others_close_ranks() {
        let state = state();
        let level = AckLevel::Quorum;
        state.take_out(&[(1, Offset::new(5)), (3, Offset::new(9))], level);
        assert_eq!(offset(&state, 1), Some(5));
        // Of the remaining 0 2 4 5, the second (first index 2) turns out to be known too.
        state.take_out(&[(1, Offset::new(7))], level);
        state.settle(acked(100));
        let offsets: Vec<_> = (0..6).map(|index| offset(&state, index).unwrap()).collect();
        assert_eq!(offsets, [100, 5, 7, 9, 101, 102]);
    }

    #[test]
    fn the_first_answer_stands() {
        let state = state();
        state.settle(Settled::Failed(Error::closed("producer")));
        state.settle(acked(1));
        let delivery = Delivery::new(state, 0);
        assert!(delivery.try_receipt().unwrap().is_err());
    }

    #[tokio::test]
    async fn all_who_await_are_woken_and_who_left_is_not_kept() {
        let state = state();
        let (first, second) = (
            Delivery::new(Arc::clone(&state), 0),
            Delivery::new(Arc::clone(&state), 1),
        );
        {
            let mut left = Delivery::new(Arc::clone(&state), 2);
            std::future::poll_fn(|cx| {
                assert!(Pin::new(&mut left).poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        assert!(state.inner.lock().wakers.iter().all(Option::is_none));
        let settle = async { state.settle(acked(4)) };
        let (first, second, ()) = tokio::join!(first, second, settle);
        assert_eq!(first.unwrap().offset, Some(Offset::new(4)));
        assert_eq!(second.unwrap().offset, Some(Offset::new(5)));
    }

    #[test]
    fn a_batch_has_not_ended_while_only_its_known_records_have_receipts() {
        let state = state();
        let known = [(0, Offset::new(5)), (2, Offset::new(7))];
        state.take_out(&known, AckLevel::Quorum);
        let first = Delivery::new(Arc::clone(&state), 0);
        assert!(first.try_receipt().is_some());
        assert!(first.whole_batch().try_receipt().is_none());
        state.settle(Settled::Failed(Error::closed("client")));
        assert!(first.whole_batch().try_receipt().unwrap().is_err());
    }

    /// A waker that counts, and a delivery polled once with it.
    fn polled(state: &Arc<BatchState>, index: u32) -> (Delivery, Arc<Count>) {
        let mut delivery = Delivery::new(Arc::clone(state), index);
        let woken = Arc::new(Count::default());
        poll(&mut delivery, &woken);
        (delivery, woken)
    }

    fn poll(delivery: &mut Delivery, woken: &Arc<Count>) {
        let waker = Waker::from(Arc::clone(woken));
        let polled = Pin::new(delivery).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }

    #[derive(Default)]
    struct Count(std::sync::atomic::AtomicUsize);

    impl std::task::Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_on_after_known_records_left_is_woken_whatever_others_do() {
        let state = state();
        let (_known, _) = polled(&state, 0);
        let (mut first, first_woken) = polled(&state, 1);
        let (mut second, second_woken) = polled(&state, 2);
        state.take_out(&[(0, Offset::new(5))], AckLevel::Quorum);
        poll(&mut first, &first_woken);
        poll(&mut second, &second_woken);
        drop(first);
        state.settle(acked(100));
        let woken = second_woken.0.load(Ordering::Relaxed);
        assert_eq!(woken, 2);
    }
}
