//! Building a broker from the ground up: data folder, groups, metadata, service, listener.

use std::io;
use std::net::SocketAddr;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::BrokerId;
use quorate_protocol::ByteSize;
use quorate_protocol::HybridTime;
use quorate_protocol::StorageId;
use quorate_storage::DataDir;
use quorate_storage::DataDirError;
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
use crate::folder::Beginning;
use crate::folder::InitMode;
use crate::folder::beginning;
use crate::folder::open_data;
use crate::metadata;
use crate::metadata::Founding;
use crate::metadata::Metadata;
use crate::metadata::Vitals;
use crate::metadata::members_of;
use crate::partition;
use crate::partition::Registry;
use crate::peers;
use crate::peers::Channel;
use crate::peers::Peers;
use crate::replication;
use crate::replication::Replication;
use crate::session;
use crate::session::Service;
use crate::transport;
use crate::transport::Listener;
use crate::transport::PeerEndpoint;
use crate::watch::DiskWatch;
use crate::watch::Watchman;

/// The keys of the listeners' addresses.
const CLIENTS: &str = "listeners.client";
const PEERS: &str = "listeners.peer";
/// Time between two looks at what retention lets go.
const RETENTION_INTERVAL: Duration = Duration::from_secs(5);

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
    #[error("{listener} {address}: {source}")]
    Socket {
        /// The key of the address.
        listener: &'static str,
        /// The configured address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The listener cannot be had.
    #[error("listeners.client: {0}")]
    Listen(#[from] transport::BindError),
    /// The listener for other brokers cannot be had.
    #[error("listeners.peer: {0}")]
    PeerListen(transport::BindError),
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
    let client = bind(CLIENTS, config.listeners.client, &environment)?;
    let peer = bind(PEERS, config.listeners.peer, &environment)?;
    let beginning = beginning(&config, mode, fresh, &environment)?;
    let (tracker, stop) = (TaskTracker::new(), CancellationToken::new());
    let site = Site {
        config,
        environment,
        data: Arc::new(data),
        vitals: Arc::default(),
        tracker,
        // Whatever fails from here on, nothing of this start stays behind.
        stop: stop.clone(),
    };
    let unfinished = stop.drop_guard();
    let addresses = Addresses {
        client: client.address,
        peer: peer.address,
    };
    let peers = site.start_peers(peer.socket, &beginning)?;
    let groups = site.start_groups(&peers)?;
    let registry = site.registry(&groups);
    let rooms = (&groups, &registry, &peers);
    let metadata = site.start_metadata(rooms, addresses, beginning).await?;
    log_recovery(&site.config.node, &metadata, &registry, site.since(began));
    let service = Service::new(site.session_parts(metadata.clone(), registry));
    let listener = Arc::new(site.listen(client.socket)?);
    let broker = site.open(
        service,
        listener,
        Planes {
            groups,
            peers,
            metadata,
        },
        addresses,
    );
    log_ready(&site, addresses, site.since(began));
    drop(unfinished.disarm());
    Ok(broker)
}

/// Where this broker listens.
#[derive(Clone, Copy)]
struct Addresses {
    client: SocketAddr,
    peer: SocketAddr,
}

/// What runs below the sessions.
struct Planes {
    groups: Groups,
    peers: Peers,
    metadata: Metadata,
}

/// What the rooms have in common while they are built.
struct Site {
    config: Config,
    environment: Environment,
    data: Arc<DataDir>,
    vitals: Arc<watch::Sender<Vitals>>,
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
        planes: Planes,
        addresses: Addresses,
    ) -> Broker {
        let Planes {
            groups,
            peers,
            metadata,
        } = planes;
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
            .spawn(watchman.clone().guard_peers(peers.clone()));
        self.tracker
            .spawn(watchman.guard_state(groups.clone(), metadata.clone()));
        let folder = data.root().to_owned();
        let leaders = Arc::clone(&service).follow_leaders();
        let stopped = stop.clone();
        self.tracker.spawn(async move {
            // Stopped, there is nobody left to be told.
            let _stopped = stopped.run_until_cancelled(leaders).await;
        });
        let vitals = Arc::clone(&self.vitals);
        let disk = DiskWatch::new(&self.config.storage, &self.environment, folder, vitals);
        self.tracker
            .spawn(disk.run(Arc::clone(&service), stop.clone()));
        Broker {
            address: addresses.client,
            peer_address: addresses.peer,
            peers,
            metadata,
            vitals: Arc::clone(&self.vitals),
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

    fn start_peers(&self, socket: UdpSocket, beginning: &Beginning) -> Result<Peers, StartError> {
        let material = self.config.tls.read()?;
        let until = transport::valid_until(&material).unwrap_or_default();
        self.vitals
            .send_modify(|vitals| vitals.cert_not_after_s = until.as_secs());
        let config = transport::PeerConfig {
            cluster: TrustDomain::parse(&self.config.node.cluster)?,
            material,
            limits: transport::Limits::of_peers(),
            timings: transport::Timings::of_peers(),
        };
        let endpoint = PeerEndpoint::bind(config, self.parts(socket));
        let endpoint = endpoint.map_err(StartError::PeerListen)?;
        let (node, identity) = (&self.config.node, self.data.identity());
        let known = beginning.founding.as_ref().map(Founding::seeds);
        let config = peers::Config {
            cluster: node.cluster.clone(),
            me: node.id,
            name: node.name.clone(),
            storage: StorageId::new(identity.storage_id),
            incarnation: self.random(),
            starts: identity.starts,
            members: members_of(known.unwrap_or(&self.config.peers)),
            timings: peers::Timings::default(),
        };
        let environment = peers::Environment {
            clock: Arc::clone(&self.environment.clock),
            now: self.hybrid_now(),
            entropy: Arc::clone(&self.environment.entropy),
            tracker: self.tracker.clone(),
            stop: self.stop.clone(),
        };
        Ok(Peers::start(config, endpoint, environment))
    }

    fn start_groups(&self, peers: &Peers) -> Result<Groups, StartError> {
        let config = replication_config(&self.config.raft);
        let metadata = self.replication("metadata", peers, Channel::METADATA);
        let metadata = Replication::start(metadata, config.clone())?;
        let partitions = self.replication("partitions", peers, Channel::PARTITIONS);
        let partitions = Replication::start(partitions, config)?;
        Ok(Groups {
            metadata,
            partitions,
        })
    }

    fn hybrid_now(&self) -> Arc<dyn Fn() -> HybridTime + Send + Sync> {
        let clock = HybridClock::new(Arc::clone(&self.environment.clock));
        Arc::new(move || clock.tick())
    }

    fn random(&self) -> u64 {
        let [random, _] = halves((self.environment.entropy)());
        random
    }

    fn replication(
        &self,
        state: &str,
        peers: &Peers,
        channel: Channel,
    ) -> replication::Environment {
        replication::Environment {
            storage: Arc::clone(&self.environment.storage),
            now: self.hybrid_now(),
            peers: Some((peers.clone(), channel)),
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
        (groups, registry, peers): (&Groups, &Registry, &Peers),
        bound: Addresses,
        beginning: Beginning,
    ) -> Result<Metadata, StartError> {
        let (node, listeners) = (&self.config.node, &self.config.listeners);
        let limits = &self.config.limits;
        let client = listeners.advertise_client.clone();
        let peer = listeners.advertise_peer.clone();
        let config = metadata::Config {
            cluster: node.cluster.clone(),
            data_dir: self.data.root().to_owned(),
            id: node.id,
            registration: metadata::Registration {
                name: node.name.clone(),
                client_address: client.unwrap_or_else(|| bound.client.to_string()),
                peer_address: peer.unwrap_or_else(|| bound.peer.to_string()),
                storage: StorageId::new(self.data.identity().storage_id),
            },
            starts: self.data.identity().starts,
            founding: beginning.founding,
            seeds: self.config.peers.clone(),
            fresh: beginning.fresh,
            preferred_leader: self.config.raft.preferred_leader,
            limits: metadata::Limits {
                partitions_per_topic_max: limits.partitions_per_topic_max,
                partitions_max: limits.partitions_max,
                record_bytes_max: narrow(limits.record_bytes_max),
                auto_create_partitions: limits.auto_create_partitions.unwrap_or(0),
            },
        };
        let environment = metadata::Environment {
            replication: groups.metadata.clone(),
            registry: registry.clone(),
            peers: Some(peers.clone()),
            vitals: self.vitals.subscribe(),
            clock: Arc::clone(&self.environment.clock),
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
        session::Parts {
            cluster: self.config.node.cluster.clone(),
            broker: self.config.node.id,
            limits: self.config.limits.clone(),
            memory: ByteSize::new(memory),
            incarnation: self.random(),
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
        Ok(Listener::bind(config, self.parts(socket))?)
    }

    fn parts(&self, socket: UdpSocket) -> transport::Parts {
        transport::Parts {
            socket,
            crypto: self.environment.crypto.clone(),
            clock: Arc::clone(&self.environment.clock),
            tracker: self.tracker.clone(),
        }
    }
}

/// A socket before anybody listens on it.
struct Bound {
    socket: UdpSocket,
    address: SocketAddr,
}

fn bind(
    listener: &'static str,
    address: SocketAddr,
    environment: &Environment,
) -> Result<Bound, StartError> {
    let failed = |source| StartError::Socket {
        listener,
        address,
        source,
    };
    let socket = (environment.sockets)(address).map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    Ok(Bound { socket, address })
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

fn log_ready(site: &Site, addresses: Addresses, took: Duration) {
    let Addresses { client, peer } = addresses;
    let config::Node {
        id, name, cluster, ..
    } = &site.config.node;
    tracing::info!(broker = %id, name, cluster, %client, %peer, ?took, "broker is ready");
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
