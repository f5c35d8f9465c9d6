//! Bodies of administrative requests and their replies.

use serde::Deserialize;
use serde::Serialize;

use crate::bounded::Bounded;
use crate::bounded::Text;
use crate::ids::BrokerId;
use crate::ids::Offset;
use crate::ids::PartitionId;
use crate::ids::Term;
use crate::ids::TopicId;
use crate::message::bodies;
use crate::topology::TopicSettings;

/// Asks for a new topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopic {
    /// Its name.
    pub name: Text<128>,
    /// Its partitions.
    pub partitions: u32,
    /// Copies of each; 0 = as many as the cluster's brokers, at most 3.
    pub replicas: u32,
    /// How it behaves.
    pub settings: TopicSettings,
    /// Succeed if an equal topic exists.
    pub if_not_exists: bool,
    /// Check, but change nothing.
    pub dry_run: bool,
}

/// The topic exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicCreated {
    /// Its identity.
    pub id: TopicId,
    /// Its partitions.
    pub partitions: u32,
    /// Copies of each.
    pub replicas: u32,
    /// Whether this request created it.
    pub created: bool,
}

/// Asks to remove a topic and its records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteTopic {
    /// Its name.
    pub name: Text<128>,
    /// Check, but change nothing.
    pub dry_run: bool,
}

/// The topic is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicDeleted {
    /// The identity it had.
    pub id: TopicId,
}

/// Asks for all topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListTopics {
    /// Whether the cluster's own topics are wanted too.
    pub internal: bool,
}

/// All topics the principal may see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicList {
    /// The topics by name.
    pub topics: Bounded<TopicSummary, 10_000>,
}

/// One topic in a few numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSummary {
    /// Its name.
    pub name: Text<128>,
    /// Its identity.
    pub id: TopicId,
    /// Its partitions.
    pub partitions: u32,
    /// Copies of each.
    pub replicas: u32,
    /// How it behaves.
    pub settings: TopicSettings,
    /// Records committed since it was created.
    pub records: u64,
    /// Bytes kept.
    pub bytes: u64,
    /// Live subscriptions.
    pub subscribers: u64,
}

/// Asks for one topic in detail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribeTopic {
    /// Its name.
    pub name: Text<128>,
}

/// One topic in detail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicDescription {
    /// The topic in a few numbers.
    pub summary: TopicSummary,
    /// Its partitions in order.
    pub partitions: Bounded<PartitionDescription, 1024>,
}

/// One partition in detail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionDescription {
    /// The partition.
    pub partition: PartitionId,
    /// Who leads it, if known.
    pub leader: Option<BrokerId>,
    /// Who should lead it.
    pub preferred: Option<BrokerId>,
    /// The leader's term.
    pub term: Term,
    /// Who holds a copy.
    pub replicas: Bounded<BrokerId, 16>,
    /// Whose copy is complete.
    pub in_sync: Bounded<BrokerId, 16>,
    /// The first kept offset.
    pub log_start: Offset,
    /// The first offset that is not committed.
    pub high_watermark: Offset,
    /// Bytes kept.
    pub bytes: u64,
}

bodies! {
    CreateTopic,
    TopicCreated,
    DeleteTopic,
    TopicDeleted,
    ListTopics,
    TopicList,
    DescribeTopic,
    TopicDescription,
}
