//! What the `quorate` command prints with `--json`, for C.

use std::time::Duration;

use quorate::BrokerId;
use quorate::Flush;
use quorate::PartitionDescription;
use quorate::Storage;
use quorate::TopicDescription;
use quorate::TopicSummary;
use serde::Serialize;

/// All topics.
#[derive(Serialize)]
pub(crate) struct List {
    topics: Vec<Topic>,
}

/// What a list says about a topic.
#[derive(Serialize)]
struct Topic {
    name: String,
    partitions: u32,
    replicas: u32,
    storage: &'static str,
    flush: String,
    ack: &'static str,
    records: u64,
    bytes: u64,
    subscribers: u64,
}

/// A topic and its partitions.
#[derive(Serialize)]
pub(crate) struct Description {
    #[serde(flatten)]
    summary: Topic,
    retention_bytes: u64,
    retention_time_ms: u64,
    dedup_window_ms: u64,
    dedup_ids_max: u32,
    segment_age_ms: u64,
    record_bytes_max: u32,
    id: String,
    partition_list: Vec<Partition>,
}

#[derive(Serialize)]
struct Partition {
    partition: u32,
    leader: Option<u16>,
    preferred: Option<u16>,
    term: u64,
    replicas: Vec<u16>,
    in_sync: Vec<u16>,
    start_offset: u64,
    high_watermark: u64,
    bytes: u64,
}

impl From<&[TopicSummary]> for List {
    fn from(topics: &[TopicSummary]) -> Self {
        Self {
            topics: topics.iter().map(Topic::from).collect(),
        }
    }
}

impl From<&TopicSummary> for Topic {
    fn from(summary: &TopicSummary) -> Self {
        Self {
            name: summary.name.clone(),
            partitions: summary.partitions,
            replicas: summary.replicas,
            storage: storage_name(summary.settings.storage),
            flush: flush_name(summary.settings.flush),
            ack: summary.settings.ack.as_str(),
            records: summary.records,
            bytes: summary.bytes,
            subscribers: summary.subscribers,
        }
    }
}

impl From<&TopicDescription> for Description {
    fn from(described: &TopicDescription) -> Self {
        let settings = &described.summary.settings;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            summary: Topic::from(&described.summary),
            retention_bytes: settings.retention_bytes,
            retention_time_ms: millis(settings.retention_time),
            dedup_window_ms: millis(settings.dedup_window),
            dedup_ids_max: settings.dedup_ids_max,
            segment_age_ms: millis(settings.segment_age),
            record_bytes_max: settings.record_bytes_max,
            id: described.summary.id.to_string(),
            partition_list: described.partitions.iter().map(Partition::from).collect(),
        }
    }
}

impl From<&PartitionDescription> for Partition {
    fn from(described: &PartitionDescription) -> Self {
        let numbers = |ids: &[BrokerId]| ids.iter().map(|id| id.get()).collect();
        Self {
            partition: described.partition.get(),
            leader: described.leader.map(BrokerId::get),
            preferred: described.preferred.map(BrokerId::get),
            term: described.term.get(),
            replicas: numbers(&described.replicas),
            in_sync: numbers(&described.in_sync),
            start_offset: described.start_offset.get(),
            high_watermark: described.high_watermark.get(),
            bytes: described.bytes,
        }
    }
}

fn storage_name(storage: Storage) -> &'static str {
    match storage {
        Storage::File => "file",
        Storage::Memory => "memory",
        _ => "other",
    }
}

fn flush_name(flush: Flush) -> String {
    match flush {
        Flush::Batch => "batch".to_owned(),
        Flush::Interval(interval) => format!("interval:{}us", interval.as_micros()),
        _ => "other".to_owned(),
    }
}
