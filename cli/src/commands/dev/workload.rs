//! The command that `quorate dev -- CMD` runs with the cluster's context.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::Signal;
use tokio::process::Child;
use tokio::process::Command;

use crate::failure::Exit;
use crate::failure::Failure;
use crate::local;

/// A running command, or none.
#[derive(Debug)]
pub(super) struct Workload {
    process: Option<Child>,
}

impl Workload {
    /// Starts the command, if there is one.
    pub(super) fn start(command: &[OsString], context: &str) -> Result<Self, Failure> {
        let Some((program, arguments)) = command.split_first() else {
            return Ok(Self { process: None });
        };
        let name = program.to_string_lossy();
        let process = Command::new(program)
            .args(arguments)
            .env("QUORATE_CONTEXT", context)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| Failure::system(format_args!("cannot run {name}"), &error))?;
        Ok(Self {
            process: Some(process),
        })
    }

    /// Waits until the command ends, and gives its status; never, if there is none. Cancel-safe.
    pub(super) async fn ended(&mut self) -> Result<Exit, Failure> {
        match &mut self.process {
            Some(process) => wait(process).await,
            None => std::future::pending().await,
        }
    }

    /// Asks the command to end, and gives its status.
    pub(super) async fn stop(&mut self) -> Result<Exit, Failure> {
        let Some(process) = &mut self.process else {
            return Ok(Exit::Done);
        };
        if let Some(pid) = process.id() {
            local::signal(pid, Signal::TERM);
        }
        wait(process).await
    }
}

async fn wait(process: &mut Child) -> Result<Exit, Failure> {
    let status = process.wait().await;
    status
        .map(exit)
        .map_err(|error| Failure::system("cannot wait for the command", &error))
}

/// The status as shells show it.
fn exit(status: ExitStatus) -> Exit {
    let signal = status.signal().map(|signal| signal.saturating_add(128));
    let code = status
        .code()
        .or(signal)
        .and_then(|code| u8::try_from(code).ok());
    code.map_or(Exit::Failed, Exit::Other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_status_is_the_commands() {
        for (script, code) in [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137)] {
            let command = ["sh", "-c", script].map(OsString::from);
            let mut workload = Workload::start(&command, "x").unwrap();
            assert_eq!(workload.ended().await.unwrap().code(), code);
        }
    }

    #[tokio::test]
    async fn the_command_knows_the_context() {
        let command = ["sh", "-c", "test \"$QUORATE_CONTEXT\" = try"].map(OsString::from);
        let mut workload = Workload::start(&command, "try").unwrap();
        assert_eq!(workload.ended().await.unwrap().code(), 0);
    }
}
