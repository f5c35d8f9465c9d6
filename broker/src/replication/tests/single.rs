//! A group of one, through the public door: the task, the flush queue, files in memory and on disk.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::{ByteSize, GroupId, GroupTag, LogIndex, Offset, ReplicaId};
use quorate_storage::{
    Crash, DiskStorage, Lane, LogConfig, MemoryStorage, ReadMode, ReadOutcome, Storage,
};
use tokio_util::task::TaskTracker;

use crate::replication::OpenError;
use crate::replication::tests::book::{Ask, Book, GROUP, time};
use crate::replication::{
    Durability, Environment, Failure, Group, GroupSpec, Replication, ReplicationConfig,
};

fn spec(dir: &str, segment_bytes: u64) -> GroupSpec {
    GroupSpec {
        group: GROUP,
        tag: GroupTag::new(3),
        replica: ReplicaId::new(11),
        voters: vec![ReplicaId::new(11)],
        holders: Vec::new(),
        durability: Durability::Flush,
        release: false,
        dir: PathBuf::from(dir),
        log: LogConfig {
            segment_bytes: ByteSize::new(segment_bytes),
            segment_age: Duration::ZERO,
        },
    }
}

fn start(storage: &Arc<MemoryStorage>) -> Replication<Book> {
    start_on(Arc::clone(storage) as Arc<dyn Storage>, "/state.log")
}

fn start_on(storage: Arc<dyn Storage>, state_log: &str) -> Replication<Book> {
    let environment = Environment {
        storage,
        now: Arc::new(|| time(1)),
        tracker: TaskTracker::new(),
        state_log: state_log.into(),
        peers: None,
    };
    Replication::start(environment, ReplicationConfig::default()).unwrap()
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(30), test)
            .await
            .expect("nothing hangs");
    });
}

async fn ready(group: &Group<Book>) {
    group.watch().wait_for(|status| status.ready).await.unwrap();
}

async fn write(group: &Group<Book>, number: u64) -> Result<Offset, Failure> {
    let ticket = group
        .propose(Ask::Write {
            number,
            records: 3,
            len: 40,
        })
        .await?;
    ticket.await.map(|receipt| receipt.offset)
}

fn data(group: &Group<Book>) -> u64 {
    let reader = group.reader();
    let (mut next, end, mut records) = (reader.log_start(), reader.log_end(), 0);
    while next < end {
        let read = reader
            .read(next, end, usize::MAX, ReadMode::Blocking)
            .unwrap();
        let ReadOutcome::Batches(batches) = read else {
            panic!("blocking reads do not give up")
        };
        next = batches.last().unwrap().next_offset();
        records += batches
            .iter()
            .map(|batch| u64::from(batch.record_count()))
            .sum::<u64>();
    }
    records
}

#[test]
fn a_sole_voter_acknowledges_and_remembers_after_a_power_cut() {
    run(async {
        let storage = Arc::new(MemoryStorage::inline());
        let mut next = 0;
        for life in 0..4 {
            let replication = start(&storage);
            let group = replication
                .open(spec("/g", 1 << 20), Book::default())
                .await
                .unwrap();
            ready(&group).await;
            for number in 0..50 {
                assert_eq!(write(&group, number).await, Ok(Offset::new(next)));
                next += 3;
            }
            assert_eq!(data(&group), next);
            if life == 2 {
                replication.shutdown().await;
                assert_eq!(write(&group, 0).await, Err(Failure::Closed));
            }
            storage.crash(Crash::Synced);
        }
    });
}

#[test]
fn tickets_are_answered_in_their_own_ways() {
    run(async {
        let storage = Arc::new(MemoryStorage::inline());
        let replication = start(&storage);
        let group = replication
            .open(spec("/g", 1 << 20), Book::default())
            .await
            .unwrap();
        ready(&group).await;
        let first = group
            .propose(Ask::Write {
                number: 1,
                records: 2,
                len: 5,
            })
            .await
            .unwrap();
        let again = group.propose(Ask::Again).await.unwrap();
        let peek = group.propose(Ask::Peek).await.unwrap();
        let late = group
            .propose(Ask::WriteAtApply { number: 2 })
            .await
            .unwrap();
        let first = first.await.unwrap();
        assert_eq!(again.await.unwrap(), first);
        assert_eq!(peek.await.unwrap().offset, Offset::new(2));
        let late = late.await.unwrap();
        assert_eq!(
            (late.offset, late.index),
            (Offset::new(2), first.index.next())
        );
    });
}

