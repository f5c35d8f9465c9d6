//! A minority whose disk fails: full, unable to flush, damaged at rest. The majority goes on.

use std::fs;
use std::fs::DirEntry;

use quorate::BrokerId;
use quorate::PartitionId;
use quorate_tests::ClusterPlan;
use quorate_tests::LogFolder;
use quorate_tests::SmallDisk;
use quorate_tests::SyncFault;
use quorate_tests::could_not_run;
use quorate_tests::eventually;
use quorate_tests::flip;
use quorate_tests::read_all;
use quorate_tests::within;

use crate::failover::Traffic;
use crate::topic;

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
    let target = BrokerId::new(if leads { 1 } else { 2 });
    let partition = PartitionId::new(0);
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

/// A broker's copy of the one partition is damaged while it is stopped: in a sealed segment, or in
/// the one that is written to.
async fn damage(sealed: bool) {
    let plan = ClusterPlan::of(3).with("storage.segment_bytes", "1MiB");
    let mut brokers = plan.start().await;
    let client = brokers.client().await;
    topic::create(&client, 1).await;
    let first = topic::publish(&client, 0, 0..100, 50_000).await;
    brokers.caught_up(&client, "orders").await;
    let victim = 2;
    assert_eq!(brokers.terminate(victim).await, Some(0));
    let (early, late) = (topic::text(30), topic::text(99));
    let text = if sealed { &early } else { &late };
    let folder = LogFolder::holding(&brokers.data_dir(victim), text.as_bytes());
    let (segment, at) = folder.place_of(text.as_bytes()).unwrap();
    assert_eq!(segment == folder.newest(), !sealed);
    flip(&segment, at + 20_000);
    brokers.restart(victim).await;
    // Asked to lead, the broker would have to serve what is damaged.
    let (partition, target) = (PartitionId::new(0), BrokerId::new(victim));
    let transfer = client.admin().transfer("orders", partition, target);
    let _refused_or_not = within(transfer).await;
    let log = eventually("everything can be read", async || {
        let log = read_all(&client, "orders", 0).await.ok()?;
        (log.len() == 100).then_some(log)
    })
    .await;
    let offsets: Vec<_> = log.iter().map(|seen| seen.place.offset).collect();
    assert_eq!(offsets, topic::offsets(&first));
    let name = segment.display().to_string();
    eventually("the damage is told", async || {
        brokers.stderr(victim).contains(&name).then_some(())
    })
    .await;
    eventually("the copy is made anew, whole", async || {
        let aside = |entry: &DirEntry| entry.file_name().to_string_lossy().contains("damaged");
        let groups = fs::read_dir(brokers.data_dir(victim).join("g")).unwrap();
        let set_aside = groups.flatten().any(|entry| aside(&entry));
        let holds = |text: &str| folder.place_of(text.as_bytes()).is_some();
        (set_aside && holds(&early) && holds(&late)).then_some(())
    })
    .await;
    brokers.caught_up(&client, "orders").await;
    let comparison = brokers.compare().await;
    println!("damage at rest: {comparison}");
    comparison.assert_same();
}

#[tokio::test]
async fn a_sealed_segment_damaged_at_rest_is_never_served_and_repaired_from_the_others() {
    damage(true).await;
}

#[tokio::test]
async fn the_newest_segment_damaged_at_rest_is_never_served_and_repaired_from_the_others() {
    damage(false).await;
}
