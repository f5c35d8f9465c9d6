//! What the plans in group 0 ask of the leaders of groups.

use std::collections::BTreeMap;

use quorate_protocol::BrokerId;
use quorate_protocol::GroupId;
use quorate_protocol::ReplicaId;

use crate::metadata::plan::command::Site;
use crate::metadata::topology::Assignment;
use crate::metadata::topology::Topology;

/// Groups on their way to one broker at the same time.
const AT_ONCE_MAX: usize = 4;

/// One group that is to change its members now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::metadata) struct Errand {
    pub(in crate::metadata) site: Site,
    /// Its members afterwards.
    pub(in crate::metadata) to: Vec<ReplicaId>,
}

/// The plans to carry out now: a function of the metadata, so leaders that know nothing of each
/// other keep to the bound together.
pub(in crate::metadata) fn agenda(topology: &Topology) -> BTreeMap<GroupId, Errand> {
    let mut busy: BTreeMap<BrokerId, usize> = BTreeMap::new();
    let mut agenda = BTreeMap::new();
    for (site, assignment) in topology.sites() {
        if assignment.moving.is_none() {
            continue;
        }
        let arriving: Vec<_> = arriving(assignment).collect();
        let full = |broker| busy.get(broker).is_some_and(|count| *count >= AT_ONCE_MAX);
        if arriving.iter().any(full) {
            continue;
        }
        for broker in arriving {
            *busy.entry(broker).or_default() += 1;
        }
        let to = assignment.planned().iter().map(|held| held.replica);
        let to = to.collect();
        agenda.insert(site.group, Errand { site, to });
    }
    agenda
}

/// The brokers that get a replica.
fn arriving(assignment: &Assignment) -> impl Iterator<Item = BrokerId> {
    let new = assignment.planned().iter().filter(|held| {
        let mut settled = assignment.replicas.iter();
        !settled.any(|other| other.replica == held.replica)
    });
    new.map(|held| held.broker)
}
