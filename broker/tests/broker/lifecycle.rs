//! Draining, and what an operator is told when a broker cannot start.

use std::time::Duration;

use quorate_broker::InitMode;
use quorate_broker::StartError;
use quorate_protocol::End;
use quorate_protocol::ErrorCode;
use quorate_protocol::GoAway;
use quorate_protocol::GoAwayReason;
use quorate_protocol::Nack;
use quorate_protocol::Start;
use tokio_util::task::TaskTracker;

use crate::journal::Journal;
use crate::world::Site;
use crate::world::broker_and_client;
use crate::world::within;

#[tokio::test]
async fn a_drain_acks_what_was_sent_and_tells_everybody() {
    let site = Site::new();
    let (broker, mut client) = broker_and_client(&site).await;
    let idle = site.client(broker.client_address()).await;
    let topic = client.create_topic("orders").await;
    let mut subscriber = client.subscribe(topic, Start::Latest, 1 << 20).await;
    let mut producer = client.producer(topic).await;
    producer.publish(&["a"]).await;
    let drained = TaskTracker::new().spawn(broker.drain(Duration::from_secs(10)));
    let nack: Nack = producer.pipe.skip_to().await;
    assert_eq!(
        (nack.code, nack.from_sequence.get()),
        (ErrorCode::DRAINING, 1)
    );
    let end: End = subscriber.pipe.skip_to().await;
    assert_eq!(end.code, ErrorCode::DRAINING);
    for mut client in [client, idle] {
        let go_away: GoAway = client.control.skip_to().await;
        assert_eq!(go_away.reason, GoAwayReason::DRAINING);
        assert_eq!(client.raw.closed().await.0, ErrorCode::OK);
    }
    within(drained).await.unwrap();
}

#[tokio::test]
async fn a_drain_ends_although_a_client_does_not_listen() {
    let site = Site::new();
    let (broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    let value = "x".repeat(900_000);
    producer.publish(&[&value]).await;
    let _unread = client
        .subscribe(topic, Start::Earliest, u64::MAX >> 1)
        .await;
    within(broker.drain(Duration::from_millis(300))).await;
}

#[tokio::test]
async fn an_unused_folder_needs_to_be_initialised() {
    let site = Site::new();
    let error = site.try_start(InitMode::Open).await.unwrap_err();
    assert!(matches!(error, StartError::NotInitialised(_)));
    let text = error.to_string();
    assert!(text.contains("--init") && text.contains("data"), "{text}");
}

#[tokio::test]
async fn a_folder_in_use_or_of_another_broker_is_refused() {
    let site = Site::new();
    let broker = site.start().await;
    let error = site.try_start(InitMode::Open).await.unwrap_err();
    assert!(
        error.to_string().contains("held by another process"),
        "{error}"
    );
    within(broker.drain(Duration::from_secs(5))).await;
    let other = site.with_setting("node.id", "2");
    let error = other.try_start(InitMode::Open).await.unwrap_err();
    assert!(error.to_string().contains("belongs to broker 1"), "{error}");
}

#[tokio::test]
async fn an_operator_can_read_what_happened() {
    let journal = Journal::open();
    let site = Site::new();
    let (broker, mut client) = broker_and_client(&site).await;
    client.create_topic("orders").await;
    client.raw.connection.close(7u32.into(), b"\x1b[31mred");
    within(client.raw.connection.closed()).await;
    within(broker.drain(Duration::from_secs(5))).await;
    journal.find(&["INFO", "data folder initialised", "data"]);
    journal.find(&["INFO", "recovered", "topics=0", "took="]);
    journal.find(&["INFO", "broker is ready", "cluster=", "127.0.0.1:"]);
    let connected = journal.find(&["INFO", "client connected", "spiffe://test/admin/admin"]);
    assert!(connected.contains("broker tests"), "{connected}");
    journal.find(&["INFO", "topic created", "orders"]);
    let gone = journal.find(&["INFO", "client disconnected", "red"]);
    assert!(!gone.contains('\x1b'), "{gone:?}");
    journal.find(&["INFO", "broker has shut down", "took="]);
}
