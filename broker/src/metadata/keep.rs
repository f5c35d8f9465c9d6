//! Who is to be in group 0: every broker a learner at least, and the right number of them voters.
//!
//! Pure: one step at a time, from what is to what should be.

use std::collections::BTreeMap;

use quorate_protocol::ReplicaId;

use crate::metadata::founding::voters_wanted;
use crate::replication::Change;
use crate::replication::Membership;

/// How a broker's replica of group 0 is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// It follows closely.
    Current,
    /// It is behind, or was not heard of for a while.
    Behind,
}

/// The next thing to do about the membership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// One change of the membership.
    Change(Vec<Change>),
    /// The leader has to go, so another voter must lead first.
    HandOver(ReplicaId),
}

/// The next step, if one is to be done. `wanted`: the replicas of all brokers of the cluster.
pub(super) fn next_step(
    now: &Membership,
    leader: ReplicaId,
    wanted: &BTreeMap<ReplicaId, Condition>,
) -> Option<Step> {
    if now.joint() || wanted.is_empty() {
        return None;
    }
    let is_member =
        |replica: &ReplicaId| now.voters.contains(replica) || now.learners.contains(replica);
    let stays = |replica: &&ReplicaId| wanted.contains_key(*replica);
    if let Some(missing) = wanted.keys().find(|replica| !is_member(replica)) {
        return Some(change(vec![Change::Learner(*missing)]));
    }
    if let Some(gone) = now.learners.iter().find(|replica| !stays(replica)) {
        return Some(change(vec![Change::Remove(*gone)]));
    }
    let remaining = now.voters.iter().filter(stays).count();
    let target = voters_wanted(wanted.len());
    let gone = now.voters.iter().find(|replica| !stays(replica));
    let current = |replica: &&ReplicaId| wanted.get(*replica) == Some(&Condition::Current);
    let next = now.learners.iter().find(current).copied();
    if gone == Some(&leader) {
        let heir = now.voters.iter().find(current).copied();
        let voter = || next.map(|next| change(vec![Change::Voter(next)]));
        return heir.map(Step::HandOver).or_else(voter);
    }
    if remaining < target {
        // A voter that goes is replaced in one step: the number of voters never falls meanwhile.
        let go = gone.copied().map(Change::Remove);
        let steps = [Some(Change::Voter(next?)), go];
        return Some(change(steps.into_iter().flatten().collect()));
    }
    if let Some(gone) = gone {
        return Some(change(vec![Change::Remove(*gone)]));
    }
    if remaining > target {
        let spare = now.voters.iter().rev().find(|voter| **voter != leader)?;
        return Some(change(vec![Change::Learner(*spare)]));
    }
    None
}

fn change(changes: Vec<Change>) -> Step {
    Step::Change(changes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(raw: &[u64]) -> Vec<ReplicaId> {
        raw.iter().copied().map(ReplicaId::new).collect()
    }

    fn members(voters: &[u64], learners: &[u64]) -> Membership {
        Membership {
            voters: ids(voters),
            learners: ids(learners),
            ..Membership::default()
        }
    }

    fn wanted(current: &[u64], behind: &[u64]) -> BTreeMap<ReplicaId, Condition> {
        let current = ids(current).into_iter().map(|id| (id, Condition::Current));
        let behind = ids(behind).into_iter().map(|id| (id, Condition::Behind));
        current.chain(behind).collect()
    }

    fn step(now: &Membership, wanted: &BTreeMap<ReplicaId, Condition>) -> Option<Step> {
        next_step(now, ReplicaId::new(1), wanted)
    }

    fn changes(changes: &[Change]) -> Option<Step> {
        Some(Step::Change(changes.to_vec()))
    }

    fn apply(now: &mut Membership, changes: &[Change]) {
        for change in changes {
            let (Change::Voter(id) | Change::Learner(id) | Change::Remove(id)) = *change;
            now.voters.retain(|held| *held != id);
            now.learners.retain(|held| *held != id);
            match change {
                Change::Voter(_) => now.voters.push(id),
                Change::Learner(_) => now.learners.push(id),
                Change::Remove(_) => {}
            }
        }
    }

    #[test]
    fn a_new_broker_learns_first_and_votes_once_it_is_current() {
        let one = members(&[1], &[]);
        let learn = changes(&[Change::Learner(ReplicaId::new(70_000))]);
        assert_eq!(step(&one, &wanted(&[1], &[70_000])), learn);
        let two = members(&[1], &[70_000]);
        assert_eq!(step(&two, &wanted(&[1], &[70_000])), None);
        let vote = changes(&[Change::Voter(ReplicaId::new(70_000))]);
        assert_eq!(step(&two, &wanted(&[1, 70_000], &[])), vote);
    }

    #[test]
    fn a_replaced_voter_goes_in_the_step_in_which_its_successor_votes() {
        let now = members(&[1, 2, 3], &[70_000]);
        assert_eq!(step(&now, &wanted(&[1, 2], &[70_000])), None);
        let swap = changes(&[
            Change::Voter(ReplicaId::new(70_000)),
            Change::Remove(ReplicaId::new(3)),
        ]);
        assert_eq!(step(&now, &wanted(&[1, 2, 70_000], &[])), swap);
    }

    #[test]
    fn a_leader_that_has_to_go_hands_over_first() {
        let now = members(&[1, 2, 3], &[4]);
        let wanted = wanted(&[3, 4], &[2]);
        assert_eq!(step(&now, &wanted), Some(Step::HandOver(ReplicaId::new(3))));
    }

    #[test]
    fn nothing_is_done_in_the_middle_of_a_change() {
        let mut now = members(&[1, 2], &[]);
        now.outgoing = ids(&[1]);
        assert_eq!(step(&now, &wanted(&[1, 2, 3], &[])), None);
    }

    proptest! {
        #[test]
        fn steps_come_to_an_end_where_they_should_and_never_leave_group_0_without_voters(
            voters in proptest::collection::btree_set(1u64..9, 1..6),
            learners in proptest::collection::btree_set(9u64..14, 0..4),
            brokers in proptest::collection::btree_set(1u64..14, 1..9),
        ) {
            let voters: Vec<_> = voters.into_iter().collect();
            let learners: Vec<_> = learners.into_iter().collect();
            let mut now = members(&voters, &learners);
            let brokers: Vec<_> = brokers.into_iter().collect();
            let wanted = wanted(&brokers, &[]);
            let mut leader = now.voters[0];
            let mut steps = 0;
            while let Some(step) = next_step(&now, leader, &wanted) {
                match step {
                    Step::Change(changes) => {
                        apply(&mut now, &changes);
                        prop_assert!(now.voters.contains(&leader));
                    }
                    Step::HandOver(to) => leader = to,
                }
                steps += 1;
                prop_assert!(steps < 60, "no end: {now:?}");
            }
            prop_assert_eq!(now.voters.len(), voters_wanted(wanted.len()), "{:?}", now);
            prop_assert_eq!(now.voters.len() + now.learners.len(), wanted.len());
            prop_assert!(now.voters.iter().all(|voter| wanted.contains_key(voter)));
        }
    }
}
