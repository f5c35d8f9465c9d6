//! The cluster's metadata: brokers, topics, assignments, producer ids.
//!
//! Invariant: a function of the commands applied, in their order; numbers of groups and replicas
//! are never given out twice.

use std::collections::BTreeMap;
use std::sync::Arc;

use quorate_protocol::BrokerId;
use quorate_protocol::ByteSize;
use quorate_protocol::ErrorCode;
use quorate_protocol::GroupId;
use quorate_protocol::GroupTag;
use quorate_protocol::ProducerEpoch;
use quorate_protocol::ProducerId;
use quorate_protocol::ReplicaId;
use quorate_protocol::TopicId;
use quorate_protocol::TopicName;
use quorate_protocol::TopicSettings;

use crate::auth::PrincipalKey;
use crate::config::PeerSeed;
use crate::metadata::assign::assign;
use crate::metadata::command::Command;
use crate::metadata::command::Stamped;
use crate::metadata::encoding::clipped;
use crate::metadata::encoding::limit;
use crate::metadata::error::MetadataError;
use crate::metadata::producers::Block;
use crate::metadata::producers::Exhausted;
use crate::metadata::producers::Named;
use crate::metadata::producers::ProducerIds;
use crate::metadata::topology::Assignment;
use crate::metadata::topology::Broker;
use crate::metadata::topology::Registration;
use crate::metadata::topology::Replica;
use crate::metadata::topology::Topic;
use crate::metadata::topology::Topology;

/// Topics in the cluster.
pub(super) const TOPICS_MAX: usize = 10_000;
/// Partitions in the cluster.
pub(super) const PARTITIONS_TOTAL_MAX: usize = 200_000;
/// Deleted groups whose folders are not all gone.
pub(super) const DELETED_MAX: usize = 200_000;
/// Brokers in the cluster.
pub(super) const BROKERS_MAX: usize = 64;
/// Brokers whose last command is remembered.
pub(super) const PROPOSERS_MAX: usize = 1_024;
/// Copies of a partition.
pub(super) const REPLICAS_MAX: u32 = 16;
/// Replicas of group 0 have the numbers of their brokers at first; all others come after those.
const FIRST_REPLICA: u64 = 1 << 16;
/// Copies of a partition unless the topic says otherwise.
pub(super) const REPLICAS_DEFAULT: u32 = 3;

/// A deleted group whose folders are not all gone yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Deleted {
    pub(super) tag: GroupTag,
    pub(super) holders: BTreeMap<BrokerId, ReplicaId>,
}

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// The topology has this epoch now.
    Done { epoch: u64 },
    /// A topic was made.
    Created { id: TopicId, epoch: u64 },
    /// A topic is gone.
    Deleted { id: TopicId, epoch: u64 },
    /// Producer ids for the principal.
    Minted(Block),
    /// A named producer's id and epoch.
    Claimed(Named),
}

/// The newest command of a broker and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastCommand {
    pub(super) incarnation: u64,
    pub(super) sequence: u64,
    pub(super) outcome: Result<Effect, MetadataError>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) topology: Arc<Topology>,
    /// The voters group 0 was born with.
    pub(super) birth: Vec<ReplicaId>,
    pub(super) next_group: u32,
    pub(super) next_replica: u64,
    pub(super) deleted: BTreeMap<GroupId, Deleted>,
    pub(super) producers: ProducerIds,
    pub(super) proposers: BTreeMap<BrokerId, LastCommand>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            topology: Arc::default(),
            birth: Vec::new(),
            next_group: 1,
            next_replica: FIRST_REPLICA,
            deleted: BTreeMap::new(),
            producers: ProducerIds::default(),
            proposers: BTreeMap::new(),
        }
    }
}

