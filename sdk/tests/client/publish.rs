//! Publishing: receipts, order, duplicates, limits.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use quorate::AckLevel;
use quorate::BatchReport;
use quorate::Compression;
use quorate::ErrorKind;
use quorate::Message;
use quorate::MessageId;
use quorate::MessageRef;
use quorate::Offset;
use quorate::Outcome;
use quorate::ReportSink;
use quorate::Start;
use quorate::TrySendError;

use crate::world::Site;
use crate::world::broker_and_client;
use crate::world::within;

#[tokio::test]
async fn a_receipt_names_the_place_and_the_promise() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let receipt = within(client.publish("orders", "hello").into_future())
        .await
        .unwrap();
    assert_eq!((&*receipt.topic, receipt.partition.get()), ("orders", 0));
    assert_eq!(receipt.offset, Some(Offset::ZERO));
    assert_eq!(receipt.level, AckLevel::Quorum);
    assert!(receipt.term.is_some() && receipt.timestamp.is_some() && !receipt.duplicate);
    let second = within(client.publish("orders", "again").into_future())
        .await
        .unwrap();
    assert_eq!(second.offset, Some(Offset::new(1)));
}

#[tokio::test]
async fn messages_get_offsets_in_the_order_of_sending() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let producer = within(
        client
            .producer("orders")
            .batch_bytes_max(4096)
            .into_future(),
    )
    .await
    .unwrap();
    let mut deliveries = Vec::new();
    for n in 0..5_000u32 {
        let message = Message::new(n.to_string())
            .key("k")
            .header("n", n.to_string());
        deliveries.push(within(producer.send(message)).await.unwrap());
    }
    for (n, delivery) in (0..).zip(deliveries) {
        let receipt = within(delivery).await.unwrap();
        assert_eq!(receipt.offset, Some(Offset::new(n)));
    }
    let mut records = client
        .subscribe("orders")
        .from(Start::Earliest)
        .until(quorate::End::Tail)
        .await
        .unwrap();
    for n in 0..5_000u32 {
        let record = within(records.next()).await.unwrap().unwrap();
        assert_eq!(record.text(), Some(n.to_string().as_str()));
        assert_eq!(record.headers.get("n"), Some(n.to_string().as_bytes()));
    }
    assert!(within(records.next()).await.is_none());
}

#[tokio::test]
async fn compressed_batches_come_back_whole() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let builder = client.producer("orders").compression(Compression::Lz4);
    let producer = within(builder.into_future()).await.unwrap();
    let text = "the same words again and again ".repeat(100);
    for _ in 0..100 {
        within(producer.send(text.clone())).await.unwrap().detach();
    }
    within(producer.flush()).await.unwrap();
    let page = within(client.read("orders").limit(1000).into_future())
        .await
        .unwrap();
    assert_eq!(page.records.len(), 100);
    assert!(
        page.records
            .iter()
            .all(|record| record.text() == Some(text.as_str()))
    );
}

#[tokio::test]
async fn a_message_id_is_stored_once_and_the_copy_gets_the_first_place() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let publish = |id: &str| client.publish("orders", "3 apples").id(MessageId::hash(id));
    let first = within(publish("o-1").into_future()).await.unwrap();
    within(publish("o-2").into_future()).await.unwrap();
    let again = within(publish("o-1").into_future()).await.unwrap();
    assert_eq!((again.offset, again.duplicate), (first.offset, true));
    let page = within(client.read("orders").into_future()).await.unwrap();
    assert_eq!(page.records.len(), 2);
}

#[tokio::test]
async fn of_a_partly_known_batch_only_the_new_messages_are_stored() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let id = |n: u64| MessageId::hash(n.to_string());
    for n in [2, 5] {
        within(client.publish("orders", "known").id(id(n)).into_future())
            .await
            .unwrap();
    }
    let builder = client.producer("orders").linger(Duration::from_millis(20));
    let producer = within(builder.into_future()).await.unwrap();
    let mut deliveries = Vec::new();
    for n in 0..8 {
        deliveries.push(producer.send(Message::new("x").id(id(n))).await.unwrap());
    }
    let mut offsets = Vec::new();
    for delivery in deliveries {
        let receipt = within(delivery).await.unwrap();
        offsets.push((receipt.offset.unwrap().get(), receipt.duplicate));
    }
    let (new, known) = (false, true);
    let expected = [
        (2, new),
        (3, new),
        (0, known),
        (4, new),
        (5, new),
        (1, known),
        (6, new),
        (7, new),
    ];
    assert_eq!(offsets, expected);
    let after = within(producer.send("after")).await.unwrap();
    assert_eq!(within(after).await.unwrap().offset, Some(Offset::new(8)));
}

