//! Subscribing: starts, ends, positions, order, resuming.

use std::time::Duration;

use quorate::Client;
use quorate::End;
use quorate::Message;
use quorate::Offset;
use quorate::PartitionId;
use quorate::Start;
use quorate::Subscription;

use crate::world::Site;
use crate::world::broker_and_client;
use crate::world::within;

async fn publish(client: &Client, topic: &str, numbers: std::ops::Range<u32>) {
    let producer = within(client.producer(topic).into_future()).await.unwrap();
    for n in numbers {
        producer.send(n.to_string()).await.unwrap().detach();
    }
    within(producer.flush()).await.unwrap();
}

async fn numbers(subscription: &mut Subscription, count: usize) -> Vec<u32> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let Some(record) = within(subscription.next()).await else {
            break;
        };
        numbers.push(record.unwrap().text().unwrap().parse().unwrap());
    }
    numbers
}

#[tokio::test]
async fn records_published_after_the_start_arrive() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    publish(&client, "orders", 0..10).await;
    let mut latest = within(client.subscribe("orders").into_future())
        .await
        .unwrap();
    publish(&client, "orders", 10..20).await;
    assert_eq!(numbers(&mut latest, 10).await, (10..20).collect::<Vec<_>>());
    assert_eq!(latest.lag(), 0);
    assert_eq!(latest.position()[&PartitionId::new(0)], Offset::new(20));
}

#[tokio::test]
async fn starts_and_ends_are_exact() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    publish(&client, "orders", 0..1000).await;
    let cases = [
        (Start::Earliest, End::Tail, 0..1000),
        (Start::Offset(990), End::Tail, 990..1000),
        (Start::Last(7), End::Tail, 993..1000),
        (Start::Offset(10), End::Offset(20), 10..20),
        (Start::Earliest, End::Offset(0), 0..0),
        (
            Start::Ago(Duration::from_secs(3600)),
            End::Ago(Duration::ZERO),
            0..1000,
        ),
    ];
    for (from, until, expected) in cases {
        let subscribe = client.subscribe("orders").from(from).until(until);
        let mut subscription = within(subscribe.into_future()).await.unwrap();
        let got = numbers(&mut subscription, usize::MAX).await;
        assert_eq!(got, expected.collect::<Vec<_>>(), "{from:?} {until:?}");
    }
}

#[tokio::test]
async fn more_than_the_prefetch_flows_under_credit() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let producer = within(client.producer("orders").into_future())
        .await
        .unwrap();
    for n in 0..3_000u32 {
        let mut value = n.to_string().into_bytes();
        value.resize(1000, b' ');
        within(producer.send(value)).await.unwrap().detach();
    }
    within(producer.flush()).await.unwrap();
    let subscribe = client
        .subscribe("orders")
        .from(Start::Earliest)
        .prefetch_bytes(1 << 16);
    let mut subscription = within(subscribe.into_future()).await.unwrap();
    for n in 0..3_000u32 {
        let record = within(subscription.next()).await.unwrap().unwrap();
        assert_eq!(record.text().unwrap().trim(), n.to_string());
    }
}

#[tokio::test]
async fn batches_give_what_is_there_and_an_empty_one_ends() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    publish(&client, "orders", 0..100).await;
    let subscribe = client
        .subscribe("orders")
        .from(Start::Earliest)
        .until(End::Tail);
    let mut subscription = within(subscribe.into_future()).await.unwrap();
    let mut count = 0;
    loop {
        let batch = within(subscription.next_batch(30)).await.unwrap();
        assert!(batch.len() <= 30);
        if batch.is_empty() {
            break;
        }
        count += batch.len();
    }
    assert_eq!(count, 100);
}

