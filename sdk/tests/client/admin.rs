//! Administration through the client.

use std::time::Duration;

use quorate::AckLevel;
use quorate::ErrorKind;
use quorate::Flush;

use crate::world::Site;
use crate::world::broker_and_client;
use crate::world::within;

#[tokio::test]
async fn a_topic_is_created_described_listed_and_deleted() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let admin = client.admin();
    let create = admin
        .create_topic("audit")
        .partitions(3)
        .set("topic.retention_bytes", "1GiB")
        .dedup_window(Duration::from_secs(60))
        .ack(AckLevel::Leader);
    let created = within(create.into_future()).await.unwrap();
    assert!(created.created);
    let described = within(admin.topic("audit")).await.unwrap();
    assert_eq!(described.partitions.len(), 3);
    assert_eq!(described.summary.id, created.id);
    assert_eq!(described.summary.settings.retention_bytes, 1 << 30);
    assert_eq!(described.summary.settings.flush, Flush::Batch);
    assert_eq!(described.summary.settings.ack, AckLevel::Leader);

    let again = within(admin.create_topic("audit").into_future())
        .await
        .unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    let fine = within(admin.create_topic("audit").if_not_exists().into_future())
        .await
        .unwrap();
    assert!(!fine.created);

    let names = |topics: Vec<quorate::TopicSummary>| -> Vec<String> {
        topics.into_iter().map(|topic| topic.name).collect()
    };
    assert_eq!(names(within(admin.topics()).await.unwrap()), ["audit"]);
    within(admin.delete_topic("audit").dry_run().into_future())
        .await
        .unwrap();
    assert_eq!(names(within(admin.topics()).await.unwrap()), ["audit"]);
    within(admin.delete_topic("audit").into_future())
        .await
        .unwrap();
    assert!(within(admin.topics()).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_cluster_names_itself_its_brokers_and_this_client() {
    let (world, client) = broker_and_client(Site::new()).await;
    let cluster = within(client.admin().cluster()).await.unwrap();
    assert_eq!(cluster.name, "test");
    assert_eq!(cluster.principal, "spiffe://test/admin/admin");
    assert_eq!(cluster.brokers.len(), 1);
    assert_eq!(
        cluster.brokers[0].client_address,
        world.broker.client_address().to_string()
    );
}

#[tokio::test]
async fn a_recreated_topic_is_another_topic() {
    let (_broker, client) = broker_and_client(Site::new()).await;
    let producer = within(client.producer("orders").into_future())
        .await
        .unwrap();
    within(within(producer.send("1")).await.unwrap())
        .await
        .unwrap();
    within(client.admin().delete_topic("orders").into_future())
        .await
        .unwrap();
    within(client.admin().create_topic("orders").into_future())
        .await
        .unwrap();
    let error = within(within(producer.send("2")).await.unwrap())
        .await
        .unwrap_err();
    assert!(!error.is_retryable(), "{error:?}");
    let receipt = within(client.publish("orders", "3").into_future())
        .await
        .unwrap();
    assert_eq!(receipt.offset.map(quorate::Offset::get), Some(0));
}
