//! What is told about topics and the cluster.

use std::time::Duration;

use quorate_protocol::AckLevel as WireLevel;
use quorate_protocol::BrokerId;
use quorate_protocol::Offset;
use quorate_protocol::PartitionDescription as PartitionBody;
use quorate_protocol::PartitionId;
use quorate_protocol::StorageMode;
use quorate_protocol::Term;
use quorate_protocol::TopicId;
use quorate_protocol::TopicSettings as SettingsBody;
use quorate_protocol::TopicSummary as SummaryBody;

use crate::config::Flush;
use crate::config::Storage;
use crate::level::AckLevel;

/// What creating a topic did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CreatedTopic {
    /// The name.
    pub topic: String,
    /// The identity; a topic created again has another.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: u32,
    /// On how many brokers each is kept.
    pub replicas: u32,
    /// Whether it was created now.
    pub created: bool,
}

/// One topic.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TopicSummary {
    /// The name.
    pub name: String,
    /// The identity; a topic created again has another.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: u32,
    /// On how many brokers each is kept.
    pub replicas: u32,
    /// How it keeps records.
    pub settings: TopicSettings,
    /// Records committed since its creation.
    pub records: u64,
    /// Bytes kept.
    pub bytes: u64,
    /// Live subscriptions.
    pub subscribers: u64,
}

/// How a topic keeps records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicSettings {
    /// Kept bytes per partition; 0: no limit.
    pub retention_bytes: u64,
    /// Kept time; zero: for ever.
    pub retention_time: Duration,
    /// Where records are kept.
    pub storage: Storage,
    /// When they reach the disk.
    pub flush: Flush,
    /// What publishers wait for unless they say otherwise.
    pub ack: AckLevel,
    /// How long message ids are remembered.
    pub dedup_window: Duration,
    /// How many are remembered.
    pub dedup_ids_max: u32,
    /// When a segment is closed by age.
    pub segment_age: Duration,
    /// The largest record.
    pub record_bytes_max: u32,
}

/// A topic and each of its partitions.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TopicDescription {
    /// The topic.
    pub summary: TopicSummary,
    /// Its partitions.
    pub partitions: Vec<PartitionDescription>,
}

/// One partition.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its number.
    pub partition: PartitionId,
    /// Who leads it.
    pub leader: Option<BrokerId>,
    /// Who should lead it.
    pub preferred: Option<BrokerId>,
    /// The leader's term.
    pub term: Term,
    /// Who keeps it.
    pub replicas: Vec<BrokerId>,
    /// Who has all committed records.
    pub in_sync: Vec<BrokerId>,
    /// The first kept offset.
    pub start_offset: Offset,
    /// The first offset that is not committed.
    pub high_watermark: Offset,
    /// Bytes kept.
    pub bytes: u64,
}

/// The cluster as this client sees it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Cluster {
    /// The cluster's name.
    pub name: String,
    /// Who this client is to it.
    pub principal: String,
    /// The broker that answered.
    pub broker: BrokerId,
    /// All brokers.
    pub brokers: Vec<Broker>,
}

/// One broker.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broker {
    /// Its id.
    pub id: BrokerId,
    /// Its name.
    pub name: String,
    /// Where clients reach it.
    pub client_address: String,
}

impl From<&SettingsBody> for TopicSettings {
    fn from(settings: &SettingsBody) -> Self {
        Self {
            retention_bytes: settings.retention_bytes,
            retention_time: Duration::from_millis(settings.retention_time_ms),
            storage: match settings.storage {
                StorageMode::MEMORY => Storage::Memory,
                _ => Storage::File,
            },
            flush: match settings.flush_interval_us {
                0 => Flush::Batch,
                every => Flush::Interval(Duration::from_micros(every)),
            },
            ack: AckLevel::granted(settings.ack.min(WireLevel::QUORUM)),
            dedup_window: Duration::from_millis(settings.dedup_window_ms),
            dedup_ids_max: settings.dedup_ids_max,
            segment_age: Duration::from_millis(settings.segment_age_ms),
            record_bytes_max: settings.record_bytes_max,
        }
    }
}

impl From<&SummaryBody> for TopicSummary {
    fn from(summary: &SummaryBody) -> Self {
        Self {
            name: summary.name.as_str().to_owned(),
            id: summary.id,
            partitions: summary.partitions,
            replicas: summary.replicas,
            settings: TopicSettings::from(&summary.settings),
            records: summary.records,
            bytes: summary.bytes,
            subscribers: summary.subscribers,
        }
    }
}

impl From<&PartitionBody> for PartitionDescription {
    fn from(described: &PartitionBody) -> Self {
        Self {
            partition: described.partition,
            leader: described.leader,
            preferred: described.preferred,
            term: described.term,
            replicas: described.replicas.to_vec(),
            in_sync: described.in_sync.to_vec(),
            start_offset: described.log_start,
            high_watermark: described.high_watermark,
            bytes: described.bytes,
        }
    }
}
