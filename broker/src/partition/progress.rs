//! What a partition's readers and writers watch: high watermark, log start, leadership.
//!
//! Written by the replica's machine, read by any number of sessions; holds numbers, no records.

use std::sync::Arc;
use std::sync::OnceLock;

use quorate_protocol::Offset;
use quorate_protocol::ReplicaId;
use quorate_protocol::Term;
use tokio::sync::watch;

use crate::replication::Role;

/// The part a replica plays in its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    /// Its role.
    pub role: Role,
    /// The term of that role.
    pub term: Term,
    /// A leader that has applied its own term's first entry: it accepts batches.
    pub ready: bool,
    /// Who leads, as far as this replica knows.
    pub leader: Option<ReplicaId>,
}

impl Leadership {
    /// Whether it is known who serves the partition, and that replica is ready if it is this one.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.ready || (self.role == Role::Follower && self.leader.is_some())
    }
}

/// The sending halves of a partition's watches.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Of all partitions together: how often any of them changed its leadership.
    leaderships: Arc<watch::Sender<u64>>,
    /// What is wrong with the stored records, once something is.
    damage: OnceLock<String>,
    high_watermark: watch::Sender<Offset>,
    log_start: watch::Sender<Offset>,
    leadership: watch::Sender<Leadership>,
}

impl Progress {
    pub(crate) fn new(leaderships: Arc<watch::Sender<u64>>) -> Self {
        let leadership = Leadership {
            role: Role::Follower,
            term: Term::new(0),
            ready: false,
            leader: None,
        };
        Self {
            leaderships,
            damage: OnceLock::new(),
            high_watermark: watch::Sender::new(Offset::ZERO),
            log_start: watch::Sender::new(Offset::ZERO),
            leadership: watch::Sender::new(leadership),
        }
    }

    pub(crate) fn moved(&self, high_watermark: Offset, log_start: Offset) {
        replace(&self.log_start, log_start);
        replace(&self.high_watermark, high_watermark);
    }

    pub(crate) fn led_by(&self, leadership: Leadership) {
        if replace(&self.leadership, leadership) {
            self.leaderships
                .send_modify(|changes| *changes = changes.wrapping_add(1));
        }
    }

    /// True: it was not known to be damaged.
    pub(crate) fn note_damage(&self, why: String) -> bool {
        self.damage.set(why).is_ok()
    }

    pub(crate) fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    pub(crate) fn high_watermark(&self) -> watch::Receiver<Offset> {
        self.high_watermark.subscribe()
    }

    pub(crate) fn log_start(&self) -> watch::Receiver<Offset> {
        self.log_start.subscribe()
    }

    pub(crate) fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    pub(crate) fn is_led(&self) -> bool {
        self.leadership.borrow().ready
    }

    /// Log start and high watermark of one moment.
    pub(crate) fn range(&self) -> (Offset, Offset) {
        // The end is read last: it never lies before a start that was read earlier.
        let start = *self.log_start.borrow();
        (start, *self.high_watermark.borrow())
    }
}

/// True: it was another value before.
fn replace<T: PartialEq>(watch: &watch::Sender<T>, value: T) -> bool {
    watch.send_if_modified(|current| {
        let changed = *current != value;
        *current = value;
        changed
    })
}
