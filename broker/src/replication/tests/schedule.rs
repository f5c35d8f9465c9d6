//! The scheduler: random steps, rounds without faults, and the errands of an operator.

use std::collections::VecDeque;

use quorate_storage::Lane as Work;

use crate::replication::message::Lane;
use crate::replication::shard::event::In;
use crate::replication::shard::membership::Change;
use crate::replication::tests::book::{Ask, GROUP};
use crate::replication::tests::sim::Sim;
use crate::replication::tests::world::{Node, replica};
use crate::replication::ticket::Answer;

impl Sim {
    /// The leader proposes to trim up to the end of a segment whose successor is applied.
    pub(super) fn trim(&mut self, id: u64) {
        let busy = self
            .installs
            .iter()
            .any(|(_, install)| install.from.get() == id);
        let Some(glance) = self.nodes[&id]
            .glance()
            .filter(|glance| glance.ready && !busy)
        else {
            return;
        };
        let Some(life) = self.nodes[&id].life.as_ref() else {
            return;
        };
        let segments = life.reader.segments();
        let ends = segments
            .iter()
            .filter(|s| s.sealed && s.last_index < glance.applied);
        let points: Vec<_> = ends.map(|segment| segment.last_index).collect();
        if points.is_empty() {
            return;
        }
        let point = points[self.rng.below(points.len())];
        self.numbers += 1;
        self.stats.trims += 1;
        self.ask(id, Ask::Trim(point), self.numbers);
    }

    /// Learner, then one joint change, which the leader leaves by itself.
    pub(super) fn follow_plan(&mut self, id: u64) {
        let Some((dead, new)) = self.plan else { return };
        let Some(glance) = self.nodes[&id].glance().filter(|glance| glance.ready) else {
            return;
        };
        let members = &glance.membership;
        let (gone, come) = (replica(dead), replica(new));
        if members.joint() || members.voters.contains(&come) && !members.voters.contains(&gone) {
            return;
        }
        let near = self.nodes[&new]
            .shadow
            .terms
            .keys()
            .last()
            .is_some_and(|last| last + 8 > glance.committed.get());
        let changes = if !members.learners.contains(&come) {
            vec![Change::Learner(come)]
        } else if near {
            vec![Change::Voter(come), Change::Remove(gone)]
        } else {
            return;
        };
        let (answer, _) = Answer::new(Vec::new());
        self.feed(
            id,
            vec![In::Change {
                group: GROUP,
                changes,
                answer,
            }],
        );
    }

    /// A disk is gone for good; the new replica starts from the group's first checkpoint.
    pub(super) fn replace(&mut self, dead: u64, new: u64) {
        let voters = self.ids();
        self.crash(dead);
        self.stay_down = Some(dead);
        self.nodes
            .insert(new, Node::new(new, &voters, self.tail_bytes_max));
        self.restart(new);
        self.plan = Some((dead, new));
        self.stats.replaced += 1;
    }

    pub(super) fn random_step(&mut self) {
        let ids = self.ids();
        let id = ids[self.rng.below(ids.len())];
        match self.rng.below(100) {
            0..16 => self.tick(id),
            16..60 => {
                let lanes = self.full_lanes();
                if !lanes.is_empty() {
                    let lane = lanes[self.rng.below(lanes.len())];
                    self.deliver(lane);
                }
            }
            60..74 => self.work(id, Work::Flush, false),
            74..78 => self.work(id, Work::Read, false),
            78..80 => self.work(id, Work::Background, false),
            80..87 => self.propose_everywhere(),
            87 => self.drop_one(),
            88 if self.is_up(id) && self.rng.one_in(2) => self.crash(id),
            88 if self.is_up(id) => self.hang_up(id),
            88..91 => self.restart(id),
            91 | 92 => {
                if let Some(leader) = self.leader() {
                    self.follow_plan(leader);
                }
            }
            93 if self.transferring => self.transfer(),
            99 if self.lonely && self.rng.one_in(3) => {
                self.silent = (self.silent.is_none()).then_some(id);
            }
            96 | 97 if self.reading => self.read_somewhere(),
            98 if self.reading => self.write_early(),
            94 | 95 if self.trimming => self.trim(id),
            _ if !self.installs.is_empty() && self.rng.one_in(3) => {
                let at = self.rng.below(self.installs.len());
                self.install(at);
            }
            _ => {}
        }
    }

    fn propose_everywhere(&mut self) {
        let (count, len) = (1 + self.rng.below(3), self.rng.below(120));
        for id in self.ids() {
            if self.nodes[&id].glance().is_some_and(|glance| glance.ready) {
                self.propose(id, count, len);
            }
        }
    }

    /// A full lane drops what comes next and says so.
    fn drop_one(&mut self) {
        let lanes = self.full_lanes();
        if lanes.is_empty() {
            return;
        }
        let lane = lanes[self.rng.below(lanes.len())];
        if let Some(message) = self.lanes.get_mut(&lane).and_then(VecDeque::pop_back) {
            self.lost(&message);
        }
    }

    fn transfer(&mut self) {
        let ids = self.ids();
        let to = ids[self.rng.below(ids.len())];
        if let Some(leader) = self.leader().filter(|leader| *leader != to) {
            self.stats.transfers += 1;
            self.feed(
                leader,
                vec![In::Transfer {
                    group: GROUP,
                    to: replica(to),
                }],
            );
        }
    }

    /// One round without faults: a tick each, then all messages, writes, reads and installs.
    pub(super) fn round(&mut self) {
        for id in self.ids() {
            self.restart(id);
            self.tick(id);
        }
        for _ in 0..8 {
            for id in self.ids() {
                self.work_all(id);
            }
            while !self.installs.is_empty() {
                self.install(0);
            }
            for lane in self.full_lanes() {
                while self.lanes.get(&lane).is_some_and(|queue| !queue.is_empty()) {
                    self.deliver(lane);
                }
            }
        }
        if let Some(leader) = self.leader() {
            self.follow_plan(leader);
        }
    }

    /// Nothing passes between two members any more, until it is said again.
    pub(super) fn cut(&mut self, one: u64, other: u64) {
        let between = |from: u64, to: u64| (from, to) == (one, other) || (from, to) == (other, one);
        self.lanes.retain(|(from, to, _), _| !between(*from, *to));
    }

    /// A step towards `id` only: its disk does nothing, and what it says is heard late.
    pub(super) fn towards(&mut self, id: u64) {
        for other in self.ids() {
            if other != id {
                self.tick(other);
                self.work_all(other);
            }
        }
        for lane in [Lane::Urgent, Lane::Append] {
            for other in self.ids() {
                self.deliver((other, id, lane));
                self.deliver((id, other, lane));
            }
        }
    }

    /// As `round`, but transfers stay under way.
    pub(super) fn round_without_installs(&mut self) {
        let kept = std::mem::take(&mut self.installs);
        self.round();
        self.installs = kept;
    }
}
