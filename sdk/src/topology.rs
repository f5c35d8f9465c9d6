//! What the client knows of topics and who leads their partitions, from every broker it hears.
//!
//! Invariant: knowledge of a higher term is never replaced by knowledge of a lower one, and what a
//! leader has proved by an answer is not taken back within its term.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use quorate_protocol::Bounded;
use quorate_protocol::BrokerId;
use quorate_protocol::MetadataReply;
use quorate_protocol::PartitionId;
use quorate_protocol::PartitionInfo;
use quorate_protocol::Term;
use quorate_protocol::Text;
use quorate_protocol::TopicId;
use quorate_protocol::TopicInfo;
use quorate_protocol::TopologyUpdate;
use tokio::sync::watch;

use crate::event::Event;
use crate::event::EventBus;

/// The latest picture of each topic that was asked for.
#[derive(Debug)]
pub(crate) struct Topology {
    known: Mutex<Known>,
    /// Counts changes.
    version: watch::Sender<u64>,
    events: EventBus,
}

#[derive(Debug, Default)]
struct Known {
    epoch: u64,
    version: u64,
    topics: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    info: Arc<TopicInfo>,
    leads: Vec<Lead>,
    /// Something spoke against this picture: the next use asks again.
    doubted: bool,
    /// The version of this picture.
    version: u64,
}

/// What is known of a partition's leader besides who it is.
#[derive(Debug, Default, Clone, Copy)]
struct Lead {
    /// It has answered as leader in the known term.
    proved: bool,
    /// The leader that the application was last told of.
    told: Option<BrokerId>,
}

/// A partition that somebody uses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spot<'a> {
    pub(crate) name: &'a str,
    pub(crate) topic: TopicId,
    pub(crate) partition: PartitionId,
}

/// What an attempt with a partition went by.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Tried {
    /// Who was taken for the leader.
    pub(crate) leader: Option<BrokerId>,
    /// In which term.
    pub(crate) term: Option<Term>,
    /// The topology that said so.
    pub(crate) seen: u64,
}

/// Who leads instead of the one that was tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Elsewhere {
    /// Somebody in another term.
    Renewed,
    /// Somebody else, as somebody said.
    Named,
    /// Nobody is known.
    Nobody,
}

impl Topology {
    pub(crate) fn new(events: EventBus) -> Self {
        Self {
            known: Mutex::default(),
            version: watch::Sender::new(0),
            events,
        }
    }

    /// The topic, if it was asked for and nothing says that this is out of date.
    pub(crate) fn topic(&self, name: &str) -> Option<Arc<TopicInfo>> {
        let known = self.known.lock();
        let entry = known.topics.get(name).filter(|entry| !entry.doubted)?;
        Some(Arc::clone(&entry.info))
    }

    /// The topic as it was last described, doubted or not.
    pub(crate) fn picture(&self, name: &str) -> Option<Arc<TopicInfo>> {
        let known = self.known.lock();
        known.topics.get(name).map(|entry| Arc::clone(&entry.info))
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.known.lock().epoch
    }

    /// Counts changes; see [`Self::doubt`].
    pub(crate) fn version(&self) -> u64 {
        *self.version.borrow()
    }

    /// Every topic that was asked for.
    pub(crate) fn names(&self) -> Vec<String> {
        self.known.lock().topics.keys().cloned().collect()
    }

    /// Asks again for a topic before its next use, unless it was learned after `seen`.
    pub(crate) fn doubt(&self, name: &str, seen: u64) {
        if let Some(entry) = self.known.lock().topics.get_mut(name)
            && entry.version <= seen
        {
            entry.doubted = true;
        }
    }

    /// Forgets a topic: it is not there, or it is another one now.
    pub(crate) fn forget(&self, name: &str) {
        self.known.lock().topics.remove(name);
    }

