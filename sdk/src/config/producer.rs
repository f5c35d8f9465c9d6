//! Section `producer`: batching, limits, acknowledgement.

use std::time::Duration;

use crate::config::value;
use crate::config::value::Unit;
use crate::level::AckLevel;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// LZ4 blocks: cheap, for text about half the size.
    Lz4,
}

/// How a message without an explicit partition gets one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Partitioner {
    /// By the key; without a key by the message id; without both as [`Partitioner::Sticky`].
    #[default]
    Hash,
    /// One partition until its batch is full, then the next.
    Sticky,
}

#[derive(Debug, Clone)]
pub(crate) struct ProducerOptions {
    /// `None`: the topic's own.
    pub(crate) ack: Option<AckLevel>,
    pub(crate) linger: Duration,
    pub(crate) batch_bytes_max: usize,
    pub(crate) in_flight_bytes_max: usize,
    pub(crate) compression: Compression,
    pub(crate) partitioner: Partitioner,
    pub(crate) delivery_timeout: Duration,
    pub(crate) name: Option<String>,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            ack: None,
            linger: Duration::ZERO,
            batch_bytes_max: 1 << 20,
            in_flight_bytes_max: 32 << 20,
            compression: Compression::None,
            partitioner: Partitioner::Hash,
            delivery_timeout: Duration::from_millis(30_000),
            name: None,
        }
    }
}

impl ProducerOptions {
    pub(super) const KEYS: &[&str] = &[
        "ack",
        "linger_us",
        "batch_bytes_max",
        "in_flight_bytes_max",
        "compression",
        "partitioner",
        "delivery_timeout_ms",
        "name",
    ];
    const COMPRESSIONS: &[(&str, Compression)] =
        &[("none", Compression::None), ("lz4", Compression::Lz4)];
    const PARTITIONERS: &[(&str, Partitioner)] =
        &[("hash", Partitioner::Hash), ("sticky", Partitioner::Sticky)];

    pub(super) fn set(&mut self, key: &str, text: &str) -> Result<bool, String> {
        match key {
            "ack" => self.ack = Some(value::word(text, AckLevel::ASKED)?),
            "linger_us" => self.linger = value::duration(text, Unit::Microseconds)?,
            "batch_bytes_max" => {
                self.batch_bytes_max = value::bytes_between(text, 4 << 10, 8 << 20)?;
            }
            "in_flight_bytes_max" => {
                self.in_flight_bytes_max = value::bytes_between(text, 1 << 16, 1 << 40)?;
            }
            "compression" => self.compression = value::word(text, Self::COMPRESSIONS)?,
            "partitioner" => self.partitioner = value::word(text, Self::PARTITIONERS)?,
            "delivery_timeout_ms" => {
                let min = Duration::from_millis(1);
                self.delivery_timeout = value::duration_from(text, Unit::Milliseconds, min)?;
            }
            "name" => self.name = Some(text.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}
