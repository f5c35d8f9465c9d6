//! Logs that are acknowledged before they are flushed, or never flushed: what they lose, and who may
//! vote afterwards.

use std::time::Duration;

use quorate_protocol::{ControlRecord, LogIndex, Offset};
use quorate_storage::{Crash, EntryKind};

use crate::replication::config::{Durability, GroupSpec};
use crate::replication::group::Group;
use crate::replication::recovery::OpenError;
use crate::replication::shard::membership::Change;
use crate::replication::tests::book::{Book, GROUP};
use crate::replication::tests::trio::{Trio, broker, run, spec};
use crate::replication::tests::world::replica;

/// So long that no test waits for it.
const HOURLY: Durability = Durability::Interval(Duration::from_secs(3600));
const SOON: Durability = Durability::Interval(Duration::from_millis(10));

fn weak(durability: Durability, id: u64, holders: &[u64]) -> GroupSpec {
    GroupSpec {
        durability,
        ..spec(GROUP, id, holders)
    }
}

fn released(spec: GroupSpec) -> GroupSpec {
    GroupSpec {
        release: true,
        ..spec
    }
}

fn alone(durability: Durability) -> GroupSpec {
    GroupSpec {
        voters: vec![replica(1)],
        ..weak(durability, 1, &[1])
    }
}

/// Where a log says that something was lost.
fn losses(group: &Group<Book>) -> Vec<Offset> {
    let reader = group.reader();
    let (mut next, last) = (reader.first_index(), reader.last_index());
    let mut losses = Vec::new();
    while next <= last {
        for entry in reader.entries(next, last.next(), 1 << 20).unwrap() {
            next = entry.index.next();
            if entry.kind == EntryKind::Control
                && let Ok(ControlRecord::DataLoss { from }) = ControlRecord::decode(&entry.batch)
            {
                losses.push(from);
            }
        }
    }
    losses
}

fn empty() -> Trio {
    Trio {
        net: std::sync::Arc::default(),
        members: std::collections::BTreeMap::new(),
        disks: std::collections::BTreeMap::new(),
        starts: 0,
    }
}

