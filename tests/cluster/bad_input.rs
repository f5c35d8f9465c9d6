//! What brokers refuse from one another and from whoever pretends to be one.

use quorate_tests::ClusterPlan;
use quorate_tests::eventually;
use quorate_tests::within;

use crate::topic;

#[tokio::test]
async fn a_second_process_of_a_member_with_another_disk_is_refused() {
    let mut brokers = ClusterPlan::of(3).start().await;
    let client = brokers.client().await;
    topic::create(&client, 1).await;
    topic::publish(&client, 0, 0..50, 0).await;
    // The same certificate and number, other ports, an empty folder.
    for arguments in [["--init"], ["--replace"]] {
        let why = "broker 3 is known with another data folder";
        brokers.double_kept_out(3, &arguments, why).await;
    }
    topic::publish(&client, 0, 50..100, 0).await;
    brokers.caught_up(&client, "orders").await;
    let comparison = brokers.compare().await;
    comparison.assert_same();
}

#[tokio::test]
async fn a_topic_deleted_in_use_ends_its_users_and_leaves_nothing() {
    let mut brokers = ClusterPlan::of(3).start().await;
    let client = brokers.client().await;
    topic::create(&client, 3).await;
    let producer = within(client.producer("orders")).await.unwrap();
    let mut subscription = within(client.subscribe("orders")).await.unwrap();
    topic::publish(&client, 0, 0..50, 0).await;
    within(client.admin().delete_topic("orders")).await.unwrap();
    let failed = async {
        loop {
            let delivery = match producer.send("too late").await {
                Ok(delivery) => delivery,
                Err(error) => return error,
            };
            if let Err(error) = delivery.await {
                return error;
            }
        }
    };
    let error = within(failed).await;
    assert_eq!(error.kind(), quorate::ErrorKind::UnknownTopic, "{error}");
    let ended = async {
        loop {
            match subscription.next().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Some(error),
                None => return None,
            }
        }
    };
    if let Some(error) = within(ended).await {
        assert_eq!(error.kind(), quorate::ErrorKind::UnknownTopic, "{error}");
    }
    for id in brokers.ids() {
        let groups = brokers.data_dir(id).join("g");
        eventually("the partitions' folders are gone", async || {
            let left = std::fs::read_dir(&groups).unwrap().count();
            (left == 1).then_some(())
        })
        .await;
    }
    // Made again, it is another topic.
    topic::create(&client, 1).await;
    let receipts = topic::publish(&client, 0, 0..1, 0).await;
    assert_eq!(topic::offsets(&receipts), [0]);
    assert!(!receipts[0].duplicate);
    brokers.terminate_all().await;
}

#[tokio::test]
async fn a_follower_that_retention_has_overtaken_is_refilled() {
    let plan = ClusterPlan::of(3).with("storage.segment_bytes", "1MiB");
    let mut brokers = plan.start().await;
    let client = brokers.client().await;
    topic::create_with(&client, 1, &[("topic.retention_bytes", "2MiB")]).await;
    topic::publish(&client, 0, 0..50, 1000).await;
    brokers.in_sync(&client, "orders").await;
    brokers.kill(3).await;
    topic::publish(&client, 0, 1000..1100, 100_000).await;
    eventually("retention passes the absent follower", async || {
        let described = client.admin().topic("orders").await.ok()?;
        let start = described.partitions[0].start_offset.get();
        (start > 60).then_some(())
    })
    .await;
    brokers.restart(3).await;
    brokers.in_sync(&client, "orders").await;
    topic::publish(&client, 0, 2000..2050, 1000).await;
    brokers.in_sync(&client, "orders").await;
    // Duplicates are still known where the log began with a snapshot.
    brokers.kill(1).await;
    brokers.kill(2).await;
    brokers.restart(2).await;
    let again = topic::publish(&client, 0, 0..50, 1000).await;
    assert!(again.iter().all(|receipt| receipt.duplicate));
    brokers.restart(1).await;
    brokers.caught_up(&client, "orders").await;
    let comparison = brokers.compare().await;
    println!("refilled: {comparison}");
    comparison.assert_same();
}
