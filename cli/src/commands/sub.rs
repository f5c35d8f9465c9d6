//! `quorate sub`: print what is published to topics, from any place on.

use std::pin::pin;
use std::time::Duration;

use quorate::Client;
use quorate::Record;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::clock;
use crate::clock::Moment;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::logging;
use crate::output::Output;
use crate::record_line;
use crate::runtime;
use crate::settings;
use crate::settings::PrivateKey;
use crate::settings::Settings;
use crate::settings::Target;
use crate::stop::Stop;
use crate::values;

/// Records taken from a subscription at once.
const BATCH_RECORDS_MAX: usize = 1024;
/// Batches that wait for the printer.
const BATCHES_MAX: usize = 4;

/// Arguments of `sub`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    private_key: PrivateKey,
    /// earliest, latest, offset:N, time:T or last:N; T is RFC 3339 or a time ago such as -1h
    /// [default: latest]
    #[arg(long, value_name = "START")]
    from: Option<String>,
    /// tail, offset:N or time:T, exclusive [default: never]
    #[arg(long, value_name = "END")]
    until: Option<String>,
    /// Stop after so many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop after so long; exit 124 if --count was not reached
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    timeout: Option<Duration>,
    /// Only this partition; may be repeated
    #[arg(long = "partition", value_name = "P")]
    partitions: Vec<u32>,
    /// Wait so long to print records of several partitions in the order of their times
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    ordered_within: Option<Duration>,
    /// Show which broker served a record
    #[arg(long)]
    show_source: bool,
}

/// What arrives from a subscription.
type Arrival = Result<Vec<Record>, quorate::Error>;

/// Prints records until the end, the count, the timeout or a signal.
pub(crate) fn run(arguments: Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    logging::start_client(invocation.verbose);
    let mut settings = invocation.settings(
        arguments.target.clone(),
        Some(arguments.private_key.clone()),
    )?;
    settings.flag_if("subscribe.from", arguments.from.clone());
    settings.flag_if("subscribe.until", arguments.until.clone());
    settings.flag_if(
        "subscribe.ordered_within_ms",
        arguments.ordered_within.map(values::setting),
    );
    if !arguments.partitions.is_empty() {
        let list: Vec<_> = arguments
            .partitions
            .iter()
            .map(ToString::to_string)
            .collect();
        settings.flag("subscribe.partitions", list.join(","));
    }
    runtime::run(subscribe(&arguments, &settings, &invocation.output))
}

async fn subscribe(
    arguments: &Arguments,
    settings: &Settings,
    output: &Output,
) -> Result<Exit, Failure> {
    let mut stop = Stop::listen()?;
    let deadline = arguments.timeout.map(|timeout| clock::now() + timeout);
    let mut printer = Printer::new(arguments, output);
    let mut ending = pin!(ending(&mut stop, deadline));
    let connected = tokio::select! {
        client = settings.connect() => Ok(client?),
        timed_out = &mut ending => Err(timed_out),
    };
    let timed_out = match connected {
        Ok(client) => {
            let result = tokio::select! {
                result = printer.print_all(&client, &arguments.topics) => result.map(|()| false),
                timed_out = &mut ending => Ok(timed_out),
            };
            settings::part(&client).await;
            result?
        }
        Err(timed_out) => timed_out,
    };
    match (timed_out, printer.missing()) {
        (true, Some(missing)) => Err(Failure::timeout(format!(
            "the time is up and {missing} of {} records did not come",
            arguments.count.unwrap_or_default()
        ))
        .with_help("start earlier (--from earliest) or wait longer (--timeout)")),
        _ => Ok(Exit::Done),
    }
}

/// Waits for a signal or the deadline; whether it was the deadline.
async fn ending(stop: &mut Stop, deadline: Option<Moment>) -> bool {
    let timeout = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop.requested() => false,
        () = timeout => true,
    }
}

struct Printer<'a> {
    output: &'a Output,
    show_source: bool,
    /// Records still to print; `None`: no limit.
    left: Option<u64>,
}

impl<'a> Printer<'a> {
    const fn new(arguments: &Arguments, output: &'a Output) -> Self {
        Self {
            output,
            show_source: arguments.show_source,
            left: arguments.count,
        }
    }

    /// How many records of `--count` did not come yet.
    fn missing(&self) -> Option<u64> {
        self.left.filter(|left| *left > 0)
    }

    async fn print_all(&mut self, client: &Client, topics: &[String]) -> Result<(), Failure> {
        if self.left == Some(0) {
            return Ok(());
        }
        let (queue, mut arrivals) = mpsc::channel(BATCHES_MAX);
        let mut subscriptions = JoinSet::new();
        for topic in topics {
            let subscription = client.subscribe(topic.as_str()).await?;
            subscriptions.spawn(forward(subscription, queue.clone()));
        }
        drop(queue);
        while let Some(arrival) = arrivals.recv().await {
            let done = match arrival {
                Ok(records) => self.print(&records)?,
                Err(error) if error.gap().is_some() => {
                    self.output.warning(&Failure::from(error));
                    false
                }
                Err(error) => return Err(error.into()),
            };
            if arrivals.is_empty() || done {
                self.output.flush()?;
            }
            if done {
                break;
            }
        }
        Ok(())
    }

    /// Prints what `--count` still allows; whether that was reached.
    fn print(&mut self, records: &[Record]) -> Result<bool, Failure> {
        for record in records {
            record_line::print(self.output, record, self.show_source)?;
            if let Some(left) = &mut self.left {
                *left -= 1;
                if *left == 0 {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// Hands on what a subscription gives until it ends or nobody listens.
async fn forward(mut subscription: quorate::Subscription, queue: mpsc::Sender<Arrival>) {
    loop {
        let arrival = subscription.next_batch(BATCH_RECORDS_MAX).await;
        let last = match &arrival {
            Ok(records) => records.is_empty(),
            Err(error) => error.gap().is_none(),
        };
        if queue.send(arrival).await.is_err() || last {
            return;
        }
    }
}
