//! Leaders that move, fall silent or lie about each other: order, sequences and offsets are kept.

use std::time::Duration;

use quorate::BrokerId;
use quorate::Client;
use quorate::Delivery;
use quorate::Event;
use quorate::Producer;
use quorate::Start;
use quorate::Subscription;

use crate::fake::Fakes;
use crate::fake::Mood;
use crate::fake::timed;
use crate::world::within;

/// Less than any time-out of a connection.
const SOON: Duration = Duration::from_millis(2500);

async fn producer(client: &Client) -> Producer {
    let producer = client.producer("orders").batch_bytes_max(4096);
    within(producer.into_future()).await.unwrap()
}

async fn send(producer: &Producer, numbers: std::ops::Range<u32>) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for n in numbers {
        deliveries.push(within(producer.send(n.to_string())).await.unwrap());
        tokio::task::yield_now().await;
    }
    deliveries
}

/// Every message has its place in the order of sending; how many are repetitions.
async fn receipts(deliveries: Vec<Delivery>, from: u64) -> usize {
    let mut duplicates = 0;
    for (n, delivery) in (from..).zip(deliveries) {
        let receipt = within(delivery).await.unwrap();
        assert_eq!(receipt.offset.unwrap().get(), n);
        duplicates += usize::from(receipt.duplicate);
    }
    duplicates
}

/// Two brokers know that the client uses the topic.
async fn settled(fakes: &Fakes, client: &Client) {
    let mut events = client.events();
    if distinct(fakes) < 2 {
        let connected = async {
            while distinct(fakes) < 2 {
                events.next().await.unwrap();
            }
        };
        within(connected).await;
    }
}

fn distinct(fakes: &Fakes) -> usize {
    let connections = fakes.connections();
    connections
        .iter()
        .collect::<std::collections::BTreeSet<_>>()
        .len()
}

async fn texts(subscription: &mut Subscription, count: usize) -> Vec<(String, String)> {
    let mut texts = Vec::new();
    while texts.len() < count {
        let record = within(subscription.next()).await.unwrap().unwrap();
        let text = record.text().unwrap().to_owned();
        texts.push((text, record.broker.to_string()));
    }
    texts
}

#[tokio::test]
async fn batches_in_flight_follow_the_leader_with_the_same_sequences() {
    let fakes = Fakes::start(3).await;
    fakes.mood(1, Mood::CutOff);
    let client = fakes.client().await;
    let mut events = client.events();
    let producer = producer(&client).await;
    let before = send(&producer, 0..1000).await;
    fakes.until(|fakes| fakes.received(1).len() >= 2).await;
    settled(&fakes, &client).await;
    fakes.lead(2);
    let after = send(&producer, 1000..1500).await;
    assert_eq!(receipts(before, 0).await, 0);
    assert_eq!(receipts(after, 1000).await, 0);
    assert_eq!(fakes.end(), 1500);
    let (old, new) = (fakes.received(1), fakes.received(2));
    assert_eq!(new[..old.len()], old);
    loop {
        if let Some(Event::LeaderChanged { broker, term, .. }) = within(events.next()).await {
            assert_eq!((broker, term.get()), (BrokerId::new(2), 2));
            break;
        }
    }
}

#[tokio::test]
async fn what_a_mute_leader_stored_is_found_again_and_not_doubled() {
    let fakes = Fakes::start(3).await;
    fakes.mood(1, Mood::Mute);
    let client = fakes.client().await;
    let producer = producer(&client).await;
    let deliveries = send(&producer, 0..300).await;
    fakes.until(|fakes| fakes.end() > 0).await;
    settled(&fakes, &client).await;
    fakes.lead(3);
    assert!(receipts(deliveries, 0).await > 0);
    assert_eq!(fakes.end(), 300);
}

#[tokio::test]
async fn the_silence_of_a_leader_is_heard_of_from_another_broker() {
    let mut fakes = Fakes::start(3).await;
    let client = fakes.client().await;
    let producer = producer(&client).await;
    receipts(send(&producer, 0..10).await, 0).await;
    settled(&fakes, &client).await;
    fakes.kill(1);
    let deliveries = send(&producer, 10..500).await;
    fakes.lead(3);
    let ((), took) = timed(async {
        receipts(deliveries, 10).await;
    })
    .await;
    assert!(took < SOON, "{took:?}");
    assert_eq!(fakes.end(), 500);
}

#[tokio::test]
async fn a_leader_that_answers_nothing_is_asked_about() {
    let mut fakes = Fakes::start(3).await;
    fakes.tell(false);
    let client = fakes.client().await;
    let producer = producer(&client).await;
    receipts(send(&producer, 0..10).await, 0).await;
    settled(&fakes, &client).await;
    fakes.kill(1);
    fakes.lead(2);
    let deliveries = send(&producer, 10..500).await;
    let ((), took) = timed(async {
        receipts(deliveries, 10).await;
    })
    .await;
    assert!(took < SOON, "{took:?}");
    assert_eq!(fakes.end(), 500);
}

