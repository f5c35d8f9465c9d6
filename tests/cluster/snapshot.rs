//! A broker that was away while records were removed comes back: it gets files in place of entries.

use quorate::Client;
use quorate_tests::Brokers;
use quorate_tests::ClusterPlan;
use quorate_tests::compare_replicas;
use quorate_tests::eventually;
use quorate_tests::kept_offsets;
use quorate_tests::within;

use crate::topic;

/// The first kept offset.
async fn log_start(client: &Client) -> u64 {
    kept_offsets(client, "orders").await.unwrap()[&0].0
}

/// A follower misses records that are gone by the time it comes back; its number.
async fn leave_behind(brokers: &mut Brokers, client: &Client) -> u16 {
    let create = client.admin().create_topic("orders").partitions(1);
    within(create.replicas(3).set("topic.retention_bytes", "4MiB"))
        .await
        .unwrap();
    topic::publish(client, 0, 0..3, 1000).await;
    brokers.in_sync(client, "orders").await;
    let behind = brokers.leader(client, "orders", 0).await % 3 + 1;
    brokers.kill(behind).await;
    topic::publish(client, 0, 3..63, 200_000).await;
    eventually("the records it misses are gone", async || {
        (log_start(client).await > 3).then_some(())
    })
    .await;
    behind
}

#[tokio::test]
async fn a_broker_that_missed_removed_records_catches_up_with_files() {
    let mut brokers = ClusterPlan::of(3).start().await;
    let client = brokers.client().await;
    let behind = leave_behind(&mut brokers, &client).await;
    brokers.restart(behind).await;
    eventually("the files take their place", async || {
        let said = brokers.stderr(behind);
        said.contains("a snapshot came").then_some(())
    })
    .await;
    brokers.in_sync(&client, "orders").await;
    topic::publish(&client, 0, 63..70, 1000).await;
    // It carries its share: without the third broker it is needed for every receipt.
    let leader = brokers.leader(&client, "orders", 0).await;
    let third = (1..=3).find(|id| ![leader, behind].contains(id)).unwrap();
    brokers.kill(third).await;
    topic::publish(&client, 0, 70..80, 1000).await;
    brokers.terminate_all().await;
    let folders = [leader, behind].map(|id| brokers.data_dir(id));
    compare_replicas(&[&folders[0], &folders[1]]).assert_same();
}
