//! A subscriber goes on at its next offset, through restarts of its broker.

use std::sync::Arc;

use quorate::Start;
use quorate::Subscription;
use quorate_tests::History;
use quorate_tests::Load;
use quorate_tests::Plan;
use quorate_tests::TestCluster;
use quorate_tests::eventually;
use quorate_tests::read_topic;
use quorate_tests::within;
use tokio::task::JoinSet;

use crate::topic;

async fn follow(mut subscription: Subscription, history: Arc<History>) {
    while let Some(record) = subscription.next().await {
        history.deliver("subscriber", &record.expect("nothing is missing"));
    }
}

#[tokio::test]
async fn a_subscriber_misses_and_repeats_nothing_through_kills_and_restarts() {
    let mut broker = TestCluster::new().start().await;
    let client = broker.client().await;
    topic::create(&client, 2).await;
    let history = Arc::new(History::new());
    let subscription = client.subscribe("orders").from(Start::Earliest);
    let mut follower = JoinSet::new();
    let subscription = within(subscription).await.unwrap();
    follower.spawn(follow(subscription, Arc::clone(&history)));
    let plan = Plan {
        topic: "orders".to_owned(),
        partitions: 2,
        producers: 2,
        large: false,
    };
    let load = Load::start(&client, &plan, &history).await;
    for kill in [true, false, true] {
        let goal = history.delivered("subscriber") + 200;
        let delivered = || (history.delivered("subscriber") >= goal).then_some(());
        eventually("deliveries", async || delivered()).await;
        match kill {
            true => broker.kill().await,
            false => assert_eq!(broker.terminate().await, Some(0)),
        }
        broker.restart().await;
    }
    topic::progress(&history, 200).await;
    load.finish().await;
    let records = read_topic(&client, "orders").await.unwrap().0.len();
    let all = || (history.delivered("subscriber") >= records).then_some(());
    eventually("everything is delivered", async || all()).await;
    let verdict = topic::judge(&client, &history, "subscriber").await;
    assert_eq!(verdict.delivered, records);
}