    /// Takes in an answer.
    pub(crate) fn learn(&self, reply: &MetadataReply) {
        self.change(|known, news| {
            known.epoch = known.epoch.max(reply.epoch);
            for topic in &reply.topics {
                known.put(topic, news);
            }
        });
    }

    /// Takes in news. After a gap everything is asked for again.
    pub(crate) fn update(&self, update: &TopologyUpdate) {
        self.change(|known, news| {
            if update.epoch > known.epoch.saturating_add(1) {
                known
                    .topics
                    .values_mut()
                    .for_each(|entry| entry.doubted = true);
            }
            if update.epoch >= known.epoch {
                known.epoch = update.epoch;
                let gone = |entry: &Entry| update.deleted.contains(&entry.info.id);
                known.topics.retain(|_, entry| !gone(entry));
            }
            for topic in &update.topics {
                if known.topics.contains_key(topic.name.as_str()) {
                    known.put(topic, news);
                }
            }
        });
    }

    /// Somebody named another leader, without its term.
    fn hint(&self, spot: Spot<'_>, leader: BrokerId) {
        self.lead(spot, |info| {
            (info.leader != Some(leader)).then_some((leader, info.term, false))
        });
    }

    /// Whom to try as leader of a partition.
    pub(crate) fn attempt(&self, spot: Spot<'_>) -> Tried {
        let known = self.leader(spot);
        Tried {
            leader: known.map(|(leader, _)| leader),
            term: known.map(|(_, term)| term),
            seen: self.version(),
        }
    }

    /// Who leads by now, after an attempt failed and perhaps named somebody.
    pub(crate) fn redirect(
        &self,
        spot: Spot<'_>,
        tried: &Tried,
        named: Option<BrokerId>,
    ) -> Elsewhere {
        let mut known = self.leader(spot);
        if known.is_some() && known.map(|(_, term)| term) != tried.term {
            return Elsewhere::Renewed;
        }
        if known.map(|(leader, _)| leader) == tried.leader
            && let Some(named) = named
        {
            self.hint(spot, named);
            known = self.leader(spot);
        }
        match known {
            Some((leader, _)) if Some(leader) != tried.leader => Elsewhere::Named,
            _ => Elsewhere::Nobody,
        }
    }

    /// A leader has proved to be it by an answer in this term.
    pub(crate) fn prove(&self, spot: Spot<'_>, leader: BrokerId, term: Term) {
        self.lead(spot, |info| {
            (term >= info.term).then_some((leader, term, true))
        });
    }

    /// Who leads a partition, as far as known, doubted or not.
    pub(crate) fn leader(&self, spot: Spot<'_>) -> Option<(BrokerId, Term)> {
        let known = self.known.lock();
        let entry = known.topics.get(spot.name)?;
        let info = partition(&entry.info, spot.partition)?;
        let same = entry.info.id == spot.topic;
        info.leader
            .filter(|_| same)
            .map(|leader| (leader, info.term))
    }

    /// Resolves once somebody else than `leader` is known to lead. Cancel-safe.
    pub(crate) async fn moved(&self, spot: Spot<'_>, leader: Option<BrokerId>) -> BrokerId {
        self.until(spot, |now, _| Some(now) != leader).await
    }

    /// Resolves once a leader of another term is known. Cancel-safe.
    pub(crate) async fn renewed(&self, spot: Spot<'_>, known: Option<Term>) {
        self.until(spot, |_, term| Some(term) != known).await;
    }

    async fn until(
        &self,
        spot: Spot<'_>,
        holds: impl Fn(BrokerId, Term) -> bool + Send,
    ) -> BrokerId {
        let mut changes = self.version.subscribe();
        loop {
            changes.mark_unchanged();
            if let Some((now, term)) = self.leader(spot)
                && holds(now, term)
            {
                return now;
            }
            if changes.changed().await.is_err() {
                // The sender is `self`.
                return std::future::pending().await;
            }
        }
    }