async fn flushed(trio: &Trio, id: u64) {
    while trio.members[&id].replication.is_unflushed() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn what_one_replica_flushed_survives_and_what_it_lost_is_written_down() {
    run(async {
        let mut trio = empty();
        trio.open(1, alone(SOON)).await.unwrap();
        trio.leader(&[1]).await;
        for number in 0..10 {
            trio.propose(1, number).await.await.unwrap();
        }
        flushed(&trio, 1).await;
        trio.crash(1, Crash::Synced);
        trio.open(1, released(alone(HOURLY))).await.unwrap();
        trio.leader(&[1]).await;
        let receipt = trio.propose(1, 10).await.await.unwrap();
        assert_eq!(receipt.offset, Offset::new(20), "what was flushed is there");
        assert_eq!(losses(trio.group(1)), [Offset::new(20)]);
        let term = trio.group(1).status().term;
        trio.crash(1, Crash::Synced);
        trio.open(1, released(alone(HOURLY))).await.unwrap();
        trio.leader(&[1]).await;
        assert!(trio.group(1).status().term > term, "votes are never lost");
        let receipt = trio.propose(1, 11).await.await.unwrap();
        assert_eq!(
            receipt.offset,
            Offset::new(20),
            "what was not flushed is gone"
        );
    });
}

#[test]
fn an_unclean_stop_of_the_process_alone_loses_nothing() {
    run(async {
        let mut trio = empty();
        trio.open(1, alone(HOURLY)).await.unwrap();
        trio.leader(&[1]).await;
        for number in 0..10 {
            trio.propose(1, number).await.await.unwrap();
        }
        trio.crash(1, Crash::Process);
        trio.open(1, alone(HOURLY)).await.unwrap();
        trio.leader(&[1]).await;
        let receipt = trio.propose(1, 10).await.await.unwrap();
        assert_eq!(receipt.offset, Offset::new(20));
        assert_eq!(losses(trio.group(1)), []);
        // An orderly stop flushes; the machine may go down after it.
        trio.members[&1].replication.shutdown().await;
        trio.crash(1, Crash::Synced);
        trio.open(1, alone(HOURLY)).await.unwrap();
        trio.leader(&[1]).await;
        assert_eq!(
            trio.propose(1, 11).await.await.unwrap().offset,
            Offset::new(22)
        );
    });
}

#[test]
fn a_replica_that_may_have_forgotten_does_not_vote_and_is_replaced() {
    run(async {
        for durability in [HOURLY, Durability::Memory] {
            let mut trio = Trio::start_as(durability).await;
            let leader = trio.leader(&[1, 2, 3]).await;
            let forgetful = leader % 3 + 1;
            for number in 0..10 {
                trio.propose(leader, number).await.await.unwrap();
            }
            let last = trio.group(leader).status().last;
            trio.applied(forgetful, last).await;
            trio.crash(forgetful, Crash::Synced);
            let refused = trio
                .open(forgetful, weak(durability, forgetful, &[1, 2, 3]))
                .await;
            assert!(
                matches!(&refused, Err(error @ OpenError::Forgetful { .. }) if error.is_damage())
            );
            // Its broker holds another replica from here on.
            let mut holders = vec![1, 2, 3];
            holders.retain(|id| *id != forgetful);
            holders.push(4);
            trio.open(4, weak(durability, 4, &holders)).await.unwrap();
            let told = spec(GROUP, leader, &holders).holders;
            for id in holders.iter().filter(|id| **id != 4) {
                trio.members[id]
                    .replication
                    .set_holders(GROUP, told.clone());
            }
            let changes = vec![Change::Learner(replica(4))];
            trio.group(leader).change(changes).await.unwrap();
            trio.applied(4, last).await;
            let swap = vec![
                Change::Voter(replica(4)),
                Change::Remove(replica(forgetful)),
            ];
            trio.group(leader).change(swap).await.unwrap();
            let receipt = trio.propose(leader, 10).await.await.unwrap();
            assert_eq!(receipt.offset, Offset::new(20));
            assert_eq!(losses(trio.group(leader)), []);
        }
    });
}

#[test]
fn a_log_in_memory_is_there_until_the_process_ends() {
    run(async {
        let mut trio = empty();
        trio.open(1, alone(Durability::Memory)).await.unwrap();
        trio.leader(&[1]).await;
        for number in 0..5 {
            trio.propose(1, number).await.await.unwrap();
        }
        let replication = trio.members[&1].replication.clone();
        replication.close_group(GROUP).await;
        let group = replication.open(alone(Durability::Memory), Book::default());
        let group = group.await.unwrap();
        group.watch().wait_for(|status| status.ready).await.unwrap();
        assert_eq!(group.reader().log_end(), Offset::new(10));
        let term = group.status().term;
        replication.shutdown().await;
        trio.crash(1, Crash::Process);
        let refused = trio.open(1, alone(Durability::Memory)).await;
        assert!(matches!(refused, Err(OpenError::Forgetful { .. })));
        trio.open(1, released(alone(Durability::Memory)))
            .await
            .unwrap();
        trio.leader(&[1]).await;
        assert!(trio.group(1).status().term > term);
        assert_eq!(losses(trio.group(1)), [Offset::ZERO]);
        assert_eq!(trio.propose(1, 5).await.await.unwrap().offset, Offset::ZERO);
        let (replication, dir) = (&trio.members[&1].replication, spec(GROUP, 1, &[1]).dir);
        replication.delete(GROUP, replica(1), dir).await.unwrap();
        let anew = GroupSpec {
            replica: replica(9),
            voters: vec![replica(9)],
            ..alone(Durability::Memory)
        };
        let group = replication.open(anew, Book::default()).await.unwrap();
        assert_eq!(
            group.reader().last_index(),
            LogIndex::new(1),
            "nothing is left"
        );
    });
}

/// The power goes for all brokers at once; the longest log that is left wins.
#[test]
fn when_all_have_forgotten_what_is_left_goes_on_and_says_so() {
    run(async {
        for durability in [SOON, Durability::Memory] {
            let mut trio = Trio::start_as(durability).await;
            let leader = trio.leader(&[1, 2, 3]).await;
            for number in 0..10 {
                trio.propose(leader, number).await.await.unwrap();
            }
            let last = trio.group(leader).status().last;
            for id in 1..=3 {
                trio.applied(id, last).await;
                flushed(&trio, id).await;
            }
            for id in 1..=3 {
                trio.crash(id, Crash::Synced);
            }
            for id in 1..=3 {
                let spec = weak(durability, id, &[1, 2, 3]);
                let refused = trio.open(id, spec.clone()).await;
                assert!(matches!(refused, Err(OpenError::Forgetful { .. })));
                trio.open(id, released(spec)).await.unwrap();
            }
            let leader = trio.leader(&[1, 2, 3]).await;
            let receipt = trio.propose(leader, 10).await.await.unwrap();
            let kept = if durability == SOON { 20 } else { 0 };
            assert_eq!(receipt.offset, Offset::new(kept));
            assert_eq!(losses(trio.group(leader)), [Offset::new(kept)]);
        }
    });
}

/// One that was cut off while the others acknowledged, and forgot, is not forgetful itself.
#[test]
fn who_is_led_by_forgetful_votes_says_so_and_one_that_remembers_leads_first() {
    run(async {
        let later = Durability::Interval(Duration::from_secs(2));
        let mut trio = Trio::start_as(later).await;
        let leader = trio.leader(&[1, 2, 3]).await;
        for number in 0..10 {
            trio.propose(leader, number).await.await.unwrap();
        }
        let last = trio.group(leader).status().last;
        for id in 1..=3 {
            trio.applied(id, last).await;
            flushed(&trio, id).await;
        }
        let faithful = leader % 3 + 1;
        trio.net.cut.lock().insert(broker(faithful));
        for number in 10..15 {
            trio.propose(leader, number).await.await.unwrap();
        }
        let forgetful: Vec<_> = (1..=3).filter(|id| *id != faithful).collect();
        for id in &forgetful {
            trio.crash(*id, Crash::Synced);
        }
        for id in &forgetful {
            let spec = released(weak(later, *id, &[1, 2, 3]));
            trio.open(*id, spec).await.unwrap();
        }
        trio.net.cut.lock().clear();
        assert_eq!(trio.leader(&[1, 2, 3]).await, faithful);
        let receipt = trio.propose(faithful, 15).await.await.unwrap();
        assert_eq!(receipt.offset, Offset::new(20));
        assert_eq!(losses(trio.group(faithful)), [Offset::new(20)]);
        // Whoever leads next does not say it again.
        let next = forgetful[0];
        trio.applied(next, receipt.index).await;
        trio.group(faithful).transfer(replica(next));
        assert_eq!(trio.leader(&[next]).await, next);
        let receipt = trio.propose(next, 16).await.await.unwrap();
        assert_eq!(receipt.offset, Offset::new(22));
        assert_eq!(losses(trio.group(next)), [Offset::new(20)]);
    });
}
