//! PRODUCE: acks, duplicates, failures, rewinding.

use quorate_protocol::AckLevel;
use quorate_protocol::Acks;
use quorate_protocol::ErrorCode;
use quorate_protocol::Nack;
use quorate_protocol::Offset;
use quorate_protocol::ProduceParams;
use quorate_protocol::ProducerEpoch;
use quorate_protocol::ProducerId;
use quorate_protocol::PublishHeader;
use quorate_protocol::Rewind;
use quorate_protocol::Sequence;
use quorate_protocol::StreamType;
use quorate_protocol::Term;

use crate::world::Site;
use crate::world::broker_and_client;

#[tokio::test]
async fn published_batches_are_acked_in_order_with_their_places() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    assert_eq!(producer.publish(&["a", "b"]).await, 0);
    for values in [&["c"][..], &["d", "e", "f"], &["g"]] {
        producer.send(values).await;
    }
    let mut acks = Vec::new();
    while acks.len() < 3 {
        acks.extend(producer.acks().await.acks.into_vec());
    }
    let places: Vec<_> = acks
        .iter()
        .map(|ack| {
            (
                ack.base_sequence.get(),
                ack.count,
                ack.base_offset.unwrap().get(),
            )
        })
        .collect();
    assert_eq!(places, [(2, 1, 2), (3, 3, 3), (6, 1, 6)]);
    assert!(
        acks.iter()
            .all(|ack| ack.level == AckLevel::QUORUM && !ack.duplicate)
    );
    assert!(acks[0].term > Term::ZERO);
}

#[tokio::test]
async fn a_batch_sent_again_is_acked_with_its_first_place() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    let first = producer.publish(&["a", "b"]).await;
    producer.publish(&["c"]).await;
    let again = producer.batch(0, &["a", "b"]);
    producer.send_batch(&again, AckLevel::QUORUM).await;
    let acks = producer.acks().await;
    assert_eq!(acks.acks[0].base_offset.map(Offset::get), Some(first));
    assert!(acks.acks[0].duplicate);
    assert_eq!(producer.publish(&["d"]).await, 3);
}

#[tokio::test]
async fn a_known_message_id_is_not_appended_again() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    let first = producer.batch_with_ids(0, [("a", Some(7)), ("b", Some(8))]);
    producer.send_batch(&first, AckLevel::QUORUM).await;
    assert!(!producer.acks().await.acks[0].duplicate);
    let mut other = client.producer(topic).await;
    let retry = other.batch_with_ids(0, [("a", Some(7)), ("b", Some(8))]);
    other.send_batch(&retry, AckLevel::QUORUM).await;
    let acks = other.acks().await;
    assert!(acks.acks[0].duplicate);
    assert_eq!(acks.acks[0].base_offset, Some(Offset::ZERO));
}

#[tokio::test]
async fn a_partial_duplicate_is_nacked_and_the_producer_rewinds() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    let first = producer.batch_with_ids(0, [("a", Some(7))]);
    producer.send_batch(&first, AckLevel::QUORUM).await;
    producer.acks().await;
    let mixed = producer.batch_with_ids(1, [("a", Some(7)), ("b", Some(8))]);
    producer.send_batch(&mixed, AckLevel::QUORUM).await;
    let nack: Nack = producer.pipe.skip_to().await;
    assert_eq!(nack.code, ErrorCode::PARTIAL_DUPLICATE);
    assert_eq!(nack.duplicates.to_vec(), [(0, Offset::ZERO)]);
    assert_eq!(
        (nack.from_sequence.get(), nack.unproposed_sequence.get()),
        (1, 1)
    );
    // Whatever was on its way is thrown away until the producer rewinds.
    let stale = producer.batch(3, &["stale"]);
    producer.send_batch(&stale, AckLevel::QUORUM).await;
    producer
        .pipe
        .send(&Rewind {
            sequence: Sequence::new(1),
        })
        .await;
    let rest = producer.batch_with_ids(1, [("b", Some(8))]);
    producer.send_batch(&rest, AckLevel::QUORUM).await;
    let acks = producer.acks().await;
    assert_eq!(acks.acks[0].base_sequence, Sequence::new(1));
    assert_eq!(acks.acks[0].base_offset, Some(Offset::new(1)));
}

