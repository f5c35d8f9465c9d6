//! The next step that brings the members of one group to where they are wanted.
//!
//! Pure: it looks only at the members as applied and at how far they are, so whoever leads may take
//! it up at any point, any number of times. The voters wanted join before others leave.

use std::collections::BTreeSet;

use quorate_protocol::ReplicaId;

use crate::replication::Change;
use crate::replication::Membership;

/// Where the members of a group are to be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::metadata) struct Target {
    /// Who votes, the preferred leader first.
    pub(in crate::metadata) voters: Vec<ReplicaId>,
    /// Who only follows.
    pub(in crate::metadata) learners: Vec<ReplicaId>,
}

/// What a leader sees of its group.
#[derive(Debug)]
pub(in crate::metadata) struct Sight<'a> {
    /// The leader.
    pub(in crate::metadata) own: ReplicaId,
    /// The members as applied.
    pub(in crate::metadata) membership: &'a Membership,
    /// Those that keep up with the log.
    pub(in crate::metadata) keep_up: &'a BTreeSet<ReplicaId>,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::metadata) enum Step {
    /// The members are where they are wanted.
    Done,
    /// A joint change ends by itself, or a learner is still behind.
    Wait,
    /// Change the members so; the leader stays a voter.
    Change(Vec<Change>),
    /// Somebody who stays has to lead first.
    Transfer(ReplicaId),
}

/// The next step towards `target`.
pub(in crate::metadata) fn next_step(target: &Target, sight: &Sight<'_>) -> Step {
    let members = sight.membership;
    if members.joint() {
        return Step::Wait;
    }
    if let Some(missing) = missing(target, members) {
        return Step::Change(vec![Change::Learner(missing)]);
    }
    let behind =
        |voter: &&ReplicaId| !members.voters.contains(voter) && !sight.keep_up.contains(voter);
    if target.voters.iter().any(|voter| behind(&voter)) {
        return Step::Wait;
    }
    let leader_stays = target.voters.contains(&sight.own);
    if !leader_stays && let Some(next) = successor(target, sight) {
        return Step::Transfer(next);
    }
    let changes = remaining(target, members, sight.own);
    if !changes.is_empty() {
        return Step::Change(changes);
    }
    // A leader that does not stay has made all others voters, and none of them keeps up now.
    if leader_stays { Step::Done } else { Step::Wait }
}

/// The first that is wanted and no member yet.
fn missing(target: &Target, members: &Membership) -> Option<ReplicaId> {
    let wanted = target.voters.iter().chain(&target.learners);
    wanted
        .copied()
        .find(|id| !members.voters.contains(id) && !members.learners.contains(id))
}

/// Who leads instead of one that goes: a voter that stays.
fn successor(target: &Target, sight: &Sight<'_>) -> Option<ReplicaId> {
    let voters = &sight.membership.voters;
    target
        .voters
        .iter()
        .copied()
        .find(|id| voters.contains(id) && sight.keep_up.contains(id))
}

