//! The fields that commands, checkpoints and forwarded answers share, in bytes.
//!
//! Every value has one encoding; lengths are checked before anything is allocated.

use quorate_protocol::AckLevel;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::GroupId;
use quorate_protocol::ProducerEpoch;
use quorate_protocol::ProducerId;
use quorate_protocol::ReplicaId;
use quorate_protocol::StorageId;
use quorate_protocol::StorageMode;
use quorate_protocol::TopicId;
use quorate_protocol::TopicName;
use quorate_protocol::TopicSettings;

use crate::config::PeerSeed;
use crate::metadata::command::GROUPS_PER_REPORT_MAX;
use crate::metadata::error::MetadataError;
use crate::metadata::producers::Block;
use crate::metadata::producers::Named;
use crate::metadata::state::BROKERS_MAX;
use crate::metadata::state::Effect;
use crate::metadata::state::REPLICAS_MAX;
use crate::metadata::topology::Broker;
use crate::metadata::topology::Registration;
use crate::metadata::topology::Replica;
use crate::partition::codec::CodecError;
use crate::partition::codec::Reader;
use crate::partition::codec::Writer;

/// The longest broker name or address.
pub(super) const ADDRESS_BYTES_MAX: usize = 256;
/// The longest reason of a refusal that is remembered or sent.
pub(super) const DETAIL_BYTES_MAX: usize = 512;

const DONE: u8 = 0;
const CREATED: u8 = 1;
const DELETED: u8 = 2;
const MINTED: u8 = 3;
const CLAIMED: u8 = 4;
const REFUSED: u8 = 255;

pub(super) fn encode_report(
    writer: &mut Writer,
    broker: BrokerId,
    replicas: &[(GroupId, ReplicaId)],
) {
    writer.u16(broker.get());
    writer.count(replicas.len());
    for (group, replica) in replicas {
        writer.u32(group.get());
        writer.u64(replica.get());
    }
}

pub(super) fn decode_report(
    reader: &mut Reader<'_>,
) -> Result<(BrokerId, Vec<(GroupId, ReplicaId)>), CodecError> {
    let broker = BrokerId::new(reader.u16()?);
    let mut replicas = Vec::new();
    for _ in 0..reader.count("replicas", GROUPS_PER_REPORT_MAX)? {
        let group = GroupId::new(reader.u32()?);
        replicas.push((group, ReplicaId::new(reader.u64()?)));
    }
    Ok((broker, replicas))
}

pub(super) fn decode_name(reader: &mut Reader<'_>) -> Result<TopicName, CodecError> {
    let text = reader.text("bytes of a topic's name", TopicName::LEN_MAX)?;
    TopicName::try_from(text).map_err(|_| CodecError::Invalid("a topic's name is not valid"))
}

pub(super) fn decode_flag(reader: &mut Reader<'_>) -> Result<bool, CodecError> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(CodecError::Invalid("a flag is neither 0 nor 1")),
    }
}

fn decode_address(reader: &mut Reader<'_>) -> Result<String, CodecError> {
    let text = reader.text("bytes of a name or address", ADDRESS_BYTES_MAX)?;
    Ok(text.to_owned())
}

pub(super) fn encode_broker(writer: &mut Writer, broker: &Broker) {
    writer.text(&broker.name);
    writer.text(&broker.client_address);
    writer.text(&broker.peer_address);
    writer.u64(broker.replica.get());
    writer.u8(u8::from(broker.storage.is_some()));
    if let Some(storage) = broker.storage {
        writer.u128(storage.get());
    }
    writer.u8(u8::from(broker.draining));
    writer.u8(u8::from(broker.leaving));
}

pub(super) fn decode_broker(reader: &mut Reader<'_>) -> Result<Broker, CodecError> {
    Ok(Broker {
        name: decode_address(reader)?,
        client_address: decode_address(reader)?,
        peer_address: decode_address(reader)?,
        replica: ReplicaId::new(reader.u64()?),
        storage: match decode_flag(reader)? {
            true => Some(StorageId::new(reader.u128()?)),
            false => None,
        },
        draining: decode_flag(reader)?,
        leaving: decode_flag(reader)?,
    })
}

pub(super) fn encode_registration(writer: &mut Writer, registration: &Registration) {
    writer.text(&registration.name);
    writer.text(&registration.client_address);
    writer.text(&registration.peer_address);
    writer.u128(registration.storage.get());
}

pub(super) fn decode_registration(reader: &mut Reader<'_>) -> Result<Registration, CodecError> {
    Ok(Registration {
        name: decode_address(reader)?,
        client_address: decode_address(reader)?,
        peer_address: decode_address(reader)?,
        storage: StorageId::new(reader.u128()?),
    })
}

pub(super) fn encode_seeds(writer: &mut Writer, seeds: &[PeerSeed]) {
    writer.count(seeds.len());
    for seed in seeds {
        writer.u16(seed.id.get());
        writer.text(&seed.name);
        writer.text(&seed.address);
    }
}