impl State {
    /// Applies a command once, however often it was sent. One that is older than the newest of its
    /// broker was given up by it, and is refused.
    pub(super) fn apply_once(&mut self, stamped: Stamped) -> Result<Effect, MetadataError> {
        let Stamped { origin, command } = stamped;
        let sent = (origin.incarnation, origin.sequence);
        if let Some(last) = self.proposers.get(&origin.broker) {
            let newest = (last.incarnation, last.sequence);
            if sent == newest {
                return last.outcome.clone();
            }
            if sent < newest {
                let detail = format!("broker {} has sent newer commands since", origin.broker);
                return Err(MetadataError::new(ErrorCode::INCARNATION_FENCED, detail));
            }
        }
        let outcome = self.apply(command).map_err(|mut error| {
            error.detail.truncate(clipped(&error.detail).len());
            error
        });
        let last = LastCommand {
            incarnation: origin.incarnation,
            sequence: origin.sequence,
            outcome: outcome.clone(),
        };
        if self.proposers.len() >= PROPOSERS_MAX {
            let members = &self.topology.brokers;
            self.proposers
                .retain(|broker, _| members.contains_key(broker));
        }
        self.proposers.insert(origin.broker, last);
        outcome
    }

    /// Applies one command. A refused command changes nothing.
    pub(super) fn apply(&mut self, command: Command) -> Result<Effect, MetadataError> {
        match command {
            Command::Found { voters, seeds } => Ok(self.found(voters, seeds)),
            Command::Register { id, registration } => self.register(id, registration),
            Command::Create {
                id,
                name,
                partitions,
                replicas,
                settings,
                segment_bytes,
            } => {
                let replicas = self.check_create(&name, partitions, replicas)?;
                self.create(Plan {
                    id,
                    name,
                    partitions,
                    replicas,
                    settings,
                    segment_bytes,
                })
            }
            Command::Delete { name } => self.delete(&name),
            Command::Made { broker, replicas } => Ok(self.made(broker, &replicas)),
            Command::Removed { broker, replicas } => Ok(self.removed(broker, &replicas)),
            Command::Plan(change) => self.apply_plan(change),
            Command::Mint { principal } => self
                .producers
                .mint(principal)
                .map(Effect::Minted)
                .map_err(exhausted),
            Command::Claim {
                principal,
                name,
                candidate,
            } => self
                .producers
                .claim(principal, &name, candidate)
                .map(Effect::Claimed)
                .map_err(exhausted),
            Command::Resume {
                principal,
                name,
                producer,
                epoch,
            } => {
                self.resume(principal, name.as_deref(), producer, epoch)?;
                Ok(Effect::Claimed(Named { producer, epoch }))
            }
        }
    }

    /// How many copies a new topic gets, if it may be made.
    pub(super) fn check_create(
        &self,
        name: &TopicName,
        partitions: u32,
        replicas: u32,
    ) -> Result<usize, MetadataError> {
        if self.topology.names.contains_key(name) {
            let detail = format!("topic {name} exists");
            return Err(MetadataError::new(ErrorCode::ALREADY_EXISTS, detail));
        }
        if self.topology.topics.len() >= TOPICS_MAX {
            let detail = format!("the cluster has {TOPICS_MAX} topics: delete one first");
            return Err(MetadataError::new(ErrorCode::QUOTA_EXCEEDED, detail));
        }
        let partitions = usize::try_from(partitions).unwrap_or(usize::MAX);
        let held = self.topology.partition_count();
        if held.saturating_add(partitions) > PARTITIONS_TOTAL_MAX {
            let detail = format!(
                "topic {name} asks for {partitions} partitions, the cluster has {held} of at most \
                 {PARTITIONS_TOTAL_MAX}"
            );
            return Err(MetadataError::new(ErrorCode::QUOTA_EXCEEDED, detail));
        }
        let brokers = self.places().len();
        let wanted = match usize::try_from(replicas) {
            Ok(0) => limit(REPLICAS_DEFAULT).min(brokers),
            Ok(wanted) => wanted,
            Err(_) => usize::MAX,
        };
        if wanted > brokers || wanted == 0 {
            let detail = format!(
                "topic {name} asks for {wanted} replicas, but the cluster has {brokers} broker(s)"
            );
            return Err(MetadataError::new(ErrorCode::INVALID_ARGUMENT, detail));
        }
        Ok(wanted)
    }

