//! One broker as a process: started, asked, stopped, paused, killed.

use std::path::Path;
use std::process::ExitStatus;

use quorate::Client;
use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::TestCluster;
use crate::process::Process;
use crate::process::Refused;
use crate::process::written;

/// The first start takes a free port and the later ones the same.
const ANY_PORT: &str = "127.0.0.1:0";

/// A broker, running or not. Its process is killed when this is dropped.
#[derive(Debug)]
pub struct TestBroker {
    cluster: TestCluster,
    address: String,
    process: Option<Process>,
}

impl TestBroker {
    pub(crate) async fn start(cluster: TestCluster) -> Self {
        let mut broker = Self {
            cluster,
            address: ANY_PORT.to_owned(),
            process: None,
        };
        broker.run(true).await;
        broker
    }

    pub(crate) async fn refuse(cluster: &TestCluster, init: bool) -> Refused {
        let mut launch = cluster.launch(init, ANY_PORT);
        launch.log = cluster.folder().join("refused.log");
        Process::refuse(&launch).await
    }

    /// The cluster it belongs to; settings count from the next start on.
    pub fn cluster_mut(&mut self) -> &mut TestCluster {
        &mut self.cluster
    }

    /// The cluster it belongs to.
    #[must_use]
    pub fn cluster(&self) -> &TestCluster {
        &self.cluster
    }

    /// Where it keeps its data.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        self.cluster.data_dir()
    }

    /// Connects as the administrator.
    pub async fn client(&self) -> Client {
        self.client_with(&[]).await
    }

    /// Connects as the administrator with these options.
    pub async fn client_with(&self, options: &[(&str, &str)]) -> Client {
        self.cluster.client(&self.address, options).await
    }

    /// Everything its processes wrote to standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        written(&self.cluster.log())
    }

    /// SIGKILL, at once.
    pub async fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.exited().await;
    }

    /// SIGTERM, and waits for the end; its exit status.
    pub async fn terminate(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.exited().await.code()
    }

    /// SIGSTOP: from now on it does nothing.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT: it goes on.
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM without waiting.
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits until the process has ended by itself.
    pub async fn exited(&mut self) -> ExitStatus {
        let process = self.process.take().expect("the broker runs");
        process.exited().await
    }

    /// Runs it again on the same port, from its data.
    pub async fn restart(&mut self) {
        assert!(self.process.is_none(), "the broker is stopped first");
        self.run(false).await;
    }

    /// Expects that it does not start again.
    pub async fn refuse_restart(&self) -> Refused {
        self.cluster.refuse(false).await
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("the broker runs");
        process.signal(signal);
    }

    async fn run(&mut self, init: bool) {
        let mut process = Process::launch(&self.cluster.launch(init, &self.address));
        let ready = process.ready().await;
        let address = ready.get("client").and_then(Value::as_str).unwrap();
        address.clone_into(&mut self.address);
        self.process = Some(process);
    }
}
