//! A leader that stands still while another is elected, and goes on as if nothing had happened.

use std::time::Duration;

use quorate::Message;
use quorate::MessageId;
use quorate_tests::ClusterPlan;
use quorate_tests::within;

use crate::failover::Traffic;

/// Longer than any election.
const PAUSE: Duration = Duration::from_secs(3);

#[tokio::test]
async fn a_paused_leader_acknowledges_nothing_that_its_successor_does_not_hold() {
    let mut brokers = ClusterPlan::of(3).start().await;
    let traffic = Traffic::start(&brokers).await;
    traffic.progress(200).await;
    let stale = brokers.leader(&traffic.client, "orders", 0).await;
    // A client that knows no other broker hears no other word than the stale leader's.
    let options = [("producer.delivery_timeout_ms", "20000")];
    let confined = brokers.client_at(stale, &options).await;
    let producer = within(confined.producer("orders")).await.unwrap();
    traffic.history.invoke_text(100, 0, "before");
    let text = |key: &str| {
        let message = Message::new(key.to_owned()).key(key.to_owned());
        message.id(MessageId::hash(key)).partition(0)
    };
    let before = within(producer.send(text("before"))).await.unwrap();
    traffic.history.answer("before", &within(before).await);
    brokers.stop(stale);
    traffic.history.invoke_text(100, 1, "while it stands");
    let waiting = within(producer.send(text("while it stands")))
        .await
        .unwrap();
    let paused = tokio::time::sleep(PAUSE);
    let successor = brokers
        .leader_other_than(&traffic.client, "orders", 0, stale)
        .await;
    assert_ne!(successor, stale);
    traffic.progress(200).await;
    paused.await;
    brokers.cont(stale);
    let ended = within(waiting).await;
    traffic.history.answer("while it stands", &ended);
    traffic.progress(200).await;
    drop((producer, confined));
    let verdict = traffic.judge(&mut brokers, "a paused leader").await;
    assert_eq!(verdict.not_applied, 0, "{verdict}");
}
