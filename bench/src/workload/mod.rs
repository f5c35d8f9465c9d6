//! The workloads: each drives the client and fills a meter.

mod catch_up;
mod end_to_end;
mod publish;

use std::time::Duration;

use quorate::Client;

use crate::clock;
use crate::clock::Clock;
use crate::error::BenchError;
use crate::host;
use crate::meter::Meter;
use crate::params::Mode;
use crate::params::Params;
use crate::report::ClusterFacts;
use crate::report::Report;
use crate::report::Results;
use crate::report::SCHEMA;
use crate::report::Tool;
use crate::tracker::Tracker;

/// What a workload leaves behind.
struct Measured {
    meter: Meter,
    tracker: Option<Tracker>,
    /// Messages per second are counted over this time.
    elapsed: Duration,
    /// What the rate counts: receipts or deliveries.
    counted: u64,
}

/// Runs a workload and reports. A fresh topic is deleted afterwards.
///
/// # Errors
/// A parameter is out of range, or the broker refused or was lost for longer than the delivery timeout.
pub async fn run(client: &Client, params: &Params) -> Result<Report, BenchError> {
    params.validate()?;
    let topic = match &params.topic {
        Some(topic) => topic.clone(),
        None => create(client, params).await?,
    };
    let measured = match params.mode {
        Mode::Pub => publish::run(client, &topic, params).await,
        Mode::E2e => end_to_end::run(client, &topic, params).await,
        Mode::Sub => catch_up::run(client, &topic, params).await,
    };
    let described = client.admin().topic(&topic).await;
    if params.topic.is_none() {
        client.admin().delete_topic(&topic).await?;
    }
    let (measured, described) = (measured?, described?);
    let cluster = ClusterFacts {
        brokers: client.admin().cluster().await?.brokers.len(),
        replicas: described.summary.replicas,
        storage: "file".to_owned(),
        flush: "batch".to_owned(),
    };
    report(&topic, params, cluster, measured)
}

async fn create(client: &Client, params: &Params) -> Result<String, BenchError> {
    let name = format!("bench-{:014x}", run_number());
    client
        .admin()
        .create_topic(&name)
        .partitions(params.partitions)
        .replicas(params.replicas)
        .await?;
    Ok(name)
}

fn report(
    topic: &str,
    params: &Params,
    cluster: ClusterFacts,
    measured: Measured,
) -> Result<Report, BenchError> {
    Ok(Report {
        schema: SCHEMA,
        tool: Tool {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            rustc: env!("CARGO_PKG_RUST_VERSION").to_owned(),
        },
        host: host::describe(),
        cluster,
        params: serde_json::json!({
            "mode": params.mode, "topic": topic, "partitions": params.partitions,
            "producers": params.producers,
            "consumers": u8::from(params.mode != Mode::Pub),
            "size_bytes": params.size_bytes, "rate": params.rate,
            "duration_s": params.duration.as_secs_f64(), "warmup_s": params.warmup.as_secs_f64(),
            "ack": params.ack.map(|level| level.to_string()), "in_flight": params.in_flight,
            "command": params.command,
        }),
        results: results(params, measured)?,
        compare: Vec::new(),
    })
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn results(params: &Params, measured: Measured) -> Result<Results, BenchError> {
    let Measured {
        meter,
        tracker,
        elapsed,
        counted,
    } = measured;
    let open_loop = params.rate > 0.0;
    let msgs_per_s = counted as f64 / elapsed.as_secs_f64().max(1e-9);
    let (duplicates, reordered, lost) = tracker.as_ref().map_or((0, 0, 0), |tracker| {
        let lost = meter.acked.saturating_sub(meter.received);
        (tracker.duplicates, tracker.reordered, lost)
    });
    Ok(Results {
        open_loop,
        saturated: open_loop && msgs_per_s < 0.99 * params.rate,
        sent: meter.sent,
        acked: meter.acked,
        received: meter.received,
        errors: meter.errors,
        duplicates,
        lost,
        reordered,
        duration_s: elapsed.as_secs_f64(),
        msgs_per_s,
        mb_per_s: msgs_per_s * params.size_bytes as f64 / 1e6,
        ack_latency_us: (meter.acks.count() > 0)
            .then(|| meter.acks.summary())
            .transpose()?,
        e2e_latency_us: (meter.deliveries.count() > 0)
            .then(|| meter.deliveries.summary())
            .transpose()?,
        series: meter.series,
    })
}

/// When measuring begins and ends, on the run's clock.
fn measured_time(params: &Params) -> (Duration, Duration) {
    (params.warmup, params.warmup + params.duration)
}

/// A number that no other run of this topic has, 56 bits.
fn run_number() -> u64 {
    let nanos = clock::since_1970().as_nanos();
    u64::try_from(nanos & ((1 << 56) - 1)).unwrap_or(0)
}

/// Yields to other tasks when nothing is due, so that one thread serves both sides.
async fn pause_until(now: Clock, due: Duration, timer: &clock::Timer) -> std::io::Result<()> {
    match due.checked_sub(now.now()) {
        Some(left) if !left.is_zero() => timer.sleep(left).await,
        _ => Ok(()),
    }
}
