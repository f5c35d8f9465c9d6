//! Acknowledged records survive `kill -9` under load.

use std::sync::Arc;

use quorate_tests::History;
use quorate_tests::Load;
use quorate_tests::Plan;
use quorate_tests::TestCluster;
use quorate_tests::check;
use quorate_tests::eventually;
use quorate_tests::read_topic;
use quorate_tests::within;

/// Receipts between two kills.
const RECEIPTS: usize = 300;

fn kills() -> usize {
    let asked = std::env::var("KILLS").ok();
    asked.map_or(4, |asked| asked.parse().expect("KILLS is a number"))
}

#[tokio::test]
async fn acked_records_survive_kills_under_load() {
    let cluster = TestCluster::new().with("storage.segment_bytes", "4MiB");
    let mut broker = cluster.start().await;
    let client = broker
        .client_with(&[("client.reconnect_ms_max", "300")])
        .await;
    let topic = client.admin().create_topic("orders").partitions(3);
    within(topic).await.unwrap();
    let plan = Plan {
        topic: "orders".to_owned(),
        partitions: 3,
        producers: 4,
        large: true,
    };
    let history = Arc::new(History::new());
    let load = Load::start(&client, &plan, &history).await;
    for _ in 0..kills() {
        let goal = history.applied() + RECEIPTS;
        eventually("receipts", async || {
            (history.applied() >= goal).then_some(())
        })
        .await;
        broker.kill().await;
        broker.restart().await;
    }
    let goal = history.applied() + RECEIPTS;
    eventually("receipts", async || {
        (history.applied() >= goal).then_some(())
    })
    .await;
    load.finish().await;
    let (log, kept) = read_topic(&client, "orders").await.unwrap();
    let verdict = check(&history, &log, &kept);
    println!("{} kills: {verdict}", kills());
    verdict.assert_holds();
    assert_eq!(verdict.not_applied + verdict.unknown, 0, "{verdict}");
}
