//! Topics made, written, read, restarted and deleted.

use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::DeleteTopic;
use quorate_protocol::ErrorCode;
use quorate_protocol::InitProducer;
use quorate_protocol::Offset;
use quorate_protocol::PartitionId;
use quorate_protocol::Start;
use quorate_protocol::Text;
use quorate_protocol::TopicId;
use quorate_protocol::Until;
use quorate_storage::Crash;
use quorate_storage::DiskStorage;
use quorate_storage::MemoryStorage;
use quorate_storage::Storage;

use crate::auth::PrincipalKey;
use crate::clock::Clock;
use crate::metadata::StartError;
use crate::metadata::command::Command;
use crate::metadata::describe;
use crate::metadata::tests::world::Node;
use crate::metadata::tests::world::World;
use crate::metadata::tests::world::contents;
use crate::metadata::tests::world::create;
use crate::metadata::tests::world::draft;
use crate::metadata::tests::world::publish;
use crate::metadata::tests::world::run;
use crate::partition::Partition;
use crate::partition::PartitionReadError;
use crate::partition::ReadEnd;
use crate::partition::group_dir;

fn memory() -> (Arc<MemoryStorage>, World) {
    let storage = Arc::new(MemoryStorage::inline());
    let world = World::new(storage.clone(), "/data".as_ref());
    (storage, world)
}

fn values(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|number| format!("record {number}")).collect()
}

async fn delete(node: &Node, name: &str) -> Result<(), ErrorCode> {
    let request = DeleteTopic {
        name: Text::try_from(name).unwrap(),
        dry_run: false,
    };
    node.metadata
        .delete_topic(&request)
        .await
        .map(drop)
        .map_err(|error| error.code)
}

#[test]
fn acked_records_and_their_dedup_survive_a_kill_on_a_real_disk() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let world = World::new(Arc::new(DiskStorage::new()), dir.path());
        let mut node = world.start().await;
        let topic = node.create("orders", 2).await.id;
        let mut sent = 0u64;
        for life in 0..4u64 {
            let partition = node.partition(topic, 1);
            partition
                .leadership()
                .wait_for(|leadership| leadership.ready)
                .await
                .unwrap();
            let mut pending = Vec::new();
            for batch in 0..30 {
                let batch = draft(topic, sent + batch * 10, &values(0..10), life % 2 == 0);
                pending.push(partition.append(batch, None, false).await.unwrap());
            }
            for (number, receipt) in (0u64..).zip(pending) {
                let receipt = receipt.await.unwrap();
                assert_eq!(receipt.base_offset, Some(Offset::new(sent + number * 10)));
                assert!(!receipt.duplicate);
            }
            let before = contents(&partition).await;
            sent += 300;
            assert_eq!(before.len() as u64, sent);
            if life % 2 == 0 {
                node.kill()
            } else {
                node.shutdown().await
            }
            drop(partition);
            node = world.restart().await;
            let partition = node.partition(topic, 1);
            partition
                .leadership()
                .wait_for(|leadership| leadership.ready)
                .await
                .unwrap();
            assert_eq!(contents(&partition).await, before);
            let again = draft(topic, sent - 20, &values(0..10), life % 2 == 0);
            let receipt = publish(&partition, again).await.unwrap();
            assert_eq!(receipt.base_offset, Some(Offset::new(sent - 20)));
            assert!(receipt.duplicate);
        }
        assert_eq!(contents(&node.partition(topic, 0)).await, []);
        node.shutdown().await;
    });
}

#[test]
fn nothing_acked_is_lost_by_a_power_cut() {
    run(async {
        for seed in 0..8 {
            let (storage, world) = memory();
            let node = world.start().await;
            let topic = node.create("orders", 1).await.id;
            let partition = node.partition(topic, 0);
            for batch in 0..20 {
                publish(&partition, draft(topic, batch * 3, &values(0..3), false))
                    .await
                    .unwrap();
            }
            let before = contents(&partition).await;
            node.kill();
            storage.crash(Crash::Seeded(seed));
            let node = world.restart().await;
            let partition = node.partition(topic, 0);
            let early = partition.resolve_start(Start::Latest).await;
            let end = Ok(Offset::new(60));
            assert!(
                early == end || early == Err(PartitionReadError::NotServing),
                "{early:?}"
            );
            partition
                .leadership()
                .wait_for(|leadership| leadership.ready)
                .await
                .unwrap();
            assert_eq!(contents(&partition).await, before, "seed {seed}");
            node.shutdown().await;
        }
    });
}

