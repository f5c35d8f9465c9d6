//! Who leads which partition: what leaders say of themselves, and what this broker's replicas know.
//!
//! The higher term wins. Nothing here is replicated: a restart begins with nothing and hears all of
//! it again.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::RwLock;
use quorate_protocol::BrokerId;
use quorate_protocol::FollowerState;
use quorate_protocol::GroupId;
use quorate_protocol::LedPartition;
use quorate_protocol::Offset;
use quorate_protocol::PeerStatus;
use quorate_protocol::Term;
use tokio::sync::watch;

use crate::partition::PartitionStatus;
use crate::partition::Registry;
use crate::peers::Peers;
use crate::peers::Reach;

/// Partitions whose leaders are remembered.
const LED_MAX: usize = 250_000;

/// What a broker said of itself last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) version: String,
    pub(super) uptime_s: u64,
    pub(super) disk_free_bytes: u64,
    pub(super) cert_not_after_s: u64,
    pub(super) draining: bool,
    pub(super) catching_up: bool,
}

/// A partition in the words of its leader, or of this broker's replica where nobody leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) leader: Option<BrokerId>,
    pub(super) term: Term,
    pub(super) log_start: Offset,
    pub(super) high_watermark: Offset,
    pub(super) bytes: u64,
    pub(super) subscribers: u64,
    pub(super) followers: Vec<FollowerState>,
}

/// Who leads what. Clones mean the same.
#[derive(Debug, Clone)]
pub struct Leaders {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    me: BrokerId,
    registry: Registry,
    peers: Option<Peers>,
    table: RwLock<Table>,
    version: watch::Sender<u64>,
}

impl Leaders {
    pub(super) fn new(me: BrokerId, registry: Registry, peers: Option<Peers>) -> Self {
        let (table, version) = (RwLock::default(), watch::Sender::default());
        Self {
            shared: Arc::new(Shared {
                me,
                registry,
                peers,
                table,
                version,
            }),
        }
    }

    /// The broker that leads a group, and its term. A broker that is down leads nothing.
    #[must_use]
    pub fn leader_of(&self, group: GroupId) -> Option<(BrokerId, Term)> {
        let (leader, term) = self.known(group);
        leader.map(|leader| (leader, term))
    }

    /// Whether a group has a leader that takes proposals, by its own word.
    pub(super) fn is_served(&self, group: GroupId) -> bool {
        match self.leader_of(group) {
            Some((leader, _)) if leader == self.shared.me => {
                let local = self.shared.registry.by_group(group);
                local.is_some_and(|partition| partition.is_led())
            }
            Some((leader, term)) => {
                let table = self.shared.table.read();
                let led = table.led.get(&group);
                led.is_some_and(|led| led.broker == leader && led.said.term == term)
            }
            None => false,
        }
    }

    /// Rises whenever it is known of some partition that another broker leads it.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// This broker's own partitions.
    pub(super) fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// Takes what a broker says, this one included.
    pub(super) fn handle_status(&self, from: BrokerId, status: PeerStatus) {
        if self.shared.table.write().handle_status(from, status) {
            self.note_change();
        }
    }

    /// Some leadership changed here.
    pub(super) fn note_change(&self) {
        self.shared.version.send_modify(|version| *version += 1);
    }

    /// Forgets what does not exist any more.
    pub(super) fn retain(&self, groups: &BTreeSet<GroupId>) {
        let mut table = self.shared.table.write();
        table.led.retain(|group, _| groups.contains(group));
    }

    pub(super) fn facts(&self) -> BTreeMap<BrokerId, Facts> {
        self.shared.table.read().facts.clone()
    }

