//! The door to a shard: groups are opened, closed and deleted here.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use quorate_protocol::{BrokerId, GroupId, HybridTime, LogIndex, ReplicaId};
use quorate_storage::{HardState, Lane, RamStorage, StateLog, Storage};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::peers::{Channel, Inbound, Peers};
use crate::replication::config::{ElectionWindow, GroupSpec, ReplicationConfig};
use crate::replication::flush::{Disk, Poison};
use crate::replication::gate::Gate;
use crate::replication::group::{Group, GroupStatus, Room};
use crate::replication::inbox::Inbox;
use crate::replication::inspect::Inspection;
use crate::replication::machine::StateMachine;
use crate::replication::outbox::{Carrier, Outbox};
use crate::replication::recovery::{Files, OpenError, Recovered, recover};
use crate::replication::routes::Routes;
use crate::replication::shard::event::{In, Opening};
use crate::replication::shard::{Halt, Shard};
use crate::replication::shell::{Halted, Parts, Shell};
use crate::replication::snapshot::line::Door;
use crate::replication::snapshot::{self, Office, Place, Reception};
use crate::replication::weak::{Volumes, remove_all};

/// What replication is given of the world.
#[derive(Clone)]
pub struct Environment {
    /// The volume.
    pub storage: Arc<dyn Storage>,
    /// Hybrid time now.
    pub now: Arc<dyn Fn() -> HybridTime + Send + Sync>,
    /// Owns the shard's task.
    pub tracker: TaskTracker,
    /// The shard's state log; its folder exists.
    pub state_log: PathBuf,
    /// The other brokers, and the shard's channel to them. None: there are none.
    pub peers: Option<(Peers, Channel)>,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("state_log", &self.state_log)
            .finish_non_exhaustive()
    }
}

/// Why replication did not start.
#[derive(Debug, thiserror::Error)]
#[error("state log {}: {source}", path.display())]
pub struct StartError {
    /// The state log.
    pub path: PathBuf,
    /// What storage said.
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// One shard and its groups. Cheap to clone.
pub struct Replication<M: StateMachine>(pub(super) Arc<Inner<M>>);

pub(super) struct Inner<M: StateMachine> {
    config: ReplicationConfig,
    inbox: Arc<Inbox<In<M>>>,
    pub(super) gate: Arc<Gate<M>>,
    pub(super) office: Arc<Office<M>>,
    disk: Arc<Disk<M>>,
    total: Arc<Semaphore>,
    rooms: Mutex<BTreeMap<GroupId, Arc<Semaphore>>>,
    routes: Arc<Routes>,
    closing: Arc<Mutex<BTreeMap<GroupId, oneshot::Sender<()>>>>,
    halted: Arc<Halted>,
    stop: CancellationToken,
    stopped: watch::Receiver<bool>,
}

/// What leads to other brokers: none of it if there are none.
#[derive(Debug, Default)]
pub(super) struct Links {
    /// Carries messages.
    pub(super) carrier: Option<Arc<dyn Carrier>>,
    /// Opens transfers.
    pub(super) door: Option<Arc<dyn Door>>,
}

impl<M: StateMachine> Clone for Replication<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: StateMachine> fmt::Debug for Replication<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replication")
            .field("disk", &self.0.disk)
            .finish_non_exhaustive()
    }
}

impl<M: StateMachine> Replication<M> {
    /// Opens the state log and starts the shard's task. Needs a tokio runtime; blocks on the disk.
    ///
    /// # Errors
    /// If the state log cannot be read.
    pub fn start(environment: Environment, config: ReplicationConfig) -> Result<Self, StartError> {
        let Some((peers, channel)) = environment.peers.clone() else {
            return Self::start_with(environment, config, Links::default());
        };
        let link = Arc::new((peers.clone(), channel));
        let links = Links {
            carrier: Some(Arc::clone(&link) as Arc<dyn Carrier>),
            door: Some(link),
        };
        let started = Self::start_with(environment, config, links)?;
        peers.attach(channel, Arc::clone(&started.0.gate) as Arc<dyn Inbound>);
        let reception = Reception(Arc::clone(&started.0.office));
        peers.serve_snapshots(channel, Arc::new(reception));
        Ok(started)
    }