#[test]
fn a_topic_made_again_has_another_identity_and_no_records() {
    run(async {
        let (storage, world) = memory();
        let node = world.start().await;
        let first = node.create("orders", 1).await.id;
        let partition = node.partition(first, 0);
        publish(&partition, draft(first, 0, &values(0..3), false))
            .await
            .unwrap();
        let spec = partition.spec().clone();
        let folder = group_dir(&world.root, spec.group, spec.tag);
        assert!(storage.exists(&folder).unwrap());
        assert_eq!(delete(&node, "orders").await, Ok(()));
        assert!(
            !storage.exists(&folder).unwrap(),
            "the folder of a deleted topic is removed"
        );
        assert!(node.registry.get(first, PartitionId::new(0)).is_none());
        let late = publish(&partition, draft(first, 3, &values(0..1), false))
            .await
            .unwrap_err();
        assert_eq!(late.code, ErrorCode::STALE_TOPOLOGY);
        assert_eq!(delete(&node, "orders").await, Err(ErrorCode::UNKNOWN_TOPIC));
        let second = node.create("orders", 1).await.id;
        assert_ne!(first, second);
        let partition = node.partition(second, 0);
        assert_eq!(contents(&partition).await, []);
        let stale = publish(&partition, draft(first, 0, &values(0..1), false))
            .await
            .unwrap_err();
        assert_eq!(stale.code, ErrorCode::TOPIC_MISMATCH);
        node.shutdown().await;
        let node = world.restart().await;
        assert_eq!(node.metadata.topology().topics().count(), 1);
        node.shutdown().await;
    });
}

#[test]
fn an_interrupted_deletion_is_finished_at_the_next_start() {
    run(async {
        let (storage, world) = memory();
        let node = world.start().await;
        let topic = node.create("orders", 1).await.id;
        let spec = node.partition(topic, 0).spec().clone();
        let folder = group_dir(&world.root, spec.group, spec.tag);
        node.stop_following();
        node.metadata
            .change(&Command::Delete { name: spec.name })
            .await
            .unwrap();
        assert!(storage.exists(&folder).unwrap());
        node.kill();
        let node = world.restart().await;
        assert!(!storage.exists(&folder).unwrap());
        assert!(node.registry.get(topic, PartitionId::new(0)).is_none());
        node.shutdown().await;
    });
}

#[test]
fn a_topic_may_have_many_partitions() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let world = World::new(Arc::new(DiskStorage::new()), dir.path());
        let node = world.start().await;
        let topic = node.create("wide", 16).await.id;
        for number in 0..16 {
            let partition = node.partition(topic, number);
            let batch = draft(topic, 0, &values(0..1), false);
            assert_eq!(
                publish(&partition, batch).await.unwrap().base_offset,
                Some(Offset::ZERO)
            );
        }
        node.shutdown().await;
    });
}

#[test]
fn a_lost_folder_is_reported_and_never_made_anew() {
    run(async {
        let (storage, world) = memory();
        let node = world.start().await;
        let topic = node.create("orders", 2).await.id;
        let spec = node.partition(topic, 0).spec().clone();
        node.shutdown().await;
        let folder = group_dir(&world.root, spec.group, spec.tag);
        for file in storage.list(&folder).unwrap() {
            storage.remove(&folder.join(file.name)).unwrap();
        }
        storage.remove_dir(&folder).unwrap();
        let node = world.restart().await;
        assert!(node.registry.get(topic, PartitionId::new(0)).is_none());
        assert!(node.registry.get(topic, PartitionId::new(1)).is_some());
        assert!(!storage.exists(&folder).unwrap());
        node.shutdown().await;
    });
}

