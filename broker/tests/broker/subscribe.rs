//! SUBSCRIBE: every start, credit, slow subscribers, gaps, the end.

use quorate_broker::Environment;
use quorate_protocol::Credit;
use quorate_protocol::CreditGrant;
use quorate_protocol::DeleteTopic;
use quorate_protocol::DescribeTopic;
use quorate_protocol::End;
use quorate_protocol::ErrorCode;
use quorate_protocol::Gap;
use quorate_protocol::GapReason;
use quorate_protocol::Kind;
use quorate_protocol::Offset;
use quorate_protocol::Op;
use quorate_protocol::Progress;
use quorate_protocol::SlowPolicy;
use quorate_protocol::Start;
use quorate_protocol::StreamType;
use quorate_protocol::SubscribeParams;
use quorate_protocol::Text;
use quorate_protocol::TopicDeleted;
use quorate_protocol::TopicDescription;

use crate::client::Client;
use crate::world::Site;
use crate::world::broker_and_client;

const MIB: u64 = 1 << 20;

async fn five(client: &mut Client) -> quorate_protocol::TopicId {
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    for value in ["0", "1", "2", "3", "4"] {
        producer.publish(&[value]).await;
    }
    topic
}

#[tokio::test]
async fn every_start_position_begins_where_it_says() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = five(&mut client).await;
    for (start, first) in [
        (Start::Earliest, 0),
        (Start::Offset(Offset::new(3)), 3),
        (Start::Last(2), 3),
        (Start::Last(100), 0),
        (Start::Time(0), 0),
    ] {
        let mut subscriber = client.subscribe(topic, start, MIB).await;
        assert_eq!(subscriber.accept.start, Offset::new(first), "{start:?}");
        let count = usize::try_from(5 - first).unwrap();
        let records = subscriber.take(count).await;
        assert_eq!(records.last(), Some(&(4, "4".to_owned())), "{start:?}");
    }
    for start in [
        Start::Latest,
        Start::Offset(Offset::new(5)),
        Start::Time(u64::MAX >> 12),
    ] {
        let mut subscriber = client.subscribe(topic, start, MIB).await;
        assert_eq!(subscriber.accept.start, Offset::new(5), "{start:?}");
        let progress: Progress = subscriber.pipe.expect().await;
        assert_eq!((progress.high_watermark, progress.lag), (Offset::new(5), 0));
    }
}

#[tokio::test]
async fn a_start_outside_the_log_is_refused_with_what_there_is() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = five(&mut client).await;
    let params = SubscribeParams {
        start: Start::Offset(Offset::new(6)).into(),
        slow: SlowPolicy::PAUSE,
        credit: Credit::new(MIB),
    };
    let reject = client
        .rejection(StreamType::SUBSCRIBE, topic, &params)
        .await;
    assert_eq!(reject.code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(reject.range, Some((Offset::ZERO, Offset::new(5))));
}

#[tokio::test]
async fn a_live_subscriber_gets_what_is_published_and_how_far_it_lags() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut subscriber = client.subscribe(topic, Start::Latest, MIB).await;
    let mut producer = client.producer(topic).await;
    let _: Progress = subscriber.pipe.expect().await;
    for value in ["a", "b", "c"] {
        let offset = producer.publish(&[value]).await;
        assert_eq!(subscriber.records().await, [(offset, value.to_owned())]);
        let progress: Progress = subscriber.pipe.expect().await;
        assert_eq!(progress.lag, 0);
    }
}

#[tokio::test]
async fn without_credit_nothing_is_sent_and_with_it_nothing_is_missing() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = five(&mut client).await;
    let mut subscriber = client.subscribe(topic, Start::Earliest, 0).await;
    let progress: Progress = subscriber.pipe.expect().await;
    assert_eq!(progress.lag, 5);
    let grant = |bytes, records| CreditGrant {
        bytes: Credit::new(bytes),
        records: Credit::new(records),
    };
    // One byte of credit lets one batch pass, one record likewise.
    subscriber.pipe.send(&grant(1, u64::MAX)).await;
    assert_eq!(subscriber.records().await, [(0, "0".to_owned())]);
    let progress: Progress = subscriber.pipe.expect().await;
    assert_eq!(progress.lag, 4);
    subscriber.pipe.send(&grant(MIB, u64::MAX)).await;
    let rest = subscriber.take(4).await;
    assert_eq!(rest.first(), Some(&(1, "1".to_owned())));
}

