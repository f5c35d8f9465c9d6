//! What a client is told of topics that changed between two snapshots.

use std::collections::BTreeSet;
use std::sync::Arc;

use quorate_protocol::Bounded;
use quorate_protocol::MetadataRequest;
use quorate_protocol::TopicId;
use quorate_protocol::TopologyUpdate;

use crate::metadata::Leaders;
use crate::metadata::Topic;
use crate::metadata::Topology;
use crate::metadata::describe::topic_info;

/// Topics in one update: even large ones stay below the frame limit.
const TOPICS_PER_UPDATE: usize = 16;
/// Deleted topics in one update.
const DELETED_PER_UPDATE: usize = 1024;
/// A client that names more topics than this hears of all.
const NAMES_MAX: usize = 4096;

/// The topics a client hears of: those it has asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// These, whether they exist or not.
    Named(BTreeSet<String>),
    /// Every topic.
    All,
}

impl Interest {
    /// No topic.
    pub(super) const fn none() -> Self {
        Self::Named(BTreeSet::new())
    }

    /// Adds what a request asks for.
    pub(super) fn add(&mut self, request: &MetadataRequest) {
        let Self::Named(names) = self else {
            return;
        };
        names.extend(request.topics.iter().map(|name| name.as_str().to_owned()));
        if request.topics.is_empty() || names.len() > NAMES_MAX {
            *self = Self::All;
        }
    }

    fn covers(&self, topic: &Topic) -> bool {
        match self {
            Self::Named(names) => names.contains(topic.name.as_str()),
            Self::All => true,
        }
    }
}

/// Leads a client that has seen `seen` to `now`, in as many frames as needed.
pub(super) fn updates(
    interest: &Interest,
    leaders: &Leaders,
    seen: &Topology,
    now: &Topology,
) -> Vec<TopologyUpdate> {
    let (mut changed, mut gone) = now.changes_since(seen);
    changed.retain(|topic| interest.covers(topic));
    gone.retain(|id| seen.topic(*id).is_some_and(|topic| interest.covers(topic)));
    let update = |topics, deleted| update(leaders, now, topics, deleted);
    let changes = changed
        .chunks(TOPICS_PER_UPDATE)
        .map(|topics| update(topics, &[]));
    let deletions = gone
        .chunks(DELETED_PER_UPDATE)
        .map(|topics| update(&[], topics));
    changes.chain(deletions).collect()
}

/// Tells a client that has seen `seen` of topics whose leaders changed.
pub(super) fn leader_updates(
    interest: &Interest,
    leaders: &Leaders,
    seen: &Topology,
    changed: impl Iterator<Item = TopicId>,
) -> Vec<TopologyUpdate> {
    let changed = changed.filter_map(|id| seen.topic(id));
    let changed: Vec<_> = changed
        .filter(|topic| interest.covers(topic))
        .cloned()
        .collect();
    changed
        .chunks(TOPICS_PER_UPDATE)
        .map(|topics| update(leaders, seen, topics, &[]))
        .collect()
}

fn update(
    leaders: &Leaders,
    now: &Topology,
    topics: &[Arc<Topic>],
    deleted: &[TopicId],
) -> TopologyUpdate {
    TopologyUpdate {
        epoch: now.epoch(),
        topics: Bounded::clipped(topics.iter().map(|topic| topic_info(topic, leaders))),
        deleted: Bounded::clipped(deleted.iter().copied()),
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::Text;

    use super::*;

    fn asking(names: &[String]) -> MetadataRequest {
        let topics = Bounded::clipped(names.iter().map(|name| Text::clipped(name)));
        MetadataRequest {
            topics,
            create: false,
        }
    }

    #[test]
    fn interest_grows_with_each_request_and_ends_at_everything() {
        let mut interest = Interest::none();
        interest.add(&asking(&["a".to_owned()]));
        interest.add(&asking(&["b".to_owned()]));
        let both = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        assert_eq!(interest, Interest::Named(both));
        interest.add(&asking(&[]));
        assert_eq!(interest, Interest::All);
        interest.add(&asking(&["c".to_owned()]));
        assert_eq!(interest, Interest::All);
    }

    #[test]
    fn very_many_names_are_all_names() {
        let mut interest = Interest::none();
        for page in 0..5 {
            let names: Vec<_> = (0..1024).map(|at| format!("{page}-{at}")).collect();
            interest.add(&asking(&names));
        }
        assert_eq!(interest, Interest::All);
    }
}