    /// As `start`, with whatever leads to other brokers.
    pub(super) fn start_with(
        environment: Environment,
        config: ReplicationConfig,
        links: Links,
    ) -> Result<Self, StartError> {
        let path = environment.state_log.clone();
        let log = StateLog::open(&environment.storage, &path).map_err(|source| StartError {
            path,
            source: Box::new(source),
        })?;
        let inbox = Arc::new(Inbox::new());
        let batch = usize::try_from(config.group_commit_bytes_max.get()).unwrap_or(usize::MAX);
        let memory = Arc::new(RamStorage::new(config.memory_bytes_max.get()));
        let volumes = (environment.storage, memory as Arc<dyn Storage>);
        let disk = Disk::new(volumes, Arc::clone(&inbox), log, batch, config.tick);
        let (ended, stopped) = watch::channel(false);
        let total = Room::units(config.uncommitted_bytes_total_max.get());
        let routes = Arc::new(Routes::default());
        let gate = Gate::new(Arc::clone(&inbox), Arc::clone(&routes));
        let office = snapshot::Parts {
            disk: Arc::clone(&disk),
            inbox: Arc::clone(&inbox),
            routes: Arc::clone(&routes),
            door: links.door,
            now: Arc::clone(&environment.now),
            tracker: environment.tracker.clone(),
        };
        let office = Office::new(office, &config);
        let inner = Arc::new(Inner {
            gate: Arc::new(gate),
            office: Arc::clone(&office),
            inbox: Arc::clone(&inbox),
            disk: Arc::clone(&disk),
            total: Arc::new(Semaphore::new(usize::try_from(total).unwrap_or(usize::MAX))),
            rooms: Mutex::default(),
            routes,
            closing: Arc::default(),
            halted: Arc::new(Halted::default()),
            stop: CancellationToken::new(),
            stopped,
            config: config.clone(),
        });
        let shell = Shell::new(Parts {
            shard: Shard::new(config.clone()),
            inbox,
            disk,
            gate: Arc::clone(&inner.gate),
            outbox: Outbox::new(links.carrier, Arc::clone(&inner.routes)),
            office,
            now: environment.now,
            closing: Arc::clone(&inner.closing),
            halted: Arc::clone(&inner.halted),
            tick: config.tick,
        });
        let stop = inner.stop.clone();
        environment.tracker.spawn(async move {
            shell.run(stop).await;
            ended.send_replace(true);
        });
        Ok(Self(inner))
    }

    /// Opens a group's replica, creating its log if there is none. Cancel safe: a dropped call may
    /// leave the group open.
    ///
    /// # Errors
    /// If its files cannot be read, or are another replica's.
    pub async fn open(&self, spec: GroupSpec, machine: M) -> Result<Group<M>, OpenError> {
        let group = spec.group;
        let stopped = || OpenError::Stopped { group };
        let (sender, opened) = oneshot::channel();
        let inner = Arc::clone(&self.0);
        let work = move || drop(sender.send(inner.open_now(&spec, machine)));
        self.0.disk.storage().submit(Lane::Flush, Box::new(work));
        opened.await.map_err(|_| stopped())?
    }

    /// Closes a group's replica: open proposals end, its files are flushed and marked whole.
    pub async fn close_group(&self, group: GroupId) {
        self.0.close(group).await;
    }

    /// Closes a group's replica and removes its files.
    ///
    /// # Errors
    /// What the system reports; what is left is removed by calling again.
    pub async fn delete(
        &self,
        group: GroupId,
        replica: ReplicaId,
        dir: PathBuf,
    ) -> std::io::Result<()> {
        self.0.close(group).await;
        self.0.disk.forget(replica);
        let (sender, removed) = oneshot::channel();
        let storage = Arc::clone(self.0.disk.storage());
        let memory = Arc::clone(self.0.disk.memory());
        let remove = move || {
            remove_all(memory.as_ref(), &dir)?;
            remove_all(storage.as_ref(), &dir)
        };
        let work = move || drop(sender.send(remove()));
        self.0
            .disk
            .storage()
            .submit(Lane::Background, Box::new(work));
        removed
            .await
            .unwrap_or_else(|_| Err(std::io::ErrorKind::Interrupted.into()))
    }

    /// Where the replicas of a group live from here on, the preferred leader first.
    pub fn set_holders(&self, group: GroupId, holders: Vec<(ReplicaId, BrokerId)>) {
        self.0.routes.update(group, holders);
    }

    /// All groups led here, at one moment.
    pub async fn inspect_led(&self) -> Vec<(GroupId, Inspection)> {
        let (tell, told) = oneshot::channel();
        self.0.inbox.put(In::InspectLed(tell));
        told.await.unwrap_or_default()
    }

    /// Closes all groups and ends the task.
    pub async fn shutdown(&self) {
        let groups: Vec<_> = self.0.rooms.lock().keys().copied().collect();
        for group in &groups {
            self.0.office.retire(*group).await;
        }
        let mut closing = Vec::new();
        for group in groups {
            closing.push(self.0.begin_close(group));
        }
        for (group, closed) in closing {
            self.0.finish_close(group, closed).await;
        }
        self.0.total.close();
        self.0.stop.cancel();
        let mut stopped = self.0.stopped.clone();
        // The task may be gone already.
        drop(stopped.wait_for(|stopped| *stopped).await);
    }

    /// Is anything acknowledged that no flush has covered?
    pub fn is_unflushed(&self) -> bool {
        self.0.disk.is_unflushed()
    }

