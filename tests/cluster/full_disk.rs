//! A full disk: publishing waits for room, everything else goes on.

use quorate::ErrorKind;
use quorate::Outcome;
use quorate_tests::SmallDisk;
use quorate_tests::TestCluster;
use quorate_tests::could_not_run;
use quorate_tests::eventually;
use quorate_tests::read_all;
use quorate_tests::within;

use crate::topic;

#[tokio::test]
async fn a_full_disk_refuses_publishing_until_there_is_room() {
    let disk = match SmallDisk::mount(64) {
        Ok(disk) => disk,
        Err(why) => {
            return could_not_run("a_full_disk_refuses_publishing_until_there_is_room", &why);
        }
    };
    let cluster = TestCluster::new().with_data(disk.path().join("data"));
    let mut broker = cluster.start().await;
    let options = [("producer.delivery_timeout_ms", "2000")];
    let client = broker.client_with(&options).await;
    topic::create(&client, 1).await;
    let first = topic::publish(&client, 0, 0..20, 100).await;
    disk.fill();
    let refused = eventually("publishing is refused", async || {
        within(client.publish("orders", vec![7; 200_000]))
            .await
            .err()
    });
    let error = refused.await;
    assert_eq!(error.kind(), ErrorKind::DiskFull, "{error:?}");
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error:?}");
    let kept = read_all(&client, "orders", 0).await.unwrap();
    assert!(kept.len() >= first.len());
    disk.empty();
    let published = eventually("publishing goes on", async || {
        within(client.publish("orders", "room again")).await.ok()
    });
    let receipt = published.await;
    broker.kill().await;
    broker.restart().await;
    let log = read_all(&client, "orders", 0).await.unwrap();
    let last = log.last().unwrap();
    assert_eq!(
        Some(last.place.offset),
        receipt.offset.map(|offset| offset.get())
    );
    let again = topic::publish(&client, 0, 0..20, 100).await;
    assert_eq!(topic::offsets(&first), topic::offsets(&again));
    drop(broker);
}
