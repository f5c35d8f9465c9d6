//! Credit: what a client may send, and what it can make the broker hold.

use quorate_protocol::AckLevel;
use quorate_protocol::ErrorCode;
use quorate_protocol::Nack;
use quorate_protocol::PUBLISH_HEADER_LEN;
use quorate_protocol::PublishHeader;
use quorate_protocol::Start;

use crate::world::Site;
use crate::world::broker_and_client;

#[tokio::test]
async fn publishing_beyond_credit_resets_the_stream_and_spares_the_connection() {
    let site = Site::with(&[("limits.producer_credit_bytes", "64KiB")]);
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    assert_eq!(producer.accept.credit.get(), 64 * 1024);
    // The first batch takes all credit, and the others come with its last packet.
    let large = "x".repeat(70 * 1024);
    let batches = (0..20).map(|at| producer.batch(at, &[if at == 0 { &large } else { "y" }]));
    let mut bytes = Vec::new();
    for batch in batches {
        let header = PublishHeader {
            level: AckLevel::QUORUM,
            flags: 0,
            deadline_ms: 0,
            expect_offset: None,
        };
        bytes.extend_from_slice(&header.frame_prefix(u32::try_from(batch.len()).unwrap()));
        bytes.extend_from_slice(&batch);
    }
    producer.pipe.send.write_all(&bytes).await.unwrap();
    assert_eq!(
        producer.pipe.expect_reset().await,
        ErrorCode::CREDIT_EXCEEDED
    );
    let mut other = client.producer(topic).await;
    other.send(&["still here"]).await;
    assert_eq!(other.acks().await.acks.len(), 1);
}

#[tokio::test]
async fn credit_comes_back_with_every_settled_and_every_discarded_frame() {
    let site = Site::with(&[("limits.producer_credit_bytes", "64KiB")]);
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    let value = "x".repeat(30 * 1024);
    let mut granted = producer.accept.credit.get();
    let mut sent = 0;
    for at in 0..20 {
        assert!(granted > sent, "credit is left for batch {at}");
        let batch = producer.batch(at, &[&value]);
        sent += credit_of(&batch);
        producer.send_batch(&batch, AckLevel::QUORUM).await;
        granted = producer.acks().await.credit.get();
    }
    assert_eq!(granted - sent, 64 * 1024);
    let mut corrupt = producer.batch(20, &[&value]).to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    producer.send_batch(&corrupt, AckLevel::QUORUM).await;
    sent += credit_of(&corrupt);
    let _: Nack = producer.pipe.skip_to().await;
    for at in 21..40 {
        while granted <= sent {
            let acks: quorate_protocol::Acks = producer.pipe.expect().await;
            granted = acks.credit.get();
        }
        let batch = producer.batch(at, &[&value]);
        sent += credit_of(&batch);
        producer.send_batch(&batch, AckLevel::QUORUM).await;
    }
}

#[tokio::test]
async fn subscribers_without_credit_cost_no_memory() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut stuck = Vec::new();
    for _ in 0..30 {
        stuck.push(client.subscribe(topic, Start::Earliest, 0).await);
    }
    let mut producer = client.producer(topic).await;
    let value = "x".repeat(500_000);
    for _ in 0..40 {
        producer.publish(&[&value]).await;
    }
    let before = resident_bytes();
    for _ in 0..80 {
        producer.publish(&[&value]).await;
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(
        grown < 10 << 20,
        "{grown} bytes more after 40 MB for 30 subscribers"
    );
}

/// Memory of this process that is in RAM.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// What a frame with this batch uses up.
fn credit_of(batch: &[u8]) -> u64 {
    u64::try_from(PUBLISH_HEADER_LEN + batch.len()).unwrap()
}