    fn lead(
        &self,
        spot: Spot<'_>,
        decide: impl FnOnce(&PartitionInfo) -> Option<(BrokerId, Term, bool)>,
    ) {
        self.change(|known, news| {
            let version = known.version + 1;
            let entry = known.topics.get_mut(spot.name);
            let Some(entry) = entry.filter(|entry| entry.info.id == spot.topic) else {
                return;
            };
            let decided = partition(&entry.info, spot.partition).and_then(decide);
            let Some((leader, term, proved)) = decided else {
                return;
            };
            let mut partitions = entry.info.partitions.to_vec();
            let at = place(spot.partition);
            let (Some(info), Some(lead)) = (partitions.get_mut(at), entry.leads.get_mut(at)) else {
                return;
            };
            lead.proved = proved;
            let differs = (info.leader, info.term) != (Some(leader), term);
            (info.leader, info.term) = (Some(leader), term);
            if proved {
                news.led(&entry.info.name, info, lead);
            }
            if differs {
                entry.info = Arc::new(TopicInfo {
                    partitions: Bounded::clipped(partitions),
                    ..TopicInfo::clone(&entry.info)
                });
                entry.version = version;
                news.changed = true;
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut Known, &mut News)) {
        let mut news = News::default();
        let version = {
            let mut known = self.known.lock();
            change(&mut known, &mut news);
            known.version += u64::from(news.changed);
            known.version
        };
        if news.changed {
            self.version
                .send_modify(|known| *known = version.max(*known));
        }
        for event in news.leaders {
            self.events.publish(event);
        }
    }
}

impl Known {
    /// Takes in what some broker says of a topic.
    fn put(&mut self, topic: &TopicInfo, news: &mut News) {
        let name = topic.name.as_str();
        let before = self.topics.remove(name);
        let before = match before {
            // What is older than what is known says nothing new.
            Some(known) if known.info.id != topic.id && known.info.epoch > topic.epoch => {
                self.topics.insert(name.to_owned(), known);
                return;
            }
            Some(known) if known.info.id != topic.id => {
                news.changed = true;
                None
            }
            before => before,
        };
        let doubted = before.as_ref().is_some_and(|known| known.doubted);
        let (info, leads) = merge(before.as_ref(), topic, news);
        let differs = before.as_ref().is_none_or(|known| *known.info != info);
        news.changed |= differs || doubted;
        let version = match before {
            Some(known) if !differs && !doubted => known.version,
            _ => self.version + 1,
        };
        let entry = Entry {
            info: Arc::new(info),
            leads,
            doubted: false,
            version,
        };
        self.topics.insert(name.to_owned(), entry);
    }
}

/// The newer shape of a topic with the best knowledge of each leader.
fn merge(before: Option<&Entry>, topic: &TopicInfo, news: &mut News) -> (TopicInfo, Vec<Lead>) {
    let shape = match before {
        Some(known) if known.info.epoch > topic.epoch => &known.info,
        _ => topic,
    };
    let mut leads = Vec::with_capacity(shape.partitions.len());
    let mut partitions = shape.partitions.to_vec();
    for info in &mut partitions {
        let at = place(info.partition);
        let known = before.and_then(|known| {
            let info = partition(&known.info, info.partition)?;
            Some((info, *known.leads.get(at)?))
        });
        let said = partition(topic, info.partition);
        let mut lead = known.map(|(_, lead)| lead).unwrap_or_default();
        let said = said.filter(|said| {
            let newer = |(known, lead): (&PartitionInfo, Lead)| {
                said.term > known.term || said.term == known.term && !lead.proved
            };
            said.leader.is_some() && known.is_none_or(newer)
        });
        match (said, known) {
            (Some(said), _) => {
                lead.proved = false;
                (info.leader, info.term) = (said.leader, said.term);
                news.led(&shape.name, info, &mut lead);
            }
            (None, Some((known, _))) => (info.leader, info.term) = (known.leader, known.term),
            (None, None) => {}
        }
        leads.push(lead);
    }
    let info = TopicInfo {
        partitions: Bounded::clipped(partitions),
        ..TopicInfo::clone(shape)
    };
    (info, leads)
}

/// What a change brings.
#[derive(Debug, Default)]
struct News {
    changed: bool,
    leaders: Vec<Event>,
}

impl News {
    /// A leader is known for its term: the application is told if it is not the one before.
    fn led(&mut self, name: &Text<128>, info: &PartitionInfo, lead: &mut Lead) {
        let Some(broker) = info.leader.filter(|_| info.term > Term::ZERO) else {
            return;
        };
        let before = lead.told.replace(broker);
        if before.is_some_and(|before| before != broker) {
            self.leaders.push(Event::LeaderChanged {
                topic: Arc::from(name.as_str()),
                partition: info.partition,
                broker,
                term: info.term,
            });
        }
    }
}

fn place(partition: PartitionId) -> usize {
    usize::try_from(partition.get()).unwrap_or(usize::MAX)
}

/// One partition of a topic.
pub(crate) fn partition(topic: &TopicInfo, partition: PartitionId) -> Option<&PartitionInfo> {
    let found = topic.partitions.get(place(partition));
    found.filter(|info| info.partition == partition)
}

#[cfg(test)]
mod tests {
    use quorate_protocol::TopicSettings;

    use super::*;

    const P0: PartitionId = PartitionId::new(0);

    fn topic(name: &str, id: u128) -> TopicInfo {
        led(name, id, None, 0)
    }

    fn led(name: &str, id: u128, leader: Option<u16>, term: u64) -> TopicInfo {
        TopicInfo {
            name: Text::clipped(name),
            id: TopicId::new(id),
            epoch: 1,
            settings: TopicSettings::default(),
            partitions: Bounded::clipped([PartitionInfo {
                partition: P0,
                leader: leader.map(BrokerId::new),
                term: Term::new(term),
                replicas: Bounded::empty(),
            }]),
        }
    }

    fn reply(epoch: u64, topics: Vec<TopicInfo>) -> MetadataReply {
        MetadataReply {
            epoch,
            brokers: Bounded::empty(),
            topics: Bounded::clipped(topics),
        }
    }

    fn knowing(epoch: u64, topics: Vec<TopicInfo>) -> Topology {
        let topology = Topology::new(EventBus::new());
        topology.learn(&reply(epoch, topics));
        topology
    }

    fn news(epoch: u64, topics: Vec<TopicInfo>, deleted: Vec<TopicId>) -> TopologyUpdate {
        TopologyUpdate {
            epoch,
            topics: Bounded::clipped(topics),
            deleted: Bounded::clipped(deleted),
        }
    }

    fn leader(topology: &Topology) -> Option<(u16, u64)> {
        let name = "a";
        let (leader, term) = topology.leader(spot(name))?;
        Some((leader.get(), term.get()))
    }

    fn spot(name: &str) -> Spot<'_> {
        Spot {
            name,
            topic: TopicId::new(1),
            partition: P0,
        }
    }

    #[test]
    fn a_deleted_topic_is_forgotten() {
        let topology = knowing(5, vec![topic("a", 1), topic("b", 2)]);
        topology.update(&news(6, vec![], vec![TopicId::new(1)]));
        assert!(topology.topic("a").is_none());
        assert!(topology.topic("b").is_some());
    }

    #[test]
    fn deletions_of_lower_epochs_are_ignored_and_a_gap_brings_doubt() {
        let topology = knowing(5, vec![led("a", 1, Some(2), 3)]);
        topology.update(&news(4, vec![], vec![TopicId::new(1)]));
        assert!(topology.topic("a").is_some());
        topology.update(&news(9, vec![], vec![]));
        assert!(topology.topic("a").is_none());
        assert_eq!(topology.epoch(), 9);
        // Who led is still known, and asking again ends the doubt.
        assert_eq!(leader(&topology), Some((2, 3)));
        topology.learn(&reply(9, vec![led("a", 1, Some(2), 3)]));
        assert!(topology.topic("a").is_some());
    }

    #[test]
    fn a_leader_of_a_higher_term_counts_within_the_same_epoch_and_a_lower_one_never() {
        let topology = knowing(5, vec![led("a", 1, Some(1), 3)]);
        topology.update(&news(5, vec![led("a", 1, Some(2), 4)], vec![]));
        assert_eq!(leader(&topology), Some((2, 4)));
        topology.update(&news(6, vec![led("a", 1, Some(1), 3)], vec![]));
        topology.learn(&reply(6, vec![led("a", 1, None, 9)]));
        assert_eq!(leader(&topology), Some((2, 4)));
        // Leaders are told apart by term even in news of an epoch that has passed.
        topology.update(&news(2, vec![led("a", 1, Some(3), 5)], vec![]));
        assert_eq!(leader(&topology), Some((3, 5)));
    }

    #[test]
    fn a_leader_that_answered_stays_for_its_term_and_a_named_one_does_not() {
        let topology = knowing(5, vec![led("a", 1, Some(1), 3)]);
        let name = "a";
        topology.hint(spot(name), BrokerId::new(7));
        assert_eq!(leader(&topology), Some((7, 3)));
        topology.update(&news(5, vec![led("a", 1, Some(1), 3)], vec![]));
        assert_eq!(leader(&topology), Some((1, 3)));
        topology.prove(spot(name), BrokerId::new(2), Term::new(4));
        topology.update(&news(5, vec![led("a", 1, Some(1), 4)], vec![]));
        assert_eq!(leader(&topology), Some((2, 4)));
        topology.prove(spot(name), BrokerId::new(1), Term::new(3));
        assert_eq!(leader(&topology), Some((2, 4)));
    }

    #[test]
    fn an_older_incarnation_of_a_topic_does_not_come_back() {
        let mut newer = led("a", 2, Some(1), 1);
        newer.epoch = 8;
        let topology = knowing(8, vec![newer]);
        topology.update(&news(8, vec![led("a", 1, Some(3), 9)], vec![]));
        assert_eq!(topology.topic("a").unwrap().id, TopicId::new(2));
    }

    #[test]
    fn doubt_about_what_was_replaced_meanwhile_is_void() {
        let topology = knowing(5, vec![led("a", 1, Some(1), 3)]);
        let seen = topology.version();
        topology.update(&news(5, vec![led("a", 1, Some(2), 4)], vec![]));
        topology.doubt("a", seen);
        assert!(topology.topic("a").is_some());
        topology.doubt("a", topology.version());
        assert!(topology.topic("a").is_none());
    }

    #[tokio::test]
    async fn whoever_waits_for_another_leader_is_woken_and_the_application_told_once() {
        let bus = EventBus::new();
        let mut events = bus.subscribe();
        let topology = Topology::new(bus);
        topology.learn(&reply(5, vec![led("a", 1, Some(1), 3)]));
        let name = "a";
        let waiting = topology.moved(spot(name), Some(BrokerId::new(1)));
        let acting = async {
            topology.hint(spot(name), BrokerId::new(2));
            topology.prove(spot(name), BrokerId::new(2), Term::new(4));
            topology.update(&news(5, vec![led("a", 1, Some(2), 4)], vec![]));
        };
        let (moved, ()) = tokio::join!(waiting, acting);
        assert_eq!(moved, BrokerId::new(2));
        drop(topology);
        let told = events.next().await.unwrap();
        assert!(matches!(told, Event::LeaderChanged { broker, term, .. }
            if broker == BrokerId::new(2) && term == Term::new(4)));
        assert!(events.next().await.is_none());
    }
}