/// All that differs, but for the leader's own place.
fn remaining(target: &Target, members: &Membership, own: ReplicaId) -> Vec<Change> {
    let promoted = target
        .voters
        .iter()
        .filter(|id| !members.voters.contains(id));
    let demoted = target
        .learners
        .iter()
        .filter(|id| **id != own && members.voters.contains(id));
    let removed =
        members.voters.iter().chain(&members.learners).filter(|id| {
            **id != own && !target.voters.contains(id) && !target.learners.contains(id)
        });
    promoted
        .map(|id| Change::Voter(*id))
        .chain(demoted.map(|id| Change::Learner(*id)))
        .chain(removed.map(|id| Change::Remove(*id)))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(raw: &[u64]) -> Vec<ReplicaId> {
        raw.iter().copied().map(ReplicaId::new).collect()
    }

    fn to(voters: &[u64]) -> Target {
        Target {
            voters: ids(voters),
            learners: Vec::new(),
        }
    }

    fn members(voters: &[u64], learners: &[u64]) -> Membership {
        Membership {
            learners: ids(learners),
            ..Membership::of(&ids(voters))
        }
    }

    fn step(target: &Target, membership: &Membership, own: u64, keep_up: &[u64]) -> Step {
        next_step(
            target,
            &Sight {
                own: ReplicaId::new(own),
                membership,
                keep_up: &ids(keep_up).into_iter().collect(),
            },
        )
    }

    #[test]
    fn a_newcomer_learns_before_it_votes_and_the_old_leaves_in_the_same_change() {
        let target = to(&[1, 2, 4]);
        let learner = Step::Change(vec![Change::Learner(ReplicaId::new(4))]);
        assert_eq!(
            step(&target, &members(&[1, 2, 3], &[]), 1, &[1, 2, 3]),
            learner
        );
        let learning = members(&[1, 2, 3], &[4]);
        assert_eq!(step(&target, &learning, 1, &[1, 2, 3]), Step::Wait);
        let both = vec![
            Change::Voter(ReplicaId::new(4)),
            Change::Remove(ReplicaId::new(3)),
        ];
        assert_eq!(
            step(&target, &learning, 1, &[1, 2, 3, 4]),
            Step::Change(both)
        );
        assert_eq!(
            step(&target, &members(&[1, 2, 4], &[]), 1, &[1]),
            Step::Done
        );
    }

    #[test]
    fn a_leader_that_goes_hands_over_first() {
        let learning = members(&[1, 2, 3], &[4]);
        let next = step(&to(&[4, 2, 3]), &learning, 1, &[1, 2, 3, 4]);
        assert_eq!(next, Step::Transfer(ReplicaId::new(2)));
    }

    #[test]
    fn a_lonely_replica_moves_by_way_of_two() {
        let target = to(&[2]);
        let promote = Step::Change(vec![Change::Voter(ReplicaId::new(2))]);
        assert_eq!(step(&target, &members(&[1], &[2]), 1, &[1, 2]), promote);
        let two = members(&[1, 2], &[]);
        assert_eq!(
            step(&target, &two, 1, &[1, 2]),
            Step::Transfer(ReplicaId::new(2))
        );
        let remove = Step::Change(vec![Change::Remove(ReplicaId::new(1))]);
        assert_eq!(step(&target, &two, 2, &[2]), remove);
    }

    #[test]
    fn a_joint_change_is_left_alone() {
        let joint = Membership {
            outgoing: ids(&[1, 2, 3]),
            ..members(&[1, 2, 4], &[])
        };
        assert_eq!(step(&to(&[1, 2, 5]), &joint, 1, &[]), Step::Wait);
    }

    /// Applies a step as the engine would, and picks the leader after it.
    fn apply(step: &Step, members: &mut Membership, leader: &mut u64) {
        match step {
            Step::Done | Step::Wait => {}
            Step::Transfer(next) => {
                assert!(members.voters.contains(next), "only a voter leads");
                *leader = next.get();
            }
            Step::Change(changes) => {
                for change in changes {
                    let id = change.replica();
                    members.voters.retain(|voter| *voter != id);
                    members.learners.retain(|learner| *learner != id);
                    match change {
                        Change::Voter(_) => members.voters.push(id),
                        Change::Learner(_) => members.learners.push(id),
                        Change::Remove(_) => {}
                    }
                }
            }
        }
    }

    proptest! {
        /// Leaders change and plans are replaced at any point; still it ends, never with fewer
        /// voters than were there or are wanted, and nobody votes who did not learn first.
        #[test]
        fn any_plan_ends_whoever_carries_it_out(
            start in 1u64..6,
            wanted in proptest::collection::btree_set(1u64..12, 1..6),
            revised in proptest::option::of(proptest::collection::btree_set(1u64..12, 1..6)),
            elections in proptest::collection::vec((0usize..40, 0usize..8), 0..6),
            revise_at in 0usize..10,
        ) {
            let mut membership = members(&(1..=start).collect::<Vec<_>>(), &[]);
            let mut target = to(&wanted.iter().copied().collect::<Vec<_>>());
            let mut leader = 1;
            let mut fewest = membership.voters.len().min(target.voters.len());
            let mut done = false;
            for round in 0..60 {
                if round == revise_at && let Some(revised) = &revised {
                    target = to(&revised.iter().copied().collect::<Vec<_>>());
                    fewest = fewest.min(target.voters.len());
                }
                for (at, pick) in &elections {
                    if *at == round {
                        leader = membership.voters[pick % membership.voters.len()].get();
                    }
                }
                let all: Vec<_> = membership.voters.iter().chain(&membership.learners).map(|id| id.get()).collect();
                let before = membership.clone();
                let next = step(&target, &membership, leader, &all);
                apply(&next, &mut membership, &mut leader);
                prop_assert!(membership.voters.contains(&ReplicaId::new(leader)), "the leader votes");
                prop_assert!(membership.voters.len() >= fewest, "{before:?} -> {membership:?}");
                for voter in &membership.voters {
                    prop_assert!(before.voters.contains(voter) || before.learners.contains(voter));
                }
                done = next == Step::Done;
            }
            prop_assert!(done, "{membership:?} for {target:?}");
            let voters: BTreeSet<_> = membership.voters.iter().copied().collect();
            prop_assert_eq!(voters, target.voters.iter().copied().collect::<BTreeSet<_>>());
            prop_assert!(membership.learners.is_empty());
        }
    }
}
