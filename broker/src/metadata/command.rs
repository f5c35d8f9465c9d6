//! What changes the cluster's metadata, as it stands in the log of group 0.
//!
//! A command carries everything that could differ between brokers, entropy included; applying it
//! needs nothing else.

use quorate_protocol::AckLevel;
use quorate_protocol::BrokerId;
use quorate_protocol::ByteSize;
use quorate_protocol::GroupId;
use quorate_protocol::ProducerId;
use quorate_protocol::StorageMode;
use quorate_protocol::TopicId;
use quorate_protocol::TopicName;
use quorate_protocol::TopicSettings;

use crate::auth::PrincipalKey;
use crate::metadata::producers::NAME_BYTES_MAX;
use crate::metadata::topology::Broker;
use crate::partition::codec::CodecError;
use crate::partition::codec::Reader;
use crate::partition::codec::Writer;

/// Groups named by one report.
pub(super) const GROUPS_PER_REPORT_MAX: usize = 1_024;
/// The longest broker name or address.
pub(super) const ADDRESS_BYTES_MAX: usize = 256;

const REGISTER: u8 = 1;
const CREATE: u8 = 2;
const DELETE: u8 = 3;
const MADE: u8 = 4;
const REMOVED: u8 = 5;
const MINT: u8 = 6;
const CLAIM: u8 = 7;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// A broker says who and where it is.
    Register { id: BrokerId, broker: Broker },
    /// A new topic; `replicas` 0 = as many as there are brokers, at most 3.
    Create {
        id: TopicId,
        name: TopicName,
        partitions: u32,
        replicas: u32,
        settings: TopicSettings,
        segment_bytes: ByteSize,
    },
    /// No topic of this name any more.
    Delete { name: TopicName },
    /// A broker has made its replicas of these groups.
    Made {
        broker: BrokerId,
        groups: Vec<GroupId>,
    },
    /// A broker has removed its replicas of these deleted groups.
    Removed {
        broker: BrokerId,
        groups: Vec<GroupId>,
    },
    /// A block of producer ids for a principal.
    Mint { principal: PrincipalKey },
    /// The next epoch of a named producer; a new name gets the candidate as its id.
    Claim {
        principal: PrincipalKey,
        name: String,
        candidate: ProducerId,
    },
}

impl Command {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        match self {
            Self::Register { id, broker } => {
                writer.u8(REGISTER);
                writer.u16(id.get());
                encode_broker(&mut writer, broker);
            }
            Self::Create {
                id,
                name,
                partitions,
                replicas,
                settings,
                segment_bytes,
            } => {
                writer.u8(CREATE);
                writer.u128(id.get());
                writer.text(name.as_str());
                writer.u32(*partitions);
                writer.u32(*replicas);
                encode_settings(&mut writer, settings);
                writer.u64(segment_bytes.get());
            }
            Self::Delete { name } => {
                writer.u8(DELETE);
                writer.text(name.as_str());
            }
            Self::Made { broker, groups } => encode_report(&mut writer, MADE, *broker, groups),
            Self::Removed { broker, groups } => {
                encode_report(&mut writer, REMOVED, *broker, groups);
            }
            Self::Mint { principal } => {
                writer.u8(MINT);
                writer.u64(principal.get());
            }
            Self::Claim {
                principal,
                name,
                candidate,
            } => {
                writer.u8(CLAIM);
                writer.u64(principal.get());
                writer.text(name);
                writer.u64(candidate.get());
            }
        }
        writer.into_bytes()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let command = Self::decode_fields(&mut reader)?;
        reader.finish()?;
        Ok(command)
    }

    fn decode_fields(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(match reader.u8()? {
            REGISTER => Self::Register {
                id: BrokerId::new(reader.u16()?),
                broker: decode_broker(reader)?,
            },
            CREATE => Self::Create {
                id: TopicId::new(reader.u128()?),
                name: decode_name(reader)?,
                partitions: reader.u32()?,
                replicas: reader.u32()?,
                settings: decode_settings(reader)?,
                segment_bytes: ByteSize::new(reader.u64()?),
            },
            DELETE => Self::Delete {
                name: decode_name(reader)?,
            },
            MADE => {
                let (broker, groups) = decode_report(reader)?;
                Self::Made { broker, groups }
            }
            REMOVED => {
                let (broker, groups) = decode_report(reader)?;
                Self::Removed { broker, groups }
            }
            MINT => Self::Mint {
                principal: PrincipalKey::new(reader.u64()?),
            },
            CLAIM => Self::Claim {
                principal: PrincipalKey::new(reader.u64()?),
                name: reader
                    .text("bytes of a producer's name", NAME_BYTES_MAX)?
                    .to_owned(),
                candidate: ProducerId::new(reader.u64()?),
            },
            _ => return Err(CodecError::Invalid("a command of this type is not known")),
        })
    }
}

