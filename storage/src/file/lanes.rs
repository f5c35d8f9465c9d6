//! The product's only threads: one small pool per lane, grown when work waits and never beyond its limit.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};

use super::Work;

/// A pool of at most `limit` threads over one queue.
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    name: &'static str,
    limit: usize,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Work>,
    threads: usize,
    idle: usize,
    closing: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("queued", &self.queue.len())
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

impl Pool {
    pub(crate) fn new(name: &'static str, limit: usize) -> Self {
        let shared = Shared {
            state: Mutex::new(State::default()),
            wake: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
            name,
            limit,
        }
    }

    /// Queues work; starts a thread if all are busy and the limit allows. If not even the first
    /// thread can be started the work runs here, so that it is never lost.
    pub(crate) fn submit(&self, work: Work) {
        let mut state = self.shared.state.lock();
        state.queue.push_back(work);
        if state.idle >= state.queue.len() {
            self.shared.wake.notify_one();
            return;
        }
        if state.threads < self.limit && self.start_thread() {
            state.threads += 1;
        } else if state.threads == 0 {
            let work = state.queue.pop_back();
            drop(state);
            work.into_iter().for_each(run);
        }
    }

    fn start_thread(&self) -> bool {
        let shared = Arc::clone(&self.shared);
        let started = thread::Builder::new()
            .name(self.name.into())
            .spawn(move || shared.serve());
        if let Err(error) = &started {
            tracing::warn!(lane = self.name, %error, "cannot start a storage thread");
        }
        started.is_ok()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.state.lock().closing = true;
        self.shared.wake.notify_all();
    }
}

impl Shared {
    fn serve(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some(work) = state.queue.pop_front() {
                drop(state);
                run(work);
                state = self.state.lock();
            } else if state.closing {
                return;
            } else {
                state.idle += 1;
                self.wake.wait(&mut state);
                state.idle -= 1;
            }
        }
    }
}

fn run(work: Work) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        tracing::error!("storage work panicked; its waiter sees it as lost");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn one_thread_keeps_the_order_of_submission() {
        let pool = Pool::new("order", 1);
        let (sender, receiver) = mpsc::channel();
        for number in 0..100 {
            let sender = sender.clone();
            pool.submit(Box::new(move || sender.send(number).unwrap()));
        }
        let seen: Vec<i32> = receiver.iter().take(100).collect();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn threads_never_exceed_the_limit() {
        let pool = Pool::new("limit", 3);
        let (sender, receiver) = mpsc::channel();
        for _ in 0..50 {
            let sender = sender.clone();
            pool.submit(Box::new(move || {
                sender.send(thread::current().id()).unwrap()
            }));
        }
        let ids: Vec<_> = receiver.iter().take(50).collect();
        let distinct = ids
            .iter()
            .map(|id| format!("{id:?}"))
            .collect::<std::collections::BTreeSet<_>>();
        assert!(distinct.len() <= 3);
    }

    #[test]
    fn panicking_work_does_not_end_the_lane() {
        let pool = Pool::new("panic", 1);
        let (sender, receiver) = mpsc::channel();
        pool.submit(Box::new(|| panic!("planted")));
        pool.submit(Box::new(move || sender.send(1).unwrap()));
        assert_eq!(receiver.recv(), Ok(1));
    }

    #[test]
    fn queued_work_still_runs_when_the_pool_is_dropped() {
        let pool = Pool::new("drop", 1);
        let (sender, receiver) = mpsc::channel();
        for number in 0..10 {
            let sender = sender.clone();
            pool.submit(Box::new(move || sender.send(number).unwrap()));
        }
        drop((pool, sender));
        assert_eq!(receiver.iter().count(), 10);
    }
}
