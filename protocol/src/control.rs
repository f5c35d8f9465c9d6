//! The connection's first stream after the greeting, and requests in general.

use serde::Deserialize;
use serde::Serialize;

use crate::bounded::Blob;
use crate::bounded::Bounded;
use crate::bounded::Text;
use crate::error_code::ErrorCode;
use crate::hello::BrokerInfo;
use crate::ids::BrokerId;
use crate::ids::ProducerEpoch;
use crate::ids::ProducerId;
use crate::ids::TopicId;
use crate::message::bodies;
use crate::message::messages;
use crate::topology::TopicInfo;
use crate::wire_code::wire_code;

wire_code! {
    /// What a request asks for.
    Op(u16) {
        /// Topics and brokers; later changes of the topics named are pushed.
        METADATA = 1,
        /// A producer's id and epoch.
        INIT_PRODUCER = 2,
        /// A new topic.
        CREATE_TOPIC = 16,
        /// Removal of a topic.
        DELETE_TOPIC = 17,
        /// All topics.
        LIST_TOPICS = 18,
        /// One topic in detail.
        DESCRIBE_TOPIC = 19,
        /// How the cluster is.
        CLUSTER_STATUS = 32,
        /// A change of the cluster.
        CLUSTER_CHANGE = 33,
        /// Between brokers: a command for the metadata group.
        PEER_FORWARD = 64,
        /// Between brokers: how the asker is.
        PEER_STATUS = 65,
        /// Between brokers: the asker's place in the cluster.
        PEER_JOIN = 66,
        /// Between brokers: the time.
        PEER_CLOCK = 67,
        /// Between brokers: a leadership is to move.
        PEER_TRANSFER = 68,
    }
}

wire_code! {
    /// Why the client should move.
    GoAwayReason(u16) {
        /// The broker is shutting down.
        DRAINING = 1,
        /// The connection reaches its greatest age.
        SESSION_DEADLINE = 2,
    }
}

/// A question; answers may come in any order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the asker, repeated by the answer.
    pub correlation: u64,
    /// Time the broker has; 0 = default.
    pub deadline_ms: u32,
    /// What is asked.
    pub op: Op,
    /// The question, in the layout of the op.
    pub body: Blob<65_000>,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The request's number.
    pub correlation: u64,
    /// Whether it worked.
    pub code: ErrorCode,
    /// For people, if it did not.
    pub detail: Text<1024>,
    /// When to try again; 0 = no advice.
    pub retry_after_ms: u32,
    /// The answer, in the layout of the op.
    pub body: Blob<1_000_000>,
}

/// Are you there?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ping {
    /// Repeated by the answer.
    pub nonce: u64,
}

/// Yes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The ping's number.
    pub nonce: u64,
}

/// Topics changed; pushed to those who asked for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopologyUpdate {
    /// The cluster's topology epoch after the change.
    pub epoch: u64,
    /// Topics that are new or different.
    pub topics: Bounded<TopicInfo, 1024>,
    /// Topics that are gone.
    pub deleted: Bounded<TopicId, 1024>,
}

/// Use another broker before the deadline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoAway {
    /// Why.
    pub reason: GoAwayReason,
    /// When the connection closes.
    pub deadline_ms: u32,
    /// Where to go, best first.
    pub prefer: Bounded<BrokerId, 8>,
}

/// Body of a [`Op::METADATA`] request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataRequest {
    /// Topics of interest; empty = all.
    pub topics: Bounded<Text<128>, 1024>,
    /// Whether to create those that do not exist, if the broker allows it.
    pub create: bool,
}

/// Body of the reply to [`Op::METADATA`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataReply {
    /// The cluster's topology epoch.
    pub epoch: u64,
    /// The cluster's brokers.
    pub brokers: Bounded<BrokerInfo, 64>,
    /// The topics asked for that exist.
    pub topics: Bounded<TopicInfo, 1024>,
}

/// Body of an [`Op::INIT_PRODUCER`] request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitProducer {
    /// A name that keeps its id across restarts and fences older owners.
    pub name: Option<Text<128>>,
    /// Continue with this id and epoch, if they are still current.
    pub resume: Option<(ProducerId, ProducerEpoch)>,
}

/// Body of the reply to [`Op::INIT_PRODUCER`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerGranted {
    /// The id to number batches with.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

messages! {
    Request: REQUEST v 1,
    Reply: REPLY v 1,
    Ping: PING v 1,
    Pong: PONG v 1,
    TopologyUpdate: TOPOLOGY_UPDATE v 1,
    GoAway: GO_AWAY v 1,
}

bodies! {
    MetadataRequest,
    MetadataReply,
    InitProducer,
    ProducerGranted,
}
