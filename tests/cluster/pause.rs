//! A broker that stands still longer than its clients have patience.

use quorate::Delivery;
use quorate::Message;
use quorate::MessageId;
use quorate::Outcome;
use quorate::Producer;
use quorate_tests::History;
use quorate_tests::TestCluster;
use quorate_tests::within;

use crate::topic;

const MESSAGES: u64 = 50;

fn message(key: &str) -> Message {
    let message = Message::new(key.to_owned()).key(key.to_owned());
    message.id(MessageId::hash(key)).partition(0)
}

async fn send(history: &History, producer: &Producer, number: u64) -> (String, Delivery) {
    let key = format!("number {number}");
    history.invoke_text(0, number, &key);
    let delivery = within(producer.send(message(&key))).await.unwrap();
    (key, delivery)
}

#[tokio::test]
async fn outcomes_are_honest_and_unknown_is_settled_by_sending_again() {
    let broker = TestCluster::new().start().await;
    let options = [("producer.delivery_timeout_ms", "1000")];
    let client = broker.client_with(&options).await;
    topic::create(&client, 1).await;
    let history = History::new();
    let producer = within(client.producer("orders")).await.unwrap();
    let (key, delivery) = send(&history, &producer, 0).await;
    history.answer(&key, &within(delivery).await);
    broker.stop();
    let mut waiting = Vec::new();
    for number in 1..MESSAGES {
        waiting.push(send(&history, &producer, number).await);
    }
    let mut unknown = Vec::new();
    for (key, delivery) in waiting {
        let ended = within(delivery).await;
        history.answer(&key, &ended);
        let error = ended.expect_err("a stopped broker gives no receipt");
        if error.outcome() == Outcome::Unknown {
            unknown.push(key);
        }
    }
    assert!(!unknown.is_empty(), "what was sent has no known outcome");
    broker.cont();
    let again = broker.client().await;
    for key in unknown {
        let settled = within(again.publish("orders", message(&key))).await;
        history.answer(&key, &settled);
    }
    let verdict = topic::judge(&client, &history, "pause").await;
    assert_eq!(verdict.unknown, 0, "{verdict}");
}
