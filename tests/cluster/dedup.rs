//! Publishing the same message id again gives the first receipt, whatever happened in between.

use quorate::Client;
use quorate::Receipt;
use quorate_tests::LogFolder;
use quorate_tests::TestCluster;
use quorate_tests::eventually;
use quorate_tests::read_all;
use quorate_tests::within;

use crate::topic;

const MESSAGES: usize = 500;

fn assert_same(first: &[Receipt], again: &[Receipt]) {
    assert!(first.iter().all(|receipt| !receipt.duplicate));
    assert!(again.iter().all(|receipt| receipt.duplicate));
    assert_eq!(topic::offsets(first), topic::offsets(again));
}

async fn records(client: &Client) -> usize {
    read_all(client, "orders", 0).await.unwrap().len()
}

#[tokio::test]
async fn ids_published_again_after_a_kill_are_duplicates() {
    let mut broker = TestCluster::new().start().await;
    let client = broker.client().await;
    topic::create(&client, 1).await;
    let first = topic::publish(&client, 0, 0..MESSAGES, 0).await;
    broker.kill().await;
    broker.restart().await;
    let again = topic::publish(&client, 0, 0..MESSAGES, 0).await;
    assert_same(&first, &again);
    assert_eq!(records(&client).await, MESSAGES);
}

#[tokio::test]
async fn known_and_new_ids_in_one_batch_are_told_apart_after_a_kill() {
    let mut broker = TestCluster::new().start().await;
    let client = broker.client().await;
    topic::create(&client, 1).await;
    let first = topic::publish(&client, 0, 0..100, 0).await;
    broker.kill().await;
    broker.restart().await;
    let mixed = topic::publish(&client, 0, 50..150, 0).await;
    let (known, new) = mixed.split_at(50);
    assert_eq!(topic::offsets(known), topic::offsets(&first[50..]));
    assert!(known.iter().all(|receipt| receipt.duplicate));
    assert!(new.iter().all(|receipt| !receipt.duplicate));
    assert_eq!(records(&client).await, 150);
}

/// Retention makes a checkpoint and removes the segments that held the records.
#[tokio::test]
async fn ids_are_known_after_their_segments_are_gone_and_the_broker_restarted() {
    let mut broker = TestCluster::new()
        .with("storage.segment_bytes", "1MiB")
        .start()
        .await;
    let client = broker.client().await;
    let create = client.admin().create_topic("orders");
    let create = create.set("topic.retention_bytes", "2MiB");
    within(create).await.unwrap();
    let first = topic::publish(&client, 0, 0..200, 100).await;
    topic::publish(&client, 0, 1000..1040, 200_000).await;
    let gone = eventually("retention removes the first segment", async || {
        let described = client.admin().topic("orders").await.unwrap();
        let start = described.partitions[0].start_offset.get();
        (start >= 200).then_some(start)
    });
    gone.await;
    for kill in [true, false] {
        match kill {
            true => broker.kill().await,
            false => assert_eq!(broker.terminate().await, Some(0)),
        }
        broker.restart().await;
        let again = topic::publish(&client, 0, 0..200, 100).await;
        assert_same(&first, &again);
    }
    let folder = LogFolder::holding(broker.data_dir(), topic::text(1039).as_bytes());
    assert!(folder.place_of(topic::text(0).as_bytes()).is_none());
}
