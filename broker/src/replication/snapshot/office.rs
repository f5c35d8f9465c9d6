//! All transfers of a shard: who may begin one, and what becomes of it.
//!
//! Invariant: for each [`Act::Install`](crate::replication::shard::event::Act::Install) the shard gets one
//! `In::Staged`, and for each swap one `In::Swapped`, unless the whole of replication has stopped.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_protocol::{BrokerId, ErrorCode, GroupId, HybridTime, Message, SnapshotOpen};
use quorate_storage::{Arrived, Lane, StageError, discard_incoming};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::peers::{Boxed, SnapshotServer};
use crate::replication::config::ReplicationConfig;
use crate::replication::flush::{Disk, Poison};
use crate::replication::inbox::Inbox;
use crate::replication::machine::StateMachine;
use crate::replication::routes::Routes;
use crate::replication::shard::event::{In, Install, Opening, Swap};
use crate::replication::snapshot::exchange::{self, Reopened, Ruin};
use crate::replication::snapshot::job::{self, Lost, Setback};
use crate::replication::snapshot::line::{self, Broken, Door, Line, PATIENCE};
use crate::replication::snapshot::pace::Pace;
use crate::replication::snapshot::place::{Place, Turn};
use crate::replication::snapshot::receive::{self, Failed};
use crate::replication::snapshot::serve::{Counter, Unserved};
use crate::transport::{FrameReceiver, FrameSender};

/// How long files that came are kept for another attempt.
const KEEP: Duration = Duration::from_secs(600);

/// What an office is made of.
pub(in crate::replication) struct Parts<M: StateMachine> {
    pub(in crate::replication) disk: Arc<Disk<M>>,
    pub(in crate::replication) inbox: Arc<Inbox<In<M>>>,
    pub(in crate::replication) routes: Arc<Routes>,
    /// None: there are no other brokers.
    pub(in crate::replication) door: Option<Arc<dyn Door>>,
    pub(in crate::replication) now: Arc<dyn Fn() -> HybridTime + Send + Sync>,
    pub(in crate::replication) tracker: TaskTracker,
}

/// The transfers of a shard's groups.
pub(in crate::replication) struct Office<M: StateMachine> {
    parts: Parts<M>,
    places: Mutex<BTreeMap<GroupId, Arc<Place>>>,
    received_at_once: Semaphore,
    counter: Counter,
    tail_bytes_max: usize,
}

impl<M: StateMachine> Office<M> {
    pub(in crate::replication) fn new(parts: Parts<M>, config: &ReplicationConfig) -> Arc<Self> {
        let counter = Counter {
            pace: Pace::new(Arc::clone(&parts.now), config.snapshot_bytes_per_second),
            served_at_once: Semaphore::new(config.snapshots_served_max),
        };
        Arc::new(Self {
            places: Mutex::default(),
            received_at_once: Semaphore::new(config.snapshots_received_max),
            counter,
            tail_bytes_max: usize::try_from(config.tail_bytes_max.get()).unwrap_or(usize::MAX),
            parts,
        })
    }

    /// A group is open.
    pub(in crate::replication) fn open(&self, place: Place) {
        let group = place.spec.group;
        self.places.lock().insert(group, Arc::new(place));
    }

    /// A group is about to close: nothing touches its folder for a transfer when this returns.
    pub(in crate::replication) async fn retire(&self, group: GroupId) {
        let place = self.places.lock().remove(&group);
        if let Some(place) = place {
            place.stop.cancel();
            place.tasks.close();
            place.tasks.wait().await;
        }
    }

    fn place(&self, group: GroupId) -> Option<Arc<Place>> {
        self.places.lock().get(&group).cloned()
    }

    /// Fetches what a replica needs, unless that is under way.
    pub(in crate::replication) fn install(self: &Arc<Self>, install: Install) {
        let Some(place) = self.place(install.group) else {
            return self.staged(install, false);
        };
        let token = place.tasks.token();
        let Some(stop) = place.begin(&install) else {
            return;
        };
        let office = Arc::clone(self);
        self.parts.tracker.spawn(async move {
            office.bring(&place, install, &stop).await;
            drop(token);
        });
    }

