//! What survives: a kill, a restart, damage.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use quorate_broker::InitMode;
use quorate_protocol::AckLevel;
use quorate_protocol::Credit;
use quorate_protocol::ErrorCode;
use quorate_protocol::ProducerGranted;
use quorate_protocol::SlowPolicy;
use quorate_protocol::Start;
use quorate_protocol::StreamType;
use quorate_protocol::SubscribeParams;

use crate::journal::Journal;
use crate::world::Site;
use crate::world::broker_and_client;
use crate::world::runtime;
use crate::world::within;

/// Publishes in a broker that is then killed.
fn publish_and_kill(site: &Site, values: &[&str]) -> ProducerGranted {
    let runtime = runtime();
    runtime.block_on(async {
        let (_broker, mut client) = broker_and_client(site).await;
        let topic = client.create_topic("orders").await;
        let mut producer = client.producer(topic).await;
        for value in values {
            producer.publish(&[value]).await;
        }
        producer.granted
    })
}

#[test]
fn what_was_acked_survives_a_kill() {
    let site = Site::new();
    let granted = publish_and_kill(&site, &["a", "b", "c"]);
    runtime().block_on(async {
        let broker = site.try_start(InitMode::Open).await.unwrap();
        let mut client = site.client(broker.client_address()).await;
        let topic = client.topic_id("orders").await;
        let mut subscriber = client.subscribe(topic, Start::Earliest, 1 << 20).await;
        let records = subscriber.take(3).await;
        let values: Vec<_> = records.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, ["a", "b", "c"]);
        // The producer's numbers survive too: what it sends again is a duplicate.
        let mut producer = client.producer_as(topic, granted).await;
        let again = producer.batch(2, &["c"]);
        producer.send_batch(&again, AckLevel::QUORUM).await;
        let acks = producer.acks().await;
        assert!(acks.acks[0].duplicate);
        assert_eq!(acks.acks[0].base_offset.unwrap().get(), 2);
        producer.next = 3;
        assert_eq!(producer.publish(&["d"]).await, 3);
        within(broker.drain(Duration::from_secs(5))).await;
    });
}

#[test]
fn a_drained_broker_starts_again_with_everything() {
    let site = Site::new();
    runtime().block_on(async {
        let (broker, mut client) = broker_and_client(&site).await;
        let topic = client
            .create_topic_with("orders", 3, Default::default())
            .await;
        let mut producer = client.producer(topic).await;
        producer.publish(&["a"]).await;
        within(broker.drain(Duration::from_secs(5))).await;
    });
    runtime().block_on(async {
        let broker = site.try_start(InitMode::Open).await.unwrap();
        let mut client = site.client(broker.client_address()).await;
        let topic = client.topic_id("orders").await;
        let mut subscriber = client.subscribe(topic, Start::Earliest, 1 << 20).await;
        assert_eq!(subscriber.take(1).await, [(0, "a".to_owned())]);
    });
}

/// The largest segment file below a folder.
fn segment(folder: &Path) -> PathBuf {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.metadata().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                found.push((entry.metadata().unwrap().len(), entry.path()));
            }
        }
    }
    found.into_iter().max().unwrap().1
}

#[test]
fn a_damaged_segment_closes_its_partition_and_nothing_else() {
    let site = Site::new();
    let value = "needle in the middle of the log ".repeat(100);
    runtime().block_on(async {
        let (broker, mut client) = broker_and_client(&site).await;
        let damaged = client.create_topic("damaged").await;
        let mut producer = client.producer(damaged).await;
        for _ in 0..50 {
            producer.publish(&[&value]).await;
        }
        let healthy = client.create_topic("healthy").await;
        client.producer(healthy).await.publish(&["fine"]).await;
        within(broker.drain(Duration::from_secs(5))).await;
    });
    let groups = site.data_dir().join("g");
    let path = segment(&groups);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes
        .windows(6)
        .position(|window| window == b"needle")
        .unwrap()
        + 50_000;
    bytes[at] ^= 0xff;
    std::fs::write(&path, bytes).unwrap();
    let journal = Journal::open();
    runtime().block_on(async {
        let broker = site.try_start(InitMode::Open).await.unwrap();
        let mut client = site.client(broker.client_address()).await;
        let healthy = client.topic_id("healthy").await;
        let mut subscriber = client.subscribe(healthy, Start::Earliest, 1 << 20).await;
        assert_eq!(subscriber.take(1).await, [(0, "fine".to_owned())]);
        let damaged = client.topic_id("damaged").await;
        let params = SubscribeParams {
            start: Start::Earliest.into(),
            slow: SlowPolicy::PAUSE,
            credit: Credit::new(1 << 20),
        };
        let mut pipe = client.open(StreamType::SUBSCRIBE, damaged, &params).await;
        let frame = pipe.next().await;
        let refused = match frame.kind() {
            quorate_protocol::Kind::STREAM_REJECT => {
                frame.decode::<quorate_protocol::StreamReject>().code
            }
            _ => pipe.skip_to::<quorate_protocol::End>().await.code,
        };
        let expected = [ErrorCode::LEADER_NOT_READY, ErrorCode::DATA_UNAVAILABLE];
        assert!(expected.contains(&refused), "{refused}");
    });
    let file = path.file_name().unwrap().to_str().unwrap();
    journal.find(&["INFO", "recovered", "partitions=1 unavailable=1"]);
    journal.find(&["ERROR", "damaged/0", file, "is damaged at byte"]);
}
