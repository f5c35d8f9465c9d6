//! Between a partition's feed and its subscription: received batches, bounded by credit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use parking_lot::Mutex;
use quorate_protocol::Offset;
use quorate_protocol::PartitionId;
use quorate_protocol::RecordBatch;
use tokio::sync::Notify;
use tokio::sync::watch;

use crate::error::Error;
use crate::record::Gap;

/// What a feed hands over, in order.
#[derive(Debug)]
pub(super) enum Item {
    /// Records from `from` on and below `until`.
    Batch {
        batch: RecordBatch,
        from: Offset,
        until: Offset,
        broker: Arc<str>,
    },
    /// Records are missing here.
    Missing(Gap),
    /// The partition cannot be read on.
    Failed(Error),
    /// The end that was asked for.
    Done,
}

/// Wakes the task that waits for a subscription.
#[derive(Debug, Default)]
pub(super) struct Hub {
    waker: Mutex<Option<Waker>>,
    /// Whether everything committed was once delivered.
    pub(super) caught_up: watch::Sender<bool>,
}

impl Hub {
    pub(super) fn register(&self, waker: &Waker) {
        let mut kept = self.waker.lock();
        match kept.as_mut() {
            Some(kept) => kept.clone_from(waker),
            None => *kept = Some(waker.clone()),
        }
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }
}

/// One partition of a subscription.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) id: PartitionId,
    pub(super) hub: Arc<Hub>,
    /// Room has become free.
    pub(super) freed: Notify,
    /// How many bytes may be buffered.
    pub(super) share: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    items: VecDeque<Item>,
    buffered: usize,
    freed: usize,
    /// Known once the broker has accepted the subscription.
    high_watermark: Option<Offset>,
    start: Option<Offset>,
}

impl Partition {
    pub(super) fn new(id: PartitionId, hub: &Arc<Hub>, share: usize) -> Self {
        Self {
            id,
            hub: Arc::clone(hub),
            freed: Notify::new(),
            share,
            inner: Mutex::default(),
        }
    }

    pub(super) fn push(&self, item: Item) {
        {
            let mut inner = self.inner.lock();
            if let Item::Batch { batch, .. } = &item {
                inner.buffered += batch.len();
            }
            inner.items.push_back(item);
        }
        self.hub.wake();
    }

    pub(super) fn pop(&self) -> Option<Item> {
        self.inner.lock().items.pop_front()
    }

    /// A batch was used up: its room is free, and worth telling in larger pieces.
    pub(super) fn release(&self, bytes: usize) {
        let worth = {
            let mut inner = self.inner.lock();
            inner.buffered = inner.buffered.saturating_sub(bytes);
            inner.freed += bytes;
            let worth = inner.freed >= self.share / 4 || inner.buffered == 0;
            if worth {
                inner.freed = 0;
            }
            worth
        };
        if worth {
            self.freed.notify_one();
        }
    }

    /// Bytes that may be granted beyond those received.
    pub(super) fn room(&self) -> usize {
        self.share.saturating_sub(self.inner.lock().buffered)
    }

    pub(super) fn accepted(&self, start: Offset, high_watermark: Offset) {
        {
            let mut inner = self.inner.lock();
            inner.start.get_or_insert(start);
            inner.high_watermark = Some(high_watermark);
        }
        self.hub.wake();
    }

    /// Records up to `offset` are committed.
    pub(super) fn committed(&self, offset: Offset) {
        {
            let mut inner = self.inner.lock();
            let known = inner.high_watermark.unwrap_or(Offset::ZERO);
            inner.high_watermark = Some(known.max(offset));
        }
        self.hub.wake();
    }

    pub(super) fn high_watermark(&self) -> Option<Offset> {
        self.inner.lock().high_watermark
    }

    /// Where the broker began.
    pub(super) fn start(&self) -> Option<Offset> {
        self.inner.lock().start
    }
}
