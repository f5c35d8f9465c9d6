//! `quorate dev`: a cluster on this machine, with real certificates, for as long as it runs.

mod broker;
mod event;
mod layout;
mod workload;

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock;
use crate::clock::Moment;
use crate::commands::dev::broker::Broker;
use crate::commands::dev::event::Event;
use crate::commands::dev::event::Events;
use crate::commands::dev::layout::Layout;
use crate::commands::dev::workload::Workload;
use crate::contexts;
use crate::contexts::Contexts;
use crate::contexts::Replaced;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::runtime;
use crate::stop::Stop;
use crate::values;

const CONTEXT_DEFAULT: &str = "dev";

/// Arguments of `dev`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Write and select the context of this name [default: dev]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// How many brokers; this version runs one
    #[arg(long, value_name = "N", default_value_t = 1)]
    nodes: u32,
    /// Client port of the first broker, its peer port is the next one; 0: free ports
    #[arg(long, value_name = "PORT", default_value_t = 4747)]
    base_port: u16,
    /// Keep data and certificates here, and start again from them
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Restart a broker that died after so long; 0: never
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "5s")]
    respawn: Duration,
    /// Run this command with the context, then stop with its status
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs the cluster until a signal, or until the command ends.
pub(crate) fn run(arguments: Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    let start = clock::now();
    if arguments.nodes != 1 {
        return Err(
            Failure::usage(format!("{} brokers cannot run yet", arguments.nodes))
                .with_help("this version of quorate dev runs one broker: --nodes 1"),
        );
    }
    let named = arguments
        .context
        .clone()
        .or_else(|| invocation.target.context.clone());
    let context = named.unwrap_or_else(|| CONTEXT_DEFAULT.to_owned());
    contexts::check_name(&context)?;
    runtime::run(develop(&arguments, &context, start, invocation))
}

async fn develop(
    arguments: &Arguments,
    context: &str,
    start: Moment,
    invocation: &Invocation,
) -> Result<Exit, Failure> {
    let mut stop = Stop::listen()?;
    let ports = ports(arguments.base_port)?;
    let layout = Layout::prepare(arguments.data.clone())?;
    let result = match layout.write_config(ports) {
        Ok(()) => {
            let broker = Broker::new(&layout, ports, &invocation.overrides);
            let events = Events::new(&invocation.output, !arguments.command.is_empty());
            let site = Site {
                arguments,
                context,
                layout: &layout,
                events,
            };
            site.develop(broker, start, &mut stop).await
        }
        Err(failure) => Err(failure),
    };
    let removed = layout.remove_if_temporary();
    result.and_then(|exit| removed.map(|()| exit))
}

/// Client and peer port of the broker.
fn ports(base: u16) -> Result<[u16; 2], Failure> {
    if base > 0 {
        let peer = base.checked_add(1).ok_or_else(|| {
            Failure::usage(format!("--base-port {base} leaves no port for peers"))
        })?;
        return Ok([base, peer]);
    }
    let failed = |error| Failure::system("cannot find free UDP ports", &error);
    // Both stay bound until both are known, so they differ.
    let free = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed);
    let (client, peer) = (free()?, free()?);
    let port = |socket: &UdpSocket| socket.local_addr().map(|address| address.port());
    Ok([port(&client).map_err(failed)?, port(&peer).map_err(failed)?])
}

/// The context of this cluster, and what was current before.
struct Selection {
    context: String,
    replaced: Option<Replaced>,
    previous: Option<String>,
}

impl Selection {
    fn make(context: &str, layout: &Layout, broker: &Broker) -> Result<Self, Failure> {
        let mut contexts = Contexts::load()?;
        let previous = contexts.current().map(str::to_owned);
        let admin = layout.admin();
        let client = [
            ("servers", broker.client_address()),
            ("ca_file", admin.join("ca.pem").display().to_string()),
            ("cert_file", admin.join("cert.pem").display().to_string()),
            ("key_file", admin.join("key.pem").display().to_string()),
        ];
        let replaced = contexts.put(context, &client)?;
        contexts.save()?;
        Ok(Self {
            context: context.to_owned(),
            replaced,
            previous,
        })
    }

