//! Credits: how many bytes a peer may still send or be sent. Plain numbers, no I/O.
//!
//! Every count is cumulative since its stream opened and never goes down, so a lost or repeated
//! grant cannot be misread. What producers may send is a promise of memory and is taken from the
//! budgets of their connection and of the broker.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use quorate_protocol::Credit;

/// The smallest window worth opening a producer stream for.
const WINDOW_BYTES_MIN: u64 = 64 * 1024;

/// A producer started a frame although it had used up its credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overdraft;

/// What one producer stream may send, and what it has got back.
#[derive(Debug)]
pub(super) struct ProducerCredit {
    granted: u64,
    received: u64,
    settled: u64,
}

impl ProducerCredit {
    /// A stream that may send `window` bytes before anything is settled.
    pub(super) fn new(window: u64) -> Self {
        Self {
            granted: window,
            received: 0,
            settled: 0,
        }
    }

    /// Accounts one received frame. A frame may start while any credit is left.
    pub(super) fn receive(&mut self, bytes: u64) -> Result<(), Overdraft> {
        if self.received >= self.granted {
            return Err(Overdraft);
        }
        self.received = self.received.saturating_add(bytes);
        Ok(())
    }

    /// Gives back the bytes of a settled or discarded frame, up to `window` outstanding.
    pub(super) fn settle(&mut self, bytes: u64, window: u64) {
        self.settled = self.settled.saturating_add(bytes);
        self.granted = self.granted.max(self.settled.saturating_add(window));
    }

    /// The cumulative grant to announce.
    pub(super) fn granted(&self) -> Credit {
        Credit::new(self.granted)
    }
}

/// What one subscriber is ready to take.
#[derive(Debug)]
pub(super) struct SubscriberCredit {
    bytes: u64,
    records: u64,
    sent_bytes: u64,
    sent_records: u64,
}

impl SubscriberCredit {
    /// A subscriber that takes `bytes` at first and does not count records.
    pub(super) fn new(bytes: Credit) -> Self {
        Self {
            bytes: bytes.get(),
            records: u64::MAX,
            sent_bytes: 0,
            sent_records: 0,
        }
    }

    /// Applies a grant. Bytes never go down; the first record grant replaces "unlimited".
    pub(super) fn raise(&mut self, bytes: Credit, records: Credit) {
        self.bytes = self.bytes.max(bytes.get());
        self.records = match self.records {
            u64::MAX => records.get(),
            granted => granted.max(records.get()),
        };
    }

    /// Bytes that may still be sent; zero also when the record credit is used up.
    pub(super) fn balance(&self) -> u64 {
        if self.sent_records >= self.records {
            return 0;
        }
        self.bytes.saturating_sub(self.sent_bytes)
    }

    /// Accounts what was sent.
    pub(super) fn spend(&mut self, bytes: u64, records: u64) {
        self.sent_bytes = self.sent_bytes.saturating_add(bytes);
        self.sent_records = self.sent_records.saturating_add(records);
    }
}

/// Memory that may be promised to producers: of one connection, or of the whole broker.
#[derive(Debug)]
pub(super) struct Budget {
    total: u64,
    promised: AtomicU64,
    leases: AtomicU64,
}

impl Budget {
    /// A budget of `total` bytes.
    pub(super) fn new(total: u64) -> Arc<Self> {
        Arc::new(Self {
            total,
            promised: AtomicU64::new(0),
            leases: AtomicU64::new(0),
        })
    }

    fn left(&self) -> u64 {
        self.total
            .saturating_sub(self.promised.load(Ordering::Relaxed))
    }

    /// An even share of the budget for each open lease.
    fn share(&self) -> u64 {
        self.total / self.leases.load(Ordering::Relaxed).max(1)
    }

    fn promise(&self, old: u64, new: u64) {
        self.promised.fetch_add(new, Ordering::Relaxed);
        self.promised.fetch_sub(old, Ordering::Relaxed);
    }
}

/// The window of one producer stream, held until dropped.
#[derive(Debug)]
pub(super) struct Lease {
    connection: Arc<Budget>,
    broker: Arc<Budget>,
    window_max: u64,
    held: u64,
}

