//! The data folder a broker starts on: opened or made, and what it says of the cluster.
//!
//! What the folder says counts; the configuration tells only a new one where it belongs.

use quorate_storage::DataDir;
use quorate_storage::StorageIdentity;

use crate::Environment;
use crate::config::Config;
use crate::config::PeerSeed;
use crate::metadata;
use crate::metadata::Founding;
use crate::start::StartError;

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

/// Where this broker's life begins.
pub(crate) struct Beginning {
    pub(crate) founding: Option<Founding>,
    /// The folder never held a group.
    pub(crate) fresh: bool,
}

/// Opens or makes the data folder. True: nothing of any group was ever in it.
pub(crate) fn open_data(
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
        return Ok((data, bare));
    }
    if mode == InitMode::Open {
        return Err(StartError::NotInitialised(root.clone()));
    }
    Ok((make_data(config, environment)?, true))
}

/// How this broker came to its cluster, or that it has to ask. What the folder says counts; only a
/// new one is told by the configuration.
pub(crate) fn beginning(
    config: &Config,
    mode: InitMode,
    fresh: bool,
    environment: &Environment,
) -> Result<Beginning, StartError> {
    let (storage, root) = (&environment.storage, &config.node.data_dir);
    let known = Founding::load(storage, root).map_err(metadata::StartError::from)?;
    let founding = match known {
        Some(founding) => Some(founding),
        None if !fresh || mode == InitMode::Open => {
            return Err(metadata::StartError::Lost(root.clone()).into());
        }
        None if mode == InitMode::Replace || !is_listed(config) => None,
        None => Some(found(config, environment)?),
    };
    Ok(Beginning { founding, fresh })
}

/// Whether this broker is one of those that the cluster begins with.
fn is_listed(config: &Config) -> bool {
    let me = config.node.id;
    config.peers.is_empty() || config.peers.iter().any(|peer| peer.id == me)
}

/// Writes down that the cluster begins with the configured brokers.
fn found(config: &Config, environment: &Environment) -> Result<Founding, StartError> {
    let (node, listeners) = (&config.node, &config.listeners);
    let mut seeds = config.peers.clone();
    if seeds.is_empty() {
        let address = listeners.advertise_peer.clone();
        seeds.push(PeerSeed {
            id: node.id,
            name: node.name.clone(),
            address: address.unwrap_or_else(|| listeners.peer.to_string()),
        });
    }
    let founding = Founding::found(node.id, seeds);
    let saved = founding.save(&environment.storage, &node.data_dir);
    saved.map_err(metadata::StartError::from)?;
    Ok(founding)
}

/// Makes the data folder of a member that the cluster begins with, and starts nothing.
///
/// # Errors
/// The folder was used before, this broker is not among the listed ones, or the disk refuses.
pub fn format(config: &Config, environment: &Environment) -> Result<(), StartError> {
    let (id, root) = (config.node.id, &config.node.data_dir);
    if !is_listed(config) {
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
    // Locked until it says where it begins.
    let _data = make_data(config, environment)?;
    found(config, environment).map(drop)
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
