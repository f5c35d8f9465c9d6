//! Two tasks for all peers: how they are reached, and who has to hear of lost messages.

use std::sync::Arc;

use tokio::time::MissedTickBehavior;

use crate::peers::hub::Hub;

/// Judges all peers from time to time; what happens at once is judged where it happens.
pub(crate) async fn watch_reach(hub: Arc<Hub>) {
    let ended = hub.ended.clone();
    let mut ticks = tokio::time::interval(hub.config.timings.suspect / 4);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let watching = async {
        loop {
            ticks.tick().await;
            let peers: Vec<_> = hub.peers.read().values().cloned().collect();
            for peer in peers {
                hub.judge(&peer);
                let idle = hub.config.timings.snapshot_idle;
                peer.snapshots.close_if_idle(hub.now(), idle);
            }
        }
    };
    ended.run_until_cancelled(watching).await;
}

/// Reports lost messages soon, but not for every one of them.
pub(crate) async fn report_losses(hub: Arc<Hub>) {
    let ended = hub.ended.clone();
    let reporting = async {
        loop {
            hub.losses.notified().await;
            hub.report_losses();
            tokio::time::sleep(hub.config.timings.lost).await;
        }
    };
    ended.run_until_cancelled(reporting).await;
}
