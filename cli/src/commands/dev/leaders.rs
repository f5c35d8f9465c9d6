//! Watches who leads what: a partition that gets another leader is an event.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

use quorate::Client;
use quorate::PartitionHealth;
use tokio::time::Interval;
use tokio::time::MissedTickBehavior;

use crate::failure::Failure;
use crate::local::Layout;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(500);

/// A partition has another leader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeaderChange {
    pub(super) topic: String,
    pub(super) partition: u32,
    pub(super) leader: u16,
    pub(super) term: u64,
}

/// A partition, and its leader and term.
type Led = ((String, u32), (u16, u64));

/// Who leads each partition, as far as it was seen.
#[derive(Debug, Default)]
struct Seen(BTreeMap<(String, u32), (u16, u64)>);

/// Looks again and again.
#[derive(Debug)]
pub(super) struct Leaders<'a> {
    layout: &'a Layout,
    /// `None`: not connected yet.
    client: Option<Client>,
    looks: Interval,
    seen: Seen,
    untold: VecDeque<LeaderChange>,
}

impl<'a> Leaders<'a> {
    pub(super) fn new(layout: &'a Layout) -> Self {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            layout,
            client: None,
            looks,
            seen: Seen::default(),
            untold: VecDeque::new(),
        }
    }

    /// The next change. Cancel-safe.
    pub(super) async fn next(&mut self) -> LeaderChange {
        loop {
            if let Some(change) = self.untold.pop_front() {
                return change;
            }
            self.looks.tick().await;
            // While brokers come and go a look may fail; the next one may not.
            if let Ok(partitions) = self.look().await {
                let led: Vec<Led> = partitions.iter().filter_map(led).collect();
                self.untold = self.seen.compare(&led);
            }
        }
    }

    async fn look(&mut self) -> Result<Vec<PartitionHealth>, Failure> {
        let client = match &self.client {
            Some(client) => client,
            None => self.client.insert(self.layout.connect().await?),
        };
        Ok(client.admin().cluster_partitions().await?)
    }
}

fn led(one: &PartitionHealth) -> Option<Led> {
    let leader = one.leader?.get();
    let place = (one.topic.clone(), one.partition.get());
    Some((place, (leader, one.term.get())))
}

impl Seen {
    /// Whatever is led by another broker than before. A first leader is no change.
    fn compare(&mut self, all: &[Led]) -> VecDeque<LeaderChange> {
        let mut changes = VecDeque::new();
        for ((topic, partition), (leader, term)) in all {
            let place = (topic.clone(), *partition);
            let before = self.0.get(&place).copied();
            if before.is_some_and(|(_, known)| known >= *term) {
                continue;
            }
            self.0.insert(place, (*leader, *term));
            if before.is_some_and(|(known, _)| known != *leader) {
                changes.push_back(LeaderChange {
                    topic: topic.clone(),
                    partition: *partition,
                    leader: *leader,
                    term: *term,
                });
            }
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(seen: &mut Seen, places: &[(&str, u16, u64)]) -> Vec<(String, u16)> {
        let found = places.iter().map(|(topic, leader, term)| {
            let place = ((*topic).to_owned(), 0);
            (place, (*leader, *term))
        });
        let found: Vec<_> = found.collect();
        let changes = seen.compare(&found);
        changes.into_iter().map(|c| (c.topic, c.leader)).collect()
    }

    #[test]
    fn only_another_leader_in_a_later_term_is_a_change() {
        let mut seen = Seen::default();
        assert!(step(&mut seen, &[("a", 1, 1), ("b", 2, 1)]).is_empty());
        assert!(step(&mut seen, &[("a", 1, 2), ("b", 2, 1)]).is_empty());
        let changed = step(&mut seen, &[("a", 3, 3), ("b", 2, 1)]);
        assert_eq!(changed, [("a".to_owned(), 3)]);
        assert!(step(&mut seen, &[("a", 1, 2)]).is_empty());
    }
}
