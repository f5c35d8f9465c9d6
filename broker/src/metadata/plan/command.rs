//! Changes of the cluster's members and of where partitions are, as they stand in the log of group 0.

use std::fmt;

use quorate_protocol::BrokerId;
use quorate_protocol::GroupId;
use quorate_protocol::PartitionId;
use quorate_protocol::ReplicaId;
use quorate_protocol::TopicId;

use crate::metadata::encoding::ADDRESS_BYTES_MAX;
use crate::metadata::encoding::decode_flag;
use crate::metadata::encoding::decode_ids;
use crate::metadata::encoding::encode_ids;
use crate::metadata::encoding::limit;
use crate::metadata::state::REPLICAS_MAX;
use crate::partition::codec::CodecError;
use crate::partition::codec::Reader;
use crate::partition::codec::Writer;

const ADD: u8 = 1;
const REMOVE: u8 = 2;
const REPLACE: u8 = 3;
const DRAIN: u8 = 4;
const MOVE: u8 = 5;
const PREFER: u8 = 6;
const RENEW: u8 = 7;
const MOVED: u8 = 8;
const FORGET: u8 = 9;

/// One partition: its topic and number, and the group it is, so that a topic deleted meanwhile or
/// made again is not taken for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::metadata) struct Site {
    pub(in crate::metadata) topic: TopicId,
    pub(in crate::metadata) partition: PartitionId,
    pub(in crate::metadata) group: GroupId,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "partition {} of group {}", self.partition, self.group)
    }
}

/// One change of members or places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::metadata) enum PlanCommand {
    /// A broker that may join.
    Add {
        id: BrokerId,
        name: String,
        address: String,
    },
    /// A broker's partitions move to others, then it is no member any more.
    Remove { id: BrokerId },
    /// A member has lost its disk: whatever it held is made anew under other numbers.
    Replace { id: BrokerId },
    /// A broker leads nothing that others can lead, or may lead again.
    Drain { id: BrokerId, draining: bool },
    /// A partition moves to these brokers, the preferred leader first.
    Move { site: Site, to: Vec<BrokerId> },
    /// Another of its brokers is to lead a partition.
    Prefer { site: Site, broker: BrokerId },
    /// A replica is damaged or has lost its memory: its broker makes it anew under another number.
    Renew { site: Site, replica: ReplicaId },
    /// The members of a group are those that were planned.
    Moved { site: Site, to: Vec<ReplicaId> },
    /// A removed broker holds nothing any more.
    Forget { id: BrokerId },
}

impl PlanCommand {
    pub(in crate::metadata) fn encode(&self, writer: &mut Writer) {
        match self {
            Self::Add { id, name, address } => {
                put_broker(writer, ADD, *id);
                writer.text(name);
                writer.text(address);
            }
            Self::Remove { id } => put_broker(writer, REMOVE, *id),
            Self::Replace { id } => put_broker(writer, REPLACE, *id),
            Self::Drain { id, draining } => {
                put_broker(writer, DRAIN, *id);
                writer.u8(u8::from(*draining));
            }
            Self::Move { site, to } => {
                put_site(writer, MOVE, site);
                writer.count(to.len());
                for broker in to {
                    writer.u16(broker.get());
                }
            }
            Self::Prefer { site, broker } => {
                put_site(writer, PREFER, site);
                writer.u16(broker.get());
            }
            Self::Renew { site, replica } => {
                put_site(writer, RENEW, site);
                writer.u64(replica.get());
            }
            Self::Moved { site, to } => {
                put_site(writer, MOVED, site);
                encode_ids(writer, to);
            }
            Self::Forget { id } => put_broker(writer, FORGET, *id),
        }
    }

    pub(in crate::metadata) fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let kind = reader.u8()?;
        Ok(match kind {
            ADD => Self::Add {
                id: broker(reader)?,
                name: text(reader)?,
                address: text(reader)?,
            },
            REMOVE => Self::Remove {
                id: broker(reader)?,
            },
            REPLACE => Self::Replace {
                id: broker(reader)?,
            },
            DRAIN => Self::Drain {
                id: broker(reader)?,
                draining: decode_flag(reader)?,
            },
            MOVE => Self::Move {
                site: site(reader)?,
                to: brokers(reader)?,
            },
            PREFER => Self::Prefer {
                site: site(reader)?,
                broker: broker(reader)?,
            },
            RENEW => Self::Renew {
                site: site(reader)?,
                replica: ReplicaId::new(reader.u64()?),
            },
            MOVED => Self::Moved {
                site: site(reader)?,
                to: decode_ids(reader)?,
            },
            FORGET => Self::Forget {
                id: broker(reader)?,
            },
            _ => {
                return Err(CodecError::Invalid(
                    "a change of members of this type is not known",
                ));
            }
        })
    }
}

fn put_broker(writer: &mut Writer, kind: u8, id: BrokerId) {
    writer.u8(kind);
    writer.u16(id.get());
}

fn put_site(writer: &mut Writer, kind: u8, site: &Site) {
    writer.u8(kind);
    writer.u128(site.topic.get());
    writer.u32(site.partition.get());
    writer.u32(site.group.get());
}

fn broker(reader: &mut Reader<'_>) -> Result<BrokerId, CodecError> {
    reader.u16().map(BrokerId::new)
}

fn text(reader: &mut Reader<'_>) -> Result<String, CodecError> {
    let text = reader.text("bytes of a name or address", ADDRESS_BYTES_MAX)?;
    Ok(text.to_owned())
}

fn site(reader: &mut Reader<'_>) -> Result<Site, CodecError> {
    Ok(Site {
        topic: TopicId::new(reader.u128()?),
        partition: PartitionId::new(reader.u32()?),
        group: GroupId::new(reader.u32()?),
    })
}

fn brokers(reader: &mut Reader<'_>) -> Result<Vec<BrokerId>, CodecError> {
    let count = reader.count("brokers", limit(REPLICAS_MAX))?;
    (0..count).map(|_| broker(reader)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each() -> Vec<PlanCommand> {
        let id = BrokerId::new(4);
        let site = Site {
            topic: TopicId::new(9 << 70),
            partition: PartitionId::new(2),
            group: GroupId::new(17),
        };
        let replica = ReplicaId::new(65_540);
        vec![
            PlanCommand::Add {
                id,
                name: "four".into(),
                address: "10.0.0.4:4748".into(),
            },
            PlanCommand::Remove { id },
            PlanCommand::Replace { id },
            PlanCommand::Drain { id, draining: true },
            PlanCommand::Move {
                site,
                to: vec![id, BrokerId::new(1)],
            },
            PlanCommand::Prefer { site, broker: id },
            PlanCommand::Renew { site, replica },
            PlanCommand::Moved {
                site,
                to: vec![replica],
            },
            PlanCommand::Forget { id },
        ]
    }

    #[test]
    fn each_change_survives_its_encoding_and_no_prefix_does() {
        for command in each() {
            let mut writer = Writer::default();
            command.encode(&mut writer);
            let bytes = writer.into_bytes();
            let mut reader = Reader::new(&bytes);
            assert_eq!(PlanCommand::decode(&mut reader), Ok(command.clone()));
            assert_eq!(reader.finish(), Ok(()));
            for end in 0..bytes.len() {
                let mut reader = Reader::new(&bytes[..end]);
                assert!(
                    PlanCommand::decode(&mut reader).is_err(),
                    "{command:?} at {end}"
                );
            }
        }
    }
}