    /// What is known of a partition.
    pub(super) fn view(&self, group: GroupId) -> View {
        let (leader, term) = self.known(group);
        let local = self.shared.registry.by_group(group);
        let local = local.map(|partition| partition.describe());
        let table = self.shared.table.read();
        let said = table.led.get(&group).map(|led| &led.said);
        let mut view = View {
            leader,
            term,
            ..View::default()
        };
        match (said, local) {
            // What is served here is known better than it was said a moment ago.
            (said, Some(local)) if leader == Some(self.shared.me) || said.is_none() => {
                view.fill(&local);
                view.followers = said.map_or_else(Vec::new, |said| said.followers.to_vec());
            }
            (Some(said), _) => view.quote(said),
            (None, _) => {}
        }
        view
    }

    fn known(&self, group: GroupId) -> (Option<BrokerId>, Term) {
        let local = self.shared.registry.by_group(group);
        let local =
            local.map(|partition| (partition.leader(), partition.leadership().borrow().term));
        let table = self.shared.table.read();
        let said = table.led.get(&group);
        let said = said.map(|led| (Some(led.broker), led.said.term));
        let (leader, term) = newest(local, said);
        (leader.filter(|leader| !self.is_down(*leader)), term)
    }

    fn is_down(&self, broker: BrokerId) -> bool {
        let Some(peers) = self
            .shared
            .peers
            .as_ref()
            .filter(|_| broker != self.shared.me)
        else {
            return false;
        };
        let states = peers.states();
        let state = states.borrow().get(&broker).map(|state| state.state);
        state.is_none_or(|state| state == Reach::Down)
    }
}

impl View {
    fn fill(&mut self, local: &PartitionStatus) {
        self.log_start = local.log_start;
        self.high_watermark = local.high_watermark;
        self.bytes = local.bytes.get();
        self.subscribers = local.subscribers;
    }

    fn quote(&mut self, said: &LedPartition) {
        self.log_start = said.log_start;
        self.high_watermark = said.high_watermark;
        self.bytes = said.bytes;
        self.subscribers = u64::from(said.subscribers);
        self.followers = said.followers.to_vec();
    }

    /// The brokers whose copy is complete, the leader first.
    pub(super) fn in_sync(&self) -> impl Iterator<Item = BrokerId> {
        let led = self.leader.is_some();
        let followers = self.followers.iter().filter(move |_| led);
        let complete = followers.filter(|follower| follower.in_sync);
        self.leader
            .into_iter()
            .chain(complete.map(|follower| follower.broker))
    }
}

/// The word of the higher term; at the same one, that of whoever knows a leader.
fn newest(
    local: Option<(Option<BrokerId>, Term)>,
    said: Option<(Option<BrokerId>, Term)>,
) -> (Option<BrokerId>, Term) {
    match (local, said) {
        (Some(local), Some(said)) if (local.1, local.0.is_some()) >= (said.1, true) => local,
        (_, Some(said)) => said,
        (Some(local), None) => local,
        (None, None) => (None, Term::new(0)),
    }
}

/// What leaders said of themselves.
#[derive(Debug, Default)]
struct Table {
    led: BTreeMap<GroupId, Led>,
    facts: BTreeMap<BrokerId, Facts>,
    /// How many complete lists each broker has begun.
    lists: BTreeMap<BrokerId, u64>,
}

#[derive(Debug)]
struct Led {
    broker: BrokerId,
    /// The list of its broker in which it was named last.
    list: u64,
    said: LedPartition,
}

impl Table {
    /// True: somebody else leads something.
    fn handle_status(&mut self, from: BrokerId, status: PeerStatus) -> bool {
        let mut changed = false;
        let list = self.lists.entry(from).or_default();
        if status.full {
            *list += 1;
            // What the list before did not name, that broker does not lead any more.
            let oldest = list.saturating_sub(1);
            let before = self.led.len();
            self.led
                .retain(|_, led| led.broker != from || led.list >= oldest);
            changed = before != self.led.len();
        }
        let list = *list;
        for said in status.led.iter() {
            changed |= self.note(from, list, said.clone());
        }
        self.facts.insert(
            from,
            Facts {
                version: status.version.as_str().to_owned(),
                uptime_s: status.uptime_s,
                disk_free_bytes: status.disk_free_bytes,
                cert_not_after_s: status.cert_not_after_s,
                draining: status.draining,
                catching_up: status.catching_up,
            },
        );
        changed
    }

