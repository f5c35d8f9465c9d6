//! Building a broker from the ground up: data folder, groups, metadata, service, listener.

use std::io;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::BrokerId;
use quorate_protocol::ByteSize;
use quorate_protocol::StorageId;
use quorate_storage::DataDir;
use quorate_storage::DataDirError;
use quorate_storage::StorageIdentity;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Broker;
use crate::Environment;
use crate::Groups;
use crate::auth;
use crate::auth::TrustDomain;
use crate::clock::HybridClock;
use crate::config;
use crate::config::Config;
use crate::metadata;
use crate::metadata::Metadata;
use crate::partition;
use crate::partition::Registry;
use crate::replication;
use crate::replication::Replication;
use crate::session;
use crate::session::Service;
use crate::transport;
use crate::transport::Listener;
use crate::watch::DiskWatch;
use crate::watch::Watchman;

/// Time between two looks at what retention lets go.
const RETENTION_INTERVAL: Duration = Duration::from_secs(5);

/// What to do with the data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitMode {
    /// It must have been initialised before.
    Open,
    /// It is initialised if it is empty.
    Init,
    /// The same, for a known member of the cluster that lost its disk: it founds nothing.
    Replace,
}

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The folder was never used.
    #[error("{} holds no data of a broker; to begin with an empty one, start with --init", .0.display())]
    NotInitialised(PathBuf),
    /// The folder was used before.
    #[error("{} holds a broker's data already; nothing was changed", .0.display())]
    AlreadyInitialised(PathBuf),
    /// This broker is none of those the cluster begins with.
    #[error("broker {0} is not among the [[peers]]: it is no member that the cluster begins with")]
    NotListed(BrokerId),
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

/// Starts a broker; see [`Broker::start`].
pub(crate) async fn start(
    config: Config,
    mode: InitMode,
    environment: Environment,
) -> Result<Broker, StartError> {
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
    log_recovery(&site.config.node, &metadata, &registry, site.since(began));
    let service = Service::new(site.session_parts(metadata.clone(), registry));
    let listener = Arc::new(site.listen(socket.socket)?);
    let broker = site.open(service, listener, groups, metadata);
    log_ready(&site, broker.address, site.since(began));
    Ok(broker)
}

/// What the rooms have in common while they are built.
struct Site {
    config: Config,
    environment: Environment,
    data: Arc<DataDir>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Site {
    fn since(&self, began: Duration) -> Duration {
        self.environment.clock.monotonic().saturating_sub(began)
    }

    /// Lets clients in, and watches over what the broker stands on.
    fn open(
        &self,
        service: Arc<Service>,
        listener: Arc<Listener>,
        groups: Groups,
        metadata: Metadata,
    ) -> Broker {
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
        self.tracker
            .spawn(watchman.guard_state(groups.clone(), metadata));
        let folder = data.root().to_owned();
        let leaders = Arc::clone(&service).follow_leaders();
        let stopped = stop.clone();
        self.tracker.spawn(async move {
            // Stopped, there is nobody left to be told.
            let _stopped = stopped.run_until_cancelled(leaders).await;
        });
        let disk = DiskWatch::new(&self.config.storage, &self.environment, folder);
        self.tracker
            .spawn(disk.run(Arc::clone(&service), stop.clone()));
        Broker {
            address: listener.local_addr(),
            peer_address: self.config.listeners.peer,
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
            peers: None,
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
            registration: metadata::Registration {
                name: node.name.clone(),
                client_address: client.unwrap_or_else(|| bound.to_string()),
                peer_address: peer.unwrap_or_else(|| listeners.peer.to_string()),
                storage: StorageId::new(self.data.identity().storage_id),
            },
            starts: self.data.identity().starts,
            seeds: self.config.peers.clone(),
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
    Ok((make_data(config, environment)?, mode == InitMode::Init))
}

/// Makes the data folder of a member that the cluster begins with, and starts nothing.
///
/// # Errors
/// The folder was used before, this broker is not among the listed ones, or the disk refuses.
pub fn format(config: &Config, environment: &Environment) -> Result<(), StartError> {
    let (id, root) = (config.node.id, &config.node.data_dir);
    if !config.peers.is_empty() && !config.peers.iter().any(|peer| peer.id == id) {
        return Err(StartError::NotListed(id));
    }
    let used = DataDir::exists(&environment.storage, root);
    let used = used.map_err(|source| StartError::Io {
        path: root.clone(),
        source,
    });
    if used? {
        return Err(StartError::AlreadyInitialised(root.clone()));
    }
    make_data(config, environment).map(drop)
}

fn make_data(config: &Config, environment: &Environment) -> Result<DataDir, StartError> {
    let root = &config.node.data_dir;
    let identity = StorageIdentity {
        storage_id: (environment.entropy)(),
        broker: config.node.id,
        cluster: config.node.cluster.clone(),
        starts: 0,
    };
    let data = DataDir::init(&environment.storage, root, identity)?;
    tracing::info!(folder = %root.display(), "data folder initialised");
    Ok(data)
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
        election_spread_ticks: ticks(raft.election_max.saturating_sub(raft.election_min)),
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

fn log_recovery(node: &config::Node, metadata: &Metadata, registry: &Registry, took: Duration) {
    let here = node.id;
    let partitions = registry.all();
    let (mut records, mut bytes) = (0_u64, 0_u64);
    for partition in &partitions {
        let status = partition.describe();
        let kept = status.high_watermark.distance_from(status.log_start);
        records = records.saturating_add(kept);
        bytes = bytes.saturating_add(status.bytes.get());
    }
    let topology = metadata.topology();
    let topics = topology.topics().count();
    let wanted: usize = topology
        .topics()
        .flat_map(|topic| &topic.partitions)
        .filter(|one| one.replicas.iter().any(|replica| replica.broker == here))
        .count();
    let (open, unavailable) = (partitions.len(), wanted.saturating_sub(partitions.len()));
    tracing::info!(
        folder = %node.data_dir.display(),
        topics,
        partitions = open,
        unavailable,
        records,
        bytes,
        ?took,
        "recovered"
    );
}
