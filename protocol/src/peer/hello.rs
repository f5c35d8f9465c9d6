//! The first frames of a connection between brokers.

use serde::Deserialize;
use serde::Serialize;

use crate::bounded::Bounded;
use crate::bounded::Text;
use crate::ids::BrokerId;
use crate::ids::HybridTime;
use crate::ids::StorageId;
use crate::kind::Kind;
use crate::message::DecodeError;
use crate::message::Message;
use crate::message::decode_fields;
use crate::message::encode_fields;
use crate::message::messages;
use crate::wire_code::wire_code;

/// What a connection's first body begins with.
const MAGIC: [u8; 4] = *b"QRTP";

wire_code! {
    /// What a connection between brokers is for.
    PeerPurpose(u16) {
        /// Requests and the messages of replicas.
        RAFT = 1,
        /// Snapshots, which must not delay the former.
        SNAPSHOT = 2,
    }
}

/// A broker introduces itself to the one it dialled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHello {
    /// Oldest protocol version the broker speaks.
    pub min_version: u16,
    /// Newest protocol version the broker speaks.
    pub max_version: u16,
    /// Optional features the broker knows, one bit each.
    pub features: u64,
    /// Frame kinds the broker knows, each with its newest version.
    pub kinds: Bounded<(Kind, u16), 128>,
    /// The cluster it belongs to.
    pub cluster: Text<128>,
    /// Who it is.
    pub broker: BrokerId,
    /// Its data folder.
    pub storage: StorageId,
    /// This run of the process.
    pub incarnation: u64,
    /// How often its data folder was opened: a smaller number than seen before is an old copy.
    pub starts: u64,
    /// Whom it means to reach.
    pub expects: BrokerId,
    /// What the connection is for.
    pub purpose: PeerPurpose,
    /// Oldest feature level the broker can work at.
    pub feature_level_min: u16,
    /// Newest feature level the broker can work at.
    pub feature_level_max: u16,
    /// Its clock.
    pub now: HybridTime,
}

/// The dialled broker accepts the connection. A refusal is a [`HelloReject`](crate::HelloReject).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHelloAck {
    /// The protocol version both speak from here on.
    pub version: u16,
    /// Features both know.
    pub features: u64,
    /// Kinds both know, each with the version to use.
    pub kinds: Bounded<(Kind, u16), 128>,
    /// Who answers.
    pub broker: BrokerId,
    /// Its data folder.
    pub storage: StorageId,
    /// This run of its process.
    pub incarnation: u64,
    /// Oldest feature level it can work at.
    pub feature_level_min: u16,
    /// Newest feature level it can work at.
    pub feature_level_max: u16,
    /// Its clock.
    pub now: HybridTime,
}

/// First frame of a stream that carries messages of replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneOpen {
    /// 0: urgent; 1 + channel: appends of that channel and their answers.
    pub lane: u8,
}

messages! {
    PeerHelloAck: PEER_HELLO_ACK v 1,
    LaneOpen: LANE_OPEN v 1,
}

impl Message for PeerHello {
    const KIND: Kind = Kind::PEER_HELLO;
    const VERSION: u16 = 1;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        encode_fields(self, out);
    }

    fn decode_prefix(bytes: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let fields = bytes.strip_prefix(&MAGIC).ok_or(DecodeError::Malformed {
            what: "PeerHello",
            why: "it does not begin with QRTP",
        })?;
        decode_fields("PeerHello", fields)
    }
}
