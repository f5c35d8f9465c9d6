//! One broker as a process: started, asked, stopped, paused, killed.

use std::env;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;

use quorate::Client;
use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde_json::Value;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::ChildStdout;
use tokio::process::Command;

use crate::cluster::TestCluster;
use crate::patience::within;

/// The first start takes a free port and the later ones the same.
const ANY_PORT: &str = "127.0.0.1:0";

/// A broker, running or not. Its process is killed when this is dropped.
#[derive(Debug)]
pub struct TestBroker {
    cluster: TestCluster,
    address: String,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    pid: Pid,
    /// Kept open so that the broker can write to it.
    _stdout: BufReader<ChildStdout>,
}

/// How a broker said that it does not start.
#[derive(Debug)]
pub struct Refused {
    /// Its exit status.
    pub code: Option<i32>,
    /// What it wrote.
    pub stderr: String,
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
        let log = cluster.folder().join("refused.log");
        let mut child = spawn(cluster, init, ANY_PORT, &log);
        let status = within(child.wait()).await.unwrap();
        Refused {
            code: status.code(),
            stderr: fs::read_to_string(log).unwrap(),
        }
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
        fs::read_to_string(self.log()).unwrap_or_default()
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
        let mut process = self.process.take().expect("the broker runs");
        within(process.child.wait()).await.unwrap()
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

    fn log(&self) -> PathBuf {
        self.cluster.folder().join("broker.log")
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("the broker runs");
        kill_process(process.pid, signal).unwrap();
    }

    async fn run(&mut self, init: bool) {
        let mut child = spawn(&self.cluster, init, &self.address, &self.log());
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = pid.and_then(Pid::from_raw).expect("a process id");
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        within(stdout.read_line(&mut line)).await.unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        let address = ready.get("client").and_then(Value::as_str);
        let address = address.unwrap_or_else(|| panic!("no broker is ready:\n{}", self.stderr()));
        address.clone_into(&mut self.address);
        self.process = Some(Process {
            child,
            pid,
            _stdout: stdout,
        });
    }
}

fn spawn(cluster: &TestCluster, init: bool, address: &str, log: &Path) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(log);
    let (arguments, variables) = cluster.launch(init, address);
    let mut command = Command::new(program());
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("QUORATE_") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// The binary that is tested: `QUORATE_BIN`, or the one built beside this test.
fn program() -> PathBuf {
    if let Some(named) = env::var_os("QUORATE_BIN") {
        return named.into();
    }
    let test = env::current_exe().unwrap();
    // target/<profile>/deps/<test>
    let built = test.ancestors().nth(2).unwrap().join("quorate");
    assert!(
        built.exists(),
        "{} does not exist: run `cargo build --bin quorate` first, or name one in QUORATE_BIN",
        built.display()
    );
    built
}
