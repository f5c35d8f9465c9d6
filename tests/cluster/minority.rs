//! A minority whose disk fails: full, or unable to flush. The majority goes on.

use quorate_tests::ClusterPlan;
use quorate_tests::SmallDisk;
use quorate_tests::SyncFault;
use quorate_tests::could_not_run;
use quorate_tests::eventually;

use crate::failover::Traffic;

const RECEIPTS: usize = 200;
/// `EX_IOERR`: the storage cannot be trusted.
const STORAGE_FAILED: Option<i32> = Some(74);

/// A flush that fails on broker 1 while it leads partition 0, or while it follows.
async fn strike(name: &str, leads: bool) {
    let plan = ClusterPlan::of(3);
    let fault = match SyncFault::prepare(plan.folder()) {
        Ok(fault) => fault,
        Err(why) => return could_not_run(name, &why),
    };
    let mut brokers = fault.threaten_one(plan, 1).start().await;
    let traffic = Traffic::start(&brokers).await;
    traffic.progress(RECEIPTS).await;
    let target = quorate::BrokerId::new(if leads { 1 } else { 2 });
    let partition = quorate::PartitionId::new(0);
    let admin = traffic.client.admin();
    let _may_lead_already = admin.transfer("orders", partition, target).await;
    eventually("the broker has its role", async || {
        let leader = brokers.leader(&traffic.client, "orders", 0).await;
        (leader == target.get()).then_some(())
    })
    .await;
    fault.strike();
    assert_eq!(brokers.exited(1).await, STORAGE_FAILED);
    let log = brokers.stderr(1);
    assert!(log.contains(".seg") || log.contains("state"), "{log}");
    traffic.progress(RECEIPTS).await;
    fault.relent();
    brokers.restart(1).await;
    let verdict = traffic.judge(&mut brokers, name).await;
    assert_eq!(verdict.not_applied + verdict.unknown, 0, "{verdict}");
}

#[tokio::test]
async fn a_leader_that_cannot_flush_ends_and_another_one_goes_on() {
    strike(
        "a_leader_that_cannot_flush_ends_and_another_one_goes_on",
        true,
    )
    .await;
}

#[tokio::test]
async fn a_follower_that_cannot_flush_ends_and_nobody_waits_for_it() {
    strike(
        "a_follower_that_cannot_flush_ends_and_nobody_waits_for_it",
        false,
    )
    .await;
}

#[tokio::test]
async fn a_full_disk_of_one_broker_stops_nothing_and_it_catches_up_when_there_is_room() {
    let name = "a_full_disk_of_one_broker_stops_nothing_and_it_catches_up_when_there_is_room";
    let disk = match SmallDisk::mount(256) {
        Ok(disk) => disk,
        Err(why) => return could_not_run(name, &why),
    };
    let plan = ClusterPlan::of(3)
        .with("storage.segment_bytes", "1MiB")
        .with_data(2, disk.path().join("data"));
    let mut brokers = plan.start().await;
    let settings = [("topic.retention_bytes", "32MiB")];
    let traffic = Traffic::start_with(&brokers, &settings).await;
    traffic.progress(RECEIPTS).await;
    disk.fill();
    traffic.progress(RECEIPTS).await;
    disk.empty();
    traffic.progress(RECEIPTS).await;
    let verdict = traffic.judge(&mut brokers, name).await;
    assert_eq!(verdict.not_applied + verdict.unknown, 0, "{verdict}");
    drop(brokers);
}
