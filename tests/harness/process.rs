//! One `quorate serve` as a process: launched, ready, signalled, ended.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;
use serde_json::Value;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::ChildStdout;
use tokio::process::Command;

use crate::patience::within;

/// How a broker said that it does not start.
#[derive(Debug)]
pub struct Refused {
    /// Its exit status.
    pub code: Option<i32>,
    /// What it wrote.
    pub stderr: String,
}

/// What a process is started with.
#[derive(Debug, Default)]
pub(crate) struct Launch {
    /// Programs before the broker's own, which run it somewhere else.
    pub(crate) within: Vec<OsString>,
    /// The broker's arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Its environment, besides the inherited one.
    pub(crate) variables: Vec<(String, OsString)>,
    /// Where its standard error goes.
    pub(crate) log: PathBuf,
}

/// A running process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pid: Pid,
    log: PathBuf,
    /// Kept open so that the broker can write to it.
    stdout: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a broker.
    pub(crate) fn launch(launch: &Launch) -> Self {
        let mut child = spawn(launch);
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        Self {
            pid: pid.and_then(Pid::from_raw).expect("a process id"),
            log: launch.log.clone(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }

    /// Waits for its ready event.
    pub(crate) async fn ready(&mut self) -> Value {
        let mut line = String::new();
        within(self.stdout.read_line(&mut line)).await.unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_default();
        let is_ready = ready.get("event").and_then(Value::as_str) == Some("ready");
        assert!(is_ready, "no broker is ready:\n{}", written(&self.log));
        ready
    }

    /// Starts a broker that is expected to refuse.
    pub(crate) async fn refuse(launch: &Launch) -> Refused {
        let before = written(&launch.log).len();
        let mut child = spawn(launch);
        let status = within(child.wait()).await.unwrap();
        Refused {
            code: status.code(),
            stderr: written(&launch.log).split_off(before),
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    pub(crate) async fn exited(mut self) -> ExitStatus {
        within(self.child.wait()).await.unwrap()
    }
}

/// Everything that was written to a log so far.
pub(crate) fn written(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}

fn spawn(launch: &Launch) -> Child {
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&launch.log)
        .unwrap();
    let mut line = launch.within.clone();
    line.push(program().into());
    let (first, rest) = line.split_first().unwrap();
    let mut command = Command::new(first);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("QUORATE_") {
            command.env_remove(name);
        }
    }
    command
        .args(rest)
        .args(&launch.arguments)
        .envs(launch.variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
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
