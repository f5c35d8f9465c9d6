//! Bodies of requests about the cluster itself and of their replies.

use serde::Deserialize;
use serde::Serialize;

use crate::bounded::Bounded;
use crate::bounded::Text;
use crate::ids::BrokerId;
use crate::ids::LogIndex;
use crate::ids::Offset;
use crate::ids::PartitionId;
use crate::ids::Term;
use crate::message::bodies;
use crate::wire_code::wire_code;

wire_code! {
    /// How the cluster is.
    ClusterHealth(u16) {
        /// Everything works, with all copies.
        OK = 0,
        /// Everything works, with fewer copies or a broker less than there should be.
        DEGRADED = 1,
        /// Some of the cluster cannot be used.
        DOWN = 2,
    }
}

wire_code! {
    /// How a broker is.
    BrokerState(u16) {
        /// It answers.
        UP = 0,
        /// It has not answered for a moment.
        SUSPECT = 1,
        /// It does not answer.
        DOWN = 2,
        /// It gives its work away.
        DRAINING = 3,
        /// It has not read the metadata up to the present yet.
        CATCHING_UP = 4,
    }
}

wire_code! {
    /// What to change.
    ClusterChangeKind(u16) {
        /// A new broker.
        ADD = 1,
        /// A broker goes, and its copies with it.
        REMOVE = 2,
        /// A broker lost its disk and begins anew.
        REPLACE = 3,
        /// A broker gives its leaderships away and gets none.
        DRAIN = 4,
        /// A broker leads again.
        UNDRAIN = 5,
        /// Another broker is to lead a partition.
        TRANSFER = 6,
        /// Other brokers are to hold a partition.
        MOVE = 7,
        /// Features of the newest version all brokers run are switched on.
        FINALIZE = 8,
    }
}

/// Asks how the cluster is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatusRequest {
    /// Whether the partitions are wanted too.
    pub partitions: bool,
    /// Only partitions behind this one are wanted.
    pub after: Option<PartitionCursor>,
}

/// A place in the list of all partitions, which is ordered by topic and number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionCursor {
    /// The topic.
    pub topic: Text<128>,
    /// The partition.
    pub partition: PartitionId,
}

/// How the cluster is, as the answering broker sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Its name.
    pub cluster: Text<128>,
    /// The feature level in use.
    pub feature_level: u16,
    /// How it is, in one word.
    pub health: ClusterHealth,
    /// Its brokers.
    pub brokers: Bounded<BrokerStatus, 64>,
    /// Who leads the metadata group, if known.
    pub metadata_leader: Option<BrokerId>,
    /// That leader's term.
    pub metadata_term: Term,
    /// The last metadata entry the answering broker has applied.
    pub metadata_applied: LogIndex,
    /// All partitions.
    pub total: u32,
    /// Partitions without a leader.
    pub leaderless: u32,
    /// Partitions with fewer complete copies than they should have.
    pub under_replicated: u32,
    /// What somebody should look at.
    pub alarms: Bounded<Alarm, 256>,
    /// The partitions, if they were asked for, as many as fit.
    pub partitions: Bounded<PartitionHealth, 1024>,
    /// There are partitions behind the last one listed.
    pub more: bool,
}

/// One broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerStatus {
    /// The broker.
    pub id: BrokerId,
    /// Its name.
    pub name: Text<128>,
    /// How it is.
    pub state: BrokerState,
    /// Host and port for clients.
    pub client_address: Text<256>,
    /// Host and port for brokers.
    pub peer_address: Text<256>,
    /// The program's version.
    pub version: Text<32>,
    /// Partitions it leads.
    pub leaders: u32,
    /// Partitions it holds.
    pub replicas: u32,
    /// How far its clock is ahead of the answering broker's.
    pub clock_offset_us: i64,
    /// How wrong that may be.
    pub clock_error_us: u64,
    /// Free bytes of its data folder's volume.
    pub disk_free_bytes: u64,
    /// When its certificate expires, in seconds since 1970.
    pub cert_not_after_s: u64,
    /// Seconds since it started.
    pub uptime_s: u64,
}

/// Something somebody should look at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    /// Which alarm it is; the same word each time.
    pub code: Text<64>,
    /// The broker concerned.
    pub broker: Option<BrokerId>,
    /// For people.
    pub text: Text<512>,
}

/// How a partition is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionHealth {
    /// The topic.
    pub topic: Text<128>,
    /// The partition.
    pub partition: PartitionId,
    /// Who leads it, if known.
    pub leader: Option<BrokerId>,
    /// The leader's term.
    pub term: Term,
    /// Who holds a copy, the preferred leader first.
    pub replicas: Bounded<BrokerId, 16>,
    /// Whose copy is complete.
    pub in_sync: Bounded<BrokerId, 16>,
    /// Log entries a copy does not have yet.
    pub lags: Bounded<(BrokerId, u64), 16>,
    /// The first offset that is not committed.
    pub high_watermark: Offset,
}

/// Asks to change the cluster. Fields that the kind does not need are empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterChange {
    /// What to change.
    pub kind: ClusterChangeKind,
    /// The broker concerned.
    pub broker: BrokerId,
    /// Its name.
    pub name: Text<128>,
    /// Host and port for brokers.
    pub address: Text<256>,
    /// The topic concerned.
    pub topic: Text<128>,
    /// The partition concerned.
    pub partition: PartitionId,
    /// Who is to hold it, the preferred leader first.
    pub replicas: Bounded<BrokerId, 16>,
    /// Check, but change nothing.
    pub dry_run: bool,
}

/// The change was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterChanged {
    /// Whether there was anything to change.
    pub changed: bool,
    /// What happens now, for people.
    pub detail: Text<1024>,
}

bodies! {
    ClusterStatusRequest,
    ClusterStatus,
    ClusterChange,
    ClusterChanged,
}
