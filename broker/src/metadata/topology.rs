//! The cluster as its clients and brokers see it, one snapshot per epoch.
//!
//! Immutable once published; who leads a partition is not in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_protocol::BrokerId;
use quorate_protocol::ByteSize;
use quorate_protocol::GroupId;
use quorate_protocol::GroupTag;
use quorate_protocol::PartitionId;
use quorate_protocol::ReplicaId;
use quorate_protocol::StorageId;
use quorate_protocol::TopicId;
use quorate_protocol::TopicName;
use quorate_protocol::TopicSettings;

use crate::metadata::plan::Site;
use crate::partition::Members;
use crate::partition::PartitionSpec;

/// All brokers and topics at one epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    pub(super) epoch: u64,
    pub(super) brokers: BTreeMap<BrokerId, Broker>,
    pub(super) topics: BTreeMap<TopicId, Arc<Topic>>,
    pub(super) names: BTreeMap<TopicName, TopicId>,
}

/// A registered broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Its name, for people.
    pub name: String,
    /// Where clients reach it.
    pub client_address: String,
    /// Where other brokers reach it.
    pub peer_address: String,
    /// Its replica of group 0.
    pub replica: ReplicaId,
    /// Its data folder, recorded when it first registers and fixed from then on.
    pub storage: Option<StorageId>,
    /// Told to give away what it leads.
    pub draining: bool,
    /// Being removed: its partitions move to others.
    pub leaving: bool,
}

/// What a broker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// Its name, for people.
    pub name: String,
    /// Where clients reach it.
    pub client_address: String,
    /// Where other brokers reach it.
    pub peer_address: String,
    /// Its data folder.
    pub storage: StorageId,
}

impl Registration {
    /// Whether this is what stands on record.
    pub(super) fn is_of(&self, broker: &Broker) -> bool {
        broker.storage == Some(self.storage)
            && broker.name == self.name
            && broker.client_address == self.client_address
            && broker.peer_address == self.peer_address
    }
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its identity; a topic created again has another one.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// The epoch of its last change.
    pub epoch: u64,
    /// How it behaves.
    pub settings: TopicSettings,
    /// Size at which its segments are closed, unless it keeps less. The same on all brokers, or
    /// their logs would be cut differently.
    pub segment_bytes: ByteSize,
    /// Its partitions in order.
    pub partitions: Vec<Assignment>,
}

/// Where one partition is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Its Raft group.
    pub group: GroupId,
    /// The group's incarnation.
    pub tag: GroupTag,
    /// The voters it was born with: in no entry of its log.
    pub birth: Vec<ReplicaId>,
    /// Its replicas, the preferred leader first.
    pub replicas: Vec<Replica>,
    /// Where it is being moved, until it is there.
    pub moving: Option<Moving>,
}

/// A partition on its way to other brokers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moving {
    /// Its replicas afterwards, the preferred leader first.
    pub to: Vec<Replica>,
}

/// One copy of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replica {
    /// Who holds it.
    pub broker: BrokerId,
    /// Its identity.
    pub replica: ReplicaId,
    /// Whether its broker has reported it as made; it is never made a second time.
    pub made: bool,
}

impl Broker {
    /// Whether it is wanted as a leader.
    #[must_use]
    pub const fn may_lead(&self) -> bool {
        !self.draining && !self.leaving && self.storage.is_some()
    }
}

impl Assignment {
    /// The replicas it is to have: those planned, or those it has.
    #[must_use]
    pub fn planned(&self) -> &[Replica] {
        self.moving
            .as_ref()
            .map_or(&self.replicas, |moving| &moving.to)
    }

    /// Whether a broker has a replica that is settled.
    #[must_use]
    pub fn holds(&self, broker: BrokerId) -> bool {
        self.replicas.iter().any(|held| held.broker == broker)
    }

    /// Whether a replica is lost, or damaged: its broker is to have another one in its place.
    pub(super) fn is_gone(&self, held: &Replica) -> bool {
        let other = |planned: &Replica| planned.replica != held.replica;
        let mut planned = self.planned().iter();
        planned.any(|planned| planned.broker == held.broker && other(planned))
    }

    /// Whether a broker has or will have a replica.
    pub(super) fn concerns(&self, broker: BrokerId) -> bool {
        self.own(broker).is_some()
    }

    /// The replica that a broker is to have open: a planned one comes before its predecessor.
    fn own(&self, broker: BrokerId) -> Option<&Replica> {
        let mut all = self.planned().iter().chain(&self.replicas);
        all.find(|held| held.broker == broker)
    }

