//! Several brokers of one cluster, each a process: killed, paused, restarted, wiped by number.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::path::PathBuf;

use quorate::Client;
use rustix::process::Signal;

use crate::network::Network;
use crate::patience::eventually;
use crate::patience::within;
use crate::plan::ClusterPlan;
use crate::process::Launch;
use crate::process::Process;
use crate::process::Refused;
use crate::process::written;
use crate::replicas::Comparison;
use crate::replicas::compare_replicas;

/// The brokers of a cluster, running or not. Their processes are killed when this is dropped.
#[derive(Debug)]
pub struct Brokers {
    processes: BTreeMap<u16, Process>,
    plan: ClusterPlan,
}

impl Brokers {
    pub(crate) async fn start(plan: ClusterPlan) -> Self {
        let mut brokers = Self {
            processes: BTreeMap::new(),
            plan,
        };
        let ids: Vec<_> = brokers.plan.ids().collect();
        brokers.start_with(&ids, &["--init"]).await;
        brokers
    }

    /// What the brokers are started with; changes count from the next start on.
    pub fn plan_mut(&mut self) -> &mut ClusterPlan {
        &mut self.plan
    }

    /// The numbers of all brokers.
    #[must_use]
    pub fn ids(&self) -> Vec<u16> {
        self.plan.ids().collect()
    }

    /// The network that the brokers stand in, if they have one.
    #[must_use]
    pub fn network(&self) -> &Network {
        self.plan.network().expect("the brokers have a network")
    }

    /// Where a broker keeps its data.
    #[must_use]
    pub fn data_dir(&self, id: u16) -> PathBuf {
        self.plan.data_dir(id)
    }

