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
use quorate_protocol::AckLevel;
use quorate_protocol::Acks;
use quorate_protocol::End;
use quorate_protocol::ErrorCode;
use quorate_protocol::GoAway;
use quorate_protocol::GoAwayReason;
use quorate_protocol::Kind;
use quorate_protocol::Nack;
use quorate_protocol::Offset;
use quorate_protocol::Op;
use quorate_protocol::PublishHeader;
use quorate_protocol::Rewind;
use quorate_protocol::Sequence;
use quorate_protocol::Start;
use quorate_protocol::TopicSettings;
use quorate_storage::Crash;
use quorate_storage::MemoryStorage;

use crate::client::Producer;
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

/// A disk whose work is done by a thread that a test can hold up.
struct Pump {
    held: Arc<AtomicBool>,
    /// Held, and what it was doing is done.
    still: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
}

impl Pump {
    fn start(storage: &Arc<MemoryStorage>) -> Self {
        let pump = Self {
            held: Arc::default(),
            still: Arc::default(),
            stopped: Arc::default(),
        };
        let (held, stopped) = (Arc::clone(&pump.held), Arc::clone(&pump.stopped));
        let still = Arc::clone(&pump.still);
        let storage = Arc::clone(storage);
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let holds = held.load(Ordering::Acquire);
                still.store(holds, Ordering::Release);
                if holds || !storage.run_one() {
                    std::thread::yield_now();
                }
            }
        });
        pump
    }

    fn hold(&self, held: bool) {
        self.held.store(held, Ordering::Release);
        while self.still.load(Ordering::Acquire) != held {
            std::thread::yield_now();
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_disk_that_hangs_gives_honest_answers_in_time() {
    let site = Site::new().with_setting("node.data_dir", "/memory");
    let storage = Arc::new(MemoryStorage::queued());
    let pump = Pump::start(&storage);
    let environment = in_memory(&storage);
    let broker = within(Broker::start(site.config(), InitMode::Init, environment))
        .await
        .unwrap();
    let mut client = site.client(broker.client_address()).await;
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    producer.publish(&["before"]).await;
    pump.hold(true);
    let batch = producer.batch(1, &["meanwhile"]);
    let header = PublishHeader {
        level: AckLevel::QUORUM,
        flags: 0,
        deadline_ms: 200,
        expect_offset: None,
    };
    producer.send_as(&header, &batch).await;
    let nack: Nack = producer.pipe.skip_to().await;
    assert_eq!(nack.code, ErrorCode::AMBIGUOUS_COMMIT);
    let range = (nack.from_sequence.get(), nack.unproposed_sequence.get());
    assert_eq!(range, (1, 2));
    // Sending it again tells: it was appended, once.
    producer
        .pipe
        .send(&Rewind {
            sequence: Sequence::new(1),
        })
        .await;
    producer.send_batch(&batch, AckLevel::QUORUM).await;
    pump.hold(false);
    let acks = producer.acks().await;
    assert!(acks.acks[0].duplicate);
    assert_eq!(acks.acks[0].base_offset, Some(Offset::new(1)));
    producer.next = 2;
    assert_eq!(producer.publish(&["after"]).await, 2);
}

#[tokio::test]
async fn a_change_that_is_late_is_not_called_undone() {
    let site = Site::new().with_setting("node.data_dir", "/memory");
    let storage = Arc::new(MemoryStorage::queued());
    let pump = Pump::start(&storage);
    let environment = in_memory(&storage);
    let broker = within(Broker::start(site.config(), InitMode::Init, environment))
        .await
        .unwrap();
    let mut client = site.client(broker.client_address()).await;
    let orders = create("orders", 1, TopicSettings::default());
    pump.hold(true);
    let late = client.request_within(200, Op::CREATE_TOPIC, &orders);
    assert_eq!(late.await.code, ErrorCode::AMBIGUOUS_COMMIT);
    pump.hold(false);
    let again = client.request(Op::CREATE_TOPIC, &orders).await;
    assert_eq!(again.code, ErrorCode::ALREADY_EXISTS);
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers_by_itself() {
    let site = Site::new().with_setting("node.data_dir", "/memory");
    let storage = Arc::new(MemoryStorage::inline());
    let environment = in_memory(&storage);
    let broker = within(Broker::start(site.config(), InitMode::Init, environment))
        .await
        .unwrap();
    let mut client = site.client(broker.client_address()).await;
    let topic = client.create_topic("orders").await;
    let mut first = client.producer(topic).await;
    let mut second = client.producer(topic).await;
    first.publish(&["before"]).await;
    storage.limit_space(Some(0));
    let large = first.batch(1, &[&"x".repeat(100_000)]);
    let hurried = PublishHeader {
        level: AckLevel::QUORUM,
        flags: 0,
        deadline_ms: 100,
        expect_offset: None,
    };
    first.send_as(&hurried, &large).await;
    let nack: Nack = first.pipe.skip_to().await;
    assert_eq!(nack.code, ErrorCode::AMBIGUOUS_COMMIT, "it waits for room");
    second.send(&["later"]).await;
    let nack: Nack = second.pipe.skip_to().await;
    assert_eq!(nack.code, ErrorCode::DISK_FULL);
    assert_eq!(nack.from_sequence, nack.unproposed_sequence, "not applied");
    assert!(nack.retry_after_ms > 0);
    storage.limit_space(None);
    assert_eq!(until_acked(&mut first, 1, &large).await, 1);
    let later = second.batch(0, &["later"]);
    assert_eq!(until_acked(&mut second, 0, &later).await, 2);
}

/// Sends a batch until there is room for it; its offset.
async fn until_acked(producer: &mut Producer, sequence: u64, batch: &[u8]) -> u64 {
    let sequence = Sequence::new(sequence);
    loop {
        producer.pipe.send(&Rewind { sequence }).await;
        producer.send_batch(batch, AckLevel::QUORUM).await;
        let settled = loop {
            let frame = producer.pipe.next().await;
            if frame.kind() == Kind::NACK {
                assert_eq!(frame.decode::<Nack>().code, ErrorCode::DISK_FULL);
                break None;
            }
            let acks: Acks = frame.decode();
            if let Some(ack) = acks.acks.first() {
                break ack.base_offset;
            }
        };
        if let Some(offset) = settled {
            return offset.get();
        }
    }
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
