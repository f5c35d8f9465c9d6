//! A full disk: publishing waits for room, everything else goes on.

use quorate::Client;
use quorate::ErrorKind;
use quorate::Message;
use quorate::Outcome;
use quorate::Receipt;
use quorate_tests::History;
use quorate_tests::SmallDisk;
use quorate_tests::TestCluster;
use quorate_tests::could_not_run;
use quorate_tests::eventually;
use quorate_tests::read_topic;
use quorate_tests::within;

use crate::topic;

const NAME: &str = "a_full_disk_refuses_publishing_until_there_is_room";

/// Publishes the next message, noting what becomes of it.
async fn publish(client: &Client, history: &History, number: &mut u64) -> quorate::Result<Receipt> {
    let key = format!("{number} {}", "filler ".repeat(10_000));
    history.invoke_text(0, *number, &key);
    *number += 1;
    let message = Message::new(key.clone()).key(key.clone());
    let ended = within(client.publish("orders", message)).await;
    history.answer(&key, &ended);
    ended
}

#[tokio::test]
async fn a_full_disk_refuses_publishing_until_there_is_room() {
    let disk = match SmallDisk::mount(64) {
        Ok(disk) => disk,
        Err(why) => return could_not_run(NAME, &why),
    };
    let cluster = TestCluster::new().with_data(disk.path().join("data"));
    let mut broker = cluster.start().await;
    let options = [
        ("producer.delivery_timeout_ms", "1000"),
        ("client.request_timeout_ms", "1000"),
    ];
    let client = broker.client_with(&options).await;
    topic::create(&client, 1).await;
    let history = History::new();
    let mut number = 0;
    publish(&client, &history, &mut number).await.unwrap();
    disk.fill();
    // What was being written as the disk became full is written when there is room.
    let refused = eventually("publishing is refused", async || {
        let ended = publish(&client, &history, &mut number).await;
        ended
            .err()
            .filter(|error| error.outcome() == Outcome::NotApplied)
    });
    let error = refused.await;
    assert_eq!(error.kind(), ErrorKind::DiskFull, "{error:?}");
    let (kept, _) = read_topic(&client, "orders").await.unwrap();
    assert!(!kept.is_empty());
    disk.empty();
    eventually("publishing goes on", async || {
        publish(&client, &history, &mut number).await.ok()
    })
    .await;
    topic::judge(&client, &history, "full disk").await;
    broker.kill().await;
    broker.restart().await;
    topic::judge(&client, &history, "full disk, restarted").await;
    drop(broker);
}
