//! Retention through the front door: the log start moves, and readers are told.

use quorate::Client;
use quorate::ErrorKind;
use quorate::GapReason;
use quorate::OnTruncated;
use quorate::Start;
use quorate_tests::TestCluster;
use quorate_tests::eventually;
use quorate_tests::kept_offsets;
use quorate_tests::read_all;
use quorate_tests::within;

use crate::topic;

async fn create(client: &Client, key: &str, value: &str) {
    let create = client.admin().create_topic("orders").set(key, value);
    within(create).await.unwrap();
}

/// Start and end of the log.
async fn bounds(client: &Client) -> (u64, u64) {
    kept_offsets(client, "orders").await.unwrap()[&0]
}

/// Readers who ask for what is gone are told what there is.
async fn assert_told(client: &Client, (start, end): (u64, u64)) {
    let page = within(client.read("orders").offsets(0..5)).await;
    let error = page.expect_err("the first records are gone");
    assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange, "{error:?}");
    let offsets = error.offsets().map(|(start, end)| (start.get(), end.get()));
    assert_eq!(offsets, Some((start, end)));
    let refused = within(client.subscribe("orders").from(Start::Offset(0))).await;
    let error = refused.expect_err("the first records are gone");
    assert_eq!(error.kind(), ErrorKind::OffsetOutOfRange, "{error:?}");
    let subscribe = client.subscribe("orders").from(Start::Offset(0));
    let subscribe = subscribe.on_truncated(OnTruncated::Earliest);
    let mut subscription = within(subscribe).await.unwrap();
    let told = within(subscription.next()).await.unwrap();
    let error = told.expect_err("the gap is told first");
    let gap = error.gap().expect("a gap");
    assert_eq!((gap.from.get(), gap.to.get()), (0, start));
    assert_eq!(gap.reason, GapReason::Retention);
    if start < end {
        let first = within(subscription.next()).await.unwrap().unwrap();
        assert_eq!(first.offset.get(), start);
    }
}

#[tokio::test]
async fn retention_by_bytes_moves_the_log_start_and_readers_are_told() {
    let mut broker = TestCluster::new().start().await;
    let client = broker.client().await;
    create(&client, "topic.retention_bytes", "4MiB").await;
    let slow = client.subscribe("orders").from(Start::Earliest);
    let mut slow = within(slow.prefetch_bytes(1 << 16)).await.unwrap();
    topic::publish(&client, 0, 0..60, 200_000).await;
    eventually("the log start moves", async || {
        let (start, end) = bounds(&client).await;
        (start > 0 && end - start < 40).then_some(())
    })
    .await;
    let kept = bounds(&client).await;
    assert!(
        (kept.1 - kept.0) * 200_000 >= 4 << 20,
        "{kept:?} is less than asked for"
    );
    assert_told(&client, kept).await;
    let mut next = 0;
    while next < kept.1 {
        match within(slow.next()).await.unwrap() {
            Ok(record) => {
                assert_eq!(record.offset.get(), next);
                next += 1;
            }
            Err(error) => {
                let gap = error.gap().expect("a gap");
                assert_eq!((gap.from.get(), gap.reason), (next, GapReason::Retention));
                next = gap.to.get();
            }
        }
    }
    broker.kill().await;
    broker.restart().await;
    let records = read_all(&client, "orders", 0).await.unwrap();
    let after = bounds(&client).await;
    assert!(
        after.0 >= kept.0 && after.1 == kept.1,
        "{kept:?}, then {after:?}"
    );
    assert_eq!(records[0].place.offset, after.0);
}

#[tokio::test]
async fn retention_by_time_moves_the_log_start_and_offsets_go_on() {
    let mut broker = TestCluster::new().start().await;
    let client = broker.client().await;
    create(&client, "topic.retention_time_ms", "1s").await;
    topic::publish(&client, 0, 0..30, 1000).await;
    eventually("everything has expired", async || {
        (bounds(&client).await == (30, 30)).then_some(())
    })
    .await;
    assert_told(&client, (30, 30)).await;
    broker.kill().await;
    broker.restart().await;
    let receipts = topic::publish(&client, 0, 30..31, 10).await;
    assert_eq!(topic::offsets(&receipts), [30]);
}
