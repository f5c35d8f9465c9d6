//! Readers that must not be told anything stale, and answers that come before the commit.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use crate::replication::shard::event::In;
use crate::replication::tests::book::{Ask, GROUP};
use crate::replication::tests::sim::{Fate, Sim};
use crate::replication::tests::world::replica;
use crate::replication::ticket::{Answer, Failure};

impl Sim {
    fn committed_anywhere(&self) -> u64 {
        self.truth.keys().next_back().copied().unwrap_or(0)
    }

    /// Somebody reads at a member, which may think that it leads.
    pub(super) fn read(&mut self, id: u64) {
        let (answer, ticket) = Answer::new(Vec::new());
        self.readers.push((id, self.committed_anywhere(), ticket));
        let group = GROUP;
        self.feed(id, vec![In::Read { group, answer }]);
    }

    pub(super) fn read_somewhere(&mut self) {
        let ids = self.ids();
        let id = ids[self.rng.below(ids.len())];
        if self.is_up(id) {
            self.read(id);
        }
    }

    pub(super) fn write_early(&mut self) {
        for id in self.ids() {
            if self.nodes[&id].glance().is_some_and(|glance| glance.ready) {
                self.numbers += 1;
                let number = self.numbers;
                self.early.insert(number);
                self.ask(id, Ask::WriteEarly { number }, number);
            }
        }
    }

    /// Whoever may read sees all that was committed when it asked.
    pub(super) fn hear_readers(&mut self) {
        let mut waiting = Vec::new();
        for (id, committed, mut ticket) in std::mem::take(&mut self.readers) {
            let mut context = Context::from_waker(Waker::noop());
            match Pin::new(&mut ticket).poll(&mut context) {
                Poll::Pending => waiting.push((id, committed, ticket)),
                Poll::Ready(Err(_)) => {}
                Poll::Ready(Ok(())) => {
                    let applied = self.glance(id).applied.get();
                    assert!(
                        applied >= committed,
                        "{id} reads at {applied}, but {committed} was committed before"
                    );
                    self.stats.reads += 1;
                }
            }
        }
        self.readers = waiting;
    }
}

#[test]
fn one_question_serves_all_readers_of_a_turn() {
    let mut sim = Sim::new(1, &[1, 2, 3]);
    let leader = sim.elect();
    sim.converge();
    sim.propose(leader, 1, 10);
    let events = (0..50).map(|_| {
        let (answer, ticket) = Answer::new(Vec::new());
        (
            In::Read {
                group: GROUP,
                answer,
            },
            ticket,
        )
    });
    let (events, tickets): (Vec<_>, Vec<_>) = events.unzip();
    let committed = sim.glance(leader).committed.get();
    sim.readers.extend(
        tickets
            .into_iter()
            .map(|ticket| (leader, committed, ticket)),
    );
    sim.feed(leader, events);
    let said: usize = sim
        .full_lanes()
        .iter()
        .map(|lane| sim.lanes[lane].len())
        .sum();
    assert_eq!(said, 4, "an append and a question to each of two peers");
    sim.round();
    assert_eq!(sim.stats.reads, 50);
}

#[test]
fn a_deposed_leader_turns_its_readers_away() {
    let mut sim = Sim::new(1, &[1, 2, 3]);
    let old = sim.elect();
    sim.converge();
    sim.silent = Some(old);
    sim.read(old);
    assert_eq!(sim.readers.len(), 1, "nobody confirms it");
    for _ in 0..60 {
        sim.round();
    }
    assert_eq!((sim.readers.len(), sim.stats.reads), (0, 0));
    sim.converge();
}

#[test]
fn a_reader_waits_for_a_new_leader_to_be_ready() {
    let mut sim = Sim::new(1, &[1]);
    sim.work_all(1);
    sim.propose(1, 1, 10);
    sim.work_all(1);
    sim.crash(1);
    sim.restart(1);
    assert!(!sim.glance(1).ready);
    sim.read(1);
    assert_eq!(sim.readers.len(), 1);
    sim.work_all(1);
    assert_eq!((sim.readers.len(), sim.stats.reads), (0, 1));
}

#[test]
fn an_early_answer_waits_for_no_disk_and_may_be_lost() {
    let mut sim = Sim::new(1, &[1, 2, 3]);
    let leader = sim.elect();
    sim.converge();
    let last = sim.glance(leader).last;
    sim.write_early();
    assert_eq!(sim.stats.early, 1, "nobody else and no disk was asked");
    assert_eq!(sim.glance(leader).last, last.next());
    sim.cut(leader, leader % 3 + 1);
    sim.cut(leader, (leader + 1) % 3 + 1);
    sim.crash(leader);
    sim.stay_down = Some(leader);
    let next = sim.elect();
    assert_eq!(sim.outcome(sim.number()), Some(Fate::Unknown));
    let digests = &sim.nodes[&next].book().unwrap().digests;
    assert!(digests.len() as u64 <= sim.glance(next).applied.get());
    sim.stay_down = None;
    sim.converge();
}

#[test]
fn what_waited_for_a_transfer_keeps_its_order() {
    let mut sim = Sim::new(1, &[1, 2, 3]);
    let leader = sim.elect();
    sim.converge();
    let gone = leader % 3 + 1;
    sim.crash(gone);
    sim.stay_down = Some(gone);
    let to = replica(gone);
    sim.feed(leader, vec![In::Transfer { group: GROUP, to }]);
    let first = sim.number() + 1;
    for _ in 0..5 {
        sim.propose(leader, 2, 30);
    }
    for _ in 0..30 {
        sim.round();
    }
    let index = |number| match sim.outcome(number) {
        Some(Fate::Applied(receipt)) => receipt.index,
        other => panic!("batch {number}: {other:?}"),
    };
    let indexes: Vec<_> = (first..first + 10).map(index).collect();
    assert!(indexes.is_sorted(), "{indexes:?}");
    sim.stay_down = None;
    sim.converge();
    // One that succeeds says who leads now.
    let next = leader % 3 + 1;
    let to = replica(next);
    sim.feed(leader, vec![In::Transfer { group: GROUP, to }]);
    let (answer, mut ticket) = Answer::new(Vec::new());
    let proposal = Ask::WriteAtApply { number: 9999 };
    let group = GROUP;
    sim.feed(
        leader,
        vec![In::Propose {
            group,
            proposal,
            answer,
        }],
    );
    sim.converge();
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(Err(Failure::NotLeader { leader, .. })) =
        Pin::new(&mut ticket).poll(&mut context)
    else {
        panic!("what waited was not appended");
    };
    assert_eq!(leader, Some(replica(next)));
}
