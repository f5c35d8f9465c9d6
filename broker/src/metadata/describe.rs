//! Topics as clients and people are told about them: metadata joined with what the partitions say.

use quorate_protocol::Bounded;
use quorate_protocol::BrokerId;
use quorate_protocol::BrokerInfo;
use quorate_protocol::Offset;
use quorate_protocol::PartitionDescription;
use quorate_protocol::PartitionId;
use quorate_protocol::PartitionInfo;
use quorate_protocol::Term;
use quorate_protocol::Text;
use quorate_protocol::TopicDescription;
use quorate_protocol::TopicInfo;
use quorate_protocol::TopicList;
use quorate_protocol::TopicSummary;

use crate::metadata::topology::Assignment;
use crate::metadata::topology::Topic;
use crate::metadata::topology::Topology;
use crate::partition::PartitionStatus;
use crate::partition::Registry;

/// The brokers, for a client that looks for one.
#[must_use]
pub fn brokers(topology: &Topology) -> Bounded<BrokerInfo, 64> {
    Bounded::clipped(topology.brokers().iter().map(|(id, broker)| BrokerInfo {
        id: *id,
        name: Text::clipped(&broker.name),
        client_address: Text::clipped(&broker.client_address),
    }))
}

/// Where a topic's partitions are and who leads them; the preferred leader where nobody does yet,
/// so that clients wait for the election at the right broker.
#[must_use]
pub fn topic_info(topic: &Topic, registry: &Registry) -> TopicInfo {
    let partitions =
        statuses(topic, registry).map(|(partition, assignment, status)| PartitionInfo {
            partition,
            leader: status
                .and_then(|status| status.leader)
                .or_else(|| holders(assignment).next()),
            term: status.map_or(Term::new(0), |status| status.term),
            replicas: Bounded::clipped(holders(assignment)),
        });
    TopicInfo {
        name: topic.name.to_text(),
        id: topic.id,
        epoch: topic.epoch,
        settings: topic.settings,
        partitions: Bounded::clipped(partitions),
    }
}

/// All topics in a few numbers each, by name.
#[must_use]
pub fn topic_list(topology: &Topology, registry: &Registry) -> TopicList {
    let topics = topology
        .topics()
        .map(|topic| topic_summary(topic, registry));
    TopicList {
        topics: Bounded::clipped(topics),
    }
}

/// One topic in a few numbers.
#[must_use]
pub fn topic_summary(topic: &Topic, registry: &Registry) -> TopicSummary {
    let (mut records, mut bytes, mut subscribers) = (0u64, 0u64, 0u64);
    for (_, _, status) in statuses(topic, registry) {
        if let Some(status) = status {
            records = records.saturating_add(status.high_watermark.get());
            bytes = bytes.saturating_add(status.bytes.get());
            subscribers = subscribers.saturating_add(status.subscribers);
        }
    }
    TopicSummary {
        name: topic.name.to_text(),
        id: topic.id,
        partitions: count(topic.partitions.len()),
        replicas: count(topic.replica_count()),
        settings: topic.settings,
        records,
        bytes,
        subscribers,
    }
}

/// One topic in detail.
#[must_use]
pub fn topic_description(topic: &Topic, registry: &Registry) -> TopicDescription {
    let partitions = statuses(topic, registry).map(|(partition, assignment, status)| {
        let leader = status.and_then(|status| status.leader);
        PartitionDescription {
            partition,
            leader,
            preferred: holders(assignment).next(),
            term: status.map_or(Term::new(0), |status| status.term),
            replicas: Bounded::clipped(holders(assignment)),
            in_sync: Bounded::clipped(leader),
            log_start: status.map_or(Offset::ZERO, |status| status.log_start),
            high_watermark: status.map_or(Offset::ZERO, |status| status.high_watermark),
            bytes: status.map_or(0, |status| status.bytes.get()),
        }
    });
    let partitions = Bounded::clipped(partitions);
    TopicDescription {
        summary: topic_summary(topic, registry),
        partitions,
    }
}

fn statuses<'a>(
    topic: &'a Topic,
    registry: &'a Registry,
) -> impl Iterator<Item = (PartitionId, &'a Assignment, Option<PartitionStatus>)> {
    (0u32..).zip(&topic.partitions).map(|(number, assignment)| {
        let partition = PartitionId::new(number);
        let status = registry
            .get(topic.id, partition)
            .map(|open| open.describe());
        (partition, assignment, status)
    })
}

fn holders(assignment: &Assignment) -> impl Iterator<Item = BrokerId> {
    assignment.replicas.iter().map(|replica| replica.broker)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