#[tokio::test]
async fn caught_up_resolves_when_everything_was_taken() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    publish(&client, "orders", 0..100).await;
    let subscribe = client.subscribe("orders").from(Start::Earliest);
    let mut subscription = within(subscribe.into_future()).await.unwrap();
    let mut caught_up = Box::pin(subscription.caught_up());
    let mut taken = 0;
    loop {
        tokio::select! {
            record = subscription.next() => {
                record.unwrap().unwrap();
                taken += 1;
            }
            () = &mut caught_up => break,
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("never caught up"),
        }
    }
    assert_eq!(taken, 100);
}

#[tokio::test]
async fn seeking_goes_back_and_forth() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    publish(&client, "orders", 0..100).await;
    let subscribe = client.subscribe("orders").from(Start::Earliest);
    let mut subscription = within(subscribe.into_future()).await.unwrap();
    assert_eq!(numbers(&mut subscription, 50).await.len(), 50);
    within(subscription.seek(Start::Offset(10))).await.unwrap();
    assert_eq!(numbers(&mut subscription, 2).await, [10, 11]);
    within(subscription.seek(Start::Last(1))).await.unwrap();
    assert_eq!(numbers(&mut subscription, 1).await, [99]);
}

#[tokio::test]
async fn partitions_are_merged_by_append_time_if_asked() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let create = client.admin().create_topic("orders").partitions(3);
    within(create.into_future()).await.unwrap();
    let producer = within(client.producer("orders").into_future())
        .await
        .unwrap();
    for n in 0..300u32 {
        let message = Message::new(n.to_string()).partition(n * 7 % 3);
        within(producer.send(message).await.unwrap()).await.unwrap();
    }
    let subscribe = client
        .subscribe("orders")
        .from(Start::Earliest)
        .ordered_within(Duration::from_millis(200));
    let mut subscription = within(subscribe.into_future()).await.unwrap();
    let got = numbers(&mut subscription, 300).await;
    assert_eq!(got, (0..300).collect::<Vec<_>>());
}

#[tokio::test]
async fn all_partitions_are_read_and_each_in_order() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let create = client.admin().create_topic("orders").partitions(3);
    within(create.into_future()).await.unwrap();
    let producer = within(client.producer("orders").into_future())
        .await
        .unwrap();
    for n in 0..900u32 {
        let message = Message::new(n.to_string()).key((n % 10).to_string());
        within(producer.send(message)).await.unwrap().detach();
    }
    within(producer.flush()).await.unwrap();
    let subscribe = client
        .subscribe("orders")
        .from(Start::Earliest)
        .until(End::Tail);
    let mut subscription = within(subscribe.into_future()).await.unwrap();
    let mut next = std::collections::BTreeMap::new();
    let mut count = 0;
    while let Some(record) = within(subscription.next()).await {
        let record = record.unwrap();
        let expected = next.entry(record.partition).or_insert(Offset::ZERO);
        assert_eq!(record.offset, *expected);
        *expected = record.offset.next();
        count += 1;
    }
    assert_eq!((count, next.len()), (900, 3));
}

#[tokio::test]
async fn a_record_carries_everything_that_was_published() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let message = Message::new("value")
        .key("key")
        .header("a", "1")
        .header("a", "2")
        .id(quorate::MessageId::hash("id"));
    let receipt = within(client.publish("orders", message).into_future())
        .await
        .unwrap();
    let subscribe = client.subscribe("orders").from(Start::Earliest);
    let mut subscription = within(subscribe.into_future()).await.unwrap();
    let record = within(subscription.next()).await.unwrap().unwrap();
    assert_eq!(record.key.as_deref(), Some(b"key".as_slice()));
    assert_eq!(record.headers.len(), 2);
    assert_eq!(record.id, Some(quorate::MessageId::hash("id")));
    assert_eq!(Some(record.offset), receipt.offset);
    assert_eq!(Some(record.term), receipt.term);
    assert_eq!(Some(record.timestamp), receipt.timestamp);
    assert!(!record.broker.is_empty());
    within(
        client
            .publish("orders", Message::empty().key("key"))
            .into_future(),
    )
    .await
    .unwrap();
    let gone = within(subscription.next()).await.unwrap().unwrap();
    assert_eq!(gone.value, None);
}
