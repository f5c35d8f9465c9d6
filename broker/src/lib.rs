//! The Quorate server, as a library: rooms by floor, wired by the roof.
//!
//! [`Broker::start`] is the only door. Everything a broker does runs in tasks of the runtime it was
//! started in; [`Broker::drain`] ends them in good order.

#![forbid(unsafe_code)]

pub mod auth;
pub mod clock;
pub mod config;
mod environment;
pub mod metadata;
pub mod partition;
pub mod replication;
pub mod session;
pub mod transport;

use std::io;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::ByteSize;
use quorate_protocol::ErrorCode;
use quorate_storage::DataDir;
use quorate_storage::DataDirError;
use quorate_storage::Lane;
use quorate_storage::Space;
use quorate_storage::Storage;
use quorate_storage::StorageIdentity;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::TrustDomain;
use crate::clock::HybridClock;
use crate::config::Config;
use crate::metadata::Metadata;
use crate::metadata::MetadataMachine;
use crate::partition::PartitionMachine;
use crate::partition::Registry;
use crate::replication::Replication;
use crate::session::Service;
use crate::transport::Listener;

pub use crate::environment::Environment;
pub use crate::environment::Sockets;

/// Time between two looks at what retention lets go.
const RETENTION_INTERVAL: Duration = Duration::from_secs(5);
/// Time between two looks at the free space of the disk.
const DISK_INTERVAL: Duration = Duration::from_secs(5);
/// Free space must be this much above a threshold before its alarm ends.
const DISK_HYSTERESIS_PERCENT: u8 = 2;
/// How long the last packets and tasks may take after the clients are gone.
const EPILOGUE: Duration = Duration::from_secs(5);

/// What to do with the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitMode {
    /// It must have been initialised before.
    Open,
    /// It is initialised if it is empty.
    Init,
}

