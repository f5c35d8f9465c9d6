//! `quorate serve`: run one broker until it is told to stop or cannot go on.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use quorate_broker::Broker;
use quorate_broker::Environment;
use quorate_broker::InitMode;
use quorate_broker::StartError;
use quorate_broker::config::Config;
use quorate_broker::config::ConfigError;
use rustix::process::Pid;
use rustix::process::Signal;
use serde::Serialize;

use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::logging;
use crate::output::Output;
use crate::runtime;
use crate::stop::Stop;

/// How long a broker may take to finish what it promised.
const DRAIN_TIME: Duration = Duration::from_secs(30);

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Make a new broker in an empty data directory
    #[arg(long)]
    init: bool,
    /// Check configuration and files, then exit
    #[arg(long)]
    check: bool,
    /// Print the effective configuration with sources, then exit
    #[arg(long, conflicts_with = "check")]
    print_config: bool,
    /// Stop when this process is gone
    #[arg(long, value_name = "PID", hide = true)]
    parent: Option<i32>,
}

#[derive(Serialize)]
struct Checked {
    ok: bool,
}

#[derive(Serialize)]
struct Ready<'a> {
    event: &'static str,
    id: u16,
    name: &'a str,
    client: SocketAddr,
    peer: SocketAddr,
    gateway: Option<&'a str>,
    version: &'static str,
}

/// Runs a broker, or checks or prints its configuration.
pub(crate) fn run(arguments: &Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    if let Some(parent) = arguments.parent {
        follow(parent)?;
    }
    let output = &invocation.output;
    let config = load(arguments, invocation)?;
    if arguments.print_config {
        return print(&config, output);
    }
    check_files(&config)?;
    if arguments.check {
        return checked(output);
    }
    logging::start_broker(config.logging);
    runtime::run(serve(config, arguments.init, output))
}

/// Asks for SIGTERM when the parent dies, even if it was killed before it could say so.
fn follow(parent: i32) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Failure::system("cannot follow the parent process", &error.into()))?;
    if rustix::process::getppid().map(Pid::as_raw_pid) == Some(parent) {
        return Ok(());
    }
    Err(Failure::silent(Exit::Interrupted))
}

fn load(arguments: &Arguments, invocation: &Invocation) -> Result<Config, Failure> {
    let file = arguments.config.as_deref();
    Config::load(file, env::vars(), &invocation.overrides).map_err(|errors| {
        for error in &errors {
            invocation.output.failure(&refused(error));
        }
        Failure::silent(Exit::Usage)
    })
}

fn refused(error: &ConfigError) -> Failure {
    let failure = Failure::usage(error.to_string());
    match error.help() {
        Some(help) => failure.with_help(help),
        None => failure,
    }
}

fn print(config: &Config, output: &Output) -> Result<Exit, Failure> {
    if output.is_json() {
        output.line(config.print_json())?;
    } else {
        output.line(config.print().trim_end())?;
    }
    Ok(Exit::Done)
}

fn checked(output: &Output) -> Result<Exit, Failure> {
    if output.is_json() {
        output.object(&Checked { ok: true })?;
    } else {
        output.line("configuration and files are fine")?;
    }
    Ok(Exit::Done)
}

/// The files exist, and authorities made for one machine stay on it.
fn check_files(config: &Config) -> Result<(), Failure> {
    config
        .tls
        .read()
        .map_err(|error| Failure::identity(error.to_string()))?;
    let authority = quorate_certs::inspect(&config.tls.peer_ca_file)
        .map_err(|error| Failure::identity(error.to_string()))?;
    let listeners = [config.listeners.client, config.listeners.peer];
    if authority.development && !listeners.iter().all(|address| address.ip().is_loopback()) {
        let path = config.tls.peer_ca_file.display();
        return Err(
            Failure::identity(format!("{path} is a development authority"))
                .with_cause("its brokers listen on loopback addresses only")
                .with_help("quorate cert init --cluster NAME --out DIR"),
        );
    }
    Ok(())
}

async fn serve(config: Config, init: bool, output: &Output) -> Result<Exit, Failure> {
    let mut stop = Stop::listen()?;
    let (id, name) = (config.node.id.get(), config.node.name.clone());
    let peer = config.listeners.peer;
    let mode = if init { InitMode::Init } else { InitMode::Open };
    let started = Broker::start(config, mode, Environment::machine()).await;
    let broker = started.map_err(|error| start_failed(&error))?;
    announce(&broker, id, &name, peer, output)?;
    let failed = tokio::select! {
        exit = broker.failed() => Some(exit),
        () = stop.requested() => None,
    };
    if let Some(failure) = failed {
        return Err(died(failure));
    }
    tokio::select! {
        () = broker.drain(DRAIN_TIME) => Ok(Exit::Done),
        () = stop.requested() => Ok(Exit::Interrupted),
    }
}

fn announce(
    broker: &Broker,
    id: u16,
    name: &str,
    peer: SocketAddr,
    output: &Output,
) -> Result<(), Failure> {
    let client = broker.client_address();
    if output.is_json() {
        let version = env!("CARGO_PKG_VERSION");
        output.object(&Ready {
            event: "ready",
            id,
            name,
            client,
            peer,
            gateway: None,
            version,
        })?;
    } else {
        output.line(format_args!("{name} serves clients at {client}"))?;
    }
    output.flush()
}

fn start_failed(error: &StartError) -> Failure {
    match error {
        StartError::NotInitialised(_) | StartError::Cluster(_) => Failure::usage(error.to_string()),
        StartError::Certificates(_) => Failure::identity(error.to_string()),
        _ => Failure::new(
            quorate::ErrorCode::INTERNAL,
            Exit::Failed,
            error.to_string(),
        ),
    }
}

fn died(exit: quorate_broker::Exit) -> Failure {
    let (exit, message, help) = match exit {
        quorate_broker::Exit::StoragePoisoned => (
            Exit::StoragePoisoned,
            "the storage failed: nothing more is acknowledged from it",
            "repair or replace the disk, then start again; acknowledged records are on the replicas",
        ),
        quorate_broker::Exit::EndpointDied => (
            Exit::EndpointDied,
            "the network endpoint died",
            "start again, and report the log",
        ),
        quorate_broker::Exit::MetadataHalted => (
            Exit::EndpointDied,
            "the metadata group ended by itself",
            "start again, and report the log",
        ),
    };
    Failure::new(quorate::ErrorCode::INTERNAL, exit, message).with_help(help)
}
