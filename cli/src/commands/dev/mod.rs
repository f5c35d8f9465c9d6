//! `quorate dev`: a cluster on this machine, with real certificates, for as long as it runs.

mod event;
mod leaders;
mod selection;
mod supervisor;
mod workload;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock;
use crate::clock::Moment;
use crate::commands::dev::event::Event;
use crate::commands::dev::event::Events;
use crate::commands::dev::leaders::Leaders;
use crate::commands::dev::selection::Selection;
use crate::commands::dev::supervisor::Report;
use crate::commands::dev::supervisor::Supervisor;
use crate::commands::dev::workload::Workload;
use crate::contexts;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::local;
use crate::local::Broker;
use crate::local::Layout;
use crate::local::Wish;
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
    /// How many brokers: 1, 3 or 5 [default: 3, or as many as --data has]
    #[arg(long, value_name = "N")]
    nodes: Option<u16>,
    /// Client port of the first broker, its peer port is the next one, those of each further
    /// broker are 10 higher; 0: free ports [default: 4747, or as in --data]
    #[arg(long, value_name = "PORT")]
    base_port: Option<u16>,
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
    let wish = Wish {
        nodes: arguments.nodes,
        base_port: arguments.base_port,
    };
    let layout = Layout::prepare(arguments.data.clone(), wish)?;
    let brokers = local::brokers(&layout, &invocation.overrides);
    let site = Site {
        arguments,
        context,
        layout: &layout,
        events: Events::new(&invocation.output, !arguments.command.is_empty()),
    };
    let result = site.develop(brokers, start, &mut stop).await;
    let removed = layout.remove_if_temporary();
    result.and_then(|exit| removed.map(|()| exit))
}

/// What does not change while the cluster runs.
struct Site<'a> {
    arguments: &'a Arguments,
    context: &'a str,
    layout: &'a Layout,
    events: Events<'a>,
}

impl Site<'_> {
    /// Starts the brokers, lends them the context, and ends both in good order.
    async fn develop(
        &self,
        mut brokers: Vec<Broker>,
        start: Moment,
        stop: &mut Stop,
    ) -> Result<Exit, Failure> {
        tokio::select! {
            started = local::start(&mut brokers) => started?,
            () = stop.requested() => return Ok(Exit::Done),
        }
        let selection = Selection::make(self.context, self.layout);
        let told = match &selection {
            Ok(_) => self.announce(&brokers, start),
            Err(_) => Ok(()),
        };
        let mut supervisor = Supervisor::start(brokers, self.arguments.respawn);
        let result = match (told, selection) {
            (Ok(()), Ok(selection)) => {
                let result = self.run(&mut supervisor, stop).await;
                let undone = selection.undo(self.layout);
                result.and_then(|exit| undone.map(|()| exit))
            }
            (Err(failure), Ok(selection)) => selection.undo(self.layout).and(Err(failure)),
            (_, Err(failure)) => Err(failure),
        };
        let stopped = self.stop(&mut supervisor, stop).await;
        result.and_then(|exit| stopped.map(|()| exit))
    }

    fn announce(&self, brokers: &[Broker], start: Moment) -> Result<(), Failure> {
        let took = clock::since(start);
        self.events.ready(self.context, self.layout, brokers, took)
    }

    /// Keeps the brokers running until somebody asks to stop.
    async fn run(&self, supervisor: &mut Supervisor, stop: &mut Stop) -> Result<Exit, Failure> {
        let mut workload = Workload::start(&self.arguments.command, self.context)?;
        let ended = tokio::select! {
            status = workload.ended() => Some(status),
            failure = self.report(supervisor) => Some(Err(failure)),
            () = stop.requested() => None,
        };
        match ended {
            Some(status) => status,
            None => workload.stop().await,
        }
    }

    /// Tells what becomes of the brokers and of what they lead; ends when none is left.
    async fn report(&self, supervisor: &mut Supervisor) -> Failure {
        let mut leaders = Leaders::new(self.layout);
        loop {
            let told = tokio::select! {
                report = supervisor.report() => match report {
                    Some(report) => self.tell(report),
                    None => break,
                },
                change = leaders.next() => self.events.emit(&Event::leader(change)),
            };
            if let Err(failure) = told {
                return failure;
            }
        }
        let code = quorate::ErrorCode::INTERNAL;
        Failure::new(code, Exit::Failed, "the last broker ended")
            .with_cause("none is restarted: --respawn 0")
    }

    fn tell(&self, report: Report) -> Result<(), Failure> {
        match report {
            Report::Exit(id, status) => self.events.emit(&Event::exit(id, status)),
            Report::Start(id, pid) => self.events.emit(&Event::start(id, pid)),
            Report::StillDown(failure) => {
                self.events.warn(&failure);
                Ok(())
            }
        }
    }

    /// Lets the brokers finish; a second request does not wait for that.
    async fn stop(&self, supervisor: &mut Supervisor, stop: &mut Stop) -> Result<(), Failure> {
        let announced = self.events.emit(&Event::Stopping);
        tokio::select! {
            result = supervisor.stop() => result.and(announced),
            () = stop.requested() => announced,
        }
    }
}
