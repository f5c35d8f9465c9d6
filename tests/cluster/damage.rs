//! Files that are not what the broker left: a torn tail is cut, damage is reported, never skipped.

use quorate::Client;
use quorate::ErrorKind;
use quorate_tests::LogFolder;
use quorate_tests::TestBroker;
use quorate_tests::TestCluster;
use quorate_tests::cut;
use quorate_tests::end_of_frames;
use quorate_tests::flip;
use quorate_tests::overwrite;
use quorate_tests::read_all;

use crate::topic;

/// Everything published to a partition is there.
async fn assert_whole(client: &Client, partition: u32, records: usize) {
    let log = read_all(client, "orders", partition).await.unwrap();
    assert_eq!(log.len(), records);
    assert!(
        log.iter()
            .zip(0..)
            .all(|(seen, offset)| seen.place.offset == offset)
    );
}

/// One partition with messages 0 to 99, another with 100 to 199.
async fn two_partitions(broker: &TestBroker, filler: usize) -> Client {
    let client = broker
        .client_with(&[("client.request_timeout_ms", "2000")])
        .await;
    topic::create(&client, 2).await;
    topic::publish(&client, 0, 0..100, filler).await;
    topic::publish(&client, 1, 100..200, filler).await;
    client
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_logged_and_what_was_acked_stays() {
    let mut broker = TestCluster::new().start().await;
    let client = two_partitions(&broker, 100).await;
    for tear in [torn_frame, garbage, cut_garbage] {
        broker.kill().await;
        let folder = LogFolder::holding(broker.data_dir(), topic::text(0).as_bytes());
        let segment = folder.newest();
        let end = end_of_frames(&segment);
        tear(&segment, end);
        let before = broker.stderr().len();
        broker.restart().await;
        let log = broker.stderr().split_off(before);
        let told = log.lines().find(|line| line.contains("torn"));
        let told = told.unwrap_or_else(|| panic!("no word of the torn tail in {log}"));
        assert!(told.contains(&segment.display().to_string()), "{told}");
        assert!(told.contains(&end.to_string()), "{told}");
        assert_whole(&client, 0, 100).await;
        assert_whole(&client, 1, 100).await;
    }
    let receipts = topic::publish(&client, 0, 500..501, 0).await;
    assert_eq!(topic::offsets(&receipts), [100]);
}

/// The first half of what looks like the next frame.
fn torn_frame(segment: &std::path::Path, end: usize) {
    let held = std::fs::read(segment).unwrap();
    overwrite(segment, end, &held[4096..4096 + 60]);
}

fn garbage(segment: &std::path::Path, end: usize) {
    overwrite(segment, end, &[0xa5; 777]);
}

fn cut_garbage(segment: &std::path::Path, end: usize) {
    overwrite(segment, end, &[0x5a; 13]);
    cut(segment, end + 11);
}

#[tokio::test]
async fn a_flipped_byte_in_a_sealed_segment_is_told_to_readers_and_logged() {
    let cluster = TestCluster::new().with("storage.segment_bytes", "1MiB");
    let mut broker = cluster.start().await;
    let client = two_partitions(&broker, 50_000).await;
    assert_eq!(broker.terminate().await, Some(0));
    let victim = topic::text(30);
    let folder = LogFolder::holding(broker.data_dir(), victim.as_bytes());
    let (segment, at) = folder.place_of(victim.as_bytes()).unwrap();
    assert_ne!(segment, folder.newest());
    flip(&segment, at + 20_000);
    broker.restart().await;
    let error = read_all(&client, "orders", 0)
        .await
        .expect_err("damage is no data");
    assert_eq!(error.kind(), ErrorKind::DataUnavailable, "{error:?}");
    let log = broker.stderr();
    println!("LOG {log}");
    assert!(log.contains(&segment.display().to_string()), "{log}");
    assert_whole(&client, 1, 100).await;
    let receipts = topic::publish(&client, 1, 500..501, 0).await;
    assert_eq!(topic::offsets(&receipts), [100]);
    let ahead = client
        .read("orders")
        .partition(0)
        .offsets(90..)
        .await
        .unwrap();
    assert_eq!(ahead.records.len(), 10);
}

#[tokio::test]
async fn a_flipped_byte_below_the_durable_mark_closes_the_partition_and_no_other() {
    let mut broker = TestCluster::new().start().await;
    let client = two_partitions(&broker, 100).await;
    assert_eq!(broker.terminate().await, Some(0));
    let victim = topic::text(30);
    let folder = LogFolder::holding(broker.data_dir(), victim.as_bytes());
    let (segment, at) = folder.place_of(victim.as_bytes()).unwrap();
    let before = std::fs::read(&segment).unwrap();
    flip(&segment, at);
    let damaged = std::fs::read(&segment).unwrap();
    broker.restart().await;
    let error = read_all(&client, "orders", 0)
        .await
        .expect_err("damage is no data");
    let log = broker.stderr();
    assert!(
        log.contains(&segment.display().to_string()),
        "{error:?}: {log}"
    );
    assert_whole(&client, 1, 100).await;
    let receipts = topic::publish(&client, 1, 500..501, 0).await;
    assert_eq!(topic::offsets(&receipts), [100]);
    // Nothing is repaired in place: whoever has the right bytes can bring them back.
    assert_eq!(broker.terminate().await, Some(0));
    assert!(std::fs::read(&segment).unwrap() == damaged);
    std::fs::write(&segment, before).unwrap();
    broker.restart().await;
    assert_whole(&client, 0, 100).await;
}