/// Why a broker cannot go on; its process ends with this status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A flush failed: nothing on this volume can be trusted any more.
    StoragePoisoned = 74,
    /// The QUIC endpoint ended by itself.
    EndpointDied = 70,
}

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The folder was never used.
    #[error("{} holds no data of a broker; to begin with an empty one, start with --init", .0.display())]
    NotInitialised(PathBuf),
    /// The folder cannot be used.
    #[error("data folder: {0}")]
    DataDir(#[from] DataDirError),
    /// The disk did not answer.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cluster's name is no trust domain.
    #[error("node.cluster: {0}")]
    Cluster(#[from] auth::IdentityError),
    /// Certificates or keys cannot be read.
    #[error("certificates: {0}")]
    Certificates(#[from] config::FileError),
    /// The UDP socket cannot be had.
    #[error("listeners.client {address}: {source}")]
    Socket {
        /// The configured address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The listener cannot be had.
    #[error("listeners.client: {0}")]
    Listen(#[from] transport::BindError),
    /// The state of the groups cannot be read.
    #[error("replication: {0}")]
    Replication(#[from] replication::StartError),
    /// The metadata cannot be started.
    #[error(transparent)]
    Metadata(#[from] metadata::StartError),
}

/// A running broker. Dropping it does not end it: [`Broker::drain`] does, or the end of its runtime.
#[derive(Debug)]
#[must_use = "a broker ends with `drain`"]
pub struct Broker {
    address: SocketAddr,
    service: Arc<Service>,
    listener: Arc<Listener>,
    sessions: TaskTracker,
    tracker: TaskTracker,
    stop: CancellationToken,
    exit: watch::Receiver<Option<Exit>>,
    groups: Groups,
    environment: Environment,
    /// Locked as long as anything may write to it.
    _data: Arc<DataDir>,
}

/// Group 0 and the partitions: two sets of groups, so that neither waits for the other.
#[derive(Clone, Debug)]
struct Groups {
    metadata: Replication<MetadataMachine>,
    partitions: Replication<PartitionMachine>,
}

/// What the rooms have in common while they are built.
struct Site {
    config: Config,
    environment: Environment,
    data: Arc<DataDir>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Broker {
    /// Opens the data folder, recovers every partition, then listens for clients.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What failed, where, and what to do about it.
    pub async fn start(
        config: Config,
        mode: InitMode,
        environment: Environment,
    ) -> Result<Self, StartError> {
        let began = environment.clock.monotonic();
        let (data, fresh) = open_data(&config, mode, &environment)?;
        let socket = bind(&config, &environment)?;
        let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
        let site = Site {
            config,
            environment,
            data: Arc::new(data),
            tracker,
            stop,
        };
        let groups = site.start_groups()?;
        let registry = site.registry(&groups);
        let metadata = site
            .start_metadata(&groups, &registry, socket.address, fresh)
            .await?;
        log_recovery(&metadata, &registry, site.since(began));
        let service = Service::new(site.session_parts(metadata, registry));
        let listener = Arc::new(site.listen(socket.socket)?);
        let broker = site.open(service, listener, groups);
        log_ready(&site, broker.address, site.since(began));
        Ok(broker)
    }

    /// Where clients connect.
    #[must_use]
    pub const fn client_address(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when the broker cannot go on. Cancel-safe.
    pub async fn failed(&self) -> Exit {
        let mut exit = self.exit.clone();
        let failed = exit.wait_for(Option::is_some).await.map(|exit| *exit);
        // The reporting tasks live as long as the broker.
        failed.ok().flatten().unwrap_or(Exit::EndpointDied)
    }

    /// Shuts down in good order: refuses new work, lets clients finish within `deadline`, flushes,
    /// and leaves the log marked as complete.
    pub async fn drain(self, deadline: Duration) {
        let began = self.environment.clock.monotonic();
        let clients = self.sessions.len();
        tracing::info!(clients, ?deadline, "shutting down: clients are asked to go");
        self.service.drain(deadline);
        self.sessions.close();
        if tokio::time::timeout(deadline, self.sessions.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                clients = self.sessions.len(),
                "clients are cut off at the deadline"
            );
        }
        self.stop.cancel();
        self.listener
            .close(ErrorCode::OK, "the broker has shut down");
        let quiet = async {
            self.listener.wait_idle().await;
            self.sessions.wait().await;
        };
        if tokio::time::timeout(EPILOGUE, quiet).await.is_err() {
            tracing::warn!("connections did not end in time");
        }
        self.groups.partitions.shutdown().await;
        self.groups.metadata.shutdown().await;
        let Self {
            listener,
            service,
            tracker,
            environment,
            ..
        } = self;
        // The listener's own tasks end with its last owner.
        drop((listener, service));
        tracker.close();
        if tokio::time::timeout(EPILOGUE, tracker.wait())
            .await
            .is_err()
        {
            tracing::warn!(tasks = tracker.len(), "tasks did not end in time");
        }
        let took = environment.clock.monotonic().saturating_sub(began);
        tracing::info!(?took, "broker has shut down");
    }
}

impl Site {
    fn since(&self, began: Duration) -> Duration {
        self.environment.clock.monotonic().saturating_sub(began)
    }

    /// Lets clients in, and watches over what the broker stands on.
    fn open(&self, service: Arc<Service>, listener: Arc<Listener>, groups: Groups) -> Broker {
        let sessions = TaskTracker::new();
        let (report, exit) = watch::channel(None);
        let (stop, data) = (self.stop.clone(), Arc::clone(&self.data));
        let watchman = Watchman {
            report,
            stop: stop.clone(),
            _data: Arc::clone(&data),
        };
        self.tracker.spawn(watchman.clone().accept(
            Arc::clone(&listener),
            Arc::clone(&service),
            sessions.clone(),
        ));
        self.tracker.spawn(watchman.guard_storage(groups.clone()));
        let folder = data.root().to_owned();
        let disk = DiskWatch::new(&self.config.storage, &self.environment, folder);
        self.tracker
            .spawn(disk.run(Arc::clone(&service), stop.clone()));
        Broker {
            address: listener.local_addr(),
            service,
            listener,
            sessions,
            tracker: self.tracker.clone(),
            stop,
            exit,
            groups,
            environment: self.environment.clone(),
            _data: data,
        }
    }

    fn start_groups(&self) -> Result<Groups, StartError> {
        let config = replication_config(&self.config.raft);
        let metadata = Replication::start(self.replication("metadata"), config.clone())?;
        let partitions = Replication::start(self.replication("partitions"), config)?;
        Ok(Groups {
            metadata,
            partitions,
        })
    }

    fn replication(&self, state: &str) -> replication::Environment {
        let clock = HybridClock::new(Arc::clone(&self.environment.clock));
        replication::Environment {
            storage: Arc::clone(&self.environment.storage),
            now: Arc::new(move || clock.tick()),
            tracker: self.tracker.clone(),
            state_log: self.data.state_dir().join(state),
        }
    }

    fn registry(&self, groups: &Groups) -> Registry {
        let config = partition::Config {
            data_dir: self.data.root().to_owned(),
            segment_bytes: self.config.storage.segment_bytes,
            batch_bytes_max: self.config.limits.batch_bytes_max,
            retention_interval: RETENTION_INTERVAL,
        };
        let environment = partition::Environment {
            replication: groups.partitions.clone(),
            storage: Arc::clone(&self.environment.storage),
            clock: Arc::clone(&self.environment.clock),
            tracker: self.tracker.clone(),
            stop: self.stop.clone(),
        };
        Registry::new(config, environment)
    }

    async fn start_metadata(
        &self,
        groups: &Groups,
        registry: &Registry,
        bound: SocketAddr,
        fresh: bool,
    ) -> Result<Metadata, StartError> {
        let (node, listeners) = (&self.config.node, &self.config.listeners);
        let limits = &self.config.limits;
        let client = listeners.advertise_client.clone();
        let peer = listeners.advertise_peer.clone();
        let config = metadata::Config {
            data_dir: self.data.root().to_owned(),
            id: node.id,
            broker: metadata::Broker {
                name: node.name.clone(),
                client_address: client.unwrap_or_else(|| bound.to_string()),
                peer_address: peer.unwrap_or_else(|| listeners.peer.to_string()),
            },
            limits: metadata::Limits {
                partitions_per_topic_max: limits.partitions_per_topic_max,
                partitions_max: limits.partitions_max,
                record_bytes_max: narrow(limits.record_bytes_max),
                auto_create_partitions: limits.auto_create_partitions.unwrap_or(0),
            },
            may_create: fresh,
        };
        let environment = metadata::Environment {
            replication: groups.metadata.clone(),
            registry: registry.clone(),
            storage: Arc::clone(&self.environment.storage),
            entropy: Arc::clone(&self.environment.entropy),
            tracker: self.tracker.clone(),
            stop: self.stop.clone(),
        };
        Ok(Metadata::start(config, environment).await?)
    }

    fn session_parts(&self, metadata: Metadata, partitions: Registry) -> session::Parts {
        let percent = u64::from(self.config.limits.memory_percent);
        let memory = self.environment.memory.get() / 100 * percent;
        let [incarnation, _] = halves((self.environment.entropy)());
        session::Parts {
            cluster: self.config.node.cluster.clone(),
            broker: self.config.node.id,
            limits: self.config.limits.clone(),
            memory: ByteSize::new(memory),
            incarnation,
            metadata,
            partitions,
            clock: Arc::clone(&self.environment.clock),
        }
    }

    fn listen(&self, socket: UdpSocket) -> Result<Listener, StartError> {
        let config = transport::Config {
            cluster: TrustDomain::parse(&self.config.node.cluster)?,
            material: self.config.tls.read()?,
            limits: transport::Limits::from(&self.config.limits),
            timings: transport::Timings::default(),
        };
        let parts = transport::Parts {
            socket,
            crypto: self.environment.crypto.clone(),
            clock: Arc::clone(&self.environment.clock),
            tracker: self.tracker.clone(),
        };
        Ok(Listener::bind(config, parts)?)
    }
}

/// A socket before anybody listens on it.
struct Bound {
    socket: UdpSocket,
    address: SocketAddr,
}

fn bind(config: &Config, environment: &Environment) -> Result<Bound, StartError> {
    let address = config.listeners.client;
    let failed = |source| StartError::Socket { address, source };
    let socket = (environment.sockets)(address).map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    Ok(Bound { socket, address })
}

/// Opens or makes the data folder. True: nothing of any group was ever in it.
fn open_data(
    config: &Config,
    mode: InitMode,
    environment: &Environment,
) -> Result<(DataDir, bool), StartError> {
    let (root, storage) = (&config.node.data_dir, &environment.storage);
    let failed = |source| StartError::Io {
        path: root.clone(),
        source,
    };
    let (id, cluster) = (config.node.id, &config.node.cluster);
    if DataDir::exists(storage, root).map_err(failed)? {
        let data = DataDir::open(storage, root, id, cluster)?;
        // A first start that was interrupted may be repeated: no group was made.
        let bare = !storage.exists(&root.join("g")).map_err(failed)?;
        return Ok((data, bare && mode == InitMode::Init));
    }
    if mode == InitMode::Open {
        return Err(StartError::NotInitialised(root.clone()));
    }
    let storage_id = (environment.entropy)();
    let cluster = cluster.clone();
    let identity = StorageIdentity {
        storage_id,
        broker: id,
        cluster,
        starts: 0,
    };
    let data = DataDir::init(storage, root, identity)?;
    tracing::info!(folder = %root.display(), "data folder initialised");
    Ok((data, true))
}

fn replication_config(raft: &config::Raft) -> replication::ReplicationConfig {
    let ticks = |time: Duration| {
        let ticks = time.as_micros() / raft.tick.as_micros().max(1);
        usize::try_from(ticks).unwrap_or(usize::MAX).max(1)
    };
    replication::ReplicationConfig {
        tick: raft.tick,
        heartbeat_ticks: ticks(raft.heartbeat),
        election_ticks: ticks(raft.election_min),
        append_bytes_max: raft.append_bytes_max,
        ..replication::ReplicationConfig::default()
    }
}

fn narrow(size: ByteSize) -> u32 {
    u32::try_from(size.get()).unwrap_or(u32::MAX)
}

/// The high and the low half.
fn halves(number: u128) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = number.to_be_bytes();
    [
        u64::from_be_bytes([a, b, c, d, e, f, g, h]),
        u64::from_be_bytes(rest),
    ]
}

fn log_ready(site: &Site, client: SocketAddr, took: Duration) {
    let config::Node {
        id, name, cluster, ..
    } = &site.config.node;
    tracing::info!(broker = %id, name, cluster, %client, ?took, "broker is ready");
}

fn log_recovery(metadata: &Metadata, registry: &Registry, took: Duration) {
    let partitions = registry.all();
    let (mut records, mut bytes) = (0_u64, 0_u64);
    for partition in &partitions {
        let status = partition.describe();
        let kept = status.high_watermark.distance_from(status.log_start);
        records = records.saturating_add(kept);
        bytes = bytes.saturating_add(status.bytes.get());
    }
    let topics = metadata.topology().topics().count();
    tracing::info!(
        topics,
        partitions = partitions.len(),
        records,
        bytes,
        ?took,
        "recovered"
    );
}

/// Notices what no broker survives.
#[derive(Clone)]
struct Watchman {
    report: watch::Sender<Option<Exit>>,
    stop: CancellationToken,
    _data: Arc<DataDir>,
}

impl Watchman {
    /// Gives each connection a task, until the listener ends.
    async fn accept(self, listener: Arc<Listener>, service: Arc<Service>, sessions: TaskTracker) {
        while let Some(connection) = listener.accept().await {
            sessions.spawn(Arc::clone(&service).serve(connection));
        }
        if !self.stop.is_cancelled() {
            tracing::error!("the QUIC endpoint ended by itself; the broker exits");
            self.report.send_replace(Some(Exit::EndpointDied));
        }
    }

    /// Waits for a disk that cannot be trusted any more.
    async fn guard_storage(self, groups: Groups) {
        let mut metadata = groups.metadata.poisoned();
        let mut partitions = groups.partitions.poisoned();
        let poison = tokio::select! {
            poison = metadata.wait_for(Option::is_some) => poison.ok().and_then(|it| it.clone()),
            poison = partitions.wait_for(Option::is_some) => poison.ok().and_then(|it| it.clone()),
            () = self.stop.cancelled() => None,
        };
        if let Some(poison) = poison {
            tracing::error!(
                path = %poison.path.display(),
                error = %poison.error,
                "storage has failed: nothing more is acknowledged; the broker exits. Check the \
                 disk; what was acknowledged is durable"
            );
            self.report.send_replace(Some(Exit::StoragePoisoned));
        }
    }
}

/// Looks after the free space of the disk.
struct DiskWatch {
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    alarm: DiskAlarm,
}

impl DiskWatch {
    fn new(config: &config::Storage, environment: &Environment, folder: PathBuf) -> Self {
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
        }
    }

    async fn run(mut self, service: Arc<Service>, stop: CancellationToken) {
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
        let Some(state) = self.alarm.judge(free_percent) else {
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
