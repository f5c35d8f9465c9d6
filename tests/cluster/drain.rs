//! SIGTERM: the broker finishes what it promised and ends with status 0.

use std::sync::Arc;
use std::time::Duration;

use quorate_tests::History;
use quorate_tests::Load;
use quorate_tests::Plan;
use quorate_tests::TestCluster;
use quorate_tests::eventually;

use crate::topic;

/// What the broker gives itself, which it needs only for clients that do not go.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_broker_told_to_end_under_load_loses_nothing_and_exits_0() {
    let mut broker = TestCluster::new().start().await;
    let client = broker.client().await;
    topic::create(&client, 2).await;
    let plan = Plan {
        topic: "orders".to_owned(),
        partitions: 2,
        producers: 3,
        large: true,
    };
    let history = Arc::new(History::new());
    let load = Load::start(&client, &plan, &history).await;
    for _ in 0..2 {
        topic::progress(&history, 200).await;
        let ended = tokio::time::timeout(DRAIN_LIMIT, broker.terminate());
        assert_eq!(ended.await.expect("it ends in time"), Some(0));
        broker.restart().await;
    }
    topic::progress(&history, 200).await;
    load.finish().await;
    let verdict = topic::judge(&client, &history, "drain").await;
    assert_eq!(verdict.not_applied + verdict.unknown, 0, "{verdict}");
}

#[tokio::test]
async fn what_is_in_flight_at_the_end_has_an_outcome() {
    let mut broker = TestCluster::new().start().await;
    let options = [("producer.delivery_timeout_ms", "1500")];
    let client = broker.client_with(&options).await;
    topic::create(&client, 1).await;
    let plan = Plan {
        topic: "orders".to_owned(),
        partitions: 1,
        producers: 2,
        large: false,
    };
    let history = Arc::new(History::new());
    let load = Load::start(&client, &plan, &history).await;
    topic::progress(&history, 200).await;
    assert_eq!(broker.terminate().await, Some(0));
    let refused = || (history.refused() > 0).then_some(());
    eventually("some publishes fail without a broker", async || refused()).await;
    load.finish().await;
    broker.restart().await;
    let verdict = topic::judge(&client, &history, "drain without return").await;
    assert!(verdict.not_applied > 0, "{verdict}");
}
