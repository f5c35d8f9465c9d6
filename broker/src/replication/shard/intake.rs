//! Which input goes where.

use quorate_protocol::{GroupId, HybridTime};

use crate::replication::inspect::Inspection;
use crate::replication::machine::StateMachine;
use crate::replication::shard::event::{Act, In};
use crate::replication::shard::replica::Replica;
use crate::replication::shard::{Halt, Shard};
use crate::replication::ticket::{Answer, Failure};

impl<M: StateMachine> Shard<M> {
    /// What somebody asks for.
    pub(super) fn take(&mut self, event: In<M>, now: HybridTime, out: &mut Vec<Act<M>>) {
        match event {
            In::Open(opening) => self.open(*opening, out),
            In::Close(group) => self.close(group, out),
            In::Propose {
                group,
                proposal,
                answer,
            } => {
                if let Some(answer) = self.present(group, answer) {
                    self.drive(group, out, |replica, _| {
                        replica.offer(proposal, answer);
                        Ok(())
                    });
                }
            }
            In::Change {
                group,
                changes,
                answer,
            } => {
                if let Some(answer) = self.present(group, answer) {
                    self.drive(group, out, |replica, out| {
                        replica.change(&changes, answer, now, out)
                    });
                }
            }
            In::Transfer { group, to } => self.drive(group, out, |replica, _| replica.transfer(to)),
            In::Campaign(group) => self.drive(group, out, |replica, _| replica.campaign()),
            In::Read { group, answer } => {
                if let Some(answer) = self.present(group, answer) {
                    self.drive(group, out, |replica, _| {
                        replica.offer_read(answer);
                        Ok(())
                    });
                }
            }
            // Nobody may be waiting any more.
            In::Inspect { group, tell } => {
                drop(tell.send(self.groups.get(&group).map(Replica::inspect)));
            }
            In::InspectLed(tell) => drop(tell.send(self.inspect_led())),
            event => self.take_completion(event, out),
        }
    }

    /// What the disk has done. It counts for the opening that asked for it only.
    fn take_completion(&mut self, event: In<M>, out: &mut Vec<Act<M>>) {
        match event {
            In::Persisted {
                group,
                epoch,
                number,
            } => {
                self.complete(group, epoch, out, |replica, out| {
                    replica.persisted(number, out)
                });
            }
            In::Stalled { group, epoch } => {
                self.complete(group, epoch, out, |replica, _| replica.stalled());
            }
            In::Fetched {
                group,
                epoch,
                from,
                entries,
            } => {
                self.complete(group, epoch, out, |replica, out| {
                    replica.fetched(from, entries, out)
                });
            }
            In::Checkpointed {
                group,
                epoch,
                index,
            } => {
                self.complete(group, epoch, out, |replica, out| {
                    replica.checkpointed(index, out)
                });
            }
            event => self.take_news(event, out),
        }
    }

    /// What peers say, and what is known of them.
    fn take_news(&mut self, event: In<M>, out: &mut Vec<Act<M>>) {
        match event {
            // The leader sends them again once it hears that they are missing.
            In::Peer(message) if self.crowded && message.brings_entries() => {}
            In::Peer(message) => {
                self.drive(message.group, out, |replica, out| {
                    replica.hear(message, out)
                });
            }
            In::Unreachable { group, peer } => {
                self.drive(group, out, |replica, _| replica.unreachable(peer));
            }
            In::Lost(replicas) => {
                for (group, peer) in replicas {
                    if self.groups.get(&group).is_some_and(Replica::is_leader) {
                        self.drive(group, out, |replica, _| replica.lost(peer));
                    }
                }
            }
            In::SnapshotReport {
                group,
                peer,
                finished,
            } => {
                self.drive(group, out, |replica, _| {
                    replica.snapshot_report(peer, finished)
                });
            }
            In::Staged { install, staged } => self.staged(install, staged, out),
            In::Swapped { install, finished } => out.push(Act::SnapshotDone(install, finished)),
            In::Broken { group, halt } => self.halt(group, halt, out),
            _ => {}
        }
    }

    fn inspect_led(&self) -> Vec<(GroupId, Inspection)> {
        let led = self
            .groups
            .iter()
            .filter(|(_, replica)| replica.is_leader());
        led.map(|(group, replica)| (*group, replica.inspect()))
            .collect()
    }

    /// The answer back if the group is here; else it is settled.
    fn present<R>(&self, group: GroupId, answer: Answer<R>) -> Option<Answer<R>> {
        if self.groups.contains_key(&group) {
            return Some(answer);
        }
        let halted: Option<&Halt> = self.halted.get(&group);
        let failure = match self.aside.get(&group) {
            _ if halted.is_some() => Failure::Poisoned,
            Some(term) => Failure::NotLeader {
                leader: None,
                term: *term,
            },
            None => Failure::Closed,
        };
        answer.settle(Err(failure));
        None
    }
}
