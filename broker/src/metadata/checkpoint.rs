//! The metadata in bytes: what a broker needs to go on after an entry of group 0.
//!
//! Equal states have equal bytes, and bytes that are not exactly one state are refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use quorate_protocol::BrokerId;
use quorate_protocol::ByteSize;
use quorate_protocol::GroupId;
use quorate_protocol::GroupTag;
use quorate_protocol::ReplicaId;
use quorate_protocol::TopicId;

use crate::metadata::encoding::decode_broker;
use crate::metadata::encoding::decode_flag;
use crate::metadata::encoding::decode_ids;
use crate::metadata::encoding::decode_name;
use crate::metadata::encoding::decode_outcome;
use crate::metadata::encoding::decode_replicas;
use crate::metadata::encoding::decode_settings;
use crate::metadata::encoding::encode_broker;
use crate::metadata::encoding::encode_ids;
use crate::metadata::encoding::encode_outcome;
use crate::metadata::encoding::encode_replicas;
use crate::metadata::encoding::encode_settings;
use crate::metadata::encoding::limit;
use crate::metadata::producers::ProducerIds;
use crate::metadata::state::BROKERS_MAX;
use crate::metadata::state::DELETED_MAX;
use crate::metadata::state::Deleted;
use crate::metadata::state::LastCommand;
use crate::metadata::state::PROPOSERS_MAX;
use crate::metadata::state::REPLICAS_MAX;
use crate::metadata::state::State;
use crate::metadata::state::TOPICS_MAX;
use crate::metadata::topology::Assignment;
use crate::metadata::topology::Moving;
use crate::metadata::topology::Topic;
use crate::metadata::topology::Topology;
use crate::partition::codec::CodecError;
use crate::partition::codec::Reader;
use crate::partition::codec::Writer;

const VERSION: u16 = 1;
/// Partitions of a topic, whatever a broker's own limit.
pub(super) const PARTITIONS_MAX: u32 = 1_024;

pub(super) fn encode(state: &State) -> Bytes {
    let mut writer = Writer::default();
    writer.u16(VERSION);
    writer.u32(state.next_group);
    writer.u64(state.next_replica);
    encode_ids(&mut writer, &state.birth);
    encode_topology(&mut writer, &state.topology);
    writer.count(state.deleted.len());
    for (group, deleted) in &state.deleted {
        writer.u32(group.get());
        writer.u64(deleted.tag.get());
        writer.count(deleted.holders.len());
        for (broker, replica) in &deleted.holders {
            writer.u16(broker.get());
            writer.u64(replica.get());
        }
    }
    state.producers.encode(&mut writer);
    writer.count(state.proposers.len());
    for (broker, last) in &state.proposers {
        writer.u16(broker.get());
        writer.u64(last.incarnation);
        writer.u64(last.sequence);
        encode_outcome(&mut writer, &last.outcome);
    }
    Bytes::from(writer.into_bytes())
}

/// Reads a state; no bytes at all are the state at birth.
pub(super) fn decode(bytes: &[u8]) -> Result<State, CodecError> {
    if bytes.is_empty() {
        return Ok(State::default());
    }
    let mut reader = Reader::new(bytes);
    let version = reader.u16()?;
    if version != VERSION {
        return Err(CodecError::Version(version));
    }
    let mut state = State {
        next_group: reader.u32()?,
        next_replica: reader.u64()?,
        birth: decode_ids(&mut reader)?,
        topology: Arc::new(decode_topology(&mut reader)?),
        ..State::default()
    };
    for _ in 0..reader.count("deleted groups", DELETED_MAX)? {
        let (group, deleted) = decode_deleted(&mut reader)?;
        if state.deleted.insert(group, deleted).is_some() {
            return Err(CodecError::Invalid("a deleted group appears twice"));
        }
    }
    state.producers = ProducerIds::decode(&mut reader)?;
    for _ in 0..reader.count("proposers", PROPOSERS_MAX)? {
        let broker = BrokerId::new(reader.u16()?);
        let last = LastCommand {
            incarnation: reader.u64()?,
            sequence: reader.u64()?,
            outcome: decode_outcome(&mut reader)?,
        };
        if state.proposers.insert(broker, last).is_some() {
            return Err(CodecError::Invalid("a proposer appears twice"));
        }
    }
    reader.finish()?;
    Ok(state)
}

