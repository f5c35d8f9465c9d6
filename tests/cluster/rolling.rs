//! Restarts in good order, one broker after the other: no error that an application sees.

use quorate_tests::ClusterPlan;

use crate::failover::Traffic;

const RECEIPTS: usize = 200;

#[tokio::test]
async fn rolling_restarts_are_seen_by_neither_producer_nor_subscriber() {
    let mut brokers = ClusterPlan::of(3).start().await;
    let traffic = Traffic::start(&brokers).await;
    for id in brokers.ids() {
        traffic.progress(RECEIPTS).await;
        assert_eq!(brokers.terminate(id).await, Some(0));
        traffic.progress(RECEIPTS).await;
        brokers.restart(id).await;
        brokers.in_sync(&traffic.client, "orders").await;
    }
    traffic.progress(RECEIPTS).await;
    let verdict = traffic.judge(&mut brokers, "rolling restarts").await;
    assert_eq!(verdict.not_applied + verdict.unknown, 0, "{verdict}");
}
