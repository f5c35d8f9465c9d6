//! The outlook of a broker: what its connections and the others' reports say.

use std::collections::BTreeSet;

use quorate_protocol::BrokerId;
use quorate_protocol::GroupId;

use crate::metadata::colleagues::Colleagues;
use crate::metadata::leaders::Leaders;
use crate::metadata::plan::outlook::Outlook;
use crate::peers::Reach;

/// Sees the other brokers through their connections and reports.
#[derive(Debug)]
pub(in crate::metadata) struct Horizon {
    pub(in crate::metadata) colleagues: Colleagues,
    pub(in crate::metadata) leaders: Leaders,
}

impl Outlook for Horizon {
    fn up(&self) -> BTreeSet<BrokerId> {
        let mut up = BTreeSet::from([self.colleagues.me]);
        if let Some(peers) = &self.colleagues.peers {
            let states = peers.states();
            let states = states.borrow();
            let reached = states.iter().filter(|(_, peer)| peer.state == Reach::Up);
            up.extend(reached.map(|(id, _)| *id));
        }
        up
    }

    fn stopping(&self) -> BTreeSet<BrokerId> {
        let facts = self.leaders.facts().into_iter();
        let stopping = facts.filter(|(_, facts)| facts.draining);
        stopping.map(|(id, _)| id).collect()
    }

    fn is_outcast(&self) -> bool {
        self.colleagues.peers.as_ref().is_some_and(|peers| {
            let states = peers.states();
            let states = states.borrow();
            !states.is_empty() && states.values().all(|peer| peer.refused.is_some())
        })
    }

    fn leader_of(&self, group: GroupId) -> Option<BrokerId> {
        let known = self.leaders.leader_of(group);
        known.map(|(leader, _)| leader)
    }
}
