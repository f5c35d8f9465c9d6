//! What changed between two snapshots of the topology, as a client is told.

use quorate_protocol::Bounded;
use quorate_protocol::TopologyUpdate;

use crate::metadata::Topology;
use crate::metadata::describe::topic_info;
use crate::partition::Registry;

/// Topics in one update: even large ones stay below the frame limit.
const TOPICS_PER_UPDATE: usize = 16;
/// Deleted topics in one update.
const DELETED_PER_UPDATE: usize = 1024;

/// Leads a client that has seen `seen` to `now`, in as many frames as needed.
pub(super) fn updates(registry: &Registry, seen: &Topology, now: &Topology) -> Vec<TopologyUpdate> {
    let epoch = now.epoch();
    let (changed, gone) = now.changes_since(seen);
    let changes = changed
        .chunks(TOPICS_PER_UPDATE)
        .map(|topics| TopologyUpdate {
            epoch,
            topics: Bounded::clipped(topics.iter().map(|topic| topic_info(topic, registry))),
            deleted: Bounded::empty(),
        });
    let deletions = gone
        .chunks(DELETED_PER_UPDATE)
        .map(|topics| TopologyUpdate {
            epoch,
            topics: Bounded::empty(),
            deleted: Bounded::clipped(topics.iter().copied()),
        });
    changes.chain(deletions).collect()
}