    /// What the shard thinks of an install; what arrived for one that it does not want goes.
    pub(in crate::replication) fn done(self: &Arc<Self>, install: &Install) {
        let Some(place) = self.place(install.group) else {
            return;
        };
        let token = place.tasks.token();
        let Some((_, turn)) = place.take_arrived(install) else {
            return;
        };
        let office = Arc::clone(self);
        self.parts.tracker.spawn(async move {
            office.discard(&place, turn).await;
            drop(token);
        });
    }

    /// Puts what arrived in place of a replica's files and opens it again.
    pub(in crate::replication) fn swap(self: &Arc<Self>, swap: Swap<M>) {
        let install = swap.install;
        let place = self.place(install.group);
        let token = place.as_ref().map(|place| place.tasks.token());
        let open = place.filter(|place| !place.stop.is_cancelled());
        let arrived = open.and_then(|place| Some((place.take_arrived(&install)?, place)));
        let Some((arrived, place)) = arrived else {
            // The group closes: its files stay as they are.
            return self.swapped(install, false);
        };
        let office = Arc::clone(self);
        self.parts.tracker.spawn(async move {
            office.exchange(&place, arrived, swap).await;
            drop(token);
        });
    }

    /// Serves one transfer to its end.
    pub(in crate::replication) async fn serve(&self, from: BrokerId, line: &mut dyn Line) {
        if let Err(error) = self.serve_opened(from, line).await {
            tracing::info!(broker = %from, %error, "a snapshot was not served to its end");
        }
    }

    async fn serve_opened(&self, from: BrokerId, line: &mut dyn Line) -> Result<(), Unserved> {
        let opening = line::receive(line).await?;
        let open = SnapshotOpen::decode_frame(&opening.header, &opening.body)?;
        let place = self.place(open.group);
        let Some(place) = place.filter(|place| place.spec.tag == open.tag) else {
            let why = "the group is not here";
            return Ok(line::reject(line, ErrorCode::UNKNOWN_PARTITION, why).await?);
        };
        if self.parts.routes.broker_of(open.group, open.from) != Some(from) {
            let why = "the replica that asks does not live on that broker";
            return Ok(line::reject(line, ErrorCode::AUTHORIZATION_FAILED, why).await?);
        }
        tracing::info!(group = %open.group, broker = %from, index = %open.index, "serving a snapshot");
        let serving = self.counter.serve(&place, &open, line);
        place
            .stop
            .run_until_cancelled(serving)
            .await
            .unwrap_or(Ok(()))
    }

    async fn bring(&self, place: &Place, install: Install, stop: &CancellationToken) {
        let turn = stop.run_until_cancelled(Arc::clone(&place.turn).lock_owned());
        let Some(turn) = turn.await else {
            place.end(&install, None);
            return self.staged(install, false);
        };
        match self.fetch(place, &install, stop).await {
            Ok(arrived) => {
                tracing::info!(group = %install.group, up_to = %arrived.last_index(), "a snapshot came");
                place.end(&install, Some((arrived, turn)));
                self.staged(install, true);
            }
            Err(failed) => {
                tracing::info!(group = %install.group, %failed, "a snapshot did not come");
                if let Failed::Disk(Setback::Stage(StageError::Fatal { path, source })) = failed {
                    let error = source.to_string();
                    self.parts.disk.fail(Poison { path, error });
                }
                place.end(&install, None);
                self.staged(install, false);
                let over = tokio::time::timeout(KEEP, stop.cancelled());
                if over.await.is_err() {
                    self.discard(place, turn).await;
                }
            }
        }
    }

