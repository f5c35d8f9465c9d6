//! Single facts that the design leans on.

use std::future::Future as _;
use std::task::{Context, Poll, Waker};

use quorate_protocol::{ControlRecord, LogIndex, Offset, Stamp, Term, control_batch};
use quorate_storage::{Entry, EntryKind};

use crate::replication::machine::Role;
use crate::replication::message::{Ballot, Body, Lane, Message};
use crate::replication::shard::Halt;
use crate::replication::shard::event::{Act, Epoch, In};
use crate::replication::shard::membership::Change;
use crate::replication::tests::book::{Ask, GROUP, time};
use crate::replication::tests::sim::{Fate, Sim};
use crate::replication::tests::world::{TAG, replica};
use crate::replication::ticket::{Answer, Failure};

fn message(from: u64, to: u64, term: u64, body: Body) -> Message {
    let (from, to, term) = (replica(from), replica(to), Term::new(term));
    Message {
        group: GROUP,
        tag: TAG,
        from,
        to,
        term,
        body,
    }
}

fn index(raw: u64) -> LogIndex {
    LogIndex::new(raw)
}

/// The replica ends, its files stay, whoever asks is told; a restart brings it back.
fn ends(sim: &mut Sim, id: u64, message: Message) -> bool {
    let node = sim.nodes.get_mut(&id).unwrap();
    let acts = node.turn(1000, vec![In::Peer(message)]);
    let ended = acts
        .iter()
        .any(|act| matches!(act, Act::Repair(group, _) if *group == GROUP));
    assert_eq!(ended, node.glance().is_none());
    ended
}

#[test]
fn a_sole_voter_leads_after_one_write_and_no_tick() {
    let mut sim = Sim::new(1, &[1]);
    assert_eq!(sim.glance(1).role, Role::Leader);
    assert_eq!(
        (sim.glance(1).committed, sim.glance(1).writes),
        (index(1), 1)
    );
    sim.work_all(1);
    let glance = sim.glance(1);
    assert!(glance.ready && glance.committed == index(2) && glance.applied == index(2));
    // Leading alone takes no ticks.
    assert!(!sim.nodes[&1].life.as_ref().unwrap().shard.needs_ticks());
}

#[test]
fn a_sole_voter_with_a_write_under_way_is_not_ticked() {
    let mut sim = Sim::new(1, &[1]);
    sim.work_all(1);
    sim.propose(1, 1, 10);
    // A stray message of a higher term deposes it while its write is under way.
    let stray = Body::Heartbeat {
        commit: index(1),
        question: 0,
    };
    sim.feed(1, vec![In::Peer(message(2, 1, 9, stray))]);
    assert_eq!(sim.glance(1).role, Role::Follower);
    for _ in 0..60 {
        sim.tick(1);
    }
    sim.work_all(1);
    for _ in 0..60 {
        sim.tick(1);
        sim.work_all(1);
    }
    assert!(sim.glance(1).ready);
    sim.lanes.clear();
    sim.converge();
}

#[test]
fn a_vote_survives_a_power_cut() {
    let ballot = |from| {
        let ballot = Ballot {
            pre: false,
            transfer: true,
            last: index(90),
            last_term: Term::new(8),
            commit: index(1),
            commit_term: Term::new(1),
        };
        message(from, 1, 9, Body::Vote(ballot))
    };
    let granted = |sim: &mut Sim, to: u64| {
        let said = sim.lanes.remove(&(1, to, Lane::Urgent)).unwrap_or_default();
        said.iter()
            .any(|said| matches!(said.body, Body::VoteReply { granted: true, .. }))
    };
    for seed in 0..20 {
        let mut sim = Sim::new(seed, &[1, 2, 3]);
        sim.feed(1, vec![In::Peer(ballot(2))]);
        assert!(
            !granted(&mut sim, 2),
            "nothing is said before it is durable"
        );
        sim.work_all(1);
        assert!(granted(&mut sim, 2));
        sim.crash(1);
        sim.restart(1);
        sim.feed(1, vec![In::Peer(ballot(3))]);
        sim.work_all(1);
        assert!(!granted(&mut sim, 3), "one vote per term");
        sim.feed(1, vec![In::Peer(ballot(2))]);
        sim.work_all(1);
        assert!(granted(&mut sim, 2), "the same vote again");
    }
}

