//! Reading every replica's sealed segments again, slowly: bytes that went wrong at rest are found
//! before anybody needs them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::GroupId;
use quorate_protocol::LogIndex;
use quorate_protocol::ReplicaId;
use quorate_storage::Lane;
use quorate_storage::LogReader;
use quorate_storage::ReadError;
use quorate_storage::Storage;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::partition::handle::Partition;
use crate::partition::registry::Registry;

/// Bytes read in one step.
const STEP_BYTES: usize = 1 << 20;
/// Time between two steps: with the above, at most about 32 MiB/s.
const STEP_INTERVAL: Duration = Duration::from_millis(30);
/// Time between two looks at what is due.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// A replica is read again after this time.
const AGAIN_AFTER: Duration = Duration::from_secs(3_600);

/// The task that reads.
pub(crate) struct Scrub {
    pub(crate) registry: Registry,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Scrub {
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut read: BTreeMap<GroupId, (ReplicaId, Duration)> = BTreeMap::new();
        loop {
            let pause = tokio::time::sleep(LOOK_INTERVAL);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
            let partitions = self.registry.all();
            read.retain(|group, _| self.registry.by_group(*group).is_some());
            for partition in partitions {
                let (group, replica) = (partition.spec().group, partition.spec().replica);
                let now = self.clock.monotonic();
                let fresh = read.get(&group).is_some_and(|(known, at)| {
                    *known == replica && now.saturating_sub(*at) < AGAIN_AFTER
                });
                if fresh {
                    continue;
                }
                let done = stop.run_until_cancelled(self.read(&partition)).await;
                if done.is_none() {
                    return;
                }
                read.insert(group, (replica, now));
            }
        }
    }

    /// Reads all sealed segments of one replica.
    async fn read(&self, partition: &Partition) {
        let log = partition.log();
        let sealed = log.segments().into_iter().rfind(|segment| segment.sealed);
        let Some(end) = sealed.map(|segment| segment.last_index.next()) else {
            return;
        };
        let mut next = log.first_index();
        while next < end {
            match self.step(log.clone(), next, end).await {
                Some(Ok(reached)) if reached > next => next = reached,
                // Retention took what was to be read, or the broker ends.
                Some(Ok(_) | Err(ReadError::NoEntry { .. })) | None => return,
                Some(Err(error @ ReadError::Damaged { .. })) => {
                    partition.note_damage(error.to_string());
                    return;
                }
                Some(Err(error)) => {
                    let partition = partition.spec().label();
                    tracing::warn!(partition, %error, "stored records could not be checked");
                    return;
                }
            }
            tokio::time::sleep(STEP_INTERVAL).await;
        }
    }

    /// Reads some entries, with every check; answers the first that was not read.
    async fn step(
        &self,
        log: LogReader,
        from: LogIndex,
        end: LogIndex,
    ) -> Option<Result<LogIndex, ReadError>> {
        let (sender, receiver) = oneshot::channel();
        let read = move || {
            let entries = log.entries(from, end, STEP_BYTES);
            let reached = entries.map(|all| all.last().map_or(from, |last| last.index.next()));
            // Whoever asked may have gone.
            drop(sender.send(reached));
        };
        self.storage.submit(Lane::Background, Box::new(read));
        receiver.await.ok()
    }
}
