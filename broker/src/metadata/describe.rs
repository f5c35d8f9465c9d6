//! Topics as clients and people are told about them: metadata joined with what their leaders say.

use quorate_protocol::Bounded;
use quorate_protocol::BrokerId;
use quorate_protocol::BrokerInfo;
use quorate_protocol::PartitionDescription;
use quorate_protocol::PartitionId;
use quorate_protocol::PartitionInfo;
use quorate_protocol::Term;
use quorate_protocol::Text;
use quorate_protocol::TopicDescription;
use quorate_protocol::TopicInfo;
use quorate_protocol::TopicList;
use quorate_protocol::TopicSummary;

use crate::metadata::leaders::Leaders;
use crate::metadata::leaders::View;
use crate::metadata::topology::Assignment;
use crate::metadata::topology::Topic;
use crate::metadata::topology::Topology;

/// The brokers, for a client that looks for one.
#[must_use]
pub fn brokers(topology: &Topology) -> Bounded<BrokerInfo, 64> {
    // A broker that has not registered yet cannot be reached.
    let brokers = topology.brokers().iter();
    let known = brokers.filter(|(_, broker)| !broker.client_address.is_empty());
    Bounded::clipped(known.map(|(id, broker)| BrokerInfo {
        id: *id,
        name: Text::clipped(&broker.name),
        client_address: Text::clipped(&broker.client_address),
    }))
}

/// Where a topic's partitions are and who leads them. While no leader was ever heard of, clients
/// wait for the election at the preferred one.
#[must_use]
pub fn topic_info(topic: &Topic, leaders: &Leaders) -> TopicInfo {
    let partitions = views(topic, leaders).map(|(partition, assignment, view)| {
        let preferred = || holders(assignment).next();
        let unheard = view.term == Term::new(0);
        PartitionInfo {
            partition,
            leader: view.leader.or_else(|| preferred().filter(|_| unheard)),
            term: view.term,
            replicas: Bounded::clipped(holders(assignment)),
        }
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
pub fn topic_list(topology: &Topology, leaders: &Leaders) -> TopicList {
    let topics = topology.topics().map(|topic| topic_summary(topic, leaders));
    TopicList {
        topics: Bounded::clipped(topics),
    }
}

/// One topic in a few numbers.
#[must_use]
pub fn topic_summary(topic: &Topic, leaders: &Leaders) -> TopicSummary {
    let (mut records, mut bytes, mut subscribers) = (0u64, 0u64, 0u64);
    for (_, _, view) in views(topic, leaders) {
        records = records.saturating_add(view.high_watermark.get());
        bytes = bytes.saturating_add(view.bytes);
        subscribers = subscribers.saturating_add(view.subscribers);
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
pub fn topic_description(topic: &Topic, leaders: &Leaders) -> TopicDescription {
    let partitions =
        views(topic, leaders).map(|(partition, assignment, view)| PartitionDescription {
            partition,
            leader: view.leader,
            preferred: holders(assignment).next(),
            term: view.term,
            replicas: Bounded::clipped(holders(assignment)),
            in_sync: Bounded::clipped(view.in_sync()),
            log_start: view.log_start,
            high_watermark: view.high_watermark,
            bytes: view.bytes,
        });
    let partitions = Bounded::clipped(partitions);
    TopicDescription {
        summary: topic_summary(topic, leaders),
        partitions,
    }
}

pub(super) fn views<'a>(
    topic: &'a Topic,
    leaders: &'a Leaders,
) -> impl Iterator<Item = (PartitionId, &'a Assignment, View)> {
    (0u32..).zip(&topic.partitions).map(|(number, assignment)| {
        let partition = PartitionId::new(number);
        (partition, assignment, leaders.view(assignment.group))
    })
}

pub(super) fn holders(assignment: &Assignment) -> impl Iterator<Item = BrokerId> {
    assignment.replicas.iter().map(|replica| replica.broker)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
