//! Where the messages of other brokers come in: screened by sender, bounded in bytes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use quorate_protocol::{BrokerId, GroupId, PeerMessage, ReplicaId};
use tokio::sync::Notify;

use crate::peers::{Boxed, Inbound};
use crate::replication::inbox::Inbox;
use crate::replication::machine::StateMachine;
use crate::replication::routes::Routes;
use crate::replication::shard::event::In;
use crate::replication::wire;

/// Bytes of messages that may wait for the shard.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// The way in from other brokers.
pub(super) struct Gate<M: StateMachine> {
    inbox: Arc<Inbox<In<M>>>,
    routes: Arc<Routes>,
    room: Arc<Room>,
    lost: Mutex<BTreeSet<BrokerId>>,
}

/// Bytes of messages that the shard has not looked at.
#[derive(Debug, Default)]
struct Room {
    waiting: AtomicUsize,
    freed: Notify,
}

impl Room {
    fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Acquire) >= WAITING_BYTES_MAX
    }

    async fn wait(&self) {
        loop {
            let freed = self.freed.notified();
            if !self.is_full() {
                return;
            }
            freed.await;
        }
    }
}

impl<M: StateMachine> Gate<M> {
    pub(super) fn new(inbox: Arc<Inbox<In<M>>>, routes: Arc<Routes>) -> Self {
        Self {
            inbox,
            routes,
            room: Arc::default(),
            lost: Mutex::default(),
        }
    }

    /// Bytes that were delivered by now. To be asked before the messages are taken.
    pub(super) fn delivered(&self) -> usize {
        self.room.waiting.load(Ordering::Acquire)
    }

    /// So many delivered bytes were looked at.
    pub(super) fn release(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let before = self.room.waiting.fetch_sub(bytes, Ordering::AcqRel);
        if before >= WAITING_BYTES_MAX {
            self.room.freed.notify_waiters();
        }
    }

    /// The replicas that messages may not have reached since this was last asked.
    pub(super) fn take_lost(&self) -> Vec<(GroupId, ReplicaId)> {
        let brokers = std::mem::take(&mut *self.lost.lock());
        let replicas = brokers.into_iter().map(|broker| self.routes.on(broker));
        replicas.flatten().collect()
    }
}

impl<M: StateMachine> Inbound for Gate<M> {
    /// A message of a group that is not here, or of a replica that lives elsewhere, is dropped.
    fn deliver(&self, from: BrokerId, mut messages: Vec<PeerMessage>, bytes: usize) {
        self.routes.screen(from, &mut messages);
        let heard = messages.into_iter().filter_map(wire::inbound);
        self.inbox.put_all(heard.map(In::Peer));
        // Counted after they can be taken: what is given back is never more than what was taken.
        self.room.waiting.fetch_add(bytes, Ordering::AcqRel);
    }

    fn has_room(&self) -> Option<Boxed<()>> {
        if !self.room.is_full() {
            return None;
        }
        let room = Arc::clone(&self.room);
        Some(Box::pin(async move { room.wait().await }))
    }

    fn lost(&self, peer: BrokerId) {
        if self.lost.lock().insert(peer) {
            self.inbox.wake();
        }
    }
}

impl<M: StateMachine> std::fmt::Debug for Gate<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate")
            .field("waiting_bytes", &self.delivered())
            .finish_non_exhaustive()
    }
}