#[test]
fn lost_metadata_is_reported_and_never_made_anew() {
    run(async {
        let (_, world) = memory();
        let refused = world.try_start(false).await;
        assert!(matches!(refused, Err(StartError::Lost(_))));
    });
}

#[test]
fn a_folder_nobody_knows_is_left_alone() {
    run(async {
        let (storage, world) = memory();
        let node = world.start().await;
        let stray = world.root.join("g/99-00000000000000ff");
        storage.create_dir(&stray).unwrap();
        storage.sync_dir(&world.root.join("g")).unwrap();
        node.create("orders", 1).await;
        let known = [(0, 0)].map(|(group, tag)| {
            (
                quorate_protocol::GroupId::new(group),
                quorate_protocol::GroupTag::new(tag),
            )
        });
        assert!(
            node.registry
                .unknown_folders(&known.into())
                .unwrap()
                .contains(&stray)
        );
        node.shutdown().await;
        world.restart().await.shutdown().await;
        assert!(storage.exists(&stray).unwrap());
    });
}

#[test]
fn creating_twice_is_refused_unless_asked_for() {
    run(async {
        let (_, world) = memory();
        let node = world.start().await;
        let first = node.create("orders", 3).await;
        assert!(first.created && first.partitions == 3 && first.replicas == 1);
        let again = node
            .metadata
            .create_topic(&create("orders", 3))
            .await
            .unwrap_err();
        assert_eq!(again.code, ErrorCode::ALREADY_EXISTS);
        let mut tolerant = create("orders", 3);
        tolerant.if_not_exists = true;
        let found = node.metadata.create_topic(&tolerant).await.unwrap();
        assert_eq!((found.id, found.created), (first.id, false));
        let mut many = create("wide", 1);
        many.replicas = 3;
        let error = node.metadata.create_topic(&many).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_ARGUMENT);
        assert!(
            error.detail.contains("3 replicas") && error.detail.contains("1 broker"),
            "{error}"
        );
        let mut tried = create("tried", 2);
        tried.dry_run = true;
        assert!(!node.metadata.create_topic(&tried).await.unwrap().created);
        node.metadata.auto_create(["orders", "made"]).await.unwrap();
        let topology = node.metadata.topology();
        let names: Vec<_> = topology.topics().map(|topic| topic.name.as_str()).collect();
        assert_eq!(names, ["made", "orders"]);
        let full = node
            .metadata
            .create_topic(&create("full", 16))
            .await
            .map(|_| ());
        assert_eq!(full, Ok(()));
        let over = node
            .metadata
            .create_topic(&create("over", 20))
            .await
            .unwrap_err();
        assert_eq!(over.code, ErrorCode::INVALID_ARGUMENT);
        node.create("more", 16).await;
        let over = node
            .metadata
            .create_topic(&create("over", 16))
            .await
            .unwrap_err();
        assert_eq!(over.code, ErrorCode::QUOTA_EXCEEDED);
        node.shutdown().await;
    });
}

#[test]
fn producer_ids_are_owned_and_names_fence() {
    run(async {
        let (_, world) = memory();
        let (alice, bob) = (PrincipalKey::new(1), PrincipalKey::new(2));
        let unnamed = InitProducer {
            name: None,
            resume: None,
        };
        let named = InitProducer {
            name: Some(Text::try_from("till-7").unwrap()),
            resume: None,
        };
        let node = world.start().await;
        let first = node.metadata.init_producer(alice, &unnamed).await.unwrap();
        let second = node.metadata.init_producer(alice, &unnamed).await.unwrap();
        let other = node.metadata.init_producer(bob, &unnamed).await.unwrap();
        assert_ne!(first.producer, second.producer);
        assert_eq!(node.metadata.owner_of(first.producer), Some(alice));
        assert_eq!(node.metadata.owner_of(other.producer), Some(bob));
        let till = node.metadata.init_producer(alice, &named).await.unwrap();
        node.shutdown().await;
        let node = world.restart().await;
        let third = node.metadata.init_producer(alice, &unnamed).await.unwrap();
        assert!(
            third.producer > other.producer,
            "ids of an earlier life are not given out again"
        );
        assert_eq!(node.metadata.owner_of(second.producer), Some(alice));
        let resume = |granted: quorate_protocol::ProducerGranted| InitProducer {
            resume: Some((granted.producer, granted.epoch)),
            ..named.clone()
        };
        assert_eq!(
            node.metadata.init_producer(alice, &resume(till)).await,
            Ok(till)
        );
        let newer = node.metadata.init_producer(alice, &named).await.unwrap();
        assert_eq!(newer.producer, till.producer);
        assert!(newer.epoch > till.epoch);
        let fenced = node
            .metadata
            .init_producer(alice, &resume(till))
            .await
            .unwrap_err();
        assert_eq!(fenced.code, ErrorCode::PRODUCER_FENCED);
        let foreign = node
            .metadata
            .init_producer(bob, &resume(newer))
            .await
            .unwrap_err();
        assert_eq!(foreign.code, ErrorCode::AUTHORIZATION_FAILED);
        node.shutdown().await;
    });
}

