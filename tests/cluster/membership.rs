//! Brokers that come, go, and come back with nothing; partitions that move; all under load.

use quorate::BrokerId;
use quorate::Client;
use quorate::PartitionId;
use quorate_tests::ClusterPlan;
use quorate_tests::eventually;
use quorate_tests::within;

use crate::failover::Traffic;

const RECEIPTS: usize = 100;

/// Waits until every partition is held by exactly these brokers, all in sync.
async fn held_by(client: &Client, brokers: &[u16]) {
    eventually("the partitions are where they should be", async || {
        let described = within(client.admin().topic("orders")).await.ok()?;
        let settled = described.partitions.iter().all(|partition| {
            let sorted = |ids: &[BrokerId]| {
                let mut ids: Vec<_> = ids.iter().map(|id| id.get()).collect();
                ids.sort_unstable();
                ids
            };
            sorted(&partition.replicas) == brokers && sorted(&partition.in_sync) == brokers
        });
        settled.then_some(())
    })
    .await;
}

/// Waits until every partition is led by the broker that should.
async fn at_home(client: &Client) {
    eventually("the preferred brokers lead", async || {
        let described = within(client.admin().topic("orders")).await.ok()?;
        let mut partitions = described.partitions.iter();
        let home = partitions.all(|one| one.leader.is_some() && one.leader == one.preferred);
        home.then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_broker_joins_takes_partitions_over_and_the_old_one_is_removed() {
    let mut brokers = ClusterPlan::of(3).start().await;
    let traffic = Traffic::start(&brokers).await;
    traffic.progress(RECEIPTS).await;
    let id = brokers.make_another();
    let admin = traffic.client.admin();
    let address = brokers.peer_address(id);
    let added = within(admin.add_broker(BrokerId::new(id), &format!("broker-{id}"), &address));
    assert!(added.await.unwrap().changed);
    brokers.start_with(&[id], &["--init"]).await;
    for partition in 0..3 {
        let target = [2, 3, id].map(BrokerId::new);
        let moved = admin.move_partition("orders", PartitionId::new(partition), target);
        assert!(within(moved).await.unwrap().changed);
    }
    traffic.progress(RECEIPTS).await;
    held_by(&traffic.client, &[2, 3, id]).await;
    let removed = within(admin.remove_broker(BrokerId::new(1))).await;
    assert!(removed.unwrap().changed);
    let gone = async || {
        let status = within(admin.cluster_status()).await.ok()?;
        let mut known = status.brokers.iter();
        known
            .all(|broker| broker.id != BrokerId::new(1))
            .then_some(())
    };
    eventually("the broker is no member any more", gone).await;
    traffic.progress(RECEIPTS).await;
    brokers.kill(1).await;
    brokers.wipe(1);
    traffic.progress(RECEIPTS).await;
    let verdict = traffic.judge(&mut brokers, "join, move, remove").await;
    assert_eq!(verdict.not_applied + verdict.unknown, 0, "{verdict}");
}

#[tokio::test]
async fn a_broker_that_lost_its_disk_is_refused_until_it_is_replaced_and_then_refilled() {
    let mut brokers = ClusterPlan::of(3).start().await;
    let traffic = Traffic::start(&brokers).await;
    traffic.progress(RECEIPTS).await;
    let lost = 3;
    brokers.kill(lost).await;
    brokers.wipe(lost);
    let refused = brokers.refuse(lost, &[]).await;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("cluster replace"), "{refused:?}");
    let why = "quorate cluster replace 3";
    brokers.kept_out(lost, &["--init"], why).await;
    brokers.wipe(lost);
    traffic.progress(RECEIPTS).await;
    let replaced = traffic
        .client
        .admin()
        .replace_broker(BrokerId::new(lost))
        .await;
    assert!(replaced.unwrap().changed);
    brokers.start_with(&[lost], &["--replace"]).await;
    held_by(&traffic.client, &[1, 2, 3]).await;
    traffic.progress(RECEIPTS).await;
    // What was refilled counts: another broker may go now.
    brokers.kill(1).await;
    traffic.progress(RECEIPTS).await;
    brokers.restart(1).await;
    let verdict = traffic.judge(&mut brokers, "disk lost").await;
    assert_eq!(verdict.not_applied + verdict.unknown, 0, "{verdict}");
}

#[tokio::test]
async fn leadership_goes_where_it_is_sent_and_away_from_a_drained_broker() {
    let mut brokers = ClusterPlan::of(3).start().await;
    let traffic = Traffic::start(&brokers).await;
    traffic.progress(RECEIPTS).await;
    let admin = traffic.client.admin();
    at_home(&traffic.client).await;
    let leader = brokers.leader(&traffic.client, "orders", 0).await;
    let next = leader % 3 + 1;
    let transferred = admin.transfer("orders", PartitionId::new(0), BrokerId::new(next));
    assert!(within(transferred).await.unwrap().changed);
    let other = brokers.leader_other_than(&traffic.client, "orders", 0, leader);
    assert_eq!(other.await, next);
    let drained = within(admin.drain_broker(BrokerId::new(2))).await;
    assert!(drained.unwrap().changed);
    let leads_nothing = async || {
        let described = within(admin.topic("orders")).await.ok()?;
        let mut leaders = described.partitions.iter().map(|one| one.leader);
        let away = leaders.all(|leader| leader.is_some_and(|id| id != BrokerId::new(2)));
        away.then_some(())
    };
    eventually("the drained broker leads nothing", leads_nothing).await;
    traffic.progress(RECEIPTS).await;
    let undrained = within(admin.undrain_broker(BrokerId::new(2))).await;
    assert!(undrained.unwrap().changed);
    at_home(&traffic.client).await;
    let verdict = traffic.judge(&mut brokers, "transfer and drain").await;
    assert_eq!(verdict.not_applied + verdict.unknown, 0, "{verdict}");
}

#[tokio::test]
async fn unsafe_changes_are_refused_with_the_reason() {
    let mut brokers = ClusterPlan::of(3).start().await;
    let client = brokers.client().await;
    crate::topic::create(&client, 1).await;
    brokers.in_sync(&client, "orders").await;
    let admin = client.admin();
    let partition = PartitionId::new(0);
    let nobody = BrokerId::new(9);
    let refusals = [
        // Three replicas do not fit on two brokers.
        within(admin.remove_broker(BrokerId::new(3))).await,
        within(admin.remove_broker(nobody)).await,
        within(admin.transfer("orders", partition, nobody)).await,
        within(admin.move_partition("orders", partition, [nobody])).await,
        within(admin.replace_broker(nobody)).await,
        within(admin.add_broker(BrokerId::new(3), "broker-3", "127.0.0.1:1")).await,
    ];
    for refused in refusals {
        let error = refused.expect_err("it is not safe");
        assert!(error.to_string().len() > 20, "{error}");
    }
    let create = client.admin().create_topic("too-wide").replicas(5);
    let error = within(create).await.expect_err("there are three brokers");
    assert!(error.to_string().contains('3'), "{error}");
    brokers.terminate_all().await;
}