#[test]
fn one_proposal_takes_one_write() {
    let mut sim = Sim::new(1, &[1]);
    sim.work_all(1);
    sim.propose(1, 3, 10);
    assert_eq!(
        sim.glance(1).writes,
        1,
        "three proposals of one turn are one write"
    );
    sim.work_all(1);
    assert!(matches!(sim.outcome(sim.number()), Some(Fate::Applied(_))));
    assert_eq!(sim.glance(1).writes, 0);
}

#[test]
fn a_leader_acknowledges_ahead_of_its_own_disk_and_applies_behind_it() {
    let mut sim = Sim::new(1, &[1, 2, 3]);
    let leader = sim.elect();
    let before = sim.glance(leader).committed;
    sim.propose(leader, 1, 16);
    for _ in 0..4 {
        for id in (1..4).filter(|id| *id != leader) {
            sim.deliver((leader, id, Lane::Append));
            sim.work_all(id);
            sim.deliver((id, leader, Lane::Append));
        }
    }
    let glance = sim.glance(leader);
    assert_eq!((glance.committed, glance.applied), (before.next(), before));
    assert!(matches!(sim.outcome(sim.number()), Some(Fate::Applied(_))));
    // Readers do not see what the own disk cannot give them.
    let told = sim.nodes[&leader].book().unwrap().told;
    assert_eq!((told.0, told.1.get()), (before.next(), 0));
    sim.converge();
}

#[test]
fn a_leader_that_counts_on_lost_entries_ends_the_replica() {
    let mut sim = Sim::new(1, &[1, 2, 3]);
    sim.elect();
    sim.converge();
    let past = Body::Heartbeat {
        commit: index(99),
        question: 0,
    };
    assert!(ends(&mut sim, 1, message(2, 1, 50, past)));
    sim.propose(1, 1, 1);
    let refused = sim.number();
    sim.crash(1);
    assert_eq!(sim.outcome(refused), Some(Fate::Unknown), "poisoned");
    sim.converge();
}

fn damaged(sim: &mut Sim, id: u64) {
    sim.doomed = Some(id);
    let entries = Err(Halt("a frame is damaged".into()));
    let (group, epoch, from) = (GROUP, Epoch(1), index(2));
    sim.feed(
        id,
        vec![In::Fetched {
            group,
            epoch,
            from,
            entries,
        }],
    );
}

#[test]
fn a_leader_that_finds_damage_hands_over_before_it_ends() {
    let mut sim = Sim::new(1, &[1, 2, 3]);
    let old = sim.elect();
    sim.converge();
    damaged(&mut sim, old);
    assert_eq!(sim.glance(old).role, Role::Leader, "it still leads");
    for _ in 0..3 {
        sim.round();
    }
    let next = sim.leader().expect("somebody took over without a gap");
    assert_ne!(next, old);
    assert!(
        sim.nodes[&old].glance().is_none(),
        "the damaged one has ended"
    );
    sim.propose(next, 1, 10);
    sim.round();
    assert!(matches!(sim.outcome(sim.number()), Some(Fate::Applied(_))));
    // A follower has nothing to hand over.
    let other = 6 - old - next;
    damaged(&mut sim, other);
    assert!(sim.nodes[&other].glance().is_none());
}

#[test]
fn a_log_that_differs_below_the_commit_ends_the_replica() {
    let mut sim = Sim::new(1, &[1, 2, 3]);
    sim.elect();
    sim.converge();
    let commit = sim.glance(1).committed;
    let append = Body::Append {
        previous: commit,
        previous_term: Term::new(40),
        commit,
        entries: Vec::new(),
    };
    assert!(ends(&mut sim, 1, message(2, 1, 50, append)));
    let snapshot = Body::Snapshot {
        index: commit,
        term: Term::new(40),
    };
    assert!(ends(&mut sim, 2, message(1, 2, 50, snapshot)));
}