/// A topic that keeps 2 MiB or a minute, with thirty records of 200 kB.
async fn short_lived(node: &Node) -> (TopicId, Partition) {
    let mut request = create("short", 1);
    request.settings.retention_bytes = 2 << 20;
    request.settings.retention_time_ms = 60_000;
    let topic = node.metadata.create_topic(&request).await.unwrap().id;
    let partition = node.partition(topic, 0);
    for sequence in 0..30 {
        publish(&partition, draft(topic, sequence, &large(), false))
            .await
            .unwrap();
    }
    (topic, partition)
}

fn large() -> Vec<String> {
    vec!["x".repeat(200_000)]
}

async fn retain(node: &Node) {
    node.registry.retain(node.clock.now_micros()).await;
}

async fn started_behind(partition: &Partition, offset: u64) -> Offset {
    let mut log_start = partition.log_start();
    *log_start
        .wait_for(|start| start.get() > offset)
        .await
        .unwrap()
}

#[test]
fn retention_by_size_lets_go_of_whole_segments_and_readers_are_told() {
    run(async {
        let (_, world) = memory();
        let node = world.start().await;
        let (_, partition) = short_lived(&node).await;
        retain(&node).await;
        let start = started_behind(&partition, 0).await;
        let bytes = partition.describe().bytes.get();
        assert!((2 << 20..5 << 20).contains(&bytes), "{bytes}");
        assert_eq!(partition.resolve_start(Start::Earliest).await, Ok(start));
        let (asked, end) = (Offset::ZERO, Offset::new(30));
        assert_eq!(
            partition.resolve_start(Start::Offset(asked)).await,
            Err(PartitionReadError::OutOfRange { asked, start, end })
        );
        assert_eq!(partition.resolve_start(Start::Last(1_000)).await, Ok(start));
        assert_eq!(
            partition.resolve_start(Start::Last(2)).await,
            Ok(Offset::new(28))
        );
        assert_eq!(
            partition.read(start, 1).await.unwrap()[0].base_offset(),
            start
        );
        node.shutdown().await;
    });
}

#[test]
fn a_partition_without_room_does_not_keep_retention_from_the_others() {
    run(async {
        let (storage, world) = memory();
        let node = world.start().await;
        let mut request = create("stuck", 1);
        request.settings.retention_time_ms = 60_000;
        let stuck = node.metadata.create_topic(&request).await.unwrap().id;
        let first = draft(stuck, 0, &["old".into()], false);
        publish(&node.partition(stuck, 0), first).await.unwrap();
        let mut request = create("large", 1);
        request.settings.retention_bytes = 2 << 20;
        let topic = node.metadata.create_topic(&request).await.unwrap().id;
        let partition = node.partition(topic, 0);
        for sequence in 0..30 {
            publish(&partition, draft(topic, sequence, &large(), false))
                .await
                .unwrap();
        }
        assert!(stuck < topic, "it is looked at first");
        node.clock.advance(Duration::from_secs(61));
        // The stuck one has to begin a segment, the other has prepared room.
        storage.limit_space(Some(0));
        retain(&node).await;
        started_behind(&partition, 0).await;
        storage.limit_space(None);
        node.shutdown().await;
    });
}