#[tokio::test]
async fn a_subscriber_without_credit_does_not_slow_others() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut stuck = Vec::new();
    for _ in 0..8 {
        stuck.push(client.subscribe(topic, Start::Earliest, 0).await);
    }
    let mut live = client.subscribe(topic, Start::Earliest, 64 * MIB).await;
    let mut producer = client.producer(topic).await;
    let value = "x".repeat(100_000);
    for _ in 0..40 {
        producer.publish(&[&value]).await;
    }
    assert_eq!(live.take(40).await.len(), 40);
    let clock = Environment::machine().clock;
    let began = clock.monotonic();
    producer.publish(&["quick"]).await;
    let took = clock.monotonic().saturating_sub(began);
    assert!(took.as_millis() < 500, "{took:?}");
}

#[tokio::test]
async fn streams_that_are_never_read_do_not_stop_the_connection() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    let value = "x".repeat(500_000);
    for _ in 0..10 {
        producer.publish(&[&value]).await;
    }
    // All but a few streams have credit, and nobody reads them.
    let mut unread = Vec::new();
    for _ in 0..28 {
        unread.push(
            client
                .subscribe(topic, Start::Earliest, u64::MAX >> 1)
                .await,
        );
    }
    assert_eq!(producer.publish(&["still"]).await, 10);
    let description: TopicDescription = client
        .ask(
            Op::DESCRIBE_TOPIC,
            &DescribeTopic {
                name: Text::clipped("orders"),
            },
        )
        .await;
    assert_eq!(description.summary.subscribers, 28);
}

#[tokio::test]
async fn a_slow_subscriber_is_disconnected_if_it_asked_for_that() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut slow = client
        .subscribe_as(topic, Start::Latest, 0, SlowPolicy::DISCONNECT)
        .await;
    let mut producer = client.producer(topic).await;
    producer.publish(&["a"]).await;
    let end: End = slow.pipe.skip_to().await;
    assert_eq!(end.code, ErrorCode::SLOW_CONSUMER);
    slow.pipe.expect_end().await;
}

#[tokio::test]
async fn retention_that_overtakes_a_subscriber_is_announced() {
    let site = Site::with(&[("storage.segment_bytes", "1MiB")]);
    let (_broker, mut client) = broker_and_client(&site).await;
    let settings = quorate_protocol::TopicSettings {
        retention_bytes: 1,
        ..quorate_protocol::TopicSettings::default()
    };
    let topic = client.create_topic_with("orders", 1, settings).await;
    let mut producer = client.producer(topic).await;
    let value = "x".repeat(400_000);
    producer.publish(&[&value]).await;
    let mut subscriber = client.subscribe(topic, Start::Earliest, 0).await;
    for _ in 0..10 {
        producer.publish(&[&value]).await;
    }
    let wanted = DescribeTopic {
        name: Text::clipped("orders"),
    };
    let log_start = loop {
        let description: TopicDescription = client.ask(Op::DESCRIBE_TOPIC, &wanted).await;
        let log_start = description.partitions[0].log_start;
        if log_start > Offset::ZERO {
            break log_start;
        }
        tokio::task::yield_now().await;
    };
    let grant = CreditGrant {
        bytes: Credit::new(64 * MIB),
        records: Credit::new(u64::MAX),
    };
    subscriber.pipe.send(&grant).await;
    let gap: Gap = subscriber.pipe.skip_to().await;
    assert_eq!((gap.from, gap.reason), (Offset::ZERO, GapReason::RETENTION));
    assert!(gap.to >= log_start);
    let records = subscriber.records().await;
    assert_eq!(records[0].0, gap.to.get());
}

#[tokio::test]
async fn deleting_the_topic_ends_its_subscriptions() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut subscriber = client.subscribe(topic, Start::Latest, MIB).await;
    let delete = DeleteTopic {
        name: Text::clipped("orders"),
        dry_run: false,
    };
    let _: TopicDeleted = client.ask(Op::DELETE_TOPIC, &delete).await;
    let end: End = subscriber.pipe.skip_to().await;
    assert_eq!(end.code, ErrorCode::UNKNOWN_TOPIC);
    subscriber.pipe.expect_end().await;
}

#[tokio::test]
async fn a_frame_that_does_not_belong_resets_the_stream() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut subscriber = client.subscribe(topic, Start::Latest, MIB).await;
    subscriber
        .pipe
        .send(&quorate_protocol::Ping { nonce: 1 })
        .await;
    assert_eq!(
        subscriber.pipe.expect_reset().await,
        ErrorCode::PROTOCOL_VIOLATION
    );
    let mut other = client.subscribe(topic, Start::Latest, MIB).await;
    assert_eq!(other.pipe.next().await.kind(), Kind::PROGRESS);
}
