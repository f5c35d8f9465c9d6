//! Topics as clients see them: where each partition is and how it behaves.

use serde::Deserialize;
use serde::Serialize;

use crate::bounded::Bounded;
use crate::bounded::Text;
use crate::ids::BrokerId;
use crate::ids::PartitionId;
use crate::ids::Term;
use crate::ids::TopicId;
use crate::produce::AckLevel;
use crate::wire_code::wire_code;

wire_code! {
    /// Where a topic's records are kept.
    StorageMode(u16) {
        /// On stable storage.
        FILE = 0,
        /// In memory only.
        MEMORY = 1,
    }
}

/// One topic of a topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicInfo {
    /// Its name.
    pub name: Text<128>,
    /// Its identity.
    pub id: TopicId,
    /// The topology epoch of its last change.
    pub epoch: u64,
    /// How it behaves.
    pub settings: TopicSettings,
    /// Its partitions in order.
    pub partitions: Bounded<PartitionInfo, 1024>,
}

/// One partition of a topology.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionInfo {
    /// The partition.
    pub partition: PartitionId,
    /// Who leads it, if known.
    pub leader: Option<BrokerId>,
    /// The leader's term.
    pub term: Term,
    /// Who holds a copy.
    pub replicas: Bounded<BrokerId, 16>,
}

/// How a topic behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSettings {
    /// Bytes kept per partition; 0 = no limit.
    pub retention_bytes: u64,
    /// Time records are kept; 0 = for ever.
    pub retention_time_ms: u64,
    /// Where records are kept.
    pub storage: StorageMode,
    /// Longest time between flushes; 0 = before each ack.
    pub flush_interval_us: u64,
    /// The promise a receipt makes unless the producer asks for another.
    pub ack: AckLevel,
    /// How long message ids are remembered.
    pub dedup_window_ms: u64,
    /// How many message ids are remembered per partition.
    pub dedup_ids_max: u32,
    /// Age at which a segment is closed.
    pub segment_age_ms: u64,
    /// The largest record.
    pub record_bytes_max: u32,
}

impl Default for TopicSettings {
    fn default() -> Self {
        Self {
            retention_bytes: 0,
            retention_time_ms: 0,
            storage: StorageMode::FILE,
            flush_interval_us: 0,
            ack: AckLevel::QUORUM,
            dedup_window_ms: 60 * 60 * 1000,
            dedup_ids_max: 131_072,
            segment_age_ms: 7 * 24 * 60 * 60 * 1000,
            record_bytes_max: 1024 * 1024,
        }
    }
}
