//! Which topics have another leader than before, told to all connections at once.
//!
//! Invariant: looked up once per change, however many clients are connected, and told at most once
//! per [`INTERVAL`], the first change at once. That nobody leads is no news: clients find out alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::BrokerId;
use quorate_protocol::Term;
use quorate_protocol::TopicId;
use tokio::sync::watch;

use crate::session::service::Service;

/// Least time between two pieces of news: together with the lookup less than a client is promised.
const INTERVAL: Duration = Duration::from_millis(50);
/// Least time between two lookups: a new leader comes soon after the loss of the old one.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Topics with the number of the last change of one of their leaders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct News {
    number: u64,
    changed: BTreeMap<TopicId, u64>,
}

impl News {
    /// The number of the last change.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Topics with a change after this one.
    pub(super) fn since(&self, number: u64) -> impl Iterator<Item = TopicId> {
        let newer = self.changed.iter().filter(move |(_, at)| **at > number);
        newer.map(|(topic, _)| *topic)
    }
}

/// Who leads a partition, and in which term.
pub(super) type Lead = (BrokerId, Term);

/// Compares who leads with who led.
#[derive(Debug, Default)]
struct Comparison {
    leads: BTreeMap<TopicId, Vec<Option<Lead>>>,
    news: News,
}

impl Comparison {
    /// Takes in who leads each partition of each topic now; the news, if there are any.
    fn take(&mut self, mut now: BTreeMap<TopicId, Vec<Option<Lead>>>) -> Option<News> {
        for (id, leads) in &mut now {
            let before = self.leads.get(id).into_iter().flatten();
            for (lead, before) in leads.iter_mut().zip(before) {
                *lead = lead.or(*before);
            }
        }
        let before = std::mem::replace(&mut self.leads, now);
        let number = self.news.number + 1;
        let differs =
            |(id, leads): &(&TopicId, &Vec<Option<Lead>>)| before.get(*id) != Some(*leads);
        let changed = self.leads.iter().filter(differs);
        let changed: Vec<TopicId> = changed.map(|(id, _)| *id).collect();
        self.news
            .changed
            .retain(|id, _| self.leads.contains_key(id));
        if changed.is_empty() {
            return None;
        }
        let changed = changed.into_iter().map(|id| (id, number));
        self.news.changed.extend(changed);
        self.news.number = number;
        Some(self.news.clone())
    }
}

/// Tells all connections of leaders that changed, for as long as the broker runs.
pub(super) async fn follow(service: &Service, news: &watch::Sender<Arc<News>>) {
    let mut changes = service.leader_changes();
    let mut comparison = Comparison::default();
    loop {
        changes.mark_unchanged();
        let topology = service.topology();
        let leads = topology.topics().map(|topic| {
            let leads = topic.partitions.iter().map(|at| service.lead(at.group));
            (topic.id, leads.collect())
        });
        let pause = match comparison.take(leads.collect()) {
            Some(latest) => {
                news.send_replace(Arc::new(latest));
                INTERVAL
            }
            None => LOOK_INTERVAL,
        };
        tokio::time::sleep(pause).await;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn led(topics: &[(u128, u16, u64)]) -> BTreeMap<TopicId, Vec<Option<Lead>>> {
        let topics = topics.iter().map(|(id, broker, term)| {
            let lead = (BrokerId::new(*broker), Term::new(*term));
            (TopicId::new(*id), vec![Some(lead)])
        });
        topics.collect()
    }

    fn since(news: &News, number: u64) -> Vec<u128> {
        news.since(number).map(TopicId::get).collect()
    }

    #[test]
    fn each_client_hears_of_what_changed_after_what_it_has_seen() {
        let mut comparison = Comparison::default();
        let first = comparison.take(led(&[(1, 1, 1), (2, 1, 1)])).unwrap();
        assert_eq!(since(&first, 0), [1, 2]);
        assert_eq!(comparison.take(led(&[(1, 1, 1), (2, 1, 1)])), None);
        let second = comparison.take(led(&[(1, 1, 1), (2, 2, 2)])).unwrap();
        let third = comparison.take(led(&[(1, 3, 2), (2, 2, 2)])).unwrap();
        assert_eq!(since(&third, second.number()), [1]);
        assert_eq!(since(&third, first.number()), [1, 2]);
    }

    #[test]
    fn a_leader_that_is_lost_is_no_news_and_its_return_in_the_same_term_neither() {
        let mut comparison = Comparison::default();
        comparison.take(led(&[(1, 1, 1)])).unwrap();
        let nobody = BTreeMap::from([(TopicId::new(1), vec![None])]);
        assert_eq!(comparison.take(nobody.clone()), None);
        assert_eq!(comparison.take(led(&[(1, 1, 1)])), None);
        assert_eq!(comparison.take(nobody), None);
        assert!(comparison.take(led(&[(1, 2, 2)])).is_some());
    }

    #[test]
    fn what_is_deleted_is_no_news() {
        let mut comparison = Comparison::default();
        comparison.take(led(&[(1, 1, 1), (2, 1, 1)])).unwrap();
        assert_eq!(comparison.take(led(&[(2, 1, 1)])), None);
        let news = comparison.take(led(&[(2, 1, 2)])).unwrap();
        assert_eq!(since(&news, 0), [2]);
    }
}