#[test]
fn retention_removes_files_and_survives_a_restart() {
    run(async {
        let storage = Arc::new(MemoryStorage::inline());
        let replication = start(&storage);
        let group = replication
            .open(spec("/g", 8 << 10), Book::default())
            .await
            .unwrap();
        ready(&group).await;
        for number in 0..120 {
            write(&group, number).await.unwrap();
        }
        let segments = group.reader().segments();
        assert!(segments.len() > 3);
        let (point, begin) = (segments[1].last_index, segments[2].base_offset);
        let ticket = group.propose(Ask::Trim(point)).await.unwrap();
        ticket.await.unwrap();
        group
            .watch()
            .wait_for(|status| status.first == point.next())
            .await
            .unwrap();
        write(&group, 1).await.unwrap();
        assert_eq!(
            (group.reader().first_index(), group.reader().log_start()),
            (point.next(), begin)
        );
        storage.crash(Crash::Synced);
        let replication = start(&storage);
        let group = replication
            .open(spec("/g", 8 << 10), Book::default())
            .await
            .unwrap();
        ready(&group).await;
        assert_eq!(group.reader().log_start(), begin);
        assert_eq!(data(&group), 121 * 3 - begin.get());
    });
}

#[test]
fn a_full_disk_refuses_until_there_is_room_and_loses_nothing() {
    run(async {
        let storage = Arc::new(MemoryStorage::inline());
        let replication = start(&storage);
        let group = replication
            .open(spec("/g", 64 << 10), Book::default())
            .await
            .unwrap();
        ready(&group).await;
        storage.limit_space(Some(0));
        // What is preallocated may still take some.
        let mut waiting = Vec::new();
        let mut number = 0;
        while !group.status().disk_full {
            let ticket = group
                .propose(Ask::Write {
                    number,
                    records: 1,
                    len: 4000,
                })
                .await
                .unwrap();
            waiting.push(ticket);
            number += 1;
            tokio::task::yield_now().await;
            assert!(number < 10_000);
        }
        let full = write(&group, 0).await;
        assert_eq!(full, Err(Failure::DiskFull));
        storage.limit_space(None);
        let mut settled = 0;
        for ticket in waiting {
            settled += u64::from(ticket.await.is_ok());
        }
        assert_eq!(group.reader().log_end(), Offset::new(settled));
        group
            .watch()
            .wait_for(|status| !status.disk_full)
            .await
            .unwrap();
        assert!(write(&group, 1).await.is_ok());
    });
}

#[test]
fn a_checkpoint_that_found_no_room_is_tried_again_though_nothing_else_happens() {
    run(async {
        let storage = Arc::new(MemoryStorage::queued());
        let checkpoints = || {
            let named = storage.list("/g".as_ref()).unwrap();
            named
                .iter()
                .filter(|file| file.name.ends_with(".ckpt"))
                .count()
        };
        let replication = start(&storage);
        let group = flushed(
            &storage,
            replication.open(spec("/g", 8 << 10), Book::default()),
        );
        let group = group.await.unwrap();
        flushed(&storage, ready(&group)).await;
        let before = checkpoints();
        for number in 0..40 {
            flushed(&storage, write(&group, number)).await.unwrap();
        }
        settled(&group).await;
        storage.limit_space(Some(0));
        while storage.run_one_of(Lane::Background) {}
        settled(&group).await;
        storage.limit_space(None);
        while checkpoints() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
            while storage.run_one_of(Lane::Background) {}
        }
    });
}

