//! Bodies of requests between brokers and of their replies.

use serde::Deserialize;
use serde::Serialize;

use crate::bounded::Blob;
use crate::bounded::Bounded;
use crate::bounded::Text;
use crate::error_code::ErrorCode;
use crate::ids::BrokerId;
use crate::ids::GroupId;
use crate::ids::Offset;
use crate::ids::ReplicaId;
use crate::ids::StorageId;
use crate::ids::Term;
use crate::message::bodies;

/// A command for the metadata group's leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerForward {
    /// The command, in that group's layout.
    pub command: Blob<60_000>,
}

/// What became of a forwarded command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerForwarded {
    /// Whether the command was applied and accepted.
    pub code: ErrorCode,
    /// For people, if it was not.
    pub detail: Text<1024>,
    /// Its effect, in that group's layout.
    pub effect: Blob<60_000>,
}

/// What a broker knows best about itself; sent about once a second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The program's version.
    pub version: Text<32>,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Free bytes of the data folder's volume.
    pub disk_free_bytes: u64,
    /// When its certificate expires, in seconds since 1970.
    pub cert_not_after_s: u64,
    /// It is shutting down.
    pub draining: bool,
    /// It has not read the metadata up to the present yet.
    pub catching_up: bool,
    /// `led` begins a complete list; if clear, it adds to what was said before.
    pub full: bool,
    /// Partitions that this broker leads, as many as fit into one request.
    pub led: Bounded<LedPartition, 1024>,
}

/// A partition as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedPartition {
    /// Its group.
    pub group: GroupId,
    /// The leader's term.
    pub term: Term,
    /// The first offset that is not committed.
    pub high_watermark: Offset,
    /// The first kept offset.
    pub log_start: Offset,
    /// Bytes kept.
    pub bytes: u64,
    /// Live subscriptions.
    pub subscribers: u32,
    /// The other replicas.
    pub followers: Bounded<FollowerState, 16>,
}

/// A replica as its leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowerState {
    /// Who holds it.
    pub broker: BrokerId,
    /// Log entries it does not have yet.
    pub lag: u64,
    /// Whether it answers and keeps up.
    pub in_sync: bool,
}

/// How a broker that was added finds its place; the request for it has no body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerJoined {
    /// The voters that the metadata group began with.
    pub birth: Bounded<ReplicaId, 16>,
    /// The cluster's brokers.
    pub members: Bounded<PeerMember, 64>,
}

/// A broker of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerMember {
    /// The broker.
    pub id: BrokerId,
    /// Its name, which its certificate carries.
    pub name: Text<128>,
    /// Host and port for clients.
    pub client_address: Text<256>,
    /// Host and port for brokers.
    pub peer_address: Text<256>,
    /// Its data folder, once known.
    pub storage: Option<StorageId>,
    /// Its replica of the metadata group.
    pub replica: ReplicaId,
}

/// What time is it with you?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerClock {
    /// The asker's clock, in microseconds since 1970.
    pub sent: u64,
}

/// This time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerClockReply {
    /// When the request came, in microseconds since 1970.
    pub received_us: u64,
    /// When the reply was made.
    pub replied_us: u64,
}

/// Asks a group's leader to hand its leadership over; the reply has no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerTransfer {
    /// The group.
    pub group: GroupId,
    /// Who is to lead.
    pub to: BrokerId,
}

bodies! {
    PeerForward,
    PeerForwarded,
    PeerStatus,
    PeerJoined,
    PeerClock,
    PeerClockReply,
    PeerTransfer,
}