#[tokio::test]
async fn a_gap_in_the_sequence_ends_the_stream() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    producer.publish(&["a"]).await;
    let ahead = producer.batch(5, &["x"]);
    producer.send_batch(&ahead, AckLevel::QUORUM).await;
    let nack: Nack = producer.pipe.skip_to().await;
    assert_eq!(nack.code, ErrorCode::OUT_OF_ORDER_SEQUENCE);
    producer.pipe.expect_end().await;
}

#[tokio::test]
async fn an_unmet_expectation_is_not_applied() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    producer.publish(&["a"]).await;
    let header = PublishHeader {
        level: AckLevel::QUORUM,
        flags: 0,
        deadline_ms: 0,
        expect_offset: Some(Offset::new(9)),
    };
    let batch = producer.batch(1, &["b"]);
    producer
        .pipe
        .send
        .write_all(&header.frame_prefix(u32::try_from(batch.len()).unwrap()))
        .await
        .unwrap();
    producer.pipe.send.write_all(&batch).await.unwrap();
    let nack: Nack = producer.pipe.skip_to().await;
    assert_eq!(nack.code, ErrorCode::PRECONDITION_FAILED);
    producer
        .pipe
        .send(&Rewind {
            sequence: Sequence::new(1),
        })
        .await;
    assert_eq!(producer.publish(&["b"]).await, 1);
}

#[tokio::test]
async fn a_corrupt_batch_is_nacked_from_where_the_sequence_stood() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    producer.publish(&["a", "b"]).await;
    let mut batch = producer.batch(2, &["c"]).to_vec();
    *batch.last_mut().unwrap() ^= 1;
    producer.send_batch(&batch, AckLevel::QUORUM).await;
    let nack: Nack = producer.pipe.skip_to().await;
    assert_eq!(nack.code, ErrorCode::CORRUPT_BATCH);
    assert_eq!(nack.from_sequence, Sequence::new(2));
    producer
        .pipe
        .send(&Rewind {
            sequence: Sequence::new(2),
        })
        .await;
    assert_eq!(producer.publish(&["c"]).await, 2);
}

#[tokio::test]
async fn ack_level_none_gives_credit_back_and_names_no_place() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let mut producer = client.producer(topic).await;
    let batch = producer.batch(0, &["a"]);
    producer.send_batch(&batch, AckLevel::NONE).await;
    let acks: Acks = producer.acks().await;
    assert_eq!(acks.acks[0].level, AckLevel::NONE);
    assert_eq!(acks.acks[0].base_offset, None);
    assert!(acks.credit > producer.accept.credit);
}

#[tokio::test]
async fn an_older_epoch_is_fenced() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let name = Some(quorate_protocol::Text::clipped("till-7"));
    let wanted = quorate_protocol::InitProducer { name, resume: None };
    let op = quorate_protocol::Op::INIT_PRODUCER;
    let old: quorate_protocol::ProducerGranted = client.ask(op, &wanted).await;
    let new: quorate_protocol::ProducerGranted = client.ask(op, &wanted).await;
    assert_eq!(old.producer, new.producer);
    assert!(new.epoch > old.epoch);
    let mut newer = client.producer_as(topic, new).await;
    newer.publish(&["new"]).await;
    let mut older = client.producer_as(topic, old).await;
    older.send(&["old"]).await;
    let nack: Nack = older.pipe.skip_to().await;
    assert_eq!(nack.code, ErrorCode::PRODUCER_FENCED);
    older.pipe.expect_end().await;
}

#[tokio::test]
async fn a_foreign_producer_id_is_refused() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let (producer, epoch) = (ProducerId::new(77), ProducerEpoch::new(0));
    let params = ProduceParams { producer, epoch };
    let reject = client.rejection(StreamType::PRODUCE, topic, &params).await;
    assert_eq!(reject.code, ErrorCode::AUTHORIZATION_FAILED);
}

#[tokio::test]
async fn a_batch_for_another_topic_is_refused() {
    let site = Site::new();
    let (_broker, mut client) = broker_and_client(&site).await;
    let topic = client.create_topic("orders").await;
    let other = client.create_topic("other").await;
    let mut producer = client.producer(topic).await;
    producer.topic = other;
    producer.send(&["a"]).await;
    let nack: Nack = producer.pipe.skip_to().await;
    assert_eq!(nack.code, ErrorCode::TOPIC_MISMATCH);
}
