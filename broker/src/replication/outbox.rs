//! What one batch of turns has to say to other brokers: handed over once per broker and lane.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use quorate_protocol::{BrokerId, GroupId, PeerMessage, ReplicaId};

use crate::peers;
use crate::peers::{Channel, Peers};
use crate::replication::message::{Lane, Message};
use crate::replication::routes::Routes;
use crate::replication::wire;

/// Carries messages to other brokers: in order per broker and lane, or not at all.
pub(super) trait Carrier: Debug + Send + Sync {
    /// Never waits. What cannot be carried is dropped, and the gate is told so.
    fn carry(&self, to: BrokerId, lane: Lane, messages: Vec<PeerMessage>);
}

impl Carrier for (Peers, Channel) {
    fn carry(&self, to: BrokerId, lane: Lane, messages: Vec<PeerMessage>) {
        let lane = match lane {
            Lane::Urgent => peers::Lane::Urgent,
            Lane::Append => peers::Lane::Append,
        };
        self.0.send(to, self.1, lane, messages);
    }
}

/// Messages that wait for the end of a batch of turns.
#[derive(Debug)]
pub(super) struct Outbox {
    /// None: nobody is ever reached.
    carrier: Option<Arc<dyn Carrier>>,
    routes: Arc<Routes>,
    waiting: BTreeMap<(BrokerId, Lane), Vec<PeerMessage>>,
    undeliverable: Vec<(GroupId, ReplicaId)>,
}

impl Outbox {
    pub(super) fn new(carrier: Option<Arc<dyn Carrier>>, routes: Arc<Routes>) -> Self {
        Self {
            carrier,
            routes,
            waiting: BTreeMap::new(),
            undeliverable: Vec::new(),
        }
    }

    /// Takes one message; its listener may be nowhere.
    pub(super) fn put(&mut self, message: Message) {
        let (group, to, lane) = (message.group, message.to, message.lane());
        let carried = self.carrier.as_ref();
        match carried.and_then(|_| self.routes.broker_of(group, to)) {
            Some(broker) => {
                let waiting = self.waiting.entry((broker, lane)).or_default();
                waiting.push(wire::outbound(message));
            }
            None => self.undeliverable.push((group, to)),
        }
    }

    /// Hands over what waits. The answer: who could not be found.
    pub(super) fn send(&mut self) -> Vec<(GroupId, ReplicaId)> {
        for ((broker, lane), messages) in &mut self.waiting {
            if let Some(carrier) = self.carrier.as_ref().filter(|_| !messages.is_empty()) {
                carrier.carry(*broker, *lane, std::mem::take(messages));
            }
        }
        std::mem::take(&mut self.undeliverable)
    }
}
