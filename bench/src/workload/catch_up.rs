//! `sub`: read a topic back from its start, as fast as it comes.

use std::cell::RefCell;
use std::time::Duration;

use quorate::Client;
use quorate::End;
use quorate::Start;

use super::Measured;
use super::publish;
use super::run_number;
use crate::clock::Clock;
use crate::error::BenchError;
use crate::meter::Meter;
use crate::params::Params;
use crate::payload;
use crate::tracker::Tracker;

const RECORDS_AT_ONCE: usize = 4096;

/// A fresh topic is filled for the run's duration first; an existing one is read as it is.
pub(super) async fn run(
    client: &Client,
    topic: &str,
    params: &Params,
) -> Result<Measured, BenchError> {
    let run = run_number();
    let meter = RefCell::new(Meter::new(Duration::ZERO, Duration::MAX)?);
    if params.topic.is_none() {
        let filling = Params {
            warmup: Duration::ZERO,
            ..params.clone()
        };
        publish::publish_all(client, topic, &filling, (Clock::start(), run), &meter).await?;
    }
    let mut meter = meter.into_inner();
    let mut tracker = Tracker::new(run, params.producers);
    let clock = Clock::start();
    let mut reading = client
        .subscribe(topic)
        .from(Start::Earliest)
        .until(End::Tail)
        .await?;
    let mut foreign = 0_u64;
    loop {
        let records = reading.next_batch(RECORDS_AT_ONCE).await?;
        if records.is_empty() {
            break;
        }
        for record in &records {
            let known = record
                .value
                .as_deref()
                .and_then(payload::read)
                .is_some_and(|stamp| {
                    tracker.arrived(stamp.run, stamp.number, record.partition.get())
                });
            foreign += u64::from(!known);
        }
    }
    let elapsed = clock.now();
    meter.received = tracker.count();
    let counted = meter.received + foreign;
    Ok(Measured {
        counted,
        meter,
        tracker: Some(tracker),
        elapsed,
    })
}