#[tokio::test]
async fn redirects_in_a_circle_end_in_waits_and_heal() {
    let fakes = Fakes::start(3).await;
    for (from, to) in [(1, 2), (2, 3), (3, 1)] {
        fakes.redirect(from, Some(to));
    }
    let client = fakes.client().await;
    let producer = producer(&client).await;
    let deliveries = send(&producer, 0..10).await;
    fakes.until(|fakes| fakes.asked().len() >= 8).await;
    // Five redirects are followed at once; from then on each attempt takes longer.
    let (_, took) = timed(fakes.until(|fakes| fakes.asked().len() >= 11)).await;
    assert!(took > Duration::from_millis(20), "{took:?}");
    for from in [1, 2, 3] {
        fakes.redirect(from, None);
    }
    fakes.lead(2);
    // A leader of a new term is believed at once.
    let (duplicates, took) = timed(receipts(deliveries, 0)).await;
    assert!(took < SOON, "{took:?}");
    assert_eq!((duplicates, fakes.end()), (0, 10));
}

#[tokio::test]
async fn a_subscription_goes_on_at_its_next_offset_with_the_new_leader() {
    let mut fakes = Fakes::start(3).await;
    let client = fakes.client().await;
    let subscribe = client.subscribe("orders").from(Start::Earliest);
    let mut subscription = within(subscribe.into_future()).await.unwrap();
    let producer = producer(&client).await;
    receipts(send(&producer, 0..200).await, 0).await;
    let before = texts(&mut subscription, 200).await;
    settled(&fakes, &client).await;
    fakes.kill(1);
    fakes.lead(2);
    receipts(send(&producer, 200..400).await, 200).await;
    let after = texts(&mut subscription, 200).await;
    let all: Vec<_> = before.iter().chain(&after).collect();
    for (n, (text, _)) in all.iter().enumerate() {
        assert_eq!(*text, n.to_string());
    }
    assert!(before.iter().all(|(_, broker)| broker == "broker-1"));
    assert!(after.iter().all(|(_, broker)| broker == "broker-2"));
}

#[tokio::test]
async fn a_broker_that_leaves_is_replaced_by_the_one_it_names() {
    let fakes = Fakes::start(4).await;
    let client = fakes.client().await;
    let mut events = client.events();
    let producer = producer(&client).await;
    receipts(send(&producer, 0..10).await, 0).await;
    settled(&fakes, &client).await;
    let preferred = (2..=4).find(|id| !fakes.connections().contains(id));
    let preferred = preferred.unwrap();
    fakes.leave(1, preferred);
    fakes
        .until(|fakes| fakes.connections().contains(&preferred))
        .await;
    // It still leads, and what is in flight there is answered.
    receipts(send(&producer, 10..20).await, 10).await;
    fakes.lead(preferred);
    receipts(send(&producer, 20..30).await, 20).await;
    assert_eq!(fakes.received(preferred).first(), Some(&20));
    loop {
        if let Some(Event::Draining { .. }) = within(events.next()).await {
            break;
        }
    }
}

#[tokio::test]
async fn a_page_comes_from_whoever_leads_by_then() {
    let mut fakes = Fakes::start(3).await;
    let client = fakes.client().await;
    let producer = producer(&client).await;
    receipts(send(&producer, 0..100).await, 0).await;
    settled(&fakes, &client).await;
    fakes.kill(1);
    fakes.lead(2);
    let (page, took) = timed(client.read("orders").into_future()).await;
    let page = page.unwrap();
    assert!(took < SOON, "{took:?}");
    assert_eq!(page.records.len(), 100);
    assert!(
        page.records
            .iter()
            .all(|record| &*record.broker == "broker-2")
    );
}

#[tokio::test]
async fn a_question_that_one_broker_leaves_open_is_asked_of_another() {
    let mut fakes = Fakes::start(3).await;
    let client = fakes.client().await;
    let producer = producer(&client).await;
    receipts(send(&producer, 0..1).await, 0).await;
    settled(&fakes, &client).await;
    fakes.kill(1);
    let topics = within(client.admin().topics()).await.unwrap();
    assert!(topics.is_empty());
    assert_ne!(fakes.asked().last(), Some(&1));
}

#[tokio::test]
async fn a_client_that_only_looks_keeps_one_connection_and_a_producer_two() {
    let fakes = Fakes::start(3).await;
    let client = fakes.client().await;
    assert_eq!(fakes.connections(), [1]);
    let producer = producer(&client).await;
    receipts(send(&producer, 0..1).await, 0).await;
    settled(&fakes, &client).await;
    assert_eq!(distinct(&fakes), 2);
}