#[test]
fn strangers_are_not_heard() {
    let mut sim = Sim::new(1, &[1, 2, 3]);
    sim.elect();
    let term = sim.glance(1).term;
    let heartbeat = Body::Heartbeat {
        commit: index(99),
        question: 0,
    };
    for strange in [
        Message {
            tag: quorate_protocol::GroupTag::new(6),
            ..message(2, 1, 50, heartbeat.clone())
        },
        message(2, 9, 50, heartbeat.clone()),
        message(0, 1, 50, heartbeat.clone()),
        message(1, 1, 50, heartbeat),
    ] {
        assert!(!ends(&mut sim, 1, strange));
    }
    assert_eq!(sim.glance(1).term, term);
}

#[test]
fn entries_with_a_hole_are_not_stepped() {
    let mut sim = Sim::new(1, &[1]);
    sim.work_all(1);
    sim.propose(1, 3, 10);
    sim.work_all(1);
    let reader = sim.nodes[&1].life.as_ref().unwrap().reader.clone();
    let mut entries = reader.entries(index(2), index(6), 1 << 20).unwrap();
    entries.remove(1);
    let mut sim = Sim::new(2, &[1, 2, 3]);
    let previous_term = Term::new(1);
    let append = Body::Append {
        previous: index(1),
        previous_term,
        commit: index(1),
        entries,
    };
    assert!(!ends(&mut sim, 1, message(2, 1, 50, append)));
    assert_eq!(sim.glance(1).last, index(1));
}

#[test]
fn followers_refuse_and_name_the_leader() {
    let mut sim = Sim::new(1, &[1, 2, 3]);
    let leader = sim.elect();
    let follower = leader % 3 + 1;
    sim.propose(follower, 1, 10);
    assert_eq!(sim.outcome(sim.number()), Some(Fate::NotApplied));
    let role = sim.nodes[&follower].book().unwrap().role;
    assert_eq!((role.0, role.3), (Role::Follower, Some(replica(leader))));
}

#[test]
fn an_entry_of_a_deposed_leader_is_unknown() {
    let mut sim = Sim::new(1, &[1, 2, 3]);
    let old = sim.elect();
    sim.converge();
    sim.silent = Some(old);
    sim.propose(old, 1, 10);
    assert_eq!(sim.outcome(sim.number()), None);
    for _ in 0..60 {
        sim.round();
    }
    assert_ne!(sim.leader(), Some(old));
    assert_eq!(sim.outcome(sim.number()), Some(Fate::Unknown));
    sim.silent = None;
    sim.converge();
}

/// A leader that slept hears at once that it is deposed and what its successors committed.
#[test]
fn what_others_committed_at_an_index_answers_no_deposed_leader() {
    let mut sim = Sim::new(1, &[1, 2, 3]);
    let old = sim.elect();
    sim.converge();
    let before = sim.glance(old);
    let (answer, ticket) = Answer::new(Vec::new());
    let proposal = Ask::Write {
        number: 900,
        records: 1,
        len: 4,
    };
    let node = sim.nodes.get_mut(&old).unwrap();
    node.turn(
        2000,
        vec![In::Propose {
            group: GROUP,
            proposal,
            answer,
        }],
    );
    let append = |from: u64, previous: (LogIndex, Term), term: u64, commit: LogIndex| {
        let stamp = Stamp {
            base_offset: Offset::ZERO,
            term: Term::new(term),
            append_time: time(2000),
            group: GROUP,
        };
        let entry = Entry {
            index: previous.0.next(),
            kind: EntryKind::Blank,
            batch: control_batch(&ControlRecord::Blank, stamp).unwrap(),
        };
        let body = Body::Append {
            previous: previous.0,
            previous_term: previous.1,
            commit,
            entries: vec![entry],
        };
        In::Peer(message(from, old, term, body))
    };
    let (taken, next) = (before.last.next(), before.term.get() + 1);
    let end = (before.last, before.term);
    let first = append(old % 3 + 1, end, next, before.committed);
    let end = (taken, Term::new(next));
    let second = append((old + 1) % 3 + 1, end, next + 1, taken);
    node.turn(2000, vec![first, second]);
    assert_eq!(node.glance().unwrap().committed, taken);
    let mut ticket = std::pin::pin!(ticket);
    let mut context = Context::from_waker(Waker::noop());
    assert_eq!(
        ticket.as_mut().poll(&mut context),
        Poll::Ready(Err(Failure::Unknown))
    );
}

