//! What a broker must know to hold one partition.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::AckLevel;
use quorate_protocol::BrokerId;
use quorate_protocol::ByteSize;
use quorate_protocol::GroupId;
use quorate_protocol::GroupTag;
use quorate_protocol::PartitionId;
use quorate_protocol::ReplicaId;
use quorate_protocol::StorageMode;
use quorate_protocol::TopicId;
use quorate_protocol::TopicName;
use quorate_protocol::TopicSettings;

use crate::replication::Durability;

/// One partition as this broker is to hold it.
#[derive(Debug, Clone)]
pub struct PartitionSpec {
    /// The topic's identity.
    pub topic: TopicId,
    /// The topic's name, for people.
    pub name: TopicName,
    /// The partition.
    pub partition: PartitionId,
    /// Its Raft group.
    pub group: GroupId,
    /// The group's incarnation.
    pub tag: GroupTag,
    /// Our replica of it.
    pub replica: ReplicaId,
    /// The voters the group was born with: a replica that is made anew starts from them.
    pub birth: Vec<ReplicaId>,
    /// All its replicas at this time, the preferred leader first.
    pub members: Members,
    /// How the topic behaves.
    pub settings: TopicSettings,
    /// Size at which its segments are closed, unless it keeps less.
    pub segment_bytes: ByteSize,
    /// Whether this replica was reported as made. Its folder is then never made anew.
    pub made: bool,
}

impl PartitionSpec {
    /// What a committed batch of this partition is promised.
    #[must_use]
    pub fn committed_level(&self) -> AckLevel {
        match durability(&self.settings) {
            Durability::Flush => AckLevel::QUORUM,
            Durability::Interval(_) | Durability::Memory => AckLevel::QUORUM_MEMORY,
        }
    }

    /// The partition, for people.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}/{}", self.name, self.partition)
    }
}

/// A replica that has left its group, or whose group was deleted: its folder is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletedReplica {
    /// Its Raft group.
    pub group: GroupId,
    /// The group's incarnation.
    pub tag: GroupTag,
    /// The replica.
    pub replica: ReplicaId,
}

/// The replicas of a partition and the brokers that hold them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Members(Arc<[(BrokerId, ReplicaId)]>);

impl Members {
    /// Members in order of preference.
    #[must_use]
    pub fn new(members: Vec<(BrokerId, ReplicaId)>) -> Self {
        Self(members.into())
    }

    /// The broker that holds a replica.
    #[must_use]
    pub fn broker_of(&self, replica: ReplicaId) -> Option<BrokerId> {
        self.0
            .iter()
            .find(|(_, held)| *held == replica)
            .map(|(broker, _)| *broker)
    }

    /// Each replica with the broker that holds it, the preferred leader first.
    pub fn holders(&self) -> impl Iterator<Item = (ReplicaId, BrokerId)> {
        self.0.iter().map(|(broker, replica)| (*replica, *broker))
    }

    /// All replicas, the preferred leader first.
    pub fn replicas(&self) -> impl Iterator<Item = ReplicaId> {
        self.0.iter().map(|(_, replica)| *replica)
    }

    /// All brokers, the preferred leader first.
    pub fn brokers(&self) -> impl Iterator<Item = BrokerId> {
        self.0.iter().map(|(broker, _)| *broker)
    }
}

/// When an entry of a topic counts as persisted.
pub(crate) fn durability(settings: &TopicSettings) -> Durability {
    match settings.flush_interval_us {
        _ if settings.storage == StorageMode::MEMORY => Durability::Memory,
        0 => Durability::Flush,
        interval => Durability::Interval(Duration::from_micros(interval)),
    }
}

/// The folder of a group's replica below the data folder.
#[must_use]
pub fn group_dir(data_dir: &Path, group: GroupId, tag: GroupTag) -> PathBuf {
    data_dir
        .join("g")
        .join(format!("{}-{:016x}", group.get(), tag.get()))
}

/// The group whose folder has this name.
pub(crate) fn group_of_dir(name: &str) -> Option<(GroupId, GroupTag)> {
    let (group, tag) = name.split_once('-')?;
    let group = GroupId::new(group.parse().ok()?);
    let tag = GroupTag::new(u64::from_str_radix(tag, 16).ok()?);
    let canonical = format!("{}-{:016x}", group.get(), tag.get());
    (canonical == name).then_some((group, tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_names_its_group() {
        let (group, tag) = (GroupId::new(17), GroupTag::new(0xabc));
        let dir = group_dir(Path::new("/data"), group, tag);
        assert_eq!(dir, Path::new("/data/g/17-0000000000000abc"));
        assert_eq!(group_of_dir("17-0000000000000abc"), Some((group, tag)));
        for other in [
            "17-abc",
            "lost+found",
            "017-0000000000000abc",
            "17",
            "x-0000000000000abc",
        ] {
            assert_eq!(group_of_dir(other), None);
        }
    }
}
