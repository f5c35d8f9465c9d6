//! What the client knows of topics and who leads their partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use quorate_protocol::BrokerId;
use quorate_protocol::MetadataReply;
use quorate_protocol::PartitionId;
use quorate_protocol::PartitionInfo;
use quorate_protocol::TopicId;
use quorate_protocol::TopicInfo;
use quorate_protocol::TopologyUpdate;

/// The latest picture of each topic that was asked for.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    epoch: u64,
    topics: BTreeMap<String, Arc<TopicInfo>>,
}

impl Topology {
    /// The topic, if it was asked for and nothing says that this is out of date.
    pub(crate) fn topic(&self, name: &str) -> Option<Arc<TopicInfo>> {
        self.known.lock().topics.get(name).cloned()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.known.lock().epoch
    }

    /// Forgets a topic, so that the next use asks again.
    pub(crate) fn forget(&self, name: &str) {
        self.known.lock().topics.remove(name);
    }

    /// Takes in an answer.
    pub(crate) fn learn(&self, reply: &MetadataReply) {
        let mut known = self.known.lock();
        known.epoch = known.epoch.max(reply.epoch);
        for topic in &reply.topics {
            known.put(topic);
        }
    }

    /// Takes in news. After a gap everything is asked for again.
    pub(crate) fn update(&self, update: TopologyUpdate) {
        let mut known = self.known.lock();
        if update.epoch <= known.epoch {
            return;
        }
        if update.epoch > known.epoch.saturating_add(1) {
            known.topics.clear();
        }
        known.epoch = update.epoch;
        known
            .topics
            .retain(|_, topic| !update.deleted.contains(&topic.id));
        for topic in &update.topics {
            if known.topics.contains_key(topic.name.as_str()) {
                known.put(topic);
            }
        }
    }

    /// A broker named another leader.
    pub(crate) fn set_leader(&self, topic: TopicId, partition: PartitionId, leader: BrokerId) {
        let mut known = self.known.lock();
        let found = known.topics.values_mut().find(|known| known.id == topic);
        let Some(known) = found else {
            return;
        };
        let mut changed = TopicInfo::clone(known);
        let mut partitions = changed.partitions.into_vec();
        if let Some(info) = partitions
            .iter_mut()
            .find(|info| info.partition == partition)
        {
            info.leader = Some(leader);
        }
        changed.partitions = quorate_protocol::Bounded::clipped(partitions);
        *known = Arc::new(changed);
    }
}

impl Known {
    fn put(&mut self, topic: &TopicInfo) {
        let name = topic.name.as_str().to_owned();
        self.topics.insert(name, Arc::new(topic.clone()));
    }
}

/// One partition of a topic.
pub(crate) fn partition(topic: &TopicInfo, partition: PartitionId) -> Option<&PartitionInfo> {
    topic
        .partitions
        .iter()
        .find(|info| info.partition == partition)
}

#[cfg(test)]
mod tests {
    use quorate_protocol::Bounded;
    use quorate_protocol::Term;
    use quorate_protocol::Text;
    use quorate_protocol::TopicSettings;

    use super::*;

    fn topic(name: &str, id: u128) -> TopicInfo {
        TopicInfo {
            name: Text::clipped(name),
            id: TopicId::new(id),
            epoch: 1,
            settings: TopicSettings::default(),
            partitions: Bounded::clipped([PartitionInfo {
                partition: PartitionId::new(0),
                leader: None,
                term: Term::ZERO,
                replicas: Bounded::empty(),
            }]),
        }
    }

    fn knowing(epoch: u64, topics: Vec<TopicInfo>) -> Topology {
        let topology = Topology::default();
        topology.learn(&MetadataReply {
            epoch,
            brokers: Bounded::empty(),
            topics: Bounded::clipped(topics),
        });
        topology
    }

    fn news(epoch: u64, topics: Vec<TopicInfo>, deleted: Vec<TopicId>) -> TopologyUpdate {
        TopologyUpdate {
            epoch,
            topics: Bounded::clipped(topics),
            deleted: Bounded::clipped(deleted),
        }
    }

    #[test]
    fn a_deleted_topic_is_forgotten() {
        let topology = knowing(5, vec![topic("a", 1), topic("b", 2)]);
        topology.update(news(6, vec![], vec![TopicId::new(1)]));
        assert!(topology.topic("a").is_none());
        assert!(topology.topic("b").is_some());
    }

    #[test]
    fn news_of_lower_epochs_are_ignored_and_a_gap_clears_everything() {
        let topology = knowing(5, vec![topic("a", 1)]);
        topology.update(news(4, vec![], vec![TopicId::new(1)]));
        assert!(topology.topic("a").is_some());
        topology.update(news(9, vec![], vec![]));
        assert!(topology.topic("a").is_none());
        assert_eq!(topology.epoch(), 9);
    }

    #[test]
    fn a_named_leader_is_remembered() {
        let topology = knowing(5, vec![topic("a", 1)]);
        topology.set_leader(TopicId::new(1), PartitionId::new(0), BrokerId::new(7));
        let known = topology.topic("a").unwrap();
        let info = partition(&known, PartitionId::new(0)).unwrap();
        assert_eq!(info.leader, Some(BrokerId::new(7)));
    }
}
