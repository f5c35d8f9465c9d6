//! From configuration to metadata that can be read: everything group 0 needs, opened in order.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use quorate_protocol::BrokerId;
use quorate_storage::Storage;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::PeerSeed;
use crate::metadata::bootstrap::GROUP;
use crate::metadata::bootstrap::enter;
use crate::metadata::bootstrap::group_spec;
use crate::metadata::bootstrap::join;
use crate::metadata::colleagues::Colleagues;
use crate::metadata::desk::Clerk;
use crate::metadata::desk::Desk;
use crate::metadata::error::MetadataError;
use crate::metadata::follow::Follower;
use crate::metadata::founding::Founding;
use crate::metadata::founding::FoundingError;
use crate::metadata::handle::Metadata;
use crate::metadata::handle::Shared;
use crate::metadata::keeper::keep;
use crate::metadata::leaders::Leaders;
use crate::metadata::machine::MetadataMachine;
use crate::metadata::machine::View;
use crate::metadata::plan::Horizon;
use crate::metadata::plan::Office;
use crate::metadata::plan::Steward;
use crate::metadata::propose::Proposer;
use crate::metadata::report::Memory;
use crate::metadata::report::Reporter;
use crate::metadata::report::Vitals;
use crate::metadata::topology::Registration;
use crate::metadata::validate::Limits;
use crate::partition::Registry;
use crate::peers::Peers;
use crate::replication;
use crate::replication::Replication;

/// Gives 128 random bits.
pub type Entropy = Arc<dyn Fn() -> u128 + Send + Sync>;

/// What the metadata of this broker is about.
#[derive(Debug, Clone)]
pub struct Config {
    /// The broker's data folder.
    pub data_dir: PathBuf,
    /// The cluster's name.
    pub cluster: String,
    /// This broker.
    pub id: BrokerId,
    /// How others see it.
    pub registration: Registration,
    /// How often its data folder was opened.
    pub starts: u64,
    /// How it came to its cluster; none: it has to ask.
    pub founding: Option<Founding>,
    /// Whom it asks then.
    pub seeds: Vec<PeerSeed>,
    /// Whether group 0 may be made: the data folder never held a group.
    pub fresh: bool,
    /// Whether leadership returns to the first replica of a partition.
    pub preferred_leader: bool,
    /// What it allows.
    pub limits: Limits,
}

