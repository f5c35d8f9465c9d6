//! A queue of bounded size that many fill and one task empties. Filling never waits.

use std::collections::VecDeque;
use std::fmt;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// A queue that may be closed; then it holds and takes nothing.
pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    filled: Notify,
    bytes_max: usize,
}

struct State<T> {
    open: bool,
    items: VecDeque<(T, usize)>,
    bytes: usize,
}

impl<T> Queue<T> {
    /// A closed queue for at most this many bytes.
    pub(crate) fn closed(bytes_max: usize) -> Self {
        let state = State {
            open: false,
            items: VecDeque::new(),
            bytes: 0,
        };
        Self {
            state: Mutex::new(state),
            filled: Notify::new(),
            bytes_max,
        }
    }

    /// Takes items from now on.
    pub(crate) fn open(&self) {
        self.state.lock().open = true;
    }

    /// Takes no more items, and gives back those that wait.
    pub(crate) fn close(&self) -> VecDeque<(T, usize)> {
        let mut state = self.state.lock();
        state.open = false;
        state.bytes = 0;
        std::mem::take(&mut state.items)
    }

    /// Adds items with their lengths while there is room; false if some were not taken. An item
    /// of any length fits an empty queue.
    pub(crate) fn push_all(&self, items: impl IntoIterator<Item = (T, usize)>) -> bool {
        let mut state = self.state.lock();
        for (item, len) in items {
            let fits = state.bytes == 0 || state.bytes + len <= self.bytes_max;
            if !state.open || !fits {
                drop(state);
                self.filled.notify_one();
                return false;
            }
            state.bytes += len;
            state.items.push_back((item, len));
        }
        drop(state);
        self.filled.notify_one();
        true
    }

    /// Takes items from the front, in order, as long as they are wanted.
    pub(crate) fn take_while(&self, mut wanted: impl FnMut(&T, usize) -> bool) -> Vec<T> {
        let mut state = self.state.lock();
        let mut taken = Vec::new();
        while let Some((item, len)) = state.items.pop_front_if(|(item, len)| wanted(item, *len)) {
            state.bytes -= len;
            taken.push(item);
        }
        taken
    }

    /// Waits until something was added since the last call; it may be taken already. Cancel-safe.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }
}

impl<T> fmt::Debug for Queue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("Queue")
            .field("open", &state.open)
            .field("items", &state.items.len())
            .field("bytes", &state.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items(lens: &[usize]) -> Vec<(usize, usize)> {
        lens.iter().copied().enumerate().collect()
    }

    #[test]
    fn a_full_queue_refuses_and_an_empty_one_takes_anything() {
        let queue = Queue::closed(100);
        assert!(!queue.push_all(items(&[1])), "closed");
        queue.open();
        assert!(queue.push_all(items(&[400])));
        assert!(!queue.push_all(items(&[1])));
        assert_eq!(queue.take_while(|_, _| true), [0]);
        assert!(!queue.push_all(items(&[60, 40, 1])));
        assert_eq!(queue.take_while(|_, _| true), [0, 1]);
        assert!(queue.push_all(items(&[1])));
    }

    #[test]
    fn items_come_out_in_order_as_long_as_they_are_wanted() {
        let queue = Queue::closed(1_000);
        queue.open();
        assert!(queue.push_all(items(&[10, 20, 30, 40])));
        let mut bytes = 0;
        let taken = queue.take_while(|_, len| {
            bytes += len;
            bytes <= 30
        });
        assert_eq!(taken, [0, 1]);
        assert_eq!(queue.close().len(), 2);
        assert!(queue.take_while(|_, _| true).is_empty());
    }
}
