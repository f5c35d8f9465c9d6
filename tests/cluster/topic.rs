//! Making topics and filling them.

use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use quorate::Client;
use quorate::Message;
use quorate::MessageId;
use quorate::Receipt;
use quorate::Record;
use quorate_tests::History;
use quorate_tests::Seen;
use quorate_tests::check;
use quorate_tests::eventually;
use quorate_tests::read_topic;
use quorate_tests::within;

/// A topic named `orders`.
pub(crate) async fn create(client: &Client, partitions: u32) {
    let create = client.admin().create_topic("orders");
    within(create.partitions(partitions)).await.unwrap();
}

/// The same with these settings.
pub(crate) async fn create_with(client: &Client, partitions: u32, settings: &[(&str, &str)]) {
    let mut create = client.admin().create_topic("orders").partitions(partitions);
    for (key, value) in settings {
        create = create.set(key, value);
    }
    within(create).await.unwrap();
}

/// How many records there are to read.
pub(crate) async fn records(client: &Client) -> usize {
    read_topic(client, "orders").await.unwrap().0.len()
}

/// The text of a message, unlike any other.
pub(crate) fn text(number: usize) -> String {
    format!("message number {number:06}.")
}

/// Publishes messages of one partition, a numbered text and then so many bytes; their receipts.
pub(crate) async fn publish(
    client: &Client,
    partition: u32,
    numbers: std::ops::Range<usize>,
    filler: usize,
) -> Vec<Receipt> {
    let producer = within(client.producer("orders")).await.unwrap();
    let mut deliveries = Vec::new();
    for number in numbers {
        let text = text(number);
        let mut value = text.clone().into_bytes();
        value.extend((1..=250).cycle().take(filler));
        let id = MessageId::hash(&text);
        let message = Message::new(value).key(text).partition(partition).id(id);
        deliveries.push(within(producer.send(message)).await.unwrap());
    }
    let mut receipts = Vec::new();
    for delivery in deliveries {
        receipts.push(within(delivery).await.unwrap());
    }
    receipts
}

pub(crate) fn offsets(receipts: &[Receipt]) -> Vec<u64> {
    let offsets = receipts.iter().map(|receipt| receipt.offset);
    offsets.map(|offset| offset.unwrap().get()).collect()
}

/// Waits for so many more receipts.
pub(crate) async fn progress(history: &Arc<History>, receipts: usize) {
    let goal = history.applied() + receipts;
    eventually("receipts", async || {
        (history.applied() >= goal).then_some(())
    })
    .await;
}

/// Checks everything that happened to the topic.
pub(crate) async fn judge(
    client: &Client,
    history: &History,
    what: &str,
) -> quorate_tests::Verdict {
    let (log, kept) = read_topic(client, "orders").await.unwrap();
    let verdict = check(history, &log, &kept);
    println!("{what}: {verdict}");
    verdict.assert_holds();
    for partition in kept.keys() {
        assert_ranges_are_exact(client, *partition, &log).await;
    }
    verdict
}

/// Any range of offsets, and any range of times, is what stands there in the whole log.
async fn assert_ranges_are_exact(client: &Client, partition: u32, log: &[Seen]) {
    let mine = log.iter().filter(|seen| seen.place.partition == partition);
    let mine: Vec<_> = mine.cloned().collect();
    let Some(first) = mine.first() else {
        return;
    };
    let (from, to) = (mine.len() / 3, mine.len() / 3 * 2);
    let at = |index: usize| first.place.offset + u64::try_from(index).unwrap();
    let read = client.read("orders").partition(partition).limit(100_000);
    let page = within(read.clone().offsets(at(from)..at(to)))
        .await
        .unwrap();
    assert_same(&page.records, &mine[from..to]);
    let (begin, end) = (mine[from].time, mine[to].time);
    let time = |micros| SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
    let page = within(read.times(time(begin)..time(end))).await.unwrap();
    let held = mine.iter().filter(|seen| (begin..end).contains(&seen.time));
    assert_same(&page.records, &held.cloned().collect::<Vec<_>>());
}

/// A page ends early when it has enough bytes; what it holds is exact.
fn assert_same(records: &[Record], expected: &[Seen]) {
    let seen: Vec<_> = records.iter().map(Seen::from).collect();
    assert!(
        expected.starts_with(&seen),
        "{seen:?} is not what stands there"
    );
    assert_eq!(seen.is_empty(), expected.is_empty());
}