    fn found(&mut self, voters: Vec<ReplicaId>, seeds: Vec<PeerSeed>) -> Effect {
        if !self.birth.is_empty() {
            return self.unchanged();
        }
        self.birth = voters;
        let epoch = self.change(|topology| {
            for PeerSeed { id, name, address } in seeds {
                let broker = Broker {
                    name,
                    client_address: String::new(),
                    peer_address: address,
                    replica: founder(id),
                    storage: None,
                    draining: false,
                    leaving: false,
                };
                topology.brokers.insert(id, broker);
            }
        });
        Effect::Done { epoch }
    }

    fn register(
        &mut self,
        id: BrokerId,
        registration: Registration,
    ) -> Result<Effect, MetadataError> {
        let Some(known) = self.topology.brokers.get(&id) else {
            return Err(not_member(id));
        };
        if known
            .storage
            .is_some_and(|known| known != registration.storage)
        {
            let detail = format!(
                "broker {id} has another data folder than the one on record: bring back the old one, \
                 or run `quorate cluster replace {id}` and start it with --replace"
            );
            return Err(MetadataError::new(ErrorCode::NOT_MEMBER, detail));
        }
        let Registration {
            name,
            client_address,
            peer_address,
            storage,
        } = registration;
        let broker = Broker {
            name,
            client_address,
            peer_address,
            storage: Some(storage),
            ..known.clone()
        };
        if *known == broker {
            return Ok(self.unchanged());
        }
        let epoch = self.change(|topology| {
            topology.brokers.insert(id, broker);
        });
        Ok(Effect::Done { epoch })
    }

    pub(super) fn unchanged(&self) -> Effect {
        Effect::Done {
            epoch: self.topology.epoch,
        }
    }

    fn create(&mut self, plan: Plan) -> Result<Effect, MetadataError> {
        let Plan {
            id,
            name,
            partitions,
            replicas,
            settings,
            segment_bytes,
        } = plan;
        let enough = self.next_group.checked_add(partitions).is_some();
        if !enough || self.topology.topics.contains_key(&id) {
            let detail = "the numbers of groups or topics have run out".to_owned();
            return Err(MetadataError::new(ErrorCode::INTERNAL, detail));
        }
        let loads = self.places();
        let partitions = assign(loads, partitions, replicas)
            .into_iter()
            .map(|brokers| self.assignment(id, brokers))
            .collect();
        let epoch = self.topology.epoch + 1;
        let topic = Arc::new(Topic {
            id,
            name: name.clone(),
            epoch,
            settings,
            segment_bytes,
            partitions,
        });
        let epoch = self.change(|topology| {
            topology.names.insert(name, id);
            topology.topics.insert(id, topic);
        });
        Ok(Effect::Created { id, epoch })
    }

    fn assignment(&mut self, topic: TopicId, brokers: Vec<BrokerId>) -> Assignment {
        let group = GroupId::new(self.next_group);
        self.next_group += 1;
        let replicas = brokers.into_iter().map(|broker| {
            let replica = ReplicaId::new(self.next_replica);
            self.next_replica += 1;
            Replica {
                broker,
                replica,
                made: false,
            }
        });
        let replicas: Vec<_> = replicas.collect();
        Assignment {
            group,
            tag: tag_of(topic),
            birth: replicas.iter().map(|held| held.replica).collect(),
            replicas,
            moving: None,
        }
    }

    fn delete(&mut self, name: &TopicName) -> Result<Effect, MetadataError> {
        let Some(topic) = self.topology.topic_named(name).cloned() else {
            return Err(MetadataError::unknown_topic(name.as_str()));
        };
        if self.deleted.len().saturating_add(topic.partitions.len()) > DELETED_MAX {
            let detail = "brokers have not removed what was deleted before: is one of them down?";
            return Err(MetadataError::new(
                ErrorCode::QUOTA_EXCEEDED,
                detail.to_owned(),
            ));
        }
        for assignment in &topic.partitions {
            let all = assignment.replicas.iter().chain(assignment.planned());
            let holders = all.map(|held| (held.broker, held.replica));
            let deleted = self.deleted.entry(assignment.group).or_insert(Deleted {
                tag: assignment.tag,
                holders: BTreeMap::new(),
            });
            deleted.holders.extend(holders);
        }
        let epoch = self.change(|topology| {
            topology.names.remove(name);
            topology.topics.remove(&topic.id);
        });
        Ok(Effect::Deleted {
            id: topic.id,
            epoch,
        })
    }

