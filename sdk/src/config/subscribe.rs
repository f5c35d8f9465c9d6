//! Section `subscribe`: where to start and stop, how much to buffer, what to do when it is late.

use std::time::Duration;

use crate::config::value;
use crate::config::value::Unit;
use crate::position::End;
use crate::position::Start;

/// What a subscription does when its start is no longer in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnTruncated {
    /// Ends with `OffsetOutOfRange`.
    #[default]
    Error,
    /// Reports the gap and goes on at the first kept record.
    Earliest,
    /// Reports the gap and goes on at the end.
    Latest,
}

/// What the broker does when this subscriber does not keep up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WhenSlow {
    /// Waits; nothing is lost while the log keeps it.
    #[default]
    Pause,
    /// Skips to the end and reports the gap.
    SkipToLatest,
    /// Ends the subscription with `SlowConsumer`.
    Disconnect,
}

#[derive(Debug, Clone)]
pub(crate) struct SubscribeOptions {
    pub(crate) from: Start,
    pub(crate) until: End,
    /// Empty: all.
    pub(crate) partitions: Vec<u32>,
    pub(crate) prefetch_bytes: usize,
    pub(crate) on_truncated: OnTruncated,
    pub(crate) when_slow: WhenSlow,
    pub(crate) ordered_within: Duration,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self {
            from: Start::Latest,
            until: End::Never,
            partitions: Vec::new(),
            prefetch_bytes: 4 << 20,
            on_truncated: OnTruncated::Error,
            when_slow: WhenSlow::Pause,
            ordered_within: Duration::ZERO,
        }
    }
}

impl SubscribeOptions {
    pub(super) const KEYS: &[&str] = &[
        "from",
        "until",
        "partitions",
        "prefetch_bytes",
        "on_truncated",
        "when_slow",
        "ordered_within_ms",
    ];
    const TRUNCATED: &[(&str, OnTruncated)] = &[
        ("error", OnTruncated::Error),
        ("earliest", OnTruncated::Earliest),
        ("latest", OnTruncated::Latest),
    ];
    const SLOW: &[(&str, WhenSlow)] = &[
        ("pause", WhenSlow::Pause),
        ("skip_to_latest", WhenSlow::SkipToLatest),
        ("disconnect", WhenSlow::Disconnect),
    ];

    pub(super) fn set(&mut self, key: &str, text: &str) -> Result<bool, String> {
        match key {
            "from" => self.from = text.parse()?,
            "until" => self.until = text.parse()?,
            "partitions" => self.partitions = partitions(text)?,
            "prefetch_bytes" => {
                self.prefetch_bytes = value::bytes_between(text, 1 << 16, 1 << 30)?;
            }
            "on_truncated" => self.on_truncated = value::word(text, Self::TRUNCATED)?,
            "when_slow" => self.when_slow = value::word(text, Self::SLOW)?,
            "ordered_within_ms" => {
                self.ordered_within = value::duration(text, Unit::Milliseconds)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn partitions(text: &str) -> Result<Vec<u32>, String> {
    if text == "all" {
        return Ok(Vec::new());
    }
    text.split(',')
        .map(|part| value::count(part.trim()))
        .collect()
}
