//! What is known of the brokers at this moment, and who of a group can take over.

use std::collections::BTreeSet;
use std::fmt::Debug;

use quorate_protocol::BrokerId;
use quorate_protocol::GroupId;
use quorate_protocol::ReplicaId;

use crate::metadata::topology::Topology;
use crate::partition::Members;
use crate::replication::Inspection;

/// How the brokers are. Nothing here is certain: safety never rests on it.
pub(in crate::metadata) trait Outlook: Debug + Send + Sync {
    /// Brokers that answer, this one included.
    fn up(&self) -> BTreeSet<BrokerId>;

    /// Brokers that are about to stop.
    fn stopping(&self) -> BTreeSet<BrokerId>;

    /// Whether all others refuse this broker.
    fn is_outcast(&self) -> bool;

    /// Who leads a group, as last heard.
    fn leader_of(&self, group: GroupId) -> Option<BrokerId>;
}

/// Brokers that may be asked to lead.
pub(in crate::metadata) fn able(topology: &Topology, outlook: &dyn Outlook) -> BTreeSet<BrokerId> {
    let (mut able, stopping) = (outlook.up(), outlook.stopping());
    able.retain(|id| {
        let known = topology.brokers.get(id);
        known.is_some_and(|broker| broker.may_lead()) && !stopping.contains(id)
    });
    able
}

/// The voter that can take over soonest: the most caught-up, and of equals the most preferred.
pub(in crate::metadata) fn successor(
    now: &Inspection,
    own: ReplicaId,
    members: &Members,
    able: &BTreeSet<BrokerId>,
    tried: &BTreeSet<ReplicaId>,
) -> Option<ReplicaId> {
    let candidates = members.holders().filter(|(replica, broker)| {
        *replica != own
            && now.membership.voters.contains(replica)
            && able.contains(broker)
            && !tried.contains(replica)
    });
    let reached = candidates.filter_map(|(replica, _)| {
        let mut progress = now.progress.iter();
        let known = progress.find(|member| member.replica == replica)?;
        (known.active && !known.snapshot).then_some((known.matched, replica))
    });
    // Of equals the last one wins, so the order of preference is turned.
    let reached: Vec<_> = reached.collect();
    let best = reached.iter().rev().max_by_key(|(matched, _)| *matched);
    best.map(|(_, replica)| *replica)
}

#[cfg(test)]
mod tests {
    use quorate_protocol::LogIndex;
    use quorate_protocol::Term;

    use super::*;
    use crate::replication::Membership;
    use crate::replication::Progress;
    use crate::replication::Role;

    fn choose(matched: &[(u64, bool)], able: &[u16], tried: &[u64]) -> Option<u64> {
        let ids: Vec<_> = (1..).take(matched.len()).collect();
        let replicas: Vec<_> = ids.iter().copied().map(ReplicaId::new).collect();
        let progress = replicas
            .iter()
            .zip(matched)
            .map(|(replica, (matched, active))| Progress {
                replica: *replica,
                matched: LogIndex::new(*matched),
                active: *active,
                snapshot: false,
            });
        let now = Inspection {
            role: Role::Leader,
            term: Term::new(2),
            ready: true,
            last: LogIndex::new(100),
            commit: LogIndex::new(90),
            applied: LogIndex::new(90),
            membership: Membership::of(&replicas),
            progress: progress.collect(),
        };
        let holders = (1u16..).map(BrokerId::new).zip(replicas.iter().copied());
        let chosen = successor(
            &now,
            ReplicaId::new(1),
            &Members::new(holders.collect()),
            &able.iter().copied().map(BrokerId::new).collect(),
            &tried.iter().copied().map(ReplicaId::new).collect(),
        );
        chosen.map(ReplicaId::get)
    }

    #[test]
    fn the_most_caught_up_voter_that_is_able_takes_over() {
        let three = [(100, true), (80, true), (90, true)];
        assert_eq!(choose(&three, &[1, 2, 3], &[]), Some(3));
        assert_eq!(choose(&three, &[1, 2], &[]), Some(2));
        assert_eq!(choose(&three, &[1, 2, 3], &[3]), Some(2));
        assert_eq!(
            choose(&[(100, true), (80, true), (90, false)], &[1, 2, 3], &[]),
            Some(2)
        );
        let equal = [(100, true), (90, true), (90, true)];
        assert_eq!(
            choose(&equal, &[1, 2, 3], &[]),
            Some(2),
            "the more preferred"
        );
        assert_eq!(choose(&[(100, true)], &[1], &[]), None);
    }
}
