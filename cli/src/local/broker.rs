//! One broker of a local cluster: a child process that is told when to stop.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Pid;
use rustix::process::Signal;
use serde::Deserialize;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::ChildStdout;
use tokio::process::Command;

use crate::failure::Exit;
use crate::failure::Failure;
use crate::local::layout;
use crate::local::layout::Layout;

/// A broker that is not ready by then has a problem.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Draining takes 30 s at most; then it is stuck.
const STOPPED_WITHIN: Duration = Duration::from_secs(35);
/// How much of its log is shown when it fails.
const LOG_TAIL_LINES: usize = 12;

/// The broker, running or not.
#[derive(Debug)]
pub(crate) struct Broker {
    id: u16,
    arguments: Vec<OsString>,
    log: PathBuf,
    data_dir: PathBuf,
    addresses: [String; 2],
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    process: Child,
    pid: u32,
    /// Kept open so that the broker can write to it.
    stdout: BufReader<ChildStdout>,
}

/// An error as `serve --json` prints it.
#[derive(Deserialize)]
struct Refusal {
    error: RefusalBody,
}

#[derive(Deserialize)]
struct RefusalBody {
    message: String,
    help: Option<String>,
}

#[derive(Deserialize)]
struct Ready {
    event: String,
}

impl Broker {
    pub(super) fn new(layout: &Layout, id: u16, overrides: &[(String, String)]) -> Self {
        let mut arguments: Vec<OsString> = vec!["serve".into(), "--json".into()];
        arguments.extend(["--config".into(), layout.config(id).into()]);
        for (key, value) in overrides {
            arguments.extend(["--set".into(), format!("{key}={value}").into()]);
        }
        if layout.is_new(id) {
            arguments.push("--init".into());
        }
        let plan = layout.plan();
        Self {
            id,
            arguments,
            log: layout.log(id),
            data_dir: layout.data_dir(id),
            addresses: [plan.client_address(id), plan.peer_address(id)],
            running: None,
        }
    }

    /// Its number.
    pub(crate) const fn id(&self) -> u16 {
        self.id
    }

    /// Its name.
    pub(crate) fn name(&self) -> String {
        layout::name(self.id)
    }

    /// Where clients reach it.
    pub(crate) fn client_address(&self) -> String {
        let [client, _] = &self.addresses;
        client.clone()
    }

    /// Where other brokers reach it.
    pub(crate) fn peer_address(&self) -> String {
        let [_, peer] = &self.addresses;
        peer.clone()
    }

    /// Its data.
    pub(crate) const fn data_dir(&self) -> &PathBuf {
        &self.data_dir
    }

    /// Its process, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.pid)
    }

    /// Starts it and waits until it serves.
    pub(crate) async fn start(&mut self) -> Result<(), Failure> {
        self.launch()?;
        self.ready().await
    }

    /// Starts its process.
    pub(crate) fn launch(&mut self) -> Result<(), Failure> {
        let mut process = self.spawn()?;
        let pid = process.id().unwrap_or_default();
        let stdout = process
            .stdout
            .take()
            .ok_or_else(|| Failure::silent(Exit::Failed))?;
        self.running = Some(Running {
            process,
            pid,
            stdout: BufReader::new(stdout),
        });
        Ok(())
    }

    /// Waits until the process that was started serves; one that does not is ended.
    pub(crate) async fn ready(&mut self) -> Result<(), Failure> {
        let Some(running) = &mut self.running else {
            return Err(Failure::silent(Exit::Failed));
        };
        let ready = tokio::time::timeout(READY_WITHIN, wait_until_ready(&mut running.stdout));
        let problem = match ready.await {
            Ok(true) => {
                // From here on its data directory is not empty any more.
                self.arguments.retain(|argument| argument != "--init");
                return Ok(());
            }
            Ok(false) => "did not start",
            Err(_) => "was not ready within 60 s",
        };
        // Dropping the process kills it.
        self.running = None;
        Err(self.failed(&format!("{} {problem}", self.name())))
    }

    /// Waits until it ends by itself; never, if it does not run. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Result<ExitStatus, Failure> {
        let Some(running) = &mut self.running else {
            return std::future::pending().await;
        };
        let status = running.process.wait().await;
        status.map_err(|error| Failure::system("cannot wait for the broker", &error))
    }

    /// SIGKILL: it gets no time for anything.
    pub(crate) async fn kill(&mut self) -> Result<(), Failure> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        let killed = running.process.kill().await;
        killed.map_err(|error| Failure::system("cannot kill the broker", &error))
    }

    /// Lets it finish what it promised, or kills it when that takes too long.
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        let Some(mut running) = self.running.take() else {
            return Ok(());
        };
        let failed = |error| Failure::system("cannot stop the broker", &error);
        if let Some(pid) = running.process.id() {
            signal(pid, Signal::TERM);
        }
        match tokio::time::timeout(STOPPED_WITHIN, running.process.wait()).await {
            Ok(status) => status.map(drop).map_err(failed),
            Err(_) => running.process.kill().await.map_err(failed),
        }
    }

    /// A group of its own keeps Ctrl-C from reaching the broker before `dev` has dealt with it.
    fn spawn(&self) -> Result<Child, Failure> {
        let failed = |error| Failure::system("cannot start the broker", &error);
        let program = env::current_exe().map_err(failed)?;
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(|error| Failure::file("write", &self.log, &error))?;
        let mut command = Command::new(program);
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("QUORATE_") {
                command.env_remove(name);
            }
        }
        command
            .args(&self.arguments)
            .arg("--parent")
            .arg(std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)
    }

    /// What went wrong, in the broker's own words where it found some.
    fn failed(&self, what: &str) -> Failure {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let failure = Failure::new(quorate::ErrorCode::INTERNAL, Exit::Failed, what);
        let last = lines
            .last()
            .and_then(|line| serde_json::from_str::<Refusal>(line).ok());
        if let Some(Refusal { error }) = last {
            let failure = failure.with_cause(error.message);
            return match error.help {
                Some(help) => failure.with_help(help),
                None => failure,
            };
        }
        match lines
            .get(lines.len().saturating_sub(LOG_TAIL_LINES)..)
            .unwrap_or_default()
        {
            [] => failure.with_cause("it said nothing"),
            tail => failure.with_cause(tail.join("\n  ")),
        }
    }
}

/// Reads until the ready event; `false` if the broker ended before it.
async fn wait_until_ready(stdout: &mut BufReader<ChildStdout>) -> bool {
    let mut line = String::new();
    loop {
        line.clear();
        match stdout.read_line(&mut line).await {
            Ok(0) | Err(_) => return false,
            Ok(_) => {}
        }
        let ready = serde_json::from_str::<Ready>(&line);
        if ready.is_ok_and(|ready| ready.event == "ready") {
            return true;
        }
    }
}

/// Sends a signal to a child that was not waited for yet, so its id is still its own.
pub(crate) fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended in between, which is what the signal is for.
        let _ended_already = rustix::process::kill_process(pid, signal);
    }
}
