//! The one queue into a shard's task, from its own thread and from those of the disk.
//!
//! Bounded by what may be put in: proposals hold room that ends with their outcome, and a completion
//! belongs to an action that was asked for.

use std::fmt;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Many producers, one consumer that takes everything at once.
pub(super) struct Inbox<T> {
    queue: Mutex<Vec<T>>,
    filled: Notify,
}

impl<T> Inbox<T> {
    pub(super) fn new() -> Self {
        Self {
            queue: Mutex::new(Vec::new()),
            filled: Notify::new(),
        }
    }

    pub(super) fn put(&self, value: T) {
        let first = {
            let mut queue = self.queue.lock();
            queue.push(value);
            queue.len() == 1
        };
        if first {
            self.filled.notify_one();
        }
    }

    pub(super) fn put_all(&self, values: impl Iterator<Item = T>) {
        let filled = {
            let mut queue = self.queue.lock();
            let empty = queue.is_empty();
            queue.extend(values);
            empty && !queue.is_empty()
        };
        if filled {
            self.filled.notify_one();
        }
    }

    /// The consumer looks around, though nothing may be in.
    pub(super) fn wake(&self) {
        self.filled.notify_one();
    }

    /// Moves everything behind what `into` holds.
    pub(super) fn take(&self, into: &mut Vec<T>) {
        let mut queue = self.queue.lock();
        if into.is_empty() {
            std::mem::swap(&mut *queue, into);
        } else {
            into.append(&mut queue);
        }
    }

    /// Waits until something may be in. Cancel safe.
    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("waiting", &self.queue.lock().len())
            .finish()
    }
}