/// Everything arrives, and every disk but one works.
fn while_others_write(sim: &mut Sim, slow: u64) {
    for _ in 0..6 {
        for id in (1..4).filter(|id| *id != slow) {
            sim.work_all(id);
        }
        for lane in sim.full_lanes() {
            sim.deliver(lane);
        }
    }
}

/// Others commit what a member's disk does not take; its memory must not grow with that.
#[test]
fn a_member_with_a_slow_disk_holds_only_so_much() {
    let mut sim = Sim::new(1, &[1, 2, 3]);
    let leader = sim.elect();
    sim.converge();
    let slow = leader % 3 + 1;
    let mut most = 0;
    for _ in 0..50 {
        sim.propose(leader, 1, 2000);
        while_others_write(&mut sim, slow);
        (1..4).for_each(|id| sim.tick(id));
        let glance = sim.glance(slow);
        most = most.max(glance.last.get() - glance.persisted.get());
    }
    assert!(sim.glance(leader).committed.get() > 50, "the others go on");
    assert!((1..=3).contains(&most), "{most} entries wait");
    sim.converge();
    assert_eq!(sim.glance(slow).committed, sim.glance(leader).committed);
}

#[test]
fn a_leader_with_a_slow_disk_appends_only_so_much() {
    let mut sim = Sim::new(1, &[1, 2, 3]);
    let leader = sim.elect();
    sim.converge();
    for _ in 0..50 {
        sim.propose(leader, 2, 200);
        while_others_write(&mut sim, leader);
        (1..4).for_each(|id| sim.tick(id));
    }
    let glance = sim.glance(leader);
    assert_eq!(glance.role, Role::Leader);
    let waiting = glance.last.get() - glance.persisted.get();
    assert!((10..100).contains(&waiting), "{waiting} entries wait");
    while sim.outcome(sim.number()).is_none() {
        sim.converge();
        sim.round();
    }
}

#[test]
fn proposals_wait_while_leadership_moves() {
    let mut sim = Sim::new(1, &[1, 2, 3]);
    let old = sim.elect();
    sim.converge();
    let next = old % 3 + 1;
    sim.feed(
        old,
        vec![In::Transfer {
            group: GROUP,
            to: replica(next),
        }],
    );
    let last = sim.glance(old).last;
    sim.propose(old, 1, 10);
    assert_eq!(
        (sim.glance(old).last, sim.outcome(sim.number())),
        (last, None)
    );
    sim.converge();
    assert_eq!(sim.leader(), Some(next));
    assert_eq!(sim.outcome(sim.number()), Some(Fate::NotApplied));
    // Towards somebody who does not answer it is given up, and what waited goes on.
    sim.stay_down = Some(old);
    sim.crash(old);
    sim.feed(
        next,
        vec![In::Transfer {
            group: GROUP,
            to: replica(old),
        }],
    );
    sim.propose(next, 1, 10);
    for _ in 0..30 {
        sim.round();
    }
    assert!(matches!(sim.outcome(sim.number()), Some(Fate::Applied(_))));
}

/// The leader that made the change is gone before it could leave the joint state.
#[test]
fn the_next_leader_leaves_a_joint_change() {
    let mut sim = Sim::new(1, &[1, 2, 3]);
    let old = sim.elect();
    sim.converge();
    let (answer, _ticket) = Answer::new(Vec::new());
    let changes = vec![
        Change::Learner(replica(old)),
        Change::Remove(replica(old % 3 + 1)),
    ];
    sim.feed(
        old,
        vec![In::Change {
            group: GROUP,
            changes: vec![],
            answer,
        }],
    );
    assert_eq!(
        sim.glance(old).last,
        sim.glance(old).committed,
        "there is no joint state to leave"
    );
    let (answer, _ticket) = Answer::new(Vec::new());
    sim.feed(
        old,
        vec![In::Change {
            group: GROUP,
            changes,
            answer,
        }],
    );
    sim.work_all(old);
    for id in (1..4).filter(|id| *id != old) {
        sim.deliver((old, id, Lane::Append));
        sim.work_all(id);
    }
    sim.crash(old);
    sim.stay_down = Some(old);
    let leader = sim.elect();
    for _ in 0..10 {
        sim.round();
    }
    let members = sim.glance(leader).membership;
    assert!(
        !members.joint() && members.learners == [replica(old)],
        "{members:?}"
    );
}

