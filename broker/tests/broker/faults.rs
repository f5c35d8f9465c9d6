//! A bad world: panics, failing disks, full disks, certificates that end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_broker::Broker;
use quorate_broker::Environment;
use quorate_broker::Exit;
use quorate_broker::InitMode;
use quorate_broker::clock::Clock;
use quorate_protocol::End;
use quorate_protocol::ErrorCode;
use quorate_protocol::GoAway;
use quorate_protocol::GoAwayReason;
use quorate_protocol::Nack;
use quorate_protocol::Op;
use quorate_protocol::Start;
use quorate_protocol::TopicSettings;
use quorate_storage::Crash;
use quorate_storage::MemoryStorage;

use crate::client::create;
use crate::world::Site;
use crate::world::runtime;
use crate::world::within;

/// The machine, except for its disk.
fn in_memory(storage: &Arc<MemoryStorage>) -> Environment {
    let storage = Arc::clone(storage);
    Environment {
        storage,
        ..Environment::machine()
    }
}

#[tokio::test]
async fn a_panic_ends_its_connection_and_no_other() {
    let site = Site::new();
    let armed = Arc::new(AtomicBool::new(false));
    let trap = Arc::clone(&armed);
    let machine = Environment::machine();
    let entropy = Arc::clone(&machine.entropy);
    let environment = Environment {
        entropy: Arc::new(move || {
            assert!(
                !trap.load(Ordering::Relaxed),
                "a panic that a test asked for"
            );
            entropy()
        }),
        ..machine
    };
    let broker = within(Broker::start(site.config(), InitMode::Init, environment))
        .await
        .unwrap();
    let mut victim = site.client(broker.client_address()).await;
    let mut other = site.client(broker.client_address()).await;
    let topic = other.create_topic("orders").await;
    armed.store(true, Ordering::Relaxed);
    let request = quorate_protocol::Request {
        correlation: 1,
        deadline_ms: 0,
        op: Op::CREATE_TOPIC,
        body: quorate_protocol::Body::to_blob(&create("more", 1, TopicSettings::default()))
            .unwrap(),
    };
    victim.control.send(&request).await;
    assert_eq!(victim.raw.closed().await.0, ErrorCode::INTERNAL);
    armed.store(false, Ordering::Relaxed);
    let mut producer = other.producer(topic).await;
    assert_eq!(producer.publish(&["alive"]).await, 0);
    other.create_topic("more").await;
}

#[tokio::test]
async fn a_failed_flush_acks_nothing_and_ends_the_broker() {
    let site = Site::new().with_setting("node.data_dir", "/memory");
    let storage = Arc::new(MemoryStorage::inline());
    let environment = in_memory(&storage);
    let broker = within(Broker::start(site.config(), InitMode::Init, environment))
        .await
        .unwrap();
    let mut client = site.client(broker.client_address()).await;
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    producer.publish(&["durable"]).await;
    storage.fail_sync_after(0);
    producer.send(&["lost"]).await;
    assert_eq!(within(broker.failed()).await, Exit::StoragePoisoned);
    let nack: Nack = producer.pipe.skip_to().await;
    assert_eq!(nack.from_sequence.get(), 1);
    assert_eq!(nack.unproposed_sequence.get(), 2, "it may be in the log");
}

#[test]
fn a_power_cut_takes_nothing_that_was_acked() {
    let site = Site::new().with_setting("node.data_dir", "/memory");
    let storage = Arc::new(MemoryStorage::inline());
    runtime().block_on(async {
        let environment = in_memory(&storage);
        let started = Broker::start(site.config(), InitMode::Init, environment);
        let broker = within(started).await.unwrap();
        let mut client = site.client(broker.client_address()).await;
        let topic = client.create_topic("orders").await;
        let mut producer = client.producer(topic).await;
        for value in ["a", "b", "c"] {
            producer.publish(&[value]).await;
        }
    });
    storage.crash(Crash::Synced);
    runtime().block_on(async {
        let environment = in_memory(&storage);
        let started = Broker::start(site.config(), InitMode::Open, environment);
        let broker = within(started).await.unwrap();
        let mut client = site.client(broker.client_address()).await;
        let topic = client.topic_id("orders").await;
        let mut subscriber = client.subscribe(topic, Start::Earliest, 1 << 20).await;
        let values: Vec<_> = subscriber
            .take(3)
            .await
            .into_iter()
            .map(|(_, value)| value)
            .collect();
        assert_eq!(values, ["a", "b", "c"]);
    });
}

/// The machine's clock, ahead of time.
#[derive(Debug)]
struct Ahead(Arc<dyn Clock>, Duration);

impl Clock for Ahead {
    fn now_micros(&self) -> u64 {
        self.0.now_micros() + u64::try_from(self.1.as_micros()).unwrap()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }
}

#[tokio::test]
async fn a_session_ends_with_its_certificate_and_says_so_before() {
    let site = Site::new();
    let machine = Environment::machine();
    let until_two_seconds_before_the_end = site.admin_lifetime() - Duration::from_secs(2);
    let clock = Arc::new(Ahead(
        Arc::clone(&machine.clock),
        until_two_seconds_before_the_end,
    ));
    let environment = Environment { clock, ..machine };
    let broker = within(Broker::start(site.config(), InitMode::Init, environment))
        .await
        .unwrap();
    let mut idle = site.client(broker.client_address()).await;
    assert!(idle.ack.session_deadline_ms <= 2_000);
    let mut client = site.client(broker.client_address()).await;
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    let mut subscriber = client.subscribe(topic, Start::Latest, 1 << 20).await;
    producer.publish(&["in time"]).await;
    let go_away: GoAway = idle.control.expect().await;
    assert_eq!(go_away.reason, GoAwayReason::SESSION_DEADLINE);
    let nack: Nack = producer.pipe.skip_to().await;
    assert_eq!(nack.code, ErrorCode::SESSION_EXPIRED);
    let end: End = subscriber.pipe.skip_to().await;
    assert_eq!(end.code, ErrorCode::SESSION_EXPIRED);
    assert_eq!(client.raw.closed().await.0, ErrorCode::SESSION_EXPIRED);
}
