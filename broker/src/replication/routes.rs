//! Which broker holds which replica: as told, and as learned from what replicas say.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use quorate_protocol::{BrokerId, GroupId, PeerMessage, ReplicaId};

/// Replicas learned per group: more than that many strangers have nothing to say.
const LEARNED_MAX: usize = 16;

/// The replicas of one group.
#[derive(Debug, Default)]
struct Holders {
    told: Vec<(ReplicaId, BrokerId)>,
    /// Of replicas nobody told us about yet.
    learned: Vec<(ReplicaId, BrokerId)>,
}

/// The replicas of all open groups.
#[derive(Debug, Default)]
pub(super) struct Routes(Mutex<BTreeMap<GroupId, Holders>>);

impl Routes {
    /// A group is here, and its replicas live there.
    pub(super) fn set(&self, group: GroupId, holders: Vec<(ReplicaId, BrokerId)>) {
        self.0.lock().entry(group).or_default().tell(holders);
    }

    /// The replicas of a group live elsewhere; nothing if the group is not here.
    pub(super) fn update(&self, group: GroupId, holders: Vec<(ReplicaId, BrokerId)>) {
        if let Some(known) = self.0.lock().get_mut(&group) {
            known.tell(holders);
        }
    }

    /// A group is not here any more.
    pub(super) fn forget(&self, group: GroupId) {
        self.0.lock().remove(&group);
    }

    /// The broker that holds a replica.
    pub(super) fn broker_of(&self, group: GroupId, replica: ReplicaId) -> Option<BrokerId> {
        self.0.lock().get(&group)?.find(replica)
    }

    /// Keeps what a broker may say: for a replica that lives there, of a group that is here. A
    /// replica that was never heard of lives where it spoke from.
    pub(super) fn screen(&self, from: BrokerId, messages: &mut Vec<PeerMessage>) {
        let mut groups = self.0.lock();
        messages.retain(|message| {
            let holders = groups.get_mut(&message.group);
            holders.is_some_and(|holders| holders.admit(message.from, from))
        });
    }

    /// All replicas on a broker.
    pub(super) fn on(&self, broker: BrokerId) -> Vec<(GroupId, ReplicaId)> {
        let groups = self.0.lock();
        let all = groups
            .iter()
            .flat_map(|(group, holders)| holders.all().map(|(replica, at)| (*group, replica, at)));
        all.filter(|(_, _, at)| *at == broker)
            .map(|(group, replica, _)| (group, replica))
            .collect()
    }
}

impl Holders {
    fn tell(&mut self, told: Vec<(ReplicaId, BrokerId)>) {
        self.learned
            .retain(|(replica, _)| !told.iter().any(|(known, _)| known == replica));
        self.told = told;
    }

    fn admit(&mut self, replica: ReplicaId, broker: BrokerId) -> bool {
        if let Some(known) = self.find(replica) {
            return known == broker;
        }
        let room = self.learned.len() < LEARNED_MAX;
        if room {
            self.learned.push((replica, broker));
        }
        room
    }

    fn all(&self) -> impl Iterator<Item = (ReplicaId, BrokerId)> {
        self.told.iter().chain(&self.learned).copied()
    }

    fn find(&self, replica: ReplicaId) -> Option<BrokerId> {
        self.all()
            .find(|(held, _)| *held == replica)
            .map(|(_, broker)| broker)
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::{GroupTag, PeerBody, Term};

    use super::*;

    const GROUP: GroupId = GroupId::new(3);

    fn at(replica: u64, broker: u16) -> (ReplicaId, BrokerId) {
        (ReplicaId::new(replica), BrokerId::new(broker))
    }

    fn admits(routes: &Routes, replica: ReplicaId, broker: BrokerId) -> bool {
        let mut messages = vec![PeerMessage {
            group: GROUP,
            tag: GroupTag::new(1),
            from: replica,
            to: ReplicaId::new(1),
            term: Term::new(1),
            body: PeerBody::TimeoutNow,
        }];
        routes.screen(broker, &mut messages);
        !messages.is_empty()
    }

    #[test]
    fn a_new_replica_is_found_where_it_spoke_from_until_it_is_told() {
        let routes = Routes::default();
        let (replica, broker) = at(9, 4);
        assert!(!admits(&routes, replica, broker), "no such group yet");
        routes.set(GROUP, vec![at(1, 1), at(2, 2)]);
        assert_eq!(routes.broker_of(GROUP, replica), None);
        assert!(admits(&routes, replica, broker));
        assert_eq!(routes.broker_of(GROUP, replica), Some(broker));
        assert!(
            !admits(&routes, replica, BrokerId::new(5)),
            "a replica lives on one broker"
        );
        assert!(!admits(&routes, ReplicaId::new(1), BrokerId::new(2)));
        routes.update(GROUP, vec![at(1, 1), at(9, 7)]);
        assert_eq!(routes.broker_of(GROUP, replica), Some(BrokerId::new(7)));
        assert_eq!(
            routes.on(BrokerId::new(7)),
            [(GROUP, replica)],
            "told comes first"
        );
        routes.forget(GROUP);
        assert_eq!(routes.broker_of(GROUP, replica), None);
    }

    #[test]
    fn strangers_are_learned_within_a_bound() {
        let routes = Routes::default();
        routes.set(GROUP, Vec::new());
        let admitted = (1..100).filter(|id| {
            let (replica, broker) = at(*id, 3);
            admits(&routes, replica, broker)
        });
        assert_eq!(admitted.count(), LEARNED_MAX);
    }
}
