//! Brokers that cannot reach one another, in both directions or in one.

use quorate_tests::Brokers;
use quorate_tests::ClusterPlan;
use quorate_tests::Network;
use quorate_tests::could_not_run;

use crate::failover::Traffic;

const RECEIPTS: usize = 200;

/// Three brokers on a network, with traffic; or nothing, which is told.
async fn divided(test: &str) -> Option<(Brokers, Traffic)> {
    let network = match Network::build(3) {
        Ok(network) => network,
        Err(why) => {
            could_not_run(test, &why);
            return None;
        }
    };
    let brokers = ClusterPlan::in_network(network, 3).start().await;
    let traffic = Traffic::start(&brokers).await;
    traffic.progress(RECEIPTS).await;
    Some((brokers, traffic))
}

/// Publishing went on while the links were cut, and does so when they are whole again.
async fn heal_and_judge(mut brokers: Brokers, traffic: Traffic, what: &str) {
    traffic.progress(RECEIPTS).await;
    brokers.network().heal();
    brokers.in_sync(&traffic.client, "orders").await;
    traffic.progress(RECEIPTS).await;
    let verdict = traffic.judge(&mut brokers, what).await;
    assert_eq!(verdict.not_applied + verdict.unknown, 0, "{verdict}");
}

#[tokio::test]
async fn a_leader_cut_off_from_the_other_brokers_is_replaced_and_acknowledges_nothing() {
    let name = "a_leader_cut_off_from_the_other_brokers_is_replaced_and_acknowledges_nothing";
    let Some((brokers, traffic)) = divided(name).await else {
        return;
    };
    let leader = brokers.leader(&traffic.client, "orders", 0).await;
    // Whoever is cut off does not hear who leads now.
    let witness = brokers.client_at(leader % 3 + 1, &[]).await;
    brokers.network().isolate(leader);
    let other = brokers
        .leader_other_than(&witness, "orders", 0, leader)
        .await;
    assert_ne!(other, leader);
    heal_and_judge(brokers, traffic, "a leader cut off").await;
}

#[tokio::test]
async fn a_leader_that_hears_nobody_but_is_heard_is_replaced() {
    let name = "a_leader_that_hears_nobody_but_is_heard_is_replaced";
    let Some((brokers, traffic)) = divided(name).await else {
        return;
    };
    let leader = brokers.leader(&traffic.client, "orders", 0).await;
    for other in brokers.ids() {
        if other != leader {
            brokers.network().cut(other, leader);
        }
    }
    heal_and_judge(brokers, traffic, "a leader that hears nobody").await;
}

#[tokio::test]
async fn a_leader_that_is_heard_by_nobody_is_replaced() {
    let name = "a_leader_that_is_heard_by_nobody_is_replaced";
    let Some((brokers, traffic)) = divided(name).await else {
        return;
    };
    let leader = brokers.leader(&traffic.client, "orders", 0).await;
    for other in brokers.ids() {
        if other != leader {
            brokers.network().cut(leader, other);
        }
    }
    heal_and_judge(brokers, traffic, "a leader heard by nobody").await;
}

#[tokio::test]
async fn one_link_less_between_two_of_three_brokers_stops_nothing() {
    let name = "one_link_less_between_two_of_three_brokers_stops_nothing";
    let Some((brokers, traffic)) = divided(name).await else {
        return;
    };
    for (one, other) in [(1, 2), (2, 3), (3, 1)] {
        brokers.network().part(one, other);
        traffic.progress(RECEIPTS).await;
        brokers.network().heal();
    }
    heal_and_judge(brokers, traffic, "one link less").await;
}
