//! `kill -9` of every broker in turn, under load: nothing lost, nothing twice, the same everywhere.

use std::sync::Arc;

use quorate::Client;
use quorate_tests::Brokers;
use quorate_tests::ClusterPlan;
use quorate_tests::Follower;
use quorate_tests::History;
use quorate_tests::Load;
use quorate_tests::Plan;
use quorate_tests::within;

use crate::topic;

/// Receipts between two kills.
const RECEIPTS: usize = 200;

/// Three producers and a subscriber on a topic of three partitions.
pub(crate) struct Traffic {
    pub(crate) client: Client,
    pub(crate) history: Arc<History>,
    load: Load,
    follower: Follower,
}

impl Traffic {
    pub(crate) async fn start(brokers: &Brokers) -> Self {
        Self::start_with(brokers, &[]).await
    }

    /// The same on a topic with these settings.
    pub(crate) async fn start_with(brokers: &Brokers, settings: &[(&str, &str)]) -> Self {
        let client = brokers.client().await;
        topic::create_with(&client, 3, settings).await;
        Self::publish(client).await
    }

    /// The same with so many replicas.
    pub(crate) async fn start_replicated(brokers: &Brokers, replicas: u32) -> Self {
        let client = brokers.client().await;
        let create = client.admin().create_topic("orders").partitions(3);
        within(create.replicas(replicas)).await.unwrap();
        Self::publish(client).await
    }

    async fn publish(client: Client) -> Self {
        let history = Arc::new(History::new());
        let follower = Follower::start(&client, "orders", "subscriber", &history).await;
        let plan = Plan {
            topic: "orders".to_owned(),
            partitions: 3,
            producers: 3,
            large: true,
        };
        let load = Load::start(&client, &plan, &history).await;
        Self {
            client,
            history,
            load,
            follower,
        }
    }

    /// Waits for so many more receipts.
    pub(crate) async fn progress(&self, receipts: usize) {
        topic::progress(&self.history, receipts).await;
    }

    /// Ends the load, checks the history, and compares the replicas. All brokers run.
    pub(crate) async fn judge(self, brokers: &mut Brokers, what: &str) -> quorate_tests::Verdict {
        self.load.finish().await;
        brokers.caught_up(&self.client, "orders").await;
        let records = topic::records(&self.client).await;
        self.follower.finish(records).await;
        let verdict = topic::judge(&self.client, &self.history, what).await;
        let comparison = brokers.compare().await;
        println!("{what}: {comparison}");
        comparison.assert_same();
        verdict
    }
}

/// How many brokers are killed: few, or as many as `KILLS` says.
fn kills() -> usize {
    let asked = std::env::var("KILLS").ok();
    asked.map_or(6, |asked| asked.parse().expect("KILLS is a number"))
}

#[tokio::test]
async fn acked_records_survive_kills_of_each_role_under_load() {
    let plan = ClusterPlan::of(3).with("storage.segment_bytes", "4MiB");
    let mut brokers = plan.start().await;
    let traffic = Traffic::start(&brokers).await;
    for number in 0..kills() {
        traffic.progress(RECEIPTS).await;
        let leader = brokers.leader(&traffic.client, "orders", number % 3).await;
        // In turn the leader of a partition, and one of its followers.
        let victim = match number % 2 {
            0 => leader,
            _ => leader % 3 + 1,
        };
        brokers.kill(victim).await;
        traffic.progress(RECEIPTS).await;
        brokers.restart(victim).await;
        brokers.in_sync(&traffic.client, "orders").await;
    }
    traffic.progress(RECEIPTS).await;
    let what = format!("{} kills of three brokers", kills());
    let verdict = traffic.judge(&mut brokers, &what).await;
    assert_eq!(verdict.not_applied + verdict.unknown, 0, "{verdict}");
}

#[tokio::test]
async fn acked_records_survive_the_kill_of_all_brokers_at_once() {
    let mut brokers = ClusterPlan::of(3).start().await;
    let traffic = Traffic::start(&brokers).await;
    for _ in 0..2 {
        traffic.progress(RECEIPTS).await;
        brokers.kill_all().await;
        brokers.restart_all().await;
    }
    traffic.progress(RECEIPTS).await;
    let verdict = traffic.judge(&mut brokers, "all killed at once").await;
    assert_eq!(verdict.not_applied + verdict.unknown, 0, "{verdict}");
}
