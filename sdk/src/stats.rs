//! What a client has done so far, in numbers.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Numbers of one client since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Messages sent to brokers, each counted once.
    pub messages_sent: u64,
    /// Batches sent, each counted once.
    pub batches_sent: u64,
    /// Batches sent again.
    pub batches_resent: u64,
    /// Messages with a receipt.
    pub messages_acked: u64,
    /// Receipts that name an earlier copy.
    pub duplicates: u64,
    /// Messages that ended in an error.
    pub messages_failed: u64,
    /// Bytes of batches sent.
    pub bytes_sent: u64,
    /// Records received by subscriptions and pages.
    pub records_received: u64,
    /// Bytes of batches received.
    pub bytes_received: u64,
    /// Messages accepted and not yet answered take this many bytes.
    pub in_flight_bytes: u64,
}

macro_rules! counters {
    ($($name:ident),+) => {
        /// The running numbers.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)+
        }

        impl Counters {
            pub(crate) fn read(&self, in_flight_bytes: u64) -> Stats {
                Stats {
                    $($name: self.$name.read(),)+
                    in_flight_bytes,
                }
            }
        }
    };
}

counters!(
    messages_sent,
    batches_sent,
    batches_resent,
    messages_acked,
    duplicates,
    messages_failed,
    bytes_sent,
    records_received,
    bytes_received
);

/// One number; only ever counted up, once per batch.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
