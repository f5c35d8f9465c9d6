//! What the roof watches: the listener, the volume's health, the free space of the disk.

use std::future::pending;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quorate_storage::DataDir;
use quorate_storage::Lane;
use quorate_storage::Space;
use quorate_storage::Storage;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Environment;
use crate::Exit;
use crate::Groups;
use crate::config;
use crate::metadata::Metadata;
use crate::metadata::Vitals;
use crate::peers::Peers;
use crate::replication::Poison;
use crate::session::Service;
use crate::transport::Listener;

/// Time between two looks at the free space of the disk.
const DISK_INTERVAL: Duration = Duration::from_secs(5);
/// Free space must be this much above a threshold before its alarm ends.
const DISK_HYSTERESIS_PERCENT: u8 = 2;

/// Notices what no broker survives.
#[derive(Clone)]
pub(crate) struct Watchman {
    pub(crate) report: watch::Sender<Option<Exit>>,
    pub(crate) stop: CancellationToken,
    /// Locked as long as anything may write to it.
    pub(crate) _data: Arc<DataDir>,
}

impl Watchman {
    /// Gives each connection a task, until the listener ends.
    pub(crate) async fn accept(
        self,
        listener: Arc<Listener>,
        service: Arc<Service>,
        sessions: TaskTracker,
    ) {
        while let Some(connection) = listener.accept().await {
            sessions.spawn(Arc::clone(&service).serve(connection));
        }
        if !self.stop.is_cancelled() {
            tracing::error!("the QUIC endpoint ended by itself; the broker exits");
            self.report.send_replace(Some(Exit::EndpointDied));
        }
    }

    /// Waits for the end of the endpoint that leads to the other brokers.
    pub(crate) async fn guard_peers(self, peers: Peers) {
        let failed = self.stop.run_until_cancelled(peers.failed()).await;
        if failed.is_some() && !self.stop.is_cancelled() {
            tracing::error!("the QUIC endpoint of the peers ended by itself; the broker exits");
            self.report.send_replace(Some(Exit::EndpointDied));
        }
    }

    /// Waits for a disk that cannot be trusted any more, or metadata that cannot be changed.
    pub(crate) async fn guard_state(self, groups: Groups, metadata: Metadata) {
        let mut disks = (groups.metadata.poisoned(), groups.partitions.poisoned());
        let poison = tokio::select! {
            biased;
            () = self.stop.cancelled() => return,
            poison = poisoned(&mut disks.0) => poison,
            poison = poisoned(&mut disks.1) => poison,
            () = metadata.halted() => {
                tracing::error!("the metadata group ended by itself; the broker exits");
                self.report.send_replace(Some(Exit::MetadataHalted));
                return;
            }
            () = metadata.removed() => {
                tracing::warn!("this broker was removed from its cluster; it exits");
                self.report.send_replace(Some(Exit::Removed));
                return;
            }
        };
        tracing::error!(
            path = %poison.path.display(),
            error = %poison.error,
            "storage has failed: nothing more is acknowledged; the broker exits. Check the disk; \
             what was acknowledged is durable"
        );
        self.report.send_replace(Some(Exit::StoragePoisoned));
    }
}

/// Resolves when a volume has failed; never if it ends in good order.
async fn poisoned(watched: &mut watch::Receiver<Option<Poison>>) -> Poison {
    let failed = watched.wait_for(Option::is_some).await;
    match failed.ok().and_then(|poison| poison.clone()) {
        Some(poison) => poison,
        None => pending().await,
    }
}

/// Looks after the free space of the disk.
pub(crate) struct DiskWatch {
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    alarm: DiskAlarm,
    vitals: Arc<watch::Sender<Vitals>>,
}

impl DiskWatch {
    pub(crate) fn new(
        config: &config::Storage,
        environment: &Environment,
        folder: PathBuf,
        vitals: Arc<watch::Sender<Vitals>>,
    ) -> Self {
        let (warn, stop) = (config.disk_warn_percent, config.disk_stop_percent);
        let alarm = DiskAlarm {
            warn,
            stop,
            state: DiskState::Ample,
        };
        Self {
            storage: Arc::clone(&environment.storage),
            folder,
            alarm,
            vitals,
        }
    }

