//! `quorate doctor`: what is wrong between here and the brokers, in the order to repair it.

mod connection;
mod files;

use serde::Serialize;

use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::logging;
use crate::output::Output;
use crate::runtime;
use crate::settings::PrivateKey;
use crate::settings::Settings;
use crate::settings::Target;

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    private_key: PrivateKey,
}

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    Warn,
    Fail,
    Skip,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    status: Status,
    detail: String,
    help: Option<String>,
}

impl Check {
    fn new(name: impl Into<String>, status: Status, detail: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            status,
            detail: detail.into(),
            help: None,
        }
    }

    fn ok(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, detail)
    }

    fn warn(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Warn, detail)
    }

    fn fail(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Fail, detail)
    }

    fn skip(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Status::Skip, detail)
    }

    fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn of_failure(name: impl Into<String>, failure: &Failure) -> Self {
        let check = Self::fail(name, failure.message());
        Self {
            help: failure.help().map(str::to_owned),
            ..check
        }
    }
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Check>,
}

/// Checks settings, files and connections; exits 1 if something must be repaired.
pub(crate) fn run(arguments: Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    logging::start_client(invocation.verbose);
    let settings = invocation.settings(arguments.target, Some(arguments.private_key));
    runtime::run(async {
        let checks = match settings {
            Ok(settings) => examine(&settings).await,
            Err(failure) => vec![Check::of_failure("settings", &failure)],
        };
        let ok = checks.iter().all(|check| check.status != Status::Fail);
        print(Report { ok, checks }, &invocation.output)?;
        Ok(if ok { Exit::Done } else { Exit::Failed })
    })
}

async fn examine(settings: &Settings) -> Vec<Check> {
    let mut checks = vec![target(settings)];
    let (file_checks, identity) = files::examine(settings);
    checks.extend(file_checks);
    let usable = checks.iter().all(|check| check.status != Status::Fail);
    checks.extend(connection::examine(settings, identity.as_ref(), usable).await);
    checks
}

fn target(settings: &Settings) -> Check {
    let from = settings.context().map(|name| format!("context `{name}`"));
    let from = from.unwrap_or_else(|| "no context".to_owned());
    let servers = settings.get("client.servers");
    match servers.filter(|servers| connection::addresses(servers).next().is_some()) {
        Some(servers) => Check::ok("settings", format!("{from}, servers {servers}")),
        None => Check::fail("settings", format!("{from}, and no servers are named"))
            .with_help("quorate dev, or quorate ctx use NAME, or --servers host:port"),
    }
}

fn print(report: Report, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.object(&report);
    }
    for check in report.checks {
        let mark = match check.status {
            Status::Ok => "ok  ",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
            Status::Skip => "skip",
        };
        output.line(format_args!("{mark}  {:<23} {}", check.name, check.detail))?;
        if let Some(help) = check.help {
            output.line(format_args!("      {:<23} help: {help}", ""))?;
        }
    }
    Ok(())
}
