//! A flush that fails: nothing is acknowledged after it, and nothing before it is lost.

use std::sync::Arc;

use quorate_tests::History;
use quorate_tests::Load;
use quorate_tests::Plan;
use quorate_tests::SyncFault;
use quorate_tests::TestCluster;
use quorate_tests::could_not_run;
use quorate_tests::within;

use crate::topic;

/// `EX_IOERR`: the storage cannot be trusted.
const STORAGE_FAILED: Option<i32> = Some(74);

fn fault(cluster: &TestCluster, test: &str) -> Option<SyncFault> {
    match SyncFault::prepare(cluster.folder()) {
        Ok(fault) => Some(fault),
        Err(why) => {
            could_not_run(test, &why);
            None
        }
    }
}

#[tokio::test]
async fn no_receipt_follows_a_failed_flush() {
    let cluster = TestCluster::new();
    let Some(fault) = fault(&cluster, "no_receipt_follows_a_failed_flush") else {
        return;
    };
    let mut broker = fault.threaten(cluster).start().await;
    let client = broker.client().await;
    topic::create(&client, 1).await;
    let first = topic::publish(&client, 0, 0..100, 0).await;
    let producer = within(client.producer("orders")).await.unwrap();
    fault.strike();
    let delivery = within(producer.send("never flushed")).await.unwrap();
    assert_eq!(broker.exited().await.code(), STORAGE_FAILED);
    assert!(delivery.try_receipt().is_none(), "{delivery:?}");
    assert!(broker.stderr().contains(".seg"), "{}", broker.stderr());
    let refused = broker.refuse_restart().await;
    assert_ne!(refused.code, Some(0));
    fault.relent();
    broker.restart().await;
    let again = topic::publish(&client, 0, 0..100, 0).await;
    assert_eq!(topic::offsets(&first), topic::offsets(&again));
    assert!(again.iter().all(|receipt| receipt.duplicate));
    within(delivery).await.unwrap();
}

#[tokio::test]
async fn a_flush_that_fails_under_load_loses_nothing_acked() {
    let cluster = TestCluster::new();
    let Some(fault) = fault(
        &cluster,
        "a_flush_that_fails_under_load_loses_nothing_acked",
    ) else {
        return;
    };
    let mut broker = fault.threaten(cluster).start().await;
    let client = broker.client().await;
    topic::create(&client, 3).await;
    let plan = Plan {
        topic: "orders".to_owned(),
        partitions: 3,
        producers: 4,
        large: false,
    };
    let history = Arc::new(History::new());
    let load = Load::start(&client, &plan, &history).await;
    for _ in 0..2 {
        topic::progress(&history, 200).await;
        fault.strike();
        assert_eq!(broker.exited().await.code(), STORAGE_FAILED);
        fault.relent();
        broker.restart().await;
    }
    topic::progress(&history, 200).await;
    load.finish().await;
    topic::judge(&client, &history, "failed flushes").await;
}
