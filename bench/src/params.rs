//! What a run is asked to do.

use std::time::Duration;

use quorate::AckLevel;
use serde::Serialize;

use crate::error::BenchError;
use crate::payload::STAMP_BYTES;

/// The workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Mode {
    /// Publish and await receipts.
    Pub,
    /// Publish and receive, latency from intended send to receipt and to delivery.
    E2e,
    /// Fill a topic, then read it back from the start.
    Sub,
}

impl Mode {
    /// The name a person types.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pub => "pub",
            Self::E2e => "e2e",
            Self::Sub => "sub",
        }
    }
}

/// All that decides a run.
#[derive(Clone, Debug)]
pub struct Params {
    /// The workload.
    pub mode: Mode,
    /// An existing topic, or `None` for a fresh one that is deleted afterwards.
    pub topic: Option<String>,
    /// Partitions of a fresh topic.
    pub partitions: u32,
    /// Replicas of a fresh topic; 0 = the broker's default.
    pub replicas: u32,
    /// Producers, each with its own connection to the broker's partition streams.
    pub producers: u32,
    /// Payload bytes of one message, at least 24: it carries its number and its intended time.
    pub size_bytes: usize,
    /// Messages per second over all producers; 0 = closed loop.
    pub rate: f64,
    /// Measured time.
    pub duration: Duration,
    /// Time before that, which is not measured.
    pub warmup: Duration,
    /// Ack level; `None` = the topic's.
    pub ack: Option<AckLevel>,
    /// Closed loop: messages sent and not yet acked, per producer.
    pub in_flight: usize,
    /// The command that was typed, for the report.
    pub command: String,
}

impl Params {
    /// Refuses what cannot be run.
    ///
    /// # Errors
    /// Names the parameter and its range.
    pub fn validate(&self) -> Result<(), BenchError> {
        let refuse = |name, range| Err(BenchError::Parameter { name, range });
        match self {
            p if p.size_bytes < STAMP_BYTES || p.size_bytes > 8 << 20 => {
                refuse("--size", "24 B to 8 MiB")
            }
            p if p.producers == 0 || p.producers > 64 => refuse("--producers", "1 to 64"),
            p if !(0.0..=50e6).contains(&p.rate) => refuse("--rate", "0 to 50,000,000 per second"),
            p if p.in_flight == 0 || p.in_flight > 10_000_000 => {
                refuse("--in-flight", "1 to 10,000,000")
            }
            p if p.duration.is_zero() || p.duration > Duration::from_secs(7 * 86_400) => {
                refuse("--duration", "above 0, at most 7 days")
            }
            _ => Ok(()),
        }
    }
}
