//! The Rust client against a whole broker.

use std::net::SocketAddr;
use std::time::Duration;

use quorate::Client;
use quorate::End;
use quorate::Message;
use quorate::MessageId;
use quorate::Start;
use quorate_broker::InitMode;

use crate::world::Site;
use crate::world::within;

pub(crate) async fn connect(site: &Site, address: SocketAddr) -> Client {
    let (ca, cert, key) = site.admin_files();
    let builder = Client::builder()
        .servers(&format!("quorate://{}", address))
        .ca_file(ca)
        .cert_file(cert)
        .key_file(key);
    within(builder).await.unwrap()
}

#[tokio::test]
async fn what_is_published_is_delivered_once_and_in_order() {
    let site = Site::new();
    let broker = site.start().await;
    let client = connect(&site, broker.client_address()).await;
    within(client.admin().create_topic("orders").partitions(1))
        .await
        .unwrap();
    let receipt = within(client.publish("orders", "first")).await.unwrap();
    assert_eq!(receipt.offset.map(|offset| offset.get()), Some(0));
    let producer = within(client.producer("orders")).await.unwrap();
    let mut deliveries = Vec::new();
    for number in 0..1000 {
        let message = Message::new(format!("message {number}"));
        deliveries.push(within(producer.send(message)).await.unwrap());
    }
    for delivery in deliveries {
        within(delivery).await.unwrap();
    }
    let subscribed = client
        .subscribe("orders")
        .from(Start::Earliest)
        .until(End::Tail);
    let mut subscription = within(subscribed).await.unwrap();
    let mut texts = Vec::new();
    while let Some(record) = within(subscription.next()).await {
        texts.push(record.unwrap().text().unwrap().to_owned());
    }
    assert_eq!(texts.len(), 1001);
    assert_eq!(texts[0], "first");
    assert!(
        texts[1..]
            .iter()
            .zip(0..)
            .all(|(text, number)| *text == format!("message {number}"))
    );
    within(client.close(Duration::from_secs(5))).await.unwrap();
    within(broker.drain(Duration::from_secs(5))).await;
}

#[tokio::test]
async fn a_message_with_an_id_is_stored_once() {
    let site = Site::new();
    let broker = site.start().await;
    let client = connect(&site, broker.client_address()).await;
    within(client.admin().create_topic("orders")).await.unwrap();
    let id = MessageId::new(42);
    let first = within(client.publish("orders", "pay 5").id(id))
        .await
        .unwrap();
    let second = within(client.publish("orders", "pay 5").id(id))
        .await
        .unwrap();
    assert!(!first.duplicate && second.duplicate);
    assert_eq!(first.offset, second.offset);
}

#[tokio::test]
async fn a_page_of_history_is_read() {
    let site = Site::new();
    let broker = site.start().await;
    let client = connect(&site, broker.client_address()).await;
    within(client.admin().create_topic("orders")).await.unwrap();
    for number in 0..20 {
        within(client.publish("orders", number.to_string()))
            .await
            .unwrap();
    }
    let page = within(client.read("orders").offsets(5..9)).await.unwrap();
    let offsets: Vec<_> = page
        .records
        .iter()
        .map(|record| record.offset.get())
        .collect();
    assert_eq!(offsets, [5, 6, 7, 8]);
    let page = within(client.read("orders").last(3)).await.unwrap();
    assert_eq!(page.records.len(), 3);
}

#[tokio::test]
async fn a_client_outlives_a_restart_of_its_broker() {
    let site = Site::new().with_setting("listeners.client", &free_port().await);
    let broker = site.start().await;
    let client = connect(&site, broker.client_address()).await;
    within(client.admin().create_topic("orders")).await.unwrap();
    let producer = within(client.producer("orders")).await.unwrap();
    let mut subscription = within(client.subscribe("orders").from(Start::Earliest))
        .await
        .unwrap();
    let delivery = within(producer.send("before")).await.unwrap();
    within(delivery).await.unwrap();
    within(broker.drain(Duration::from_secs(5))).await;
    let delivery = within(producer.send("after")).await.unwrap();
    let _broker = site.try_start(InitMode::Open).await.unwrap();
    let receipt = within(delivery).await.unwrap();
    assert_eq!(receipt.offset.map(|offset| offset.get()), Some(1));
    for expected in ["before", "after"] {
        let record = within(subscription.next()).await.unwrap().unwrap();
        assert_eq!(record.text(), Some(expected));
    }
}

/// An address nobody uses at the moment.
pub(crate) async fn free_port() -> String {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.local_addr().unwrap().to_string()
}