    fn note(&mut self, from: BrokerId, list: u64, said: LedPartition) -> bool {
        let known = self.led.get(&said.group);
        let (full, newer) = (
            self.led.len() >= LED_MAX && known.is_none(),
            known.is_none_or(|known| known.said.term <= said.term),
        );
        if full || !newer {
            return false;
        }
        let changed =
            known.is_none_or(|known| known.broker != from || known.said.term != said.term);
        let led = Led {
            broker: from,
            list,
            said,
        };
        self.led.insert(led.said.group, led);
        changed
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::Bounded;
    use quorate_protocol::Text;

    use super::*;

    fn led(group: u32, term: u64) -> LedPartition {
        LedPartition {
            group: GroupId::new(group),
            term: Term::new(term),
            high_watermark: Offset::new(u64::from(group)),
            log_start: Offset::ZERO,
            bytes: 0,
            subscribers: 0,
            followers: Bounded::default(),
        }
    }

    fn status(full: bool, led: Vec<LedPartition>) -> PeerStatus {
        PeerStatus {
            version: Text::default(),
            uptime_s: 0,
            disk_free_bytes: 0,
            cert_not_after_s: 0,
            draining: false,
            catching_up: false,
            full,
            led: Bounded::clipped(led),
        }
    }

    fn leaders(table: &Table) -> Vec<(u32, u16, u64)> {
        let led = table.led.iter();
        led.map(|(group, led)| (group.get(), led.broker.get(), led.said.term.get()))
            .collect()
    }

    #[test]
    fn the_higher_term_wins_in_whatever_order_it_is_heard() {
        let (one, two) = (BrokerId::new(1), BrokerId::new(2));
        let mut table = Table::default();
        assert!(table.handle_status(one, status(false, vec![led(1, 4), led(2, 4)])));
        assert!(table.handle_status(two, status(false, vec![led(2, 5)])));
        assert!(!table.handle_status(one, status(false, vec![led(2, 4)])));
        assert!(!table.handle_status(two, status(false, vec![led(2, 5)])));
        assert_eq!(leaders(&table), [(1, 1, 4), (2, 2, 5)]);
    }

    #[test]
    fn what_a_whole_list_does_not_name_is_forgotten_once_the_next_begins() {
        let one = BrokerId::new(1);
        let mut table = Table::default();
        table.handle_status(one, status(true, vec![led(1, 4)]));
        table.handle_status(one, status(false, vec![led(2, 4)]));
        assert!(!table.handle_status(one, status(true, vec![led(1, 4)])));
        assert_eq!(leaders(&table), [(1, 1, 4), (2, 1, 4)]);
        assert!(table.handle_status(one, status(true, vec![led(1, 4)])));
        assert_eq!(leaders(&table), [(1, 1, 4)]);
    }

    #[test]
    fn an_election_hides_the_leader_of_an_older_term_and_no_other() {
        let (one, two) = (Some(BrokerId::new(1)), Some(BrokerId::new(2)));
        let at = |leader, term| Some((leader, Term::new(term)));
        let newest = |local, said| {
            let (leader, term) = newest(local, said);
            (leader, term.get())
        };
        assert_eq!(newest(at(None, 6), at(one, 5)), (None, 6));
        assert_eq!(newest(at(None, 5), at(one, 5)), (one, 5));
        assert_eq!(newest(at(two, 5), at(one, 4)), (two, 5));
        assert_eq!(newest(at(two, 4), at(one, 5)), (one, 5));
        assert_eq!(newest(None, at(one, 5)), (one, 5));
        assert_eq!(newest(at(two, 1), None), (two, 1));
        assert_eq!(newest(None, None), (None, 0));
    }
}