impl Lease {
    /// Takes a window of at most `window_max` bytes; `None` when the broker's memory is promised.
    pub(super) fn open(
        connection: &Arc<Budget>,
        broker: &Arc<Budget>,
        window_max: u64,
    ) -> Option<Self> {
        if broker.left() < WINDOW_BYTES_MIN {
            return None;
        }
        connection.leases.fetch_add(1, Ordering::Relaxed);
        let mut lease = Self {
            connection: Arc::clone(connection),
            broker: Arc::clone(broker),
            window_max,
            held: 0,
        };
        lease.resize();
        Some(lease)
    }

    /// Fits the window to the number of streams and the memory left, and returns it.
    pub(super) fn resize(&mut self) -> u64 {
        let connection = self.connection.left().saturating_add(self.held);
        let broker = self.broker.left().saturating_add(self.held) / 8;
        let window = self
            .window_max
            .min(self.connection.share())
            .min(connection)
            .min(broker)
            .max(WINDOW_BYTES_MIN);
        self.connection.promise(self.held, window);
        self.broker.promise(self.held, window);
        self.held = window;
        window
    }

    /// The window as last fitted.
    pub(super) fn window(&self) -> u64 {
        self.held
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.connection.promise(self.held, 0);
        self.broker.promise(self.held, 0);
        self.connection.leases.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_frame_may_overdraw_once_but_not_twice() {
        let mut credit = ProducerCredit::new(100);
        assert_eq!(credit.receive(99), Ok(()));
        assert_eq!(credit.receive(500), Ok(()));
        assert_eq!(credit.receive(1), Err(Overdraft));
        credit.settle(599, 100);
        assert_eq!(credit.receive(1), Ok(()));
    }

    #[test]
    fn record_credit_alone_stops_a_subscriber() {
        let mut credit = SubscriberCredit::new(Credit::new(1000));
        assert_eq!(credit.balance(), 1000);
        credit.raise(Credit::new(1000), Credit::new(2));
        credit.spend(10, 2);
        assert_eq!(credit.balance(), 0);
        credit.raise(Credit::new(0), Credit::new(3));
        assert_eq!(credit.balance(), 990);
    }

    #[test]
    fn a_connection_shares_its_budget_between_streams() {
        let connection = Budget::new(16 * MIB);
        let broker = Budget::new(1024 * MIB);
        let mut leases: Vec<_> = (0..33)
            .map(|_| Lease::open(&connection, &broker, 4 * MIB).expect("memory is left"))
            .collect();
        assert!(connection.promised.load(Ordering::Relaxed) <= 16 * MIB + 33 * WINDOW_BYTES_MIN);
        for lease in &mut leases {
            lease.resize();
        }
        let smallest = leases.iter_mut().map(|lease| lease.resize()).min();
        assert_eq!(smallest, Some(16 * MIB / 33));
        drop(leases);
        assert_eq!(connection.promised.load(Ordering::Relaxed), 0);
        assert_eq!(broker.promised.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_full_broker_grants_less_and_then_nothing() {
        let broker = Budget::new(4 * MIB);
        let connection = Budget::new(16 * MIB);
        let first = Lease::open(&connection, &broker, 4 * MIB).expect("memory is left");
        assert_eq!(first.window(), MIB / 2);
        let mut leases = vec![first];
        while let Some(lease) = Lease::open(&Budget::new(16 * MIB), &broker, 4 * MIB) {
            leases.push(lease);
        }
        assert!(broker.promised.load(Ordering::Relaxed) <= 4 * MIB);
        drop(leases);
        assert!(Lease::open(&connection, &broker, 4 * MIB).is_some());
    }

    proptest! {
        #[test]
        fn grants_never_shrink_and_outstanding_bytes_stay_bounded(
            frames in proptest::collection::vec((1_u64..300, any::<bool>(), 50_u64..200), 1..200),
        ) {
            let mut credit = ProducerCredit::new(200);
            let mut waiting = 0_u64;
            let mut last = credit.granted();
            for (bytes, settle, window) in frames {
                if credit.receive(bytes).is_ok() {
                    waiting += bytes;
                }
                prop_assert!(waiting < 200 + 300);
                if settle {
                    credit.settle(waiting, window);
                    waiting = 0;
                }
                prop_assert!(credit.granted() >= last);
                last = credit.granted();
            }
        }
    }
}
