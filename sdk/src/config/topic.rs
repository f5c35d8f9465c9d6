//! Section `topic`: what a new topic is like.

use std::time::Duration;

use crate::config::value;
use crate::config::value::Unit;
use crate::level::AckLevel;

/// Where a topic's records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Storage {
    /// In files.
    #[default]
    File,
    /// In memory only.
    Memory,
}

/// When records reach the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Flush {
    /// Before they are acknowledged.
    #[default]
    Batch,
    /// This often; a power cut of a majority can lose what came since.
    Interval(Duration),
}

#[derive(Debug, Clone)]
pub(crate) struct TopicOptions {
    pub(crate) partitions: u32,
    /// 0: the cluster's default.
    pub(crate) replicas: u32,
    pub(crate) retention_bytes: u64,
    pub(crate) retention_time: Duration,
    pub(crate) storage: Storage,
    pub(crate) flush: Flush,
    pub(crate) ack: AckLevel,
    pub(crate) dedup_window: Duration,
    pub(crate) dedup_ids_max: u32,
    pub(crate) segment_age: Duration,
    pub(crate) record_bytes_max: u32,
}

impl Default for TopicOptions {
    fn default() -> Self {
        Self {
            partitions: 1,
            replicas: 0,
            retention_bytes: 0,
            retention_time: Duration::ZERO,
            storage: Storage::File,
            flush: Flush::Batch,
            ack: AckLevel::Quorum,
            dedup_window: Duration::from_secs(3600),
            dedup_ids_max: 131_072,
            segment_age: Duration::from_secs(7 * 86_400),
            record_bytes_max: 1 << 20,
        }
    }
}

impl TopicOptions {
    pub(super) const KEYS: &[&str] = &[
        "partitions",
        "replicas",
        "retention_bytes",
        "retention_time_ms",
        "storage",
        "flush",
        "ack",
        "dedup_window_ms",
        "dedup_ids_max",
        "segment_age_ms",
        "record_bytes_max",
    ];
    const STORAGES: &[(&str, Storage)] = &[("file", Storage::File), ("memory", Storage::Memory)];

    pub(super) fn set(&mut self, key: &str, text: &str) -> Result<bool, String> {
        let wait = || value::duration(text, Unit::Milliseconds);
        match key {
            "partitions" => self.partitions = value::count(text)?,
            "replicas" => self.replicas = value::count(text)?,
            "retention_bytes" => self.retention_bytes = value::bytes(text)?,
            "retention_time_ms" => self.retention_time = wait()?,
            "storage" => self.storage = value::word(text, Self::STORAGES)?,
            "flush" => self.flush = flush(text)?,
            "ack" => self.ack = value::word(text, AckLevel::ASKED)?,
            "dedup_window_ms" => self.dedup_window = wait()?,
            "dedup_ids_max" => self.dedup_ids_max = value::count(text)?,
            "segment_age_ms" => self.segment_age = wait()?,
            "record_bytes_max" => {
                let size = value::bytes_between(text, 1 << 10, 8 << 20)?;
                self.record_bytes_max = u32::try_from(size).unwrap_or(u32::MAX);
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// `batch` or `interval:50ms`.
fn flush(text: &str) -> Result<Flush, String> {
    if text == "batch" {
        return Ok(Flush::Batch);
    }
    let interval = text
        .strip_prefix("interval:")
        .ok_or_else(|| format!("`{text}` is neither `batch` nor `interval:50ms`"))?;
    let min = Duration::from_micros(1);
    Ok(Flush::Interval(value::duration_from(
        interval,
        Unit::Milliseconds,
        min,
    )?))
}