#[tokio::test]
async fn weaker_levels_are_granted_as_asked() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let publish = |level| client.publish("orders", "x").ack(level).into_future();
    let leader = within(publish(AckLevel::Leader)).await.unwrap();
    assert_eq!(
        (leader.level, leader.offset.is_some()),
        (AckLevel::Leader, true)
    );
    let none = within(publish(AckLevel::None)).await.unwrap();
    assert_eq!(
        (none.level, none.offset, none.term),
        (AckLevel::None, None, None)
    );
}

#[tokio::test]
async fn without_acks_messages_flow_past_the_window() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let builder = client
        .producer("orders")
        .ack(AckLevel::None)
        .batch_bytes_max(4096);
    let producer = within(builder.into_future()).await.unwrap();
    for n in 0..2_000u32 {
        within(producer.send(vec![0; 100 + n as usize % 7]))
            .await
            .unwrap()
            .detach();
    }
    within(producer.flush()).await.unwrap();
    let mut all = client
        .subscribe("orders")
        .from(Start::Earliest)
        .await
        .unwrap();
    for _ in 0..2_000 {
        within(all.next()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn keys_keep_their_partition_and_explicit_ones_win() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let create = client.admin().create_topic("orders").partitions(4);
    within(create.into_future()).await.unwrap();
    let publish = |key: &'static str| client.publish("orders", "x").key(key).into_future();
    let first = within(publish("c1")).await.unwrap();
    let second = within(publish("c1")).await.unwrap();
    assert_eq!(first.partition, second.partition);
    let third = within(
        client
            .publish("orders", "x")
            .key("c1")
            .partition(3)
            .into_future(),
    );
    assert_eq!(third.await.unwrap().partition.get(), 3);
    let missing = within(client.publish("orders", "x").partition(4).into_future()).await;
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::UnknownPartition);
}

#[tokio::test]
async fn a_message_above_the_limit_is_refused_at_once() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let error = within(client.publish("orders", vec![0; 2 << 20]).into_future()).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BatchTooLarge);
    assert_eq!(error.outcome(), Outcome::NotApplied);
}

#[tokio::test]
async fn a_full_buffer_refuses_or_waits_and_drops_nothing() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let builder = client.producer("orders").in_flight_bytes_max(1 << 16);
    let producer = within(builder.into_future()).await.unwrap();
    let mut accepted = 0;
    let refused = loop {
        match producer.try_send(vec![0; 1000]) {
            Ok(delivery) => delivery.detach(),
            Err(error) => break error,
        }
        accepted += 1;
    };
    assert!(matches!(refused, TrySendError::Full(message) if message.value_bytes().len() == 1000));
    assert!(accepted >= 50, "{accepted}");
    for _ in 0..200 {
        within(producer.send(vec![0; 1000])).await.unwrap().detach();
    }
    within(producer.flush()).await.unwrap();
    let stats = client.stats();
    assert_eq!(stats.messages_acked, accepted + 200);
    assert_eq!(stats.in_flight_bytes, 0);
}

#[tokio::test]
async fn a_permit_holds_room_for_one_message() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let producer = within(client.producer("orders").into_future())
        .await
        .unwrap();
    let permit = within(producer.reserve(100)).await.unwrap();
    assert!(client.stats().in_flight_bytes >= 100);
    within(permit.send("small")).await.unwrap();
    let permit = within(producer.reserve(10)).await.unwrap();
    assert!(within(permit.send(vec![0; 5000])).await.is_err());
    drop(within(producer.reserve(100)).await.unwrap());
    assert_eq!(client.stats().in_flight_bytes, 0);
}

#[tokio::test]
async fn a_newer_producer_of_the_same_name_fences_the_older() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let open = || client.producer("orders").name("till-7").into_future();
    let old = within(open()).await.unwrap();
    within(within(old.send("1")).await.unwrap()).await.unwrap();
    let new = within(open()).await.unwrap();
    within(within(new.send("2")).await.unwrap()).await.unwrap();
    let fenced = within(within(old.send("3")).await.unwrap())
        .await
        .unwrap_err();
    assert_eq!(fenced.kind(), ErrorKind::ProducerFenced);
    assert!(old.is_closed());
    assert!(matches!(old.try_send("4"), Err(TrySendError::Closed(_))));
}

