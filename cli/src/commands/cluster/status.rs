//! `quorate cluster status`: brokers, partitions and alarms, once or for as long as somebody watches.

use std::time::Duration;

use quorate::Client;

use crate::commands::cluster::report::Report;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::Output;
use crate::runtime;
use crate::settings;
use crate::settings::PrivateKey;
use crate::settings::Settings;
use crate::settings::Target;
use crate::stop::Stop;
use crate::values;

/// Arguments of `cluster status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    private_key: PrivateKey,
    /// Show it again and again until Ctrl-C
    #[arg(long)]
    watch: bool,
    /// Time between two looks
    #[arg(long, value_name = "DURATION", value_parser = values::duration, default_value = "1s")]
    #[arg(requires = "watch")]
    interval: Duration,
}

pub(super) fn run(arguments: Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    let settings = invocation.settings(arguments.target, Some(arguments.private_key))?;
    let output = &invocation.output;
    match arguments.watch {
        true => runtime::run(watch(arguments.interval, &settings, output)),
        false => runtime::run(once(&settings, output)),
    }
}

async fn once(settings: &Settings, output: &Output) -> Result<Exit, Failure> {
    let report = settings.with_client(look).await?;
    report.show(output)?;
    match report.is_down() {
        true => Ok(Exit::Failed),
        false => Ok(Exit::Done),
    }
}

async fn look(client: &Client) -> Result<Report, Failure> {
    let admin = client.admin();
    let status = admin.cluster_status().await?;
    let partitions = admin.cluster_partitions().await?;
    Ok(Report::new(&status, &partitions))
}

/// A look that fails is told, and the next one may succeed.
async fn watch(interval: Duration, settings: &Settings, output: &Output) -> Result<Exit, Failure> {
    let mut stop = Stop::listen()?;
    let client = settings.connect().await?;
    let watching = async {
        let mut looks = tokio::time::interval(interval.max(Duration::from_millis(10)));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let report = look(&client).await;
            if !output.is_json() && output.is_terminal() {
                output.clear()?;
            }
            match report {
                Ok(report) => report.show(output)?,
                Err(failure) => output.warning(&failure),
            }
            if !output.is_json() && !output.is_terminal() {
                output.line("")?;
            }
            output.flush()?;
        }
    };
    let result: Result<Exit, Failure> = tokio::select! {
        result = watching => result,
        () = stop.requested() => Ok(Exit::Done),
    };
    settings::part(&client).await;
    result
}
