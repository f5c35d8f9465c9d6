//! Keeps group 0 as large as the cluster wants it, on the broker that leads it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::ReplicaId;
use tokio_util::sync::CancellationToken;

use crate::metadata::keep::Condition;
use crate::metadata::keep::Step;
use crate::metadata::keep::next_step;
use crate::metadata::propose::Proposer;
use crate::replication::Inspection;
use crate::replication::Role;

/// Time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Entries that a replica may be behind and still follow closely.
const LAG_MAX: u64 = 64;

/// Looks after group 0 until the broker stops.
pub(super) async fn keep(proposer: Arc<Proposer>, stop: CancellationToken) {
    let pause = || stop.run_until_cancelled(tokio::time::sleep(INTERVAL));
    while pause().await.is_some() {
        let step = stop.run_until_cancelled(look(&proposer)).await;
        if step.is_none() {
            return;
        }
    }
}

async fn look(proposer: &Proposer) {
    let group = proposer.group();
    if group.status().role != Role::Leader {
        return;
    }
    let Some(now) = group.inspect().await.filter(|now| now.ready) else {
        return;
    };
    let wanted = wanted(proposer, &now);
    let leader = group.status().leader;
    let Some(step) = leader.and_then(|leader| next_step(&now.membership, leader, &wanted)) else {
        return;
    };
    tracing::info!(?step, "membership of the metadata group");
    match step {
        Step::HandOver(to) => group.transfer(to),
        Step::Change(changes) => {
            if let Err(failure) = group.change(changes).await {
                tracing::warn!(%failure, "membership of the metadata group: tried again later");
            }
        }
    }
}

fn wanted(proposer: &Proposer, now: &Inspection) -> BTreeMap<ReplicaId, Condition> {
    let holders = proposer.colleagues().holders().into_iter();
    holders
        .map(|(replica, _)| (replica, condition(replica, now)))
        .collect()
}

fn condition(replica: ReplicaId, now: &Inspection) -> Condition {
    let mut progress = now.progress.iter();
    let known = progress.find(|progress| progress.replica == replica);
    let current = known.is_some_and(|progress| {
        let lag = now.last.get().saturating_sub(progress.matched.get());
        progress.active && !progress.snapshot && lag <= LAG_MAX
    });
    match current {
        true => Condition::Current,
        false => Condition::Behind,
    }
}