#[tokio::test]
async fn closing_waits_for_the_receipts_and_counts_them() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let producer = within(client.producer("orders").into_future())
        .await
        .unwrap();
    for _ in 0..100 {
        producer.send("x").await.unwrap().detach();
    }
    let report = within(client.close(Duration::from_secs(10))).await.unwrap();
    assert_eq!((report.flushed, report.abandoned), (100, 0));
    let refused = within(producer.send("late")).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Closed);
    let again = within(client.close(Duration::from_secs(10))).await.unwrap();
    assert_eq!((again.flushed, again.abandoned), (0, 0));
}

/// Keeps what it hears: tag, offset or the outcome of a failure.
#[derive(Debug, Default)]
struct Ledger(parking_lot::Mutex<Vec<(u64, Result<u64, Outcome>)>>);

impl ReportSink for Ledger {
    fn batch_ended(&self, report: BatchReport) {
        let mut heard = self.0.lock();
        for index in 0..report.len() {
            let Some(tag) = report.tag(index) else {
                continue;
            };
            let ended = report.receipt(index);
            let ended = ended.map(|receipt| receipt.offset.unwrap().get());
            heard.push((tag.get(), ended.map_err(|error| error.outcome())));
        }
    }
}

#[tokio::test]
async fn borrowed_messages_from_another_thread_are_reported_once_each() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let ledger = Arc::new(Ledger::default());
    let sink: Arc<dyn ReportSink> = Arc::<Ledger>::clone(&ledger);
    let builder = client.producer("orders").reports_to(sink);
    let producer = within(builder.into_future()).await.unwrap();
    let sender = producer.clone();
    let sending = tokio::task::spawn_blocking(move || {
        for n in 0..1000u64 {
            let text = n.to_string();
            let message = MessageRef {
                value: Some(text.as_bytes()),
                key: Some(b"k"),
                headers: &[("n", Some(b"1"))],
                ..MessageRef::default()
            };
            let tag = NonZeroU64::new(n);
            sender.try_send_ref(&message, tag).unwrap();
        }
    });
    within(sending).await.unwrap();
    within(producer.flush()).await.unwrap();
    assert_eq!(producer.in_flight(), 0);
    let expected: Vec<_> = (1..1000).map(|n| (n, Ok(n))).collect();
    assert_eq!(*ledger.0.lock(), expected);
    let page = within(
        client
            .read("orders")
            .set("read.from", "last:1")
            .into_future(),
    )
    .await
    .unwrap();
    assert_eq!(page.records[0].text(), Some("999"));
    assert_eq!(page.records[0].headers.get("n"), Some(b"1".as_slice()));
}

#[tokio::test]
async fn what_is_not_answered_when_closing_takes_too_long_is_reported_and_given_up() {
    let (world, client) = broker_and_client(Site::new()).await;
    let ledger = Arc::new(Ledger::default());
    let sink: Arc<dyn ReportSink> = Arc::<Ledger>::clone(&ledger);
    let builder = client.producer("orders").reports_to(sink);
    let builder = builder.set("producer.in_flight_bytes_max", "64KiB");
    let producer = within(builder.into_future()).await.unwrap();
    within(world.broker.drain(Duration::ZERO)).await;
    let body = vec![0; 10_000];
    let message = MessageRef {
        value: Some(&body),
        ..MessageRef::default()
    };
    let mut accepted = 0;
    let full = loop {
        match producer.try_send_ref(&message, NonZeroU64::new(accepted + 1)) {
            Ok(()) => accepted += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
    assert_eq!(producer.in_flight(), accepted);
    let closing = producer.close_within(Duration::from_millis(10));
    let report = within(closing).await.unwrap();
    assert_eq!((report.flushed, report.abandoned), (0, accepted));
    let heard = ledger.0.lock();
    assert_eq!(u64::try_from(heard.len()).unwrap(), accepted);
    assert!(heard.iter().all(|(_, ended)| ended.is_err()));
    assert_eq!(client.stats().in_flight_bytes, 0);
}