    async fn fetch(
        &self,
        place: &Place,
        install: &Install,
        stop: &CancellationToken,
    ) -> Result<Arrived, Failed> {
        let queued = stop.run_until_cancelled(self.received_at_once.acquire());
        let _one = queued.await.ok_or(Failed::Stopped)?.map_err(|_| Lost)?;
        if place.status.borrow().commit >= install.index {
            return Err(Failed::Stopped);
        }
        let broker = self.parts.routes.broker_of(install.group, install.from);
        let nowhere = || Broken("nobody knows where the leader lives".into());
        let (broker, door) = broker.zip(self.parts.door.as_ref()).ok_or_else(nowhere)?;
        tracing::info!(group = %install.group, %broker, index = %install.index, "fetching a snapshot");
        let opening = tokio::time::timeout(PATIENCE, door.open(broker));
        let opened = stop
            .run_until_cancelled(opening)
            .await
            .ok_or(Failed::Stopped)?;
        let late = |_| Broken("the other broker cannot be reached".into());
        let mut line = opened.map_err(late)??;
        receive::fetch(place, install, line.as_mut(), stop).await
    }

    async fn discard(&self, place: &Place, turn: Turn) {
        let storage = Arc::clone(place.reader.storage());
        let dir = place.spec.dir.clone();
        let volume = Arc::clone(&storage);
        let work = move || discard_incoming(&*volume, &dir);
        if let Ok(Err(error)) = job::run(&*storage, Lane::Flush, work).await {
            // They do not count, and the next start removes them.
            tracing::warn!(group = %place.spec.group, %error, "files of a snapshot were not removed");
        }
        drop(turn);
    }

    async fn exchange(&self, place: &Arc<Place>, (arrived, turn): (Arrived, Turn), swap: Swap<M>) {
        let Swap {
            install,
            hard,
            machine,
            status,
        } = swap;
        let disk = &self.parts.disk;
        exchange::clear(disk, place).await;
        let (volume, of) = (Arc::clone(disk), Arc::clone(place));
        let tail = self.tail_bytes_max;
        let work = move || exchange::exchange(&volume, &of, &arrived, hard, (machine, tail));
        let lost = |_| Err(Ruin::Replica(crate::replication::Halt(Lost.to_string())));
        match job::run(&**disk.storage(), Lane::Flush, work)
            .await
            .unwrap_or_else(lost)
        {
            Ok(reopened) => {
                let Reopened {
                    recovered,
                    files,
                    exchanged,
                } = reopened;
                disk.open(&place.spec, files);
                let window = place.window;
                self.parts.inbox.put(In::Open(Box::new(Opening {
                    recovered,
                    window,
                    status,
                })));
                self.swapped(install, exchanged);
            }
            Err(Ruin::Volume(poison)) => {
                disk.fail(poison);
                self.swapped(install, false);
            }
            Err(Ruin::Replica(halt)) => {
                status.send_modify(|status| status.poisoned = true);
                let group = install.group;
                self.parts.inbox.put(In::Broken { group, halt });
                self.swapped(install, false);
            }
        }
        drop(turn);
    }

    fn staged(&self, install: Install, staged: bool) {
        self.parts.inbox.put(In::Staged { install, staged });
    }

    fn swapped(&self, install: Install, finished: bool) {
        self.parts.inbox.put(In::Swapped { install, finished });
    }
}

impl<M: StateMachine> fmt::Debug for Office<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Office")
            .field("counter", &self.counter)
            .finish_non_exhaustive()
    }
}

/// Where transfers that others open come in.
pub(in crate::replication) struct Reception<M: StateMachine>(
    pub(in crate::replication) Arc<Office<M>>,
);

impl<M: StateMachine> fmt::Debug for Reception<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reception").field(&self.0).finish()
    }
}

impl<M: StateMachine> SnapshotServer for Reception<M> {
    fn serve(&self, from: BrokerId, sender: FrameSender, receiver: FrameReceiver) -> Boxed<()> {
        let office = Arc::clone(&self.0);
        Box::pin(async move {
            let mut line = (sender, receiver);
            office.serve(from, &mut line).await;
        })
    }
}