fn encode_topology(writer: &mut Writer, topology: &Topology) {
    writer.u64(topology.epoch);
    writer.count(topology.brokers.len());
    for (id, broker) in &topology.brokers {
        writer.u16(id.get());
        encode_broker(writer, broker);
    }
    writer.count(topology.topics.len());
    for topic in topology.topics.values() {
        encode_topic(writer, topic);
    }
}

fn decode_topology(reader: &mut Reader<'_>) -> Result<Topology, CodecError> {
    let mut topology = Topology {
        epoch: reader.u64()?,
        ..Topology::default()
    };
    for _ in 0..reader.count("brokers", BROKERS_MAX)? {
        let id = BrokerId::new(reader.u16()?);
        if topology
            .brokers
            .insert(id, decode_broker(reader)?)
            .is_some()
        {
            return Err(CodecError::Invalid("a broker appears twice"));
        }
    }
    for _ in 0..reader.count("topics", TOPICS_MAX)? {
        let topic = decode_topic(reader)?;
        let known = topology
            .names
            .insert(topic.name.clone(), topic.id)
            .is_some();
        if topology.topics.insert(topic.id, Arc::new(topic)).is_some() || known {
            return Err(CodecError::Invalid("a topic appears twice"));
        }
    }
    Ok(topology)
}

fn encode_topic(writer: &mut Writer, topic: &Topic) {
    writer.u128(topic.id.get());
    writer.text(topic.name.as_str());
    writer.u64(topic.epoch);
    encode_settings(writer, &topic.settings);
    writer.u64(topic.segment_bytes.get());
    writer.count(topic.partitions.len());
    for assignment in &topic.partitions {
        writer.u32(assignment.group.get());
        writer.u64(assignment.tag.get());
        encode_ids(writer, &assignment.birth);
        encode_replicas(writer, &assignment.replicas);
        writer.u8(u8::from(assignment.moving.is_some()));
        if let Some(moving) = &assignment.moving {
            encode_replicas(writer, &moving.to);
        }
    }
}

fn decode_topic(reader: &mut Reader<'_>) -> Result<Topic, CodecError> {
    let id = TopicId::new(reader.u128()?);
    let name = decode_name(reader)?;
    let epoch = reader.u64()?;
    let settings = decode_settings(reader)?;
    let segment_bytes = ByteSize::new(reader.u64()?);
    let mut partitions = Vec::new();
    for _ in 0..reader.count("partitions", limit(PARTITIONS_MAX))? {
        partitions.push(decode_assignment(reader)?);
    }
    Ok(Topic {
        id,
        name,
        epoch,
        settings,
        segment_bytes,
        partitions,
    })
}

fn decode_assignment(reader: &mut Reader<'_>) -> Result<Assignment, CodecError> {
    Ok(Assignment {
        group: GroupId::new(reader.u32()?),
        tag: GroupTag::new(reader.u64()?),
        birth: decode_ids(reader)?,
        replicas: decode_replicas(reader)?,
        moving: match decode_flag(reader)? {
            true => Some(Moving {
                to: decode_replicas(reader)?,
            }),
            false => None,
        },
    })
}

fn decode_deleted(reader: &mut Reader<'_>) -> Result<(GroupId, Deleted), CodecError> {
    let group = GroupId::new(reader.u32()?);
    let tag = GroupTag::new(reader.u64()?);
    let mut holders = BTreeMap::new();
    for _ in 0..reader.count("replicas", limit(REPLICAS_MAX))? {
        holders.insert(BrokerId::new(reader.u16()?), ReplicaId::new(reader.u64()?));
    }
    Ok((group, Deleted { tag, holders }))
}