    /// All replicas there are or will be, the preferred leader first.
    fn members(&self) -> Members {
        let planned = self.planned().iter();
        let leaving = self.replicas.iter().filter(|held| {
            let stays = |other: &Replica| other.replica == held.replica;
            !self.planned().iter().any(stays)
        });
        let all = planned.chain(leaving);
        Members::new(all.map(|held| (held.broker, held.replica)).collect())
    }
}

impl Topology {
    /// Rises with each change.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// All registered brokers.
    #[must_use]
    pub const fn brokers(&self) -> &BTreeMap<BrokerId, Broker> {
        &self.brokers
    }

    /// The topic of this identity.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&id)
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic_named(&self, name: &TopicName) -> Option<&Arc<Topic>> {
        self.topics.get(self.names.get(name)?)
    }

    /// All topics in the order of their names.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.names.values().filter_map(|id| self.topics.get(id))
    }

    /// What changed after an earlier snapshot: topics that are new or different, topics gone.
    #[must_use]
    pub fn changes_since(&self, earlier: &Self) -> (Vec<Arc<Topic>>, Vec<TopicId>) {
        let changed = self
            .topics()
            .filter(|topic| topic.epoch > earlier.epoch)
            .cloned()
            .collect();
        let gone = earlier
            .topics
            .keys()
            .filter(|id| !self.topics.contains_key(id))
            .copied();
        (changed, gone.collect())
    }

    pub(super) fn partition_count(&self) -> usize {
        self.topics
            .values()
            .map(|topic| topic.partitions.len())
            .sum()
    }

    /// How many partition replicas a broker holds.
    pub(super) fn replicas_of(&self, broker: BrokerId) -> usize {
        let assignments = self.topics.values().flat_map(|topic| &topic.partitions);
        assignments
            .flat_map(|one| &one.replicas)
            .filter(|held| held.broker == broker)
            .count()
    }

    /// All partitions.
    pub(super) fn sites(&self) -> impl Iterator<Item = (Site, &Assignment)> {
        self.topics.values().flat_map(|topic| topic.sites())
    }

    /// Where one partition is, if it is still the same.
    pub(super) fn assignment(&self, site: Site) -> Option<&Assignment> {
        let number = usize::try_from(site.partition.get()).ok()?;
        let found = self.topics.get(&site.topic)?.partitions.get(number)?;
        (found.group == site.group).then_some(found)
    }

    /// A partition, for people.
    pub(super) fn label(&self, site: Site) -> String {
        match self.topics.get(&site.topic) {
            Some(topic) => format!("{}/{}", topic.name, site.partition),
            None => site.to_string(),
        }
    }

    pub(super) fn assignment_mut(&mut self, site: Site) -> Option<&mut Assignment> {
        let topic = Arc::make_mut(self.topics.get_mut(&site.topic)?);
        let number = usize::try_from(site.partition.get()).ok()?;
        topic.partitions.get_mut(number)
    }

    /// The partitions a broker is to hold.
    pub(super) fn specs_of(&self, broker: BrokerId) -> impl Iterator<Item = PartitionSpec> {
        let topics = self.topics.values();
        topics.flat_map(move |topic| topic.specs_of(broker))
    }
}

impl Topic {
    /// How many copies each partition has.
    #[must_use]
    pub fn replica_count(&self) -> usize {
        self.partitions
            .first()
            .map_or(0, |first| first.replicas.len())
    }

    /// Its partitions.
    pub(super) fn sites(&self) -> impl Iterator<Item = (Site, &Assignment)> {
        (0u32..).zip(&self.partitions).map(|(number, assignment)| {
            let site = Site {
                topic: self.id,
                partition: PartitionId::new(number),
                group: assignment.group,
            };
            (site, assignment)
        })
    }

    fn specs_of(&self, broker: BrokerId) -> impl Iterator<Item = PartitionSpec> {
        self.sites().filter_map(move |(site, assignment)| {
            let own = assignment.own(broker)?;
            Some(PartitionSpec {
                topic: self.id,
                name: self.name.clone(),
                partition: site.partition,
                group: assignment.group,
                tag: assignment.tag,
                replica: own.replica,
                birth: assignment.birth.clone(),
                members: assignment.members(),
                settings: self.settings,
                segment_bytes: self.segment_bytes,
                made: own.made,
            })
        })
    }
}
