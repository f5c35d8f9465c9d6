//! Which members of a group keep up with its log: they reach within one round what was its end at
//! the beginning of it, a few rounds in a row.
//!
//! Unlike a distance in entries or bytes, that says the same about an idle log and a busy one.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use quorate_protocol::LogIndex;
use quorate_protocol::ReplicaId;

use crate::replication::Progress;

/// What is remembered of one group between two rounds.
#[derive(Debug, Default)]
pub(in crate::metadata) struct KeepUp {
    /// The end of the log at the last round.
    last: Option<LogIndex>,
    /// Rounds in a row.
    rounds: BTreeMap<ReplicaId, u32>,
}

impl KeepUp {
    /// Notes how far the members are at a round.
    pub(in crate::metadata) fn note(&mut self, last: LogIndex, progress: &[Progress]) {
        let goal = self.last.replace(last);
        let old = std::mem::take(&mut self.rounds);
        for member in progress {
            let kept_up = member.active
                && !member.snapshot
                && goal.is_some_and(|goal| member.matched >= goal);
            let before = old.get(&member.replica).copied().unwrap_or(0);
            let rounds = if kept_up { before.saturating_add(1) } else { 0 };
            self.rounds.insert(member.replica, rounds);
        }
    }

    /// Those that kept up for this many rounds at least.
    pub(in crate::metadata) fn since(&self, rounds: u32) -> BTreeSet<ReplicaId> {
        let long = self.rounds.iter().filter(|(_, kept)| **kept >= rounds);
        long.map(|(replica, _)| *replica).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(matched: u64, active: bool) -> Progress {
        Progress {
            replica: ReplicaId::new(4),
            matched: LogIndex::new(matched),
            active,
            snapshot: false,
        }
    }

    fn after(rounds: &[(u64, u64, bool)]) -> bool {
        let mut keep_up = KeepUp::default();
        for (last, matched, active) in rounds {
            keep_up.note(LogIndex::new(*last), &[at(*matched, *active)]);
        }
        !keep_up.since(2).is_empty()
    }

    #[test]
    fn keeping_up_is_reaching_the_end_of_the_round_before() {
        assert!(after(&[(100, 0, true), (200, 100, true), (300, 250, true)]));
        assert!(!after(&[(100, 0, true), (200, 99, true), (300, 250, true)]));
        assert!(!after(&[(100, 100, true), (100, 100, true)]), "too short");
        assert!(!after(&[(9, 9, true), (9, 9, true), (9, 9, false)]));
    }
}