    /// Clients do not see this, so the epoch stays.
    fn made(&mut self, broker: BrokerId, replicas: &[(GroupId, ReplicaId)]) -> Effect {
        let reported: BTreeMap<_, _> = replicas.iter().copied().collect();
        let topology = Arc::make_mut(&mut self.topology);
        for topic in topology.topics.values_mut() {
            let mut all = topic.partitions.iter();
            if !all.any(|assignment| reported.contains_key(&assignment.group)) {
                continue;
            }
            for assignment in &mut Arc::make_mut(topic).partitions {
                let made = reported.get(&assignment.group).copied();
                let planned = assignment.moving.iter_mut();
                let planned = planned.flat_map(|moving| &mut moving.to);
                for held in assignment.replicas.iter_mut().chain(planned) {
                    held.made |= held.broker == broker && Some(held.replica) == made;
                }
            }
        }
        Effect::Done {
            epoch: topology.epoch,
        }
    }

    fn removed(&mut self, broker: BrokerId, replicas: &[(GroupId, ReplicaId)]) -> Effect {
        for (group, replica) in replicas {
            let Some(deleted) = self.deleted.get_mut(group) else {
                continue;
            };
            if deleted.holders.get(&broker) == Some(replica) {
                deleted.holders.remove(&broker);
            }
            if deleted.holders.is_empty() {
                self.deleted.remove(group);
            }
        }
        self.unchanged()
    }

    pub(super) fn change(&mut self, edit: impl FnOnce(&mut Topology)) -> u64 {
        let topology = Arc::make_mut(&mut self.topology);
        topology.epoch += 1;
        edit(topology);
        topology.epoch
    }

    /// The id and epoch with which a producer may go on, if they are still current.
    pub(super) fn resume(
        &self,
        principal: PrincipalKey,
        name: Option<&str>,
        producer: ProducerId,
        epoch: ProducerEpoch,
    ) -> Result<(), MetadataError> {
        if self.producers.owner_of(producer) != Some(principal) {
            let detail = format!("producer {producer} is not of this principal");
            return Err(MetadataError::new(ErrorCode::AUTHORIZATION_FAILED, detail));
        }
        let current = match name {
            Some(name) => self.producers.named(principal, name),
            None if self.producers.is_named(principal, producer) => None,
            None => Some(Named {
                producer,
                epoch: ProducerEpoch::new(0),
            }),
        };
        if current == Some(Named { producer, epoch }) {
            return Ok(());
        }
        let detail = format!("producer {producer} with epoch {epoch} is not current any more");
        Err(MetadataError::new(ErrorCode::PRODUCER_FENCED, detail))
    }
}

struct Plan {
    id: TopicId,
    name: TopicName,
    partitions: u32,
    replicas: usize,
    settings: TopicSettings,
    segment_bytes: ByteSize,
}

/// The incarnation of a topic's groups. Topic ids are random, so half of one tells them apart.
fn tag_of(topic: TopicId) -> GroupTag {
    GroupTag::new(u64::try_from(topic.get() & u128::from(u64::MAX)).unwrap_or(0))
}

/// The replica of group 0 of a broker that is a member from the start; the numbers of all other
/// replicas come after those of brokers.
pub(super) fn founder(broker: BrokerId) -> ReplicaId {
    ReplicaId::new(u64::from(broker.get()))
}

pub(super) fn not_member(broker: BrokerId) -> MetadataError {
    let detail = format!("broker {broker} is no member: run `quorate cluster add {broker}` first");
    MetadataError::new(ErrorCode::NOT_MEMBER, detail)
}

fn exhausted(reason: Exhausted) -> MetadataError {
    let detail = match reason {
        Exhausted::Names => "too many named producers: use fewer names, or none",
        Exhausted::Blocks => "no producer ids are left to give out",
    };
    MetadataError::new(ErrorCode::QUOTA_EXCEEDED, detail.to_owned())
}