fn encode_report(writer: &mut Writer, kind: u8, broker: BrokerId, groups: &[GroupId]) {
    writer.u8(kind);
    writer.u16(broker.get());
    writer.count(groups.len());
    for group in groups {
        writer.u32(group.get());
    }
}

fn decode_report(reader: &mut Reader<'_>) -> Result<(BrokerId, Vec<GroupId>), CodecError> {
    let broker = BrokerId::new(reader.u16()?);
    let mut groups = Vec::new();
    for _ in 0..reader.count("groups", GROUPS_PER_REPORT_MAX)? {
        groups.push(GroupId::new(reader.u32()?));
    }
    Ok((broker, groups))
}

pub(super) fn decode_name(reader: &mut Reader<'_>) -> Result<TopicName, CodecError> {
    let text = reader.text("bytes of a topic's name", TopicName::LEN_MAX)?;
    TopicName::try_from(text).map_err(|_| CodecError::Invalid("a topic's name is not valid"))
}

pub(super) fn encode_broker(writer: &mut Writer, broker: &Broker) {
    writer.text(&broker.name);
    writer.text(&broker.client_address);
    writer.text(&broker.peer_address);
}

pub(super) fn decode_broker(reader: &mut Reader<'_>) -> Result<Broker, CodecError> {
    let mut text = || {
        reader
            .text("bytes of a name or address", ADDRESS_BYTES_MAX)
            .map(str::to_owned)
    };
    Ok(Broker {
        name: text()?,
        client_address: text()?,
        peer_address: text()?,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn each() -> Vec<Command> {
        let broker = Broker {
            name: "one".into(),
            client_address: "10.0.0.1:4747".into(),
            peer_address: String::new(),
        };
        let name = TopicName::try_from("orders").unwrap();
        let principal = PrincipalKey::new(7);
        vec![
            Command::Register {
                id: BrokerId::new(3),
                broker,
            },
            Command::Create {
                id: TopicId::new(u128::MAX - 5),
                name: name.clone(),
                partitions: 12,
                replicas: 0,
                settings: TopicSettings::default(),
                segment_bytes: ByteSize::new(1 << 20),
            },
            Command::Delete { name },
            Command::Made {
                broker: BrokerId::new(3),
                groups: vec![GroupId::new(4)],
            },
            Command::Removed {
                broker: BrokerId::new(3),
                groups: vec![],
            },
            Command::Mint { principal },
            Command::Claim {
                principal,
                name: "till-7".into(),
                candidate: ProducerId::new(1024),
            },
        ]
    }

    #[test]
    fn every_command_comes_back_from_its_bytes() {
        for command in each() {
            assert_eq!(Command::decode(&command.encode()), Ok(command));
        }
    }

    #[test]
    fn every_strict_prefix_of_a_command_is_refused() {
        for command in each() {
            let bytes = command.encode();
            for length in 0..bytes.len() {
                assert!(
                    Command::decode(&bytes[..length]).is_err(),
                    "{command:?} cut at {length}"
                );
            }
        }
    }
}