#[test]
fn retention_by_time_empties_an_idle_topic_but_not_its_dedup() {
    run(async {
        let (_, world) = memory();
        let node = world.start().await;
        let (topic, partition) = short_lived(&node).await;
        node.clock.advance(Duration::from_secs(61));
        // The first look closes the newest segment, the second lets it go.
        for _ in 0..3 {
            retain(&node).await;
        }
        let end = Offset::new(30);
        assert_eq!(started_behind(&partition, 29).await, end);
        assert_eq!(contents(&partition).await, []);
        node.shutdown().await;
        let node = world.restart().await;
        let partition = node.partition(topic, 0);
        partition
            .leadership()
            .wait_for(|leadership| leadership.ready)
            .await
            .unwrap();
        assert_eq!(partition.resolve_start(Start::Earliest).await, Ok(end));
        let receipt = publish(&partition, draft(topic, 29, &large(), false))
            .await
            .unwrap();
        assert_eq!(receipt.base_offset, Some(Offset::new(29)));
        node.shutdown().await;
    });
}

#[test]
fn positions_resolve_by_offset_time_and_count() {
    run(async {
        let (_, world) = memory();
        let node = world.start().await;
        let topic = node.create("orders", 1).await.id;
        let partition = node.partition(topic, 0);
        let mut times = Vec::new();
        for batch in 0..5 {
            let receipt = publish(&partition, draft(topic, batch * 2, &values(0..2), false)).await;
            times.push(receipt.unwrap().append_time.micros());
            node.clock.advance(Duration::from_secs(1));
        }
        let start = |start| partition.resolve_start(start);
        assert_eq!(start(Start::Latest).await, Ok(Offset::new(10)));
        assert_eq!(
            start(Start::Offset(Offset::new(10))).await,
            Ok(Offset::new(10))
        );
        assert!(start(Start::Offset(Offset::new(11))).await.is_err());
        assert_eq!(start(Start::Time(times[2])).await, Ok(Offset::new(4)));
        assert_eq!(start(Start::Time(times[2] + 1)).await, Ok(Offset::new(6)));
        assert_eq!(start(Start::Time(times[4] + 1)).await, Ok(Offset::new(10)));
        let end = |until| partition.resolve_end(until);
        assert_eq!(end(Until::Tail).await, Ok(ReadEnd::Offset(Offset::new(10))));
        assert_eq!(
            end(Until::Time(times[1])).await,
            Ok(ReadEnd::Offset(Offset::new(2)))
        );
        assert_eq!(
            end(Until::Time(times[4] + 1)).await,
            Ok(ReadEnd::Time(times[4] + 1))
        );
        assert_eq!(end(Until::Never).await, Ok(ReadEnd::Never));
        assert_eq!(partition.read(Offset::new(10), 100).await, Ok(vec![]));
        let beyond = partition.read(Offset::new(11), 100).await;
        assert!(matches!(beyond, Err(PartitionReadError::OutOfRange { .. })));
        node.shutdown().await;
    });
}

#[test]
fn what_is_told_about_a_topic_is_what_its_partitions_say() {
    run(async {
        let (_, world) = memory();
        let node = world.start().await;
        let topic = node.create("orders", 2).await.id;
        let partition = node.partition(topic, 1);
        publish(&partition, draft(topic, 0, &values(0..7), false))
            .await
            .unwrap();
        let guard = partition.subscriber_joined();
        let topology = node.metadata.topology();
        let info = describe::topic_info(topology.topic(topic).unwrap(), node.metadata.leaders());
        let leaders: Vec<_> = info.partitions.iter().map(|one| one.leader).collect();
        assert_eq!(leaders, [Some(super::world::BROKER); 2]);
        let list = describe::topic_list(&topology, node.metadata.leaders());
        assert_eq!((list.topics[0].records, list.topics[0].subscribers), (7, 1));
        drop(guard);
        let described =
            describe::topic_description(topology.topic(topic).unwrap(), node.metadata.leaders());
        assert_eq!(described.summary.subscribers, 0);
        assert_eq!(described.partitions[1].high_watermark, Offset::new(7));
        assert_eq!(described.partitions[1].in_sync.len(), 1);
        node.shutdown().await;
    });
}
