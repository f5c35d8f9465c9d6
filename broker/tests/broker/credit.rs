//! Credit: what a client may send, and what it can make the broker hold.

use quorate_protocol::AckLevel;
use quorate_protocol::ErrorCode;
use quorate_protocol::Nack;
use quorate_protocol::PUBLISH_HEADER_LEN;

use crate::world::Site;
use crate::world::broker_and_client;

#[tokio::test]
async fn publishing_beyond_credit_resets_the_stream_and_spares_the_connection() {
    let site = Site::with(&[("limits.producer_credit_bytes", "64KiB")]);
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    assert_eq!(producer.accept.credit.get(), 64 * 1024);
    // A failed batch gives its credit back only with the Nack: what follows at once overdraws.
    let big = "x".repeat(60 * 1024);
    let frames: Vec<_> = (0..4).map(|at| producer.batch(at, &[&big])).collect();
    let mut bytes = Vec::new();
    for batch in &frames {
        let header = quorate_protocol::PublishHeader {
            level: AckLevel::QUORUM,
            flags: 0,
            deadline_ms: 0,
            expect_offset: None,
        };
        bytes.extend_from_slice(&header.frame_prefix(batch.len() as u32));
        bytes.extend_from_slice(batch);
    }
    // The client does not wait for a single grant.
    producer.pipe.send.write_all(&bytes).await.ok();
    let first = producer.pipe.try_next().await;
    if first.is_ok() {
        assert_eq!(
            producer.pipe.expect_reset().await,
            ErrorCode::CREDIT_EXCEEDED
        );
    }
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
        sent += (PUBLISH_HEADER_LEN + batch.len()) as u64;
        producer.send_batch(&batch, AckLevel::QUORUM).await;
        granted = producer.acks().await.credit.get();
    }
    assert_eq!(granted - sent, 64 * 1024);
    let mut corrupt = producer.batch(20, &[&value]).to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    producer.send_batch(&corrupt, AckLevel::QUORUM).await;
    sent += (PUBLISH_HEADER_LEN + corrupt.len()) as u64;
    let _: Nack = producer.pipe.skip_to().await;
    for at in 21..40 {
        while granted <= sent {
            let acks: quorate_protocol::Acks = producer.pipe.expect().await;
            granted = acks.credit.get();
        }
        let batch = producer.batch(at, &[&value]);
        sent += (PUBLISH_HEADER_LEN + batch.len()) as u64;
        producer.send_batch(&batch, AckLevel::QUORUM).await;
    }
}