/// What the metadata needs from outside.
pub struct Environment {
    /// Group 0's own replication.
    pub replication: Replication<MetadataMachine>,
    /// The partitions that follow the topology.
    pub registry: Registry,
    /// The other brokers; none: this one is alone.
    pub peers: Option<Peers>,
    /// How this broker is, apart from its partitions.
    pub vitals: watch::Receiver<Vitals>,
    /// Uptime, and whether certificates are valid.
    pub clock: Arc<dyn Clock>,
    /// The disk.
    pub storage: Arc<dyn Storage>,
    /// Identities of topics.
    pub entropy: Entropy,
    /// Owns the task that follows the topology.
    pub tracker: TaskTracker,
    /// Ends it.
    pub stop: CancellationToken,
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

/// Why the metadata could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The data folder was used before and the log of group 0 is gone.
    #[error(
        "{}: the metadata log is missing from a data folder that was used before, and is never made \
         anew: restore it; if this broker was never ready, remove its data folder and start again", .0.display()
    )]
    Lost(PathBuf),
    /// The disk did not answer.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path asked for.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Where this broker began cannot be read or written.
    #[error(transparent)]
    Founding(#[from] FoundingError),
    /// It has to join a cluster, and there is nobody to ask.
    #[error("this broker joins a cluster and knows none of its brokers: list them as [[peers]]")]
    Nobody,
    /// The log of group 0 could not be opened.
    #[error("metadata log: {0}")]
    Log(#[from] replication::OpenError),
    /// This broker could not be registered.
    #[error("registering this broker: {0}")]
    Register(MetadataError),
    /// The broker stopped meanwhile.
    #[error("stopped while starting")]
    Stopped,
}

impl Metadata {
    /// Opens group 0, registers this broker and lets its partitions follow the topology. Returns
    /// once every partition that can be opened is open. A broker that is new to its cluster asks
    /// for its place first.
    ///
    /// # Errors
    /// The log of group 0 is missing or cannot be opened, this broker is no member, or it was
    /// stopped.
    pub async fn start(config: Config, environment: Environment) -> Result<Self, StartError> {
        let stop = environment.stop.clone();
        let started = stop.run_until_cancelled(Self::start_now(config, environment));
        started.await.unwrap_or(Err(StartError::Stopped))
    }

    async fn start_now(config: Config, environment: Environment) -> Result<Self, StartError> {
        let founding = found(&config, &environment).await?;
        let view = Arc::new(View::new());
        let proposer = open(&config, &environment, founding, &view).await?;
        let registry = environment.registry.clone();
        let leaders = Leaders::new(config.id, registry.clone(), environment.peers.clone());
        let entered = report(&environment, &proposer, &leaders);
        let desk = answer_others(&proposer, &leaders);
        let entering = enter(&config, &proposer).await;
        entering.map_err(StartError::Register)?;
        entered.store(true, Ordering::Relaxed);
        let Environment {
            vitals,
            clock,
            entropy,
            tracker,
            stop,
            ..
        } = environment;
        tracker.spawn(keep(Arc::clone(&proposer), stop.clone()));
        let (follower, followed) = Follower::new(
            config.id,
            Arc::clone(&proposer),
            Arc::clone(&view),
            registry.clone(),
        );
        tracker.spawn(follower.run(stop.clone()));
        let office = Office {
            proposer: Arc::clone(&proposer),
            view: Arc::clone(&view),
            registry: registry.clone(),
            outlook: Arc::new(Horizon {
                colleagues: proposer.colleagues().clone(),
                leaders: leaders.clone(),
            }),
            vitals: vitals.clone(),
            removed: Arc::default(),
            preferred_leader: config.preferred_leader,
        };
        tracker.spawn(Steward::new(office.clone()).run(stop));
        let metadata = Self::of(Shared {
            config,
            proposer,
            leaders,
            vitals,
            clock,
            view,
            registry,
            entropy,
            blocks: Mutex::default(),
            followed,
            office,
            _desk: desk,
        });
        let epoch = metadata.topology().epoch();
        metadata.until_followed(epoch).await;
        Ok(metadata)
    }
}

/// Opens this broker's replica of group 0; whoever speaks to other brokers hears which there are.
async fn open(
    config: &Config,
    environment: &Environment,
    founding: Founding,
    view: &Arc<View>,
) -> Result<Arc<Proposer>, StartError> {
    let machine = MetadataMachine::new(Arc::clone(view));
    let spec = group_spec(config, &founding, &environment.storage)?;
    let replication = environment.replication.clone();
    let group = replication.open(spec, machine).await?;
    let colleagues = Colleagues {
        me: config.id,
        peers: environment.peers.clone(),
        view: Arc::clone(view),
        founding: Arc::new(founding),
    };
    let stop = environment.stop.clone();
    environment
        .tracker
        .spawn(follow_members(colleagues.clone(), replication, stop));
    Ok(Arc::new(Proposer::new(config.starts, group, colleagues)))
}

/// Begins to tell other brokers how this one is; the flag says whether it has entered the cluster.
fn report(
    environment: &Environment,
    proposer: &Arc<Proposer>,
    leaders: &Leaders,
) -> Arc<AtomicBool> {
    let entered = Arc::new(AtomicBool::new(false));
    let reporter = Reporter {
        proposer: Arc::clone(proposer),
        leaders: leaders.clone(),
        vitals: environment.vitals.clone(),
        clock: Arc::clone(&environment.clock),
        began: environment.clock.monotonic(),
        entered: Arc::clone(&entered),
        tracker: environment.tracker.clone(),
        memory: Memory::default(),
    };
    environment
        .tracker
        .spawn(reporter.run(environment.stop.clone()));
    entered
}

/// How this broker came to its cluster: as the data folder says, or as it is told now.
async fn found(config: &Config, environment: &Environment) -> Result<Founding, StartError> {
    if let Some(founding) = &config.founding {
        return Ok(founding.clone());
    }
    let peers = environment.peers.as_ref().ok_or(StartError::Nobody)?;
    let founding = join(config, peers).await?;
    founding.save(&environment.storage, &config.data_dir)?;
    tracing::info!(broker = %config.id, "this broker knows its place in the cluster");
    Ok(founding)
}

/// Answers other brokers for as long as the desk is kept.
fn answer_others(proposer: &Arc<Proposer>, leaders: &Leaders) -> Arc<Desk> {
    let desk = Arc::new(Desk {
        proposer: Arc::clone(proposer),
        leaders: leaders.clone(),
    });
    if let Some(peers) = &proposer.colleagues().peers {
        peers.answer_with(Arc::new(Clerk(Arc::downgrade(&desk))));
    }
    desk
}

/// Tells whoever sends to other brokers which there are, until the broker stops.
async fn follow_members(
    colleagues: Colleagues,
    replication: Replication<MetadataMachine>,
    stop: CancellationToken,
) {
    let mut topology = colleagues.view.topology.subscribe();
    loop {
        topology.mark_unchanged();
        replication.set_holders(GROUP, colleagues.holders());
        if let Some(peers) = &colleagues.peers {
            peers.set_members(colleagues.members());
        }
        if !matches!(
            stop.run_until_cancelled(topology.changed()).await,
            Some(Ok(()))
        ) {
            return;
        }
    }
}