    pub(crate) async fn run(mut self, service: Arc<Service>, stop: CancellationToken) {
        loop {
            match self.space().await {
                Some(Ok(space)) => self.handle_space(space, &service),
                Some(Err(error)) => {
                    tracing::warn!(folder = %self.folder.display(), %error, "free space is unknown");
                }
                None => return,
            }
            let pause = tokio::time::sleep(DISK_INTERVAL);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }

    async fn space(&self) -> Option<io::Result<Space>> {
        let (sender, receiver) = oneshot::channel();
        let (storage, folder) = (Arc::clone(&self.storage), self.folder.clone());
        let look = move || drop(sender.send(storage.space(&folder)));
        self.storage.submit(Lane::Background, Box::new(look));
        receiver.await.ok()
    }

    fn handle_space(&mut self, space: Space, service: &Service) {
        let free_percent = free_percent(space);
        let judged = self.alarm.judge(free_percent);
        let state = self.alarm.state;
        self.vitals.send_modify(|vitals| {
            vitals.disk_free_bytes = space.free;
            vitals.disk_low = state >= DiskState::Low;
            vitals.disk_full = state == DiskState::Full;
        });
        let Some(state) = judged else {
            return;
        };
        service.refuse_publishing(state == DiskState::Full);
        let (folder, free) = (self.folder.display(), space.free);
        match state {
            DiskState::Ample => tracing::info!(%folder, free, free_percent, "disk has room again"),
            DiskState::Low => tracing::warn!(%folder, free, free_percent, "disk is nearly full"),
            DiskState::Full => {
                tracing::error!(%folder, free, free_percent, "disk is full: publishing is refused");
            }
        }
    }
}

fn free_percent(space: Space) -> u8 {
    let percent = u128::from(space.free) * 100 / u128::from(space.total.max(1));
    u8::try_from(percent).unwrap_or(100)
}

/// How much room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum DiskState {
    Ample,
    Low,
    Full,
}

/// Decides about the room on the disk; an alarm ends only well above where it began.
#[derive(Debug)]
struct DiskAlarm {
    warn: u8,
    stop: u8,
    state: DiskState,
}

impl DiskAlarm {
    /// The new state, if it is another one.
    fn judge(&mut self, free_percent: u8) -> Option<DiskState> {
        let at = |percent| match percent {
            free if free < self.stop => DiskState::Full,
            free if free < self.warn => DiskState::Low,
            _ => DiskState::Ample,
        };
        let now = at(free_percent);
        let relieved = at(free_percent.saturating_sub(DISK_HYSTERESIS_PERCENT));
        let state = if now > self.state {
            now
        } else {
            relieved.min(self.state)
        };
        (state != self.state).then(|| {
            self.state = state;
            state
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_alarm_ends_only_well_above_its_threshold() {
        let mut alarm = DiskAlarm {
            warn: 15,
            stop: 5,
            state: DiskState::Ample,
        };
        assert_eq!(alarm.judge(15), None);
        assert_eq!(alarm.judge(14), Some(DiskState::Low));
        assert_eq!(alarm.judge(16), None);
        assert_eq!(alarm.judge(4), Some(DiskState::Full));
        assert_eq!(alarm.judge(6), None);
        assert_eq!(alarm.judge(7), Some(DiskState::Low));
        assert_eq!(alarm.judge(17), Some(DiskState::Ample));
    }

    #[test]
    fn free_space_is_counted_in_whole_percent() {
        assert_eq!(free_percent(Space { free: 0, total: 0 }), 0);
        assert_eq!(
            free_percent(Space {
                free: 49,
                total: 1000
            }),
            4
        );
        assert_eq!(
            free_percent(Space {
                free: u64::MAX,
                total: u64::MAX
            }),
            100
        );
    }
}
