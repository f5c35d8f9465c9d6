//! `quorate serve`: run one broker until it is told to stop or cannot go on.

use std::env;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use quorate_broker::Broker;
use quorate_broker::Environment;
use quorate_broker::InitMode;
use quorate_broker::StartError;
use quorate_broker::config::Config;
use quorate_broker::config::ConfigError;
use quorate_broker::transport::BindError;
use quorate_certs::CertificateReport;
use rustix::process::Pid;
use rustix::process::Signal;
use serde::Serialize;

use crate::clock;
use crate::encoding;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::logging;
use crate::output::Output;
use crate::runtime;
use crate::stop::Stop;

/// How long a broker may take to finish what it promised.
const DRAIN_TIME: Duration = Duration::from_secs(30);
const IDENTITY_HELP: &str = "check the files in [tls]; quorate cert show FILE says what is in one";

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Make a new broker in an empty data directory
    #[arg(long)]
    init: bool,
    /// Come back with an empty data directory after `quorate cluster replace`
    #[arg(long, conflicts_with = "init")]
    replace: bool,
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

impl Arguments {
    const fn mode(&self) -> InitMode {
        match (self.init, self.replace) {
            (true, _) => InitMode::Init,
            (_, true) => InitMode::Replace,
            (false, false) => InitMode::Open,
        }
    }
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
    let config = load(arguments.config.as_deref(), invocation)?;
    if arguments.print_config {
        return print(&config, output);
    }
    check_files(&config)?;
    if arguments.check {
        return checked(output);
    }
    logging::start_broker(config.logging);
    runtime::run(serve(config, arguments.mode(), output))
}

/// Asks for SIGTERM when the parent dies, even if it was killed before it could say so.
pub(crate) fn follow(parent: i32) -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Failure::system("cannot follow the parent process", &error.into()))?;
    if rustix::process::getppid().map(Pid::as_raw_pid) == Some(parent) {
        return Ok(());
    }
    Err(Failure::silent(Exit::Interrupted))
}

/// The configuration, or a usage error after every problem was told.
pub(crate) fn load(file: Option<&Path>, invocation: &Invocation) -> Result<Config, Failure> {
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

/// The files exist and belong together, the certificate is this broker's, and authorities made for
/// one machine stay on it. Looked at before the data directory is, so that a wrong certificate
/// leaves no trace there.
pub(crate) fn check_files(config: &Config) -> Result<(), Failure> {
    let tls = &config.tls;
    tls.read()
        .map_err(|error| Failure::identity(error.to_string()).with_help(IDENTITY_HELP))?;
    let authority = inspect(&tls.peer_ca_file)?;
    let listeners = [config.listeners.client, config.listeners.peer];
    if authority.development && !listeners.iter().all(|address| address.ip().is_loopback()) {
        let path = tls.peer_ca_file.display();
        return Err(
            Failure::identity(format!("{path} is a development authority"))
                .with_cause("its brokers listen on loopback addresses only")
                .with_help("quorate cert init --cluster NAME --out DIR"),
        );
    }
    inspect(&tls.client_ca_file)?;
    check_certificate(config)?;
    let matches = quorate_certs::key_matches(&tls.cert_file, &tls.key_file)
        .map_err(|error| Failure::identity(error.to_string()).with_help(IDENTITY_HELP))?;
    if matches {
        return Ok(());
    }
    let (key, certificate) = (tls.key_file.display(), tls.cert_file.display());
    let message = format!("`tls.key_file` {key} does not belong to `tls.cert_file` {certificate}");
    Err(Failure::identity(message).with_help("use the key.pem beside the certificate"))
}

fn inspect(path: &Path) -> Result<CertificateReport, Failure> {
    quorate_certs::inspect(path)
        .map_err(|error| Failure::identity(error.to_string()).with_help(IDENTITY_HELP))
}

/// The certificate says the cluster and the name of the configuration, and has not expired.
fn check_certificate(config: &Config) -> Result<(), Failure> {
    let (cluster, name) = (&config.node.cluster, &config.node.name);
    let report = inspect(&config.tls.cert_file)?;
    let path = config.tls.cert_file.display();
    let wanted = format!("spiffe://{cluster}/broker/{name}");
    let help = format!(
        "quorate cert issue broker {name} --ca DIR --san HOST, or correct node.cluster and node.name"
    );
    let found = match &report.identity {
        Some(identity) => identity.to_string(),
        None => "no identity of Quorate".to_owned(),
    };
    if found != wanted {
        let message = format!("`tls.cert_file` {path} is of {found}, this broker is {wanted}");
        return Err(Failure::identity(message).with_help(help));
    }
    if report.not_after <= clock::wall() {
        let until = encoding::seconds(report.not_after);
        let message = format!("`tls.cert_file` {path} expired {until}");
        return Err(Failure::identity(message).with_help(help));
    }
    Ok(())
}

async fn serve(config: Config, mode: InitMode, output: &Output) -> Result<Exit, Failure> {
    let mut stop = Stop::listen()?;
    let (id, name) = (config.node.id.get(), config.node.name.clone());
    // A start may wait for other brokers for as long as it takes.
    let started = tokio::select! {
        started = Broker::start(config, mode, Environment::machine()) => started,
        () = stop.requested() => return Ok(Exit::Done),
    };
    let broker = started.map_err(|error| start_failed(&error))?;
    announce(&broker, id, &name, output)?;
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

fn announce(broker: &Broker, id: u16, name: &str, output: &Output) -> Result<(), Failure> {
    let (client, peer) = (broker.client_address(), broker.peer_address());
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
        output.line(format_args!(
            "{name} serves clients at {client}, other brokers at {peer}"
        ))?;
    }
    output.flush()
}

pub(crate) fn start_failed(error: &StartError) -> Failure {
    let message = error.to_string();
    match error {
        StartError::NotInitialised(_) => Failure::usage(message).with_help(
            "a member that lost its disk comes back otherwise: quorate cluster replace, then \
             quorate serve --replace",
        ),
        StartError::Cluster(_) => Failure::usage(message),
        StartError::NotListed(_) => Failure::usage(message)
            .with_help("list every initial broker; one that joins later is started with --init"),
        StartError::AlreadyInitialised(_) => Failure::usage(message)
            .with_help("start it with quorate serve, or set another node.data_dir"),
        StartError::Certificates(_) | StartError::Listen(BindError::Tls(_)) => {
            Failure::identity(message).with_help(IDENTITY_HELP)
        }
        StartError::Socket { .. } => Failure::local(message)
            .with_help("stop what uses that address, or set another listeners.client"),
        StartError::DataDir(_) | StartError::Io { .. } => Failure::local(message)
            .with_help("repair what the message names, or set another node.data_dir"),
        _ => Failure::local(message)
            .with_help("repair what the message and the log name, then start again"),
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
        quorate_broker::Exit::Removed => (
            Exit::Failed,
            "this broker was removed from its cluster",
            "its data folder is of no use any more; to come back it is added again, with an empty one",
        ),
    };
    Failure::new(quorate::ErrorCode::INTERNAL, exit, message).with_help(help)
}