/// Does what the disk's flush lane is given until `work` is done.
async fn flushed<T>(storage: &MemoryStorage, work: impl Future<Output = T>) -> T {
    let flushing = async {
        loop {
            storage.run_one_of(Lane::Flush);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        done = work => done,
        () = flushing => unreachable!(),
    }
}

/// Lets the task do all it can.
async fn settled(group: &Group<Book>) {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(group.status().ready);
}

#[test]
fn a_failed_flush_acknowledges_nothing_and_poisons_the_volume() {
    run(async {
        let storage = Arc::new(MemoryStorage::inline());
        let replication = start(&storage);
        let group = replication
            .open(spec("/g", 1 << 20), Book::default())
            .await
            .unwrap();
        ready(&group).await;
        let mut poisoned = replication.poisoned();
        storage.fail_sync_after(0);
        assert_eq!(write(&group, 1).await, Err(Failure::Poisoned));
        let poison = poisoned.wait_for(Option::is_some).await.unwrap().clone();
        assert!(poison.is_some_and(|poison| !poison.error.is_empty()));
        assert_eq!(write(&group, 2).await, Err(Failure::Poisoned));
        assert!(group.status().poisoned);
        replication.shutdown().await;
        replication.close_group(GROUP).await;
        storage.crash(Crash::Synced);
        let replication = start(&storage);
        let group = replication
            .open(spec("/g", 1 << 20), Book::default())
            .await
            .unwrap();
        ready(&group).await;
        assert_eq!(write(&group, 3).await, Ok(Offset::ZERO));
    });
}

#[test]
fn a_group_is_closed_opened_again_and_deleted() {
    run(async {
        let storage = Arc::new(MemoryStorage::inline());
        let replication = start(&storage);
        for life in 0..3 {
            let group = replication
                .open(spec("/g", 1 << 20), Book::default())
                .await
                .unwrap();
            ready(&group).await;
            let again = replication.open(spec("/g", 1 << 20), Book::default()).await;
            assert!(matches!(again, Err(OpenError::Occupied { .. })));
            assert_eq!(write(&group, 1).await, Ok(Offset::new(3 * life)));
            replication.close_group(GROUP).await;
            assert_eq!(write(&group, 1).await, Err(Failure::Closed));
        }
        replication
            .delete(GROUP, ReplicaId::new(11), "/g".into())
            .await
            .unwrap();
        let group = replication
            .open(spec("/g", 1 << 20), Book::default())
            .await
            .unwrap();
        ready(&group).await;
        assert_eq!(write(&group, 1).await, Ok(Offset::ZERO));
        assert_eq!(group.status().first, LogIndex::new(2));
    });
}

#[test]
fn many_proposals_at_once_keep_their_order_on_a_real_disk() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state.log");
        let storage: Arc<dyn Storage> = Arc::new(DiskStorage::new());
        let replication = start_on(storage, state.to_str().unwrap());
        let place = dir.path().join("g");
        let group = replication
            .open(spec(place.to_str().unwrap(), 1 << 20), Book::default())
            .await;
        let group = group.unwrap();
        ready(&group).await;
        let mut tickets = Vec::new();
        for number in 0..2000 {
            tickets.push(
                group
                    .propose(Ask::Write {
                        number,
                        records: 1,
                        len: 900,
                    })
                    .await
                    .unwrap(),
            );
        }
        for (number, ticket) in tickets.into_iter().enumerate() {
            assert_eq!(ticket.await.unwrap().offset, Offset::new(number as u64));
        }
        assert_eq!(data(&group), 2000);
        replication.shutdown().await;
    });
}

#[test]
fn many_groups_share_a_state_log_and_come_back_together() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state.log");
        for life in 0..3_u64 {
            let storage: Arc<dyn Storage> = Arc::new(DiskStorage::new());
            let replication = start_on(storage, state.to_str().unwrap());
            let mut lives = tokio::task::JoinSet::new();
            for number in 0..40_u32 {
                let place = dir.path().join(format!("g{number}"));
                let mut spec = spec(place.to_str().unwrap(), 1 << 20);
                spec.group = GroupId::new(number);
                spec.replica = ReplicaId::new(100 + u64::from(number));
                spec.voters = vec![spec.replica];
                let replication = replication.clone();
                lives.spawn(async move {
                    let group = replication.open(spec, Book::default()).await.unwrap();
                    ready(&group).await;
                    assert_eq!(write(&group, 1).await, Ok(Offset::new(3 * life)));
                    group.status().term
                });
            }
            while let Some(term) = lives.join_next().await {
                assert_eq!(term.unwrap().get(), 2 + life, "each life is one election");
            }
            if life == 1 {
                replication.shutdown().await;
            }
        }
    });
}
