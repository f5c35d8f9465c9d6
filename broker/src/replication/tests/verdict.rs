//! The last judgement: when all is healed, logs, states and outcomes agree.

use std::collections::{BTreeMap, BTreeSet};

use quorate_protocol::Offset;
use quorate_storage::EntryKind;

use crate::replication::tests::sim::{Fate, Sim};
use crate::replication::tests::world::replica;

impl Sim {
    /// Heals until all members hold the same, applied log; then compares it.
    pub(super) fn converge(&mut self) {
        self.unruly = false;
        (self.lonely, self.silent) = (false, None);
        for _ in 0..300 {
            self.round();
            if self.settled() {
                assert!(self.readers.is_empty(), "a reader waits for ever");
                return self.compare();
            }
        }
        let all: Vec<_> = self
            .nodes
            .values()
            .map(|node| (node.id, node.glance()))
            .collect();
        panic!("no convergence: {all:#?}");
    }

    fn members(&self) -> Vec<u64> {
        let Some(glance) = self
            .leader()
            .and_then(|leader| self.nodes[&leader].glance())
        else {
            return Vec::new();
        };
        let all = glance.membership;
        let all = [all.voters, all.outgoing, all.learners].concat();
        let up = all
            .into_iter()
            .map(|id| id.get())
            .filter(|id| self.is_up(*id));
        up.filter(|id| self.stay_down != Some(*id)).collect()
    }

    fn settled(&self) -> bool {
        let members = self.members();
        let Some(glance) = self
            .leader()
            .and_then(|leader| self.nodes[&leader].glance())
        else {
            return false;
        };
        let done = |id: &u64| {
            let own = self.nodes[id].glance();
            own.is_some_and(|own| {
                (own.last, own.committed, own.applied, own.persisted)
                    == (glance.last, glance.last, glance.last, glance.last)
                    && own.writes == 0
            })
        };
        let planned = self.plan.is_none_or(|(dead, new)| {
            let voters = &glance.membership.voters;
            !glance.membership.joint()
                && voters.contains(&replica(new))
                && !voters.contains(&replica(dead))
        });
        glance.ready && planned && members.iter().all(done)
    }

    fn compare(&self) {
        let members = self.members();
        let states: BTreeSet<_> = members
            .iter()
            .map(|id| {
                let book = self.nodes[id].book().unwrap();
                (book.hash, book.count, book.applied)
            })
            .collect();
        assert_eq!(states.len(), 1, "states differ: {states:?}");
        let logs: Vec<_> = members.iter().map(|id| self.log(*id)).collect();
        let first = logs
            .iter()
            .filter_map(|log| log.keys().next())
            .max()
            .copied()
            .unwrap_or(0);
        for log in &logs {
            let common: Vec<_> = log.range(first..).collect();
            assert_eq!(
                common,
                logs[0].range(first..).collect::<Vec<_>>(),
                "logs differ"
            );
            self.check_fates(log);
        }
    }

    /// What was acknowledged is there, what was refused is not, nothing is there twice.
    fn check_fates(&self, log: &BTreeMap<u64, (EntryKind, Vec<u8>, u64, Offset)>) {
        let first = log.keys().next().copied().unwrap_or(u64::MAX);
        let mut numbers = BTreeSet::new();
        for (kind, _, number, _) in log.values() {
            if *kind == EntryKind::Data {
                assert!(numbers.insert(*number), "batch {number} is there twice");
                assert_ne!(
                    self.fates.get(number),
                    Some(&Fate::NotApplied),
                    "batch {number} was refused"
                );
            }
        }
        for (number, fate) in &self.fates {
            if let Fate::Applied(receipt) = fate {
                let index = receipt.index.get();
                let found = log.get(&index).map(|entry| (entry.3, entry.0, entry.2));
                let here = found.is_some_and(|(offset, kind, is)| {
                    offset == receipt.offset && (kind != EntryKind::Data || is == *number)
                });
                assert!(
                    index < first || here,
                    "acknowledged batch {number} is not at {index}"
                );
            }
        }
    }

    fn log(&self, id: u64) -> BTreeMap<u64, (EntryKind, Vec<u8>, u64, Offset)> {
        let life = self.nodes[&id].life.as_ref().unwrap();
        let mut out = BTreeMap::new();
        let (mut next, last) = (life.reader.first_index(), life.reader.last_index());
        while next <= last {
            for entry in life.reader.entries(next, last.next(), 1 << 20).unwrap() {
                next = entry.index.next();
                let batch = &entry.batch;
                let number = batch.base_sequence().get();
                let value = (
                    entry.kind,
                    batch.bytes().to_vec(),
                    number,
                    batch.base_offset(),
                );
                out.insert(entry.index.get(), value);
            }
        }
        out
    }
}