pub(super) fn decode_seeds(reader: &mut Reader<'_>) -> Result<Vec<PeerSeed>, CodecError> {
    let mut seeds = Vec::new();
    for _ in 0..reader.count("brokers", BROKERS_MAX)? {
        seeds.push(PeerSeed {
            id: BrokerId::new(reader.u16()?),
            name: decode_address(reader)?,
            address: decode_address(reader)?,
        });
    }
    Ok(seeds)
}

pub(super) fn encode_ids(writer: &mut Writer, ids: &[ReplicaId]) {
    writer.count(ids.len());
    for id in ids {
        writer.u64(id.get());
    }
}

pub(super) fn decode_ids(reader: &mut Reader<'_>) -> Result<Vec<ReplicaId>, CodecError> {
    let mut ids = Vec::new();
    for _ in 0..reader.count("voters", limit(REPLICAS_MAX))? {
        ids.push(ReplicaId::new(reader.u64()?));
    }
    Ok(ids)
}

pub(super) fn encode_replicas(writer: &mut Writer, replicas: &[Replica]) {
    writer.count(replicas.len());
    for replica in replicas {
        writer.u16(replica.broker.get());
        writer.u64(replica.replica.get());
        writer.u8(u8::from(replica.made));
    }
}

pub(super) fn decode_replicas(reader: &mut Reader<'_>) -> Result<Vec<Replica>, CodecError> {
    let mut replicas = Vec::new();
    for _ in 0..reader.count("replicas", limit(REPLICAS_MAX))? {
        replicas.push(Replica {
            broker: BrokerId::new(reader.u16()?),
            replica: ReplicaId::new(reader.u64()?),
            made: decode_flag(reader)?,
        });
    }
    Ok(replicas)
}

pub(super) fn encode_outcome(writer: &mut Writer, outcome: &Result<Effect, MetadataError>) {
    match outcome {
        Ok(effect) => encode_effect(writer, effect),
        Err(error) => {
            writer.u8(REFUSED);
            writer.u16(error.code.get());
            writer.text(clipped(&error.detail));
        }
    }
}

pub(super) fn decode_outcome(
    reader: &mut Reader<'_>,
) -> Result<Result<Effect, MetadataError>, CodecError> {
    Ok(Ok(match reader.u8()? {
        DONE => Effect::Done {
            epoch: reader.u64()?,
        },
        CREATED => Effect::Created {
            id: TopicId::new(reader.u128()?),
            epoch: reader.u64()?,
        },
        DELETED => Effect::Deleted {
            id: TopicId::new(reader.u128()?),
            epoch: reader.u64()?,
        },
        MINTED => Effect::Minted(Block::decode(reader)?),
        CLAIMED => Effect::Claimed(Named {
            producer: ProducerId::new(reader.u64()?),
            epoch: ProducerEpoch::new(reader.u32()?),
        }),
        REFUSED => {
            let code = ErrorCode::new(reader.u16()?);
            let detail = reader.text("bytes of a reason", DETAIL_BYTES_MAX)?;
            return Ok(Err(MetadataError::new(code, detail.to_owned())));
        }
        _ => return Err(CodecError::Invalid("an effect of this type is not known")),
    }))
}

fn encode_effect(writer: &mut Writer, effect: &Effect) {
    match effect {
        Effect::Done { epoch } => {
            writer.u8(DONE);
            writer.u64(*epoch);
        }
        Effect::Created { id, epoch } => {
            writer.u8(CREATED);
            writer.u128(id.get());
            writer.u64(*epoch);
        }
        Effect::Deleted { id, epoch } => {
            writer.u8(DELETED);
            writer.u128(id.get());
            writer.u64(*epoch);
        }
        Effect::Minted(block) => {
            writer.u8(MINTED);
            block.encode(writer);
        }
        Effect::Claimed(named) => {
            writer.u8(CLAIMED);
            writer.u64(named.producer.get());
            writer.u32(named.epoch.get());
        }
    }
}

/// The beginning of a reason, as long as it may be.
pub(super) fn clipped(detail: &str) -> &str {
    detail
        .get(..detail.floor_char_boundary(DETAIL_BYTES_MAX))
        .unwrap_or(detail)
}

pub(super) fn limit(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

pub(super) fn encode_settings(writer: &mut Writer, settings: &TopicSettings) {
    writer.u64(settings.retention_bytes);
    writer.u64(settings.retention_time_ms);
    writer.u16(settings.storage.get());
    writer.u64(settings.flush_interval_us);
    writer.u8(settings.ack.get());
    writer.u64(settings.dedup_window_ms);
    writer.u32(settings.dedup_ids_max);
    writer.u64(settings.segment_age_ms);
    writer.u32(settings.record_bytes_max);
}

pub(super) fn decode_settings(reader: &mut Reader<'_>) -> Result<TopicSettings, CodecError> {
    Ok(TopicSettings {
        retention_bytes: reader.u64()?,
        retention_time_ms: reader.u64()?,
        storage: StorageMode::new(reader.u16()?),
        flush_interval_us: reader.u64()?,
        ack: AckLevel::new(reader.u8()?),
        dedup_window_ms: reader.u64()?,
        dedup_ids_max: reader.u32()?,
        segment_age_ms: reader.u64()?,
        record_bytes_max: reader.u32()?,
    })
}
