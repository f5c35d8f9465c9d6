//! Pages of history: ranges, limits, cursors.

use quorate::Client;
use quorate::End;
use quorate::ErrorKind;
use quorate::Page;
use quorate::Start;

use crate::world::Site;
use crate::world::broker_and_client;
use crate::world::now;
use crate::world::within;

async fn publish(client: &Client, numbers: std::ops::Range<u32>) {
    let producer = within(client.producer("orders").into_future())
        .await
        .unwrap();
    for n in numbers {
        producer.send(n.to_string()).await.unwrap().detach();
    }
    within(producer.flush()).await.unwrap();
}

fn numbers(page: &Page) -> Vec<u32> {
    let texts = page.records.iter().map(|record| record.text().unwrap());
    texts.map(|text| text.parse().unwrap()).collect()
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repetition() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    publish(&client, 0..100).await;
    let mut page = within(client.read("orders").limit(30).into_future())
        .await
        .unwrap();
    let mut all = numbers(&page);
    let mut sizes = vec![page.records.len()];
    while let Some(next) = page.next {
        let next = next.to_string().parse().unwrap();
        page = within(client.read("orders").after(next).limit(30).into_future())
            .await
            .unwrap();
        all.extend(numbers(&page));
        sizes.push(page.records.len());
    }
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    assert_eq!(sizes, [30, 30, 30, 10]);
    assert_eq!(page.tail.get(), 100);
}

#[tokio::test]
async fn ranges_are_exact() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    publish(&client, 0..50).await;
    let middle = now();
    publish(&client, 50..100).await;
    let read = || client.read("orders").limit(1000);
    let cases = [
        (read().offsets(20..30), 20..30),
        (read().offsets(95..), 95..100),
        (read().offsets(..=4), 0..5),
        (read().last(3), 97..100),
        (read().times(middle..), 50..100),
        (read().times(..middle), 0..50),
        (read().from(Start::Offset(98)).until(End::Tail), 98..100),
        (read().offsets(100..), 100..100),
    ];
    for (at, (read, expected)) in cases.into_iter().enumerate() {
        let page = within(read.into_future()).await.unwrap();
        assert_eq!(numbers(&page), expected.collect::<Vec<_>>(), "case {at}");
        assert_eq!(page.next, None, "case {at}");
    }
}

#[tokio::test]
async fn a_stream_of_pages_gives_every_record_once() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    publish(&client, 0..100).await;
    let mut stream = client.read("orders").limit(7).stream();
    let mut count = 0;
    while let Some(record) = within(stream.next()).await {
        assert_eq!(record.unwrap().offset.get(), count);
        count += 1;
    }
    assert_eq!(count, 100);
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    let site = Site::new().with_setting("limits.auto_create_partitions", "0");
    let (_broker, client) = broker_and_client(site).await;
    let error = within(client.read("nothing").into_future())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTopic);
    assert!(error.to_string().contains("nothing"), "{error}");
    let error = within(client.publish("nothing", "x").into_future())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTopic);
    within(client.admin().create_topic("orders").into_future())
        .await
        .unwrap();
    let error = within(client.read("orders").offsets(5..).into_future())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange);
    assert!(error.offsets().is_some());
}
