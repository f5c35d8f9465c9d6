//! `quorate bench`: load on a fixed schedule, latency from the intended time.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use quorate::AckLevel;
use quorate_bench::BenchError;
use quorate_bench::Latency;
use quorate_bench::Mode;
use quorate_bench::Params;
use quorate_bench::Report;
use quorate_bench::Verdict;

use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::logging;
use crate::output::Output;
use crate::runtime;
use crate::settings::PrivateKey;
use crate::settings::Settings;
use crate::settings::Target;
use crate::values;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// What to do
    workload: Workload,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    private_key: PrivateKey,
    /// An existing topic [default: a fresh one, deleted afterwards]
    #[arg(long)]
    topic: Option<String>,
    /// Partitions of a fresh topic
    #[arg(long, value_name = "N", default_value_t = 1)]
    partitions: u32,
    /// Replicas of a fresh topic [default: the cluster's]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    replicas: u32,
    /// Producers
    #[arg(long, value_name = "N", default_value_t = 1)]
    producers: u32,
    /// Payload of a message, such as 128B or 1KiB
    #[arg(long, value_name = "BYTES", default_value = "1KiB", value_parser = values::bytes)]
    size: usize,
    /// Messages a second over all producers, on a schedule that never slips; 0 = as fast as
    /// `--in-flight` allows
    #[arg(long, value_name = "R", default_value_t = 0.0)]
    rate: f64,
    /// Measured time
    #[arg(long, value_name = "D", default_value = "30s", value_parser = values::duration)]
    duration: Duration,
    /// Time before that, which does not count
    #[arg(long, value_name = "D", default_value = "5s", value_parser = values::duration)]
    warmup: Duration,
    /// quorum, leader or none [default: the topic's]
    #[arg(long, value_name = "LEVEL")]
    ack: Option<AckLevel>,
    /// With `--rate 0`: messages sent and not yet acked, per producer
    #[arg(long, value_name = "N", default_value_t = 65_536)]
    in_flight: usize,
    /// Write the report as JSON to a file as well
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Compare with an older report; exit status 1 if this run is worse, 2 if it was another run
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// How many percent count as a difference
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0)]
    threshold: f64,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Workload {
    /// Publish and await every receipt
    Pub,
    /// Publish and receive: latency to receipt and to delivery
    E2e,
    /// Fill a topic, then read it back from its start
    Sub,
}

/// Runs one workload and reports.
pub(crate) fn run(arguments: &Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    logging::start_client(invocation.verbose);
    let old = arguments.compare.as_deref().map(load).transpose()?;
    let settings = invocation.settings(
        arguments.target.clone(),
        Some(arguments.private_key.clone()),
    )?;
    runtime::run(async {
        let mut report = measure(&settings, &arguments.params()).await?;
        // Whatever is wrong with the rest, the run was made and its figures are shown.
        let compared = old.map(|old| quorate_bench::compare(&old, &report, arguments.threshold));
        let compared = compared.transpose().map(|rows| {
            report.compare = rows.unwrap_or_default();
        });
        print(&report, &invocation.output)?;
        if let Some(path) = &arguments.out {
            save(path, &report)?;
        }
        compared.map_err(|error| Failure::usage(error.to_string()))?;
        Ok(verdict(&report))
    })
}

async fn measure(settings: &Settings, params: &Params) -> Result<Report, Failure> {
    settings
        .with_client(async |client| Ok(quorate_bench::run(client, params).await?))
        .await
}

impl Arguments {
    fn params(&self) -> Params {
        Params {
            mode: match self.workload {
                Workload::Pub => Mode::Pub,
                Workload::E2e => Mode::E2e,
                Workload::Sub => Mode::Sub,
            },
            topic: self.topic.clone(),
            partitions: self.partitions,
            replicas: self.replicas,
            producers: self.producers,
            size_bytes: self.size,
            rate: self.rate,
            duration: self.duration,
            warmup: self.warmup,
            ack: self.ack,
            in_flight: self.in_flight,
            command: std::env::args().collect::<Vec<_>>().join(" "),
        }
    }
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Self {
        match error {
            BenchError::Client(error) => Self::from(error),
            other => Self::usage(other.to_string()),
        }
    }
}

fn load(path: &Path) -> Result<Report, Failure> {
    let text =
        std::fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("{} is no report: {error}", path.display())))
}

fn save(path: &Path, report: &Report) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::file("write", path, &error);
    let text = serde_json::to_vec(report).map_err(|error| failed(error.into()))?;
    std::fs::write(path, text).map_err(failed)
}

fn verdict(report: &Report) -> Exit {
    let results = &report.results;
    let broken = results.errors + results.lost + results.duplicates + results.reordered;
    let worse = report
        .compare
        .iter()
        .any(|row| row.verdict == Verdict::Worse);
    match (broken, worse) {
        (1.., _) => Exit::Partly,
        (0, true) => Exit::Failed,
        (0, false) => Exit::Done,
    }
}

fn print(report: &Report, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.object(report);
    }
    let results = &report.results;
    output.line(format_args!(
        "{:.0} messages/s  {:.1} MB/s  over {:.1} s{}",
        results.msgs_per_s,
        results.mb_per_s,
        results.duration_s,
        if results.saturated {
            "  SATURATED: the rate was not reached"
        } else {
            ""
        },
    ))?;
    output.line(format_args!(
        "sent {}  acked {}  received {}  errors {}  lost {}  duplicates {}  reordered {}",
        results.sent,
        results.acked,
        results.received,
        results.errors,
        results.lost,
        results.duplicates,
        results.reordered,
    ))?;
    let latencies = [
        ("publish to ack", &results.ack_latency_us),
        ("publish to delivery", &results.e2e_latency_us),
    ];
    let rows: Vec<_> = latencies
        .into_iter()
        .filter_map(|(name, latency)| latency.as_ref().map(|latency| row(name, latency)))
        .collect();
    if !rows.is_empty() {
        output.table(&["latency, ms", "p50", "p90", "p99", "p99.9", "max"], rows)?;
    }
    for row in &report.compare {
        output.line(format_args!(
            "{}: {:.0} -> {:.0} ({:+.1} %) {}",
            row.metric,
            row.old,
            row.new,
            row.change_percent,
            shown(row.verdict)
        ))?;
    }
    Ok(())
}

const fn shown(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better",
        Verdict::Same => "same",
        Verdict::Worse => "worse",
    }
}

fn row(name: &str, latency: &Latency) -> Vec<String> {
    let values = [
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p99_9,
        latency.max,
    ];
    let figures = values.map(|us| format!("{}.{:03}", us / 1000, us % 1000));
    std::iter::once(name.to_owned()).chain(figures).collect()
}