#[test]
fn a_second_change_waits_for_the_first() {
    let mut sim = Sim::new(1, &[1]);
    sim.work_all(1);
    let mut tickets = Vec::new();
    for id in [7, 8] {
        let (answer, ticket) = Answer::new(Vec::new());
        tickets.push(ticket);
        let changes = vec![Change::Learner(replica(id))];
        sim.feed(
            1,
            vec![In::Change {
                group: GROUP,
                changes,
                answer,
            }],
        );
    }
    sim.work_all(1);
    assert_eq!(sim.glance(1).membership.learners, [replica(7)]);
    sim.lanes.clear();
    sim.crash(1);
    sim.restart(1);
    sim.work_all(1);
    assert_eq!(
        sim.glance(1).membership.learners,
        [replica(7)],
        "remembered"
    );
}

/// The engine reads all that is committed and not applied in one call that cannot wait.
#[test]
fn a_campaign_over_cold_entries_reads_no_disk() {
    let mut sim = Sim::with_tail(3, &[1, 2, 3], 0);
    let leader = sim.elect();
    for _ in 0..10 {
        sim.propose(leader, 3, 60);
        sim.round();
    }
    for id in 1..=3 {
        sim.crash(id);
    }
    for id in 1..=3 {
        sim.restart(id);
    }
    let mut rounds = 0;
    while sim.leader().is_none() {
        for id in 1..=3 {
            sim.tick(id);
            while sim.nodes[&id].work(quorate_storage::Lane::Flush) {}
            sim.feed(id, Vec::new());
        }
        for lane in sim.full_lanes() {
            sim.deliver(lane);
        }
        rounds += 1;
        assert!(rounds < 2000, "somebody leads without reading entries");
    }
    sim.converge();
    assert!(sim.stats.headers > 0);
}

#[test]
fn one_tick_per_turn_comes_after_all_else() {
    let mut sim = Sim::new(1, &[1, 2, 3]);
    let leader = sim.elect();
    let node = sim.nodes.get_mut(&leader).unwrap();
    let mut heartbeats = 0;
    for _ in 0..2 {
        let acts = node.turn(2000, vec![In::Tick, In::Tick, In::Tick, In::Tick]);
        let beat =
            |act: &&Act<_>| matches!(act, Act::Send(m) if matches!(m.body, Body::Heartbeat { .. }));
        heartbeats += acts.iter().filter(beat).count();
    }
    assert_eq!(
        heartbeats, 2,
        "eight ticks in two turns are two: one beat to each of two peers"
    );
}

#[test]
fn time_never_moves_back_in_a_log() {
    let mut sim = Sim::new(1, &[1]);
    sim.work_all(1);
    sim.ask(
        1,
        Ask::Write {
            number: 900,
            records: 1,
            len: 4,
        },
        900,
    );
    let node = sim.nodes.get_mut(&1).unwrap();
    let (answer, _ticket) = Answer::new(Vec::new());
    let proposal = Ask::Write {
        number: 901,
        records: 1,
        len: 4,
    };
    node.turn(
        0,
        vec![In::Propose {
            group: GROUP,
            proposal,
            answer,
        }],
    );
    sim.work_all(1);
    let reader = sim.nodes[&1].life.as_ref().unwrap().reader.clone();
    let entries = reader.entries(index(2), index(9), 1 << 20).unwrap();
    let times: Vec<_> = entries
        .iter()
        .map(|entry| entry.batch.append_time())
        .collect();
    assert!(times.is_sorted() && times.last() > Some(&time(0)));
}