    /// Takes back a context whose certificates are about to vanish, unless it is somebody else's
    /// by now.
    fn undo(self, layout: &Layout) -> Result<(), Failure> {
        if !layout.is_temporary() {
            return Ok(());
        }
        let mut contexts = Contexts::load()?;
        let ca_file = layout.admin().join("ca.pem").display().to_string();
        let ours = contexts.contains(&self.context)
            && contexts
                .settings(&self.context)?
                .contains(&("client.ca_file".to_owned(), ca_file));
        if !ours {
            return Ok(());
        }
        let was_current = contexts.current() == Some(self.context.as_str());
        contexts.remove(&self.context)?;
        if let Some(replaced) = self.replaced {
            contexts.restore(&self.context, replaced);
        }
        let previous = self
            .previous
            .filter(|name| was_current && contexts.contains(name));
        if let Some(previous) = previous {
            contexts.select(&previous)?;
        }
        contexts.save()
    }
}

/// What does not change while the cluster runs.
struct Site<'a> {
    arguments: &'a Arguments,
    context: &'a str,
    layout: &'a Layout,
    events: Events<'a>,
}

impl Site<'_> {
    /// Starts the broker, lends it the context, and ends both in good order.
    async fn develop(
        &self,
        mut broker: Broker,
        start: Moment,
        stop: &mut Stop,
    ) -> Result<Exit, Failure> {
        tokio::select! {
            started = broker.start() => started?,
            () = stop.requested() => return Ok(Exit::Done),
        }
        let selection = Selection::make(self.context, self.layout, &broker);
        let result = match selection {
            Ok(selection) => {
                let result = self.run(&mut broker, start, stop).await;
                let undone = selection.undo(self.layout);
                result.and_then(|exit| undone.map(|()| exit))
            }
            Err(failure) => Err(failure),
        };
        let stopped = self.stop(&mut broker, stop).await;
        result.and_then(|exit| stopped.map(|()| exit))
    }

    /// Keeps the broker running until somebody asks to stop.
    async fn run(
        &self,
        broker: &mut Broker,
        start: Moment,
        stop: &mut Stop,
    ) -> Result<Exit, Failure> {
        self.events
            .ready(self.context, self.layout, broker, clock::since(start))?;
        let mut workload = Workload::start(&self.arguments.command, self.context)?;
        let ended = tokio::select! {
            status = workload.ended() => Some(status),
            failure = keep_running(broker, &self.events, self.arguments.respawn) => {
                Some(Err(failure))
            }
            () = stop.requested() => None,
        };
        match ended {
            Some(status) => status,
            None => workload.stop().await,
        }
    }

    /// Lets the broker finish; a second request does not wait for that.
    async fn stop(&self, broker: &mut Broker, stop: &mut Stop) -> Result<(), Failure> {
        let announced = self.events.emit(&Event::Stopping);
        tokio::select! {
            result = broker.stop() => result.and(announced),
            () = stop.requested() => announced,
        }
    }
}

/// Restarts the broker whenever it dies; ends when it must not or cannot.
async fn keep_running(broker: &mut Broker, events: &Events<'_>, respawn: Duration) -> Failure {
    loop {
        let told = match broker.ended().await {
            Ok(status) => events.emit(&Event::exit(status)),
            Err(failure) => Err(failure),
        };
        if let Err(failure) = told {
            return failure;
        }
        if respawn.is_zero() {
            let code = quorate::ErrorCode::INTERNAL;
            return Failure::new(code, Exit::Failed, "the last broker ended")
                .with_cause("it is not restarted: --respawn 0");
        }
        if let Err(failure) = restart(broker, events, respawn).await {
            return failure;
        }
    }
}

/// Starts the broker again, as often as it takes.
async fn restart(
    broker: &mut Broker,
    events: &Events<'_>,
    respawn: Duration,
) -> Result<(), Failure> {
    loop {
        tokio::time::sleep(respawn).await;
        match broker.start().await {
            Ok(()) => return events.emit(&Event::start(broker)),
            Err(failure) => events.warn(&failure),
        }
    }
}
