//! Acknowledged records survive `kill -9` under load.

use std::sync::Arc;

use quorate_tests::History;
use quorate_tests::Load;
use quorate_tests::Plan;
use quorate_tests::TestCluster;

use crate::topic;

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
    let client = broker.client().await;
    topic::create(&client, 3).await;
    let plan = Plan {
        topic: "orders".to_owned(),
        partitions: 3,
        producers: 4,
        large: true,
    };
    let history = Arc::new(History::new());
    let load = Load::start(&client, &plan, &history).await;
    for _ in 0..kills() {
        topic::progress(&history, RECEIPTS).await;
        broker.kill().await;
        broker.restart().await;
    }
    topic::progress(&history, RECEIPTS).await;
    load.finish().await;
    let verdict = topic::judge(&client, &history, &format!("{} kills", kills())).await;
    // Each was sent again until it had its receipt.
    assert_eq!(verdict.not_applied + verdict.unknown, 0, "{verdict}");
}
