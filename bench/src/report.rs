//! The result of a run, in the fixed schema that scripts read.

use serde::Deserialize;
use serde::Serialize;

/// Version of the schema.
pub(crate) const SCHEMA: u32 = 1;

/// A run's result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Version of this schema.
    pub schema: u32,
    /// What measured.
    pub tool: Tool,
    /// Where.
    pub host: Host,
    /// Against what.
    pub cluster: ClusterFacts,
    /// What was asked.
    pub params: serde_json::Value,
    /// What was measured.
    pub results: Results,
    /// Against an older report, with `--compare`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compare: Vec<Comparison>,
}

/// What measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tool {
    /// Version of the command.
    pub version: String,
    /// Minimum Rust version it was built for.
    pub rustc: String,
}

/// The machine the load generator ran on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Host {
    /// Processor model.
    pub cpu: String,
    /// Processors this process may use.
    pub cores: usize,
    /// Kernel release.
    pub kernel: String,
}

/// What was measured against.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClusterFacts {
    /// Brokers known to the client.
    pub brokers: usize,
    /// Replicas of the topic.
    pub replicas: u32,
    /// `file` or `memory`.
    pub storage: String,
    /// `batch` or `interval:D`.
    pub flush: String,
}

/// Latencies in microseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Latency {
    /// Smallest.
    pub min: u64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p99_9: u64,
    /// 99.99th percentile.
    pub p99_99: u64,
    /// Largest.
    pub max: u64,
    /// The whole distribution: HDR V2, base64.
    pub hdr: String,
}

/// One second of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Second {
    /// Seconds since measuring began.
    pub t_s: u64,
    /// Messages handed to the client.
    pub sent: u64,
    /// Receipts.
    pub acked: u64,
    /// Messages delivered.
    pub received: u64,
    /// Median publish to ack.
    pub ack_p50_us: u64,
    /// 99th percentile.
    pub ack_p99_us: u64,
    /// Largest.
    pub ack_max_us: u64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// Whether latency runs from a fixed schedule.
    pub open_loop: bool,
    /// The schedule was not kept: less than 99 % of the rate was achieved.
    pub saturated: bool,
    /// Messages handed to the client while measuring.
    pub sent: u64,
    /// Of these, with a receipt.
    pub acked: u64,
    /// Messages delivered.
    pub received: u64,
    /// Messages whose outcome was an error.
    pub errors: u64,
    /// Deliveries of a message that had been delivered before.
    pub duplicates: u64,
    /// Acked messages that were not delivered.
    pub lost: u64,
    /// Deliveries behind a later one of the same producer and partition.
    pub reordered: u64,
    /// Measured time.
    pub duration_s: f64,
    /// Acked (`sub`: received) messages per second.
    pub msgs_per_s: f64,
    /// 10^6 payload bytes per second.
    pub mb_per_s: f64,
    /// Intended send to receipt.
    pub ack_latency_us: Option<Latency>,
    /// Intended send to delivery.
    pub e2e_latency_us: Option<Latency>,
    /// Second by second.
    pub series: Vec<Second>,
}

/// Which way a metric went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Better by more than the threshold.
    Better,
    /// Within the threshold.
    Same,
    /// Worse by more than the threshold.
    Worse,
}

/// One metric, then and now.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// Its name in `results`.
    pub metric: String,
    /// The older value.
    pub old: f64,
    /// This run's.
    pub new: f64,
    /// Change in percent of the older value.
    pub change_percent: f64,
    /// What that means.
    pub verdict: Verdict,
}
