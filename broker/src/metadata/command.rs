//! What changes the cluster's metadata, as it stands in the log of group 0.
//!
//! A command carries everything that could differ between brokers, entropy included; applying it
//! needs nothing else.

use quorate_protocol::BrokerId;
use quorate_protocol::ByteSize;
use quorate_protocol::GroupId;
use quorate_protocol::ProducerEpoch;
use quorate_protocol::ProducerId;
use quorate_protocol::ReplicaId;
use quorate_protocol::TopicId;
use quorate_protocol::TopicName;
use quorate_protocol::TopicSettings;

use crate::auth::PrincipalKey;
use crate::config::PeerSeed;
use crate::metadata::encoding::decode_ids;
use crate::metadata::encoding::decode_name;
use crate::metadata::encoding::decode_registration;
use crate::metadata::encoding::decode_report;
use crate::metadata::encoding::decode_seeds;
use crate::metadata::encoding::decode_settings;
use crate::metadata::encoding::encode_ids;
use crate::metadata::encoding::encode_registration;
use crate::metadata::encoding::encode_report;
use crate::metadata::encoding::encode_seeds;
use crate::metadata::encoding::encode_settings;
use crate::metadata::plan::PlanCommand;
use crate::metadata::producers::NAME_BYTES_MAX;
use crate::metadata::topology::Registration;
use crate::partition::codec::CodecError;
use crate::partition::codec::Reader;
use crate::partition::codec::Writer;

/// Groups named by one report.
pub(super) const GROUPS_PER_REPORT_MAX: usize = 1_024;

const REGISTER: u8 = 1;
const CREATE: u8 = 2;
const DELETE: u8 = 3;
const MADE: u8 = 4;
const REMOVED: u8 = 5;
const MINT: u8 = 6;
const CLAIM: u8 = 7;
const FOUND: u8 = 8;
const RESUME: u8 = 9;
const PLAN: u8 = 10;

/// Who proposes a command, and the how-manieth of its commands it is: the same command, sent again,
/// has the same origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) broker: BrokerId,
    /// How often the broker's data folder was opened.
    pub(super) incarnation: u64,
    /// Rises with each command of the incarnation.
    pub(super) sequence: u64,
}

/// A command as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamped {
    pub(super) origin: Origin,
    pub(super) command: Command,
}

impl Stamped {
    pub(super) fn encode(origin: Origin, command: &Command) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u16(origin.broker.get());
        writer.u64(origin.incarnation);
        writer.u64(origin.sequence);
        command.encode_fields(&mut writer);
        writer.into_bytes()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let origin = Origin {
            broker: BrokerId::new(reader.u16()?),
            incarnation: reader.u64()?,
            sequence: reader.u64()?,
        };
        let command = Command::decode_fields(&mut reader)?;
        reader.finish()?;
        Ok(Self { origin, command })
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// The cluster begins: group 0's first voters, and the brokers that are members from the start.
    /// Nothing happens if it has begun.
    Found {
        voters: Vec<ReplicaId>,
        seeds: Vec<PeerSeed>,
    },
    /// A member says who and where it is.
    Register {
        id: BrokerId,
        registration: Registration,
    },
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
    /// A broker has made these replicas.
    Made {
        broker: BrokerId,
        replicas: Vec<(GroupId, ReplicaId)>,
    },
    /// A broker has removed these replicas.
    Removed {
        broker: BrokerId,
        replicas: Vec<(GroupId, ReplicaId)>,
    },
    /// A block of producer ids for a principal.
    Mint { principal: PrincipalKey },
    /// The next epoch of a named producer; a new name gets the candidate as its id.
    Claim {
        principal: PrincipalKey,
        name: String,
        candidate: ProducerId,
    },
    /// Nothing but the question whether a producer may go on with its id and epoch.
    Resume {
        principal: PrincipalKey,
        name: Option<String>,
        producer: ProducerId,
        epoch: ProducerEpoch,
    },
    /// The members or places of replicas change.
    Plan(PlanCommand),
}