    /// A folder for whatever a test needs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.plan.folder()
    }

    /// Connects as the administrator, knowing all brokers.
    pub async fn client(&self) -> Client {
        self.client_with(&[]).await
    }

    /// Connects as the administrator with these options.
    pub async fn client_with(&self, options: &[(&str, &str)]) -> Client {
        self.plan.client(&self.ids(), options).await
    }

    /// The options of a client with the administrator's identity that knows all brokers.
    #[must_use]
    pub fn options(&self) -> [(&'static str, String); 4] {
        self.plan.administrator(&self.ids())
    }

    /// Connects knowing one broker only, which is asked first.
    pub async fn client_at(&self, id: u16, options: &[(&str, &str)]) -> Client {
        self.plan.client(&[id], options).await
    }

    /// Everything a broker's processes wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self, id: u16) -> String {
        written(&self.plan.log(id))
    }

    /// Whether its process was started and not seen to end.
    #[must_use]
    pub fn runs(&self, id: u16) -> bool {
        self.processes.contains_key(&id)
    }

    /// SIGKILL, at once.
    pub async fn kill(&mut self, id: u16) {
        self.signal(id, Signal::KILL);
        self.exited(id).await;
    }

    /// SIGKILL to all of them before any is waited for.
    pub async fn kill_all(&mut self) {
        let running: Vec<_> = self.processes.keys().copied().collect();
        for id in &running {
            self.signal(*id, Signal::KILL);
        }
        for id in running {
            self.exited(id).await;
        }
    }

    /// SIGTERM, and waits for the end: a drain. Its exit status.
    pub async fn terminate(&mut self, id: u16) -> Option<i32> {
        self.signal(id, Signal::TERM);
        self.exited(id).await
    }

    /// SIGTERM to all of them before any is waited for.
    pub async fn terminate_all(&mut self) {
        let running: Vec<_> = self.processes.keys().copied().collect();
        for id in &running {
            self.signal(*id, Signal::TERM);
        }
        for id in running {
            assert_eq!(self.exited(id).await, Some(0), "{}", self.stderr(id));
        }
    }

    /// SIGSTOP: from now on it does nothing.
    pub fn stop(&self, id: u16) {
        self.signal(id, Signal::STOP);
    }

    /// SIGCONT: it goes on.
    pub fn cont(&self, id: u16) {
        self.signal(id, Signal::CONT);
    }

    /// Waits until a process has ended by itself; its exit status.
    pub async fn exited(&mut self, id: u16) -> Option<i32> {
        let process = self.processes.remove(&id).expect("the broker runs");
        process.exited().await.code()
    }

    /// Runs it again on the same ports, from its data.
    pub async fn restart(&mut self, id: u16) {
        self.start_with(&[id], &[]).await;
    }

    /// Runs all again that do not run.
    pub async fn restart_all(&mut self) {
        let mut ids = self.ids();
        ids.retain(|id| !self.processes.contains_key(id));
        self.start_with(&ids, &[]).await;
    }

    /// Runs brokers with these arguments and waits until all of them are ready.
    pub async fn start_with(&mut self, ids: &[u16], arguments: &[&str]) {
        for id in ids {
            let launch = self.plan.launch(*id, arguments);
            let before = self.processes.insert(*id, Process::launch(&launch));
            assert!(before.is_none(), "broker {id} is stopped first");
        }
        for id in ids {
            if let Some(process) = self.processes.get_mut(id) {
                process.ready().await;
            }
        }
    }

    /// Expects that a broker does not start with these arguments.
    pub async fn refuse(&self, id: u16, arguments: &[&str]) -> Refused {
        assert!(!self.processes.contains_key(&id), "it does not run");
        Process::refuse(&self.plan.launch(id, arguments)).await
    }

    /// Expects that a broker is let in by nobody, for a reason that it tells, and ends it then.
    pub async fn kept_out(&self, id: u16, arguments: &[&str], why: &str) {
        assert!(!self.processes.contains_key(&id), "it does not run");
        kept_out(&self.plan.launch(id, arguments), why).await;
    }

    /// The same of a process of a broker's name and number, but on other ports and with an empty
    /// folder, beside the real one.
    pub async fn double_kept_out(&self, id: u16, arguments: &[&str], why: &str) {
        kept_out(&self.plan.launch_double(id, arguments), why).await;
    }

    /// Makes a broker that is not there yet: its certificate and an empty folder. Its number.
    pub fn make_another(&mut self) -> u16 {
        self.plan.make_another()
    }

    /// Where other brokers reach a broker.
    #[must_use]
    pub fn peer_address(&self, id: u16) -> String {
        self.plan.peer_address(id)
    }

    /// Removes everything a stopped broker has on its disk.
    pub fn wipe(&self, id: u16) {
        assert!(!self.processes.contains_key(&id), "it does not run");
        fs::remove_dir_all(self.data_dir(id)).unwrap();
    }

    /// The broker that leads a partition, as soon as one does.
    pub async fn leader(&self, client: &Client, topic: &str, partition: usize) -> u16 {
        eventually("a leader", async || {
            let described = within(client.admin().topic(topic)).await.ok()?;
            let leader = described.partitions.get(partition)?.leader?;
            Some(leader.get())
        })
        .await
    }

    /// Another broker leads a partition now; its number.
    pub async fn leader_other_than(
        &self,
        client: &Client,
        topic: &str,
        partition: usize,
        former: u16,
    ) -> u16 {
        eventually("another leader", async || {
            let leader = self.leader(client, topic, partition).await;
            (leader != former).then_some(leader)
        })
        .await
    }

    /// Waits until every partition of a topic is led and all its replicas are in sync.
    pub async fn in_sync(&self, client: &Client, topic: &str) {
        self.replicated(client, topic, u64::MAX).await;
    }

    /// Waits until no replica lacks anything, which happens when nothing is published any more.
    pub async fn caught_up(&self, client: &Client, topic: &str) {
        self.replicated(client, topic, 0).await;
    }

    async fn replicated(&self, client: &Client, topic: &str, lag_max: u64) {
        eventually("all replicas in sync", async || {
            let all = within(client.admin().cluster_partitions()).await.ok()?;
            let mut partitions = all.iter().filter(|one| one.topic == topic).peekable();
            partitions.peek()?;
            let whole = partitions.all(|one| {
                let mut lags = one.lags.iter();
                let near = lags.all(|(_, lag)| *lag <= lag_max);
                one.leader.is_some() && one.replicas.len() == one.in_sync.len() && near
            });
            whole.then_some(())
        })
        .await;
    }

    /// Stops all brokers in good order and compares what they hold, byte by byte.
    pub async fn compare(&mut self) -> Comparison {
        self.terminate_all().await;
        let folders: Vec<_> = self.ids().iter().map(|id| self.data_dir(*id)).collect();
        let made = folders.iter().filter(|folder| folder.join("g").exists());
        let folders: Vec<_> = made.map(PathBuf::as_path).collect();
        compare_replicas(&folders)
    }

    fn signal(&self, id: u16, signal: Signal) {
        let process = self.processes.get(&id).expect("the broker runs");
        process.signal(signal);
    }
}

async fn kept_out(launch: &Launch, why: &str) {
    let before = written(&launch.log).len();
    let process = Process::launch(launch);
    eventually("it says why it is not let in", async || {
        let said = written(&launch.log).split_off(before);
        assert!(!said.contains("broker is ready"), "{said}");
        said.contains(why).then_some(())
    })
    .await;
    process.signal(Signal::TERM);
    assert_eq!(process.exited().await.code(), Some(0));
}
