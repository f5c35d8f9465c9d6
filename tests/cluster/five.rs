//! Five brokers and five replicas: two may fail at once.

use quorate_tests::ClusterPlan;

use crate::failover::Traffic;

const RECEIPTS: usize = 100;

#[tokio::test]
async fn two_of_five_brokers_fail_at_once_and_nothing_is_lost() {
    let mut brokers = ClusterPlan::of(5).start().await;
    let traffic = Traffic::start_replicated(&brokers, 5).await;
    for victims in [[1, 2], [3, 5]] {
        traffic.progress(RECEIPTS).await;
        for id in victims {
            brokers.kill(id).await;
        }
        traffic.progress(RECEIPTS).await;
        brokers.restart_all().await;
        brokers.in_sync(&traffic.client, "orders").await;
    }
    traffic.progress(RECEIPTS).await;
    let verdict = traffic.judge(&mut brokers, "two of five").await;
    assert_eq!(verdict.not_applied + verdict.unknown, 0, "{verdict}");
}