    /// Replicas that ended because their state was lost or damaged, until they are closed. Their
    /// files are kept.
    pub fn halted(&self) -> watch::Receiver<BTreeMap<GroupId, Halt>> {
        self.0.halted.subscribe()
    }

    /// Becomes something when the volume fails; the process must end then.
    pub fn poisoned(&self) -> watch::Receiver<Option<Poison>> {
        self.0.disk.poisoned()
    }
}

impl<M: StateMachine> Inner<M> {
    /// On a thread of the disk.
    fn open_now(&self, spec: &GroupSpec, machine: M) -> Result<Group<M>, OpenError> {
        let room = self.room(spec.group)?;
        let recovered = self.recover(spec, machine).inspect_err(|_| {
            self.rooms.lock().remove(&spec.group);
        })?;
        let (recovered, files) = recovered;
        let reader = files.reader.clone();
        let (status, watch) = watch::channel(GroupStatus::default());
        let mut window = window(spec, &self.config);
        if recovered.lost {
            window = window.behind(&self.config);
        }
        let shown = (reader.clone(), files.checkpoints.clone());
        self.disk.open(spec, files);
        self.routes.set(spec.group, spec.holders.clone());
        let place = Place::new(spec.clone(), window, shown, watch.clone());
        self.office.open(place);
        self.inbox.put(In::Open(Box::new(Opening {
            recovered,
            window,
            status,
        })));
        Ok(Group {
            id: spec.group,
            inbox: Arc::clone(&self.inbox),
            room,
            reader,
            status: watch,
        })
    }

    fn recover(&self, spec: &GroupSpec, machine: M) -> Result<(Recovered<M>, Files), OpenError> {
        let (disk, memory) = (self.disk.storage(), self.disk.memory());
        let volumes = Volumes { disk, memory };
        let place = volumes.place(spec)?;
        let mut saved = self.disk.saved(spec.replica);
        let mut spec = spec.clone();
        if place.lost {
            // What was committed may not be what is on disk now, and all members begin alike.
            let commit = LogIndex::default();
            saved = saved.map(|saved| HardState { commit, ..saved });
            spec.voters = spec.holders.iter().map(|(replica, _)| *replica).collect();
        }
        let tail = usize::try_from(self.config.tail_bytes_max.get()).unwrap_or(usize::MAX);
        let (mut recovered, files) = recover(&place.storage, &spec, saved, machine, tail)?;
        recovered.lost = place.lost;
        Ok((recovered, files))
    }

    /// Takes the group's place: nobody else opens it until it is closed.
    fn room(&self, group: GroupId) -> Result<Room, OpenError> {
        let group_units = Room::units(self.config.uncommitted_bytes_max.get());
        let total_units = Room::units(self.config.uncommitted_bytes_total_max.get());
        let mut rooms = self.rooms.lock();
        let Entry::Vacant(place) = rooms.entry(group) else {
            return Err(OpenError::Occupied { group });
        };
        let permits = usize::try_from(group_units).unwrap_or(usize::MAX);
        let group = Arc::clone(place.insert(Arc::new(Semaphore::new(permits))));
        let total = Arc::clone(&self.total);
        Ok(Room {
            group,
            group_units,
            total,
            total_units,
        })
    }

    async fn close(&self, group: GroupId) {
        // Before anything else: what is being exchanged would open the group again.
        self.office.retire(group).await;
        let (group, closed) = self.begin_close(group);
        self.finish_close(group, closed).await;
    }

    fn begin_close(&self, group: GroupId) -> (GroupId, oneshot::Receiver<()>) {
        if let Some(room) = self.rooms.lock().get(&group) {
            room.close();
        }
        let (sender, closed) = oneshot::channel();
        self.closing.lock().insert(group, sender);
        self.inbox.put(In::Close(group));
        (group, closed)
    }

    async fn finish_close(&self, group: GroupId, closed: oneshot::Receiver<()>) {
        // Ends as well if the task is gone, or the group was not there.
        let mut stopped = self.stopped.clone();
        tokio::select! {
            _ = closed => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        drop(self.disk.close(group).await);
        self.routes.forget(group);
        self.halted
            .send_if_modified(|halted| halted.remove(&group).is_some());
        self.rooms.lock().remove(&group);
    }
}

/// By its place among those that hold the group now; its first voters may be long gone.
fn window(spec: &GroupSpec, config: &ReplicationConfig) -> ElectionWindow {
    let held: Vec<_> = spec.holders.iter().map(|(replica, _)| *replica).collect();
    let members = if held.contains(&spec.replica) {
        &held
    } else {
        &spec.voters
    };
    let place = members.iter().position(|member| *member == spec.replica);
    ElectionWindow::of(place.unwrap_or(0), members.len(), config)
}