impl Command {
    fn encode_fields(&self, writer: &mut Writer) {
        match self {
            Self::Found { voters, seeds } => {
                writer.u8(FOUND);
                encode_ids(writer, voters);
                encode_seeds(writer, seeds);
            }
            Self::Register { id, registration } => {
                writer.u8(REGISTER);
                writer.u16(id.get());
                encode_registration(writer, registration);
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
                encode_settings(writer, settings);
                writer.u64(segment_bytes.get());
            }
            Self::Delete { name } => {
                writer.u8(DELETE);
                writer.text(name.as_str());
            }
            Self::Made { broker, replicas } => {
                writer.u8(MADE);
                encode_report(writer, *broker, replicas);
            }
            Self::Removed { broker, replicas } => {
                writer.u8(REMOVED);
                encode_report(writer, *broker, replicas);
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
            Self::Resume {
                principal,
                name,
                producer,
                epoch,
            } => {
                writer.u8(RESUME);
                writer.u64(principal.get());
                // No producer has an empty name.
                writer.text(name.as_deref().unwrap_or_default());
                writer.u64(producer.get());
                writer.u32(epoch.get());
            }
            Self::Plan(change) => {
                writer.u8(PLAN);
                change.encode(writer);
            }
        }
    }

    fn decode_fields(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(match reader.u8()? {
            FOUND => Self::Found {
                voters: decode_ids(reader)?,
                seeds: decode_seeds(reader)?,
            },
            REGISTER => Self::Register {
                id: BrokerId::new(reader.u16()?),
                registration: decode_registration(reader)?,
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
                let (broker, replicas) = decode_report(reader)?;
                Self::Made { broker, replicas }
            }
            REMOVED => {
                let (broker, replicas) = decode_report(reader)?;
                Self::Removed { broker, replicas }
            }
            MINT => Self::Mint {
                principal: PrincipalKey::new(reader.u64()?),
            },
            CLAIM => Self::Claim {
                principal: PrincipalKey::new(reader.u64()?),
                name: decode_producer_name(reader)?,
                candidate: ProducerId::new(reader.u64()?),
            },
            RESUME => Self::Resume {
                principal: PrincipalKey::new(reader.u64()?),
                name: Some(decode_producer_name(reader)?).filter(|name| !name.is_empty()),
                producer: ProducerId::new(reader.u64()?),
                epoch: ProducerEpoch::new(reader.u32()?),
            },
            PLAN => Self::Plan(PlanCommand::decode(reader)?),
            _ => return Err(CodecError::Invalid("a command of this type is not known")),
        })
    }
}

fn decode_producer_name(reader: &mut Reader<'_>) -> Result<String, CodecError> {
    let name = reader.text("bytes of a producer's name", NAME_BYTES_MAX)?;
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use quorate_protocol::StorageId;

    use super::*;

    fn each() -> Vec<Command> {
        let registration = Registration {
            name: "one".into(),
            client_address: "10.0.0.1:4747".into(),
            peer_address: String::new(),
            storage: StorageId::new(u128::MAX - 3),
        };
        let seed = PeerSeed {
            id: BrokerId::new(3),
            name: "one".into(),
            address: "10.0.0.1:4748".into(),
        };
        let name = TopicName::try_from("orders").unwrap();
        let principal = PrincipalKey::new(7);
        vec![
            Command::Found {
                voters: vec![ReplicaId::new(3)],
                seeds: vec![seed],
            },
            Command::Register {
                id: BrokerId::new(3),
                registration,
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
                replicas: vec![(GroupId::new(4), ReplicaId::new(65_540))],
            },
            Command::Removed {
                broker: BrokerId::new(3),
                replicas: vec![],
            },
            Command::Mint { principal },
            Command::Claim {
                principal,
                name: "till-7".into(),
                candidate: ProducerId::new(1024),
            },
            resume(principal, Some("till-7".into())),
            resume(principal, None),
        ]
    }

    fn resume(principal: PrincipalKey, name: Option<String>) -> Command {
        Command::Resume {
            principal,
            name,
            producer: ProducerId::new(1024),
            epoch: ProducerEpoch::new(2),
        }
    }

    const ORIGIN: Origin = Origin {
        broker: BrokerId::new(2),
        incarnation: 7,
        sequence: u64::MAX,
    };

    #[test]
    fn every_command_comes_back_from_its_bytes() {
        for command in each() {
            let bytes = Stamped::encode(ORIGIN, &command);
            let origin = ORIGIN;
            assert_eq!(Stamped::decode(&bytes), Ok(Stamped { origin, command }));
        }
    }

    #[test]
    fn every_strict_prefix_of_a_command_is_refused() {
        for command in each() {
            let bytes = Stamped::encode(ORIGIN, &command);
            for length in 0..bytes.len() {
                assert!(
                    Stamped::decode(&bytes[..length]).is_err(),
                    "{command:?} cut at {length}"
                );
            }
        }
    }
}
