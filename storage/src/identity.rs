//! Who a data directory belongs to: the lock, `storage.json`, and each replica's `replica.json`.
//!
//! Nothing here is ever guessed or made anew: what cannot be read stops the broker, with file and remedy.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quorate_protocol::{BrokerId, GroupId, GroupTag, ReplicaId};
use serde_json::{Map, Value, json};

use crate::file::{Access, Fault, Storage, create_dir_durably, replace};
use crate::layout::{Crc, in_memory};
use crate::log::{LogIdentity, OpenError, holds_entries};

const FORMAT: u64 = 1;
const LOCK_FILE: &str = "lock";
const STORAGE_FILE: &str = "storage.json";
const REPLICA_FILE: &str = "replica.json";
const CHECKSUM: &str = "crc32c";
const FILE_BYTES_MAX: u64 = 64 << 10;

/// What `storage.json` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StorageIdentity {
    /// Made once, when the directory was.
    pub storage_id: u128,
    /// The broker whose data it is.
    pub broker: BrokerId,
    /// The cluster's name.
    pub cluster: String,
    /// How often it was opened: an old image of the disk has a lower count than peers have seen.
    pub starts: u64,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// It was never initialised.
    #[error("{}: not initialised", path.display())]
    Absent {
        /// The missing file.
        path: PathBuf,
    },
    /// It was initialised before.
    #[error("{}: initialised already; open it, or choose another directory", path.display())]
    Exists {
        /// The file found.
        path: PathBuf,
    },
    /// It holds data, but not the file that says whose.
    #[error("{} holds data but no {STORAGE_FILE}; restore that file, or choose an empty directory", path.display())]
    Orphaned {
        /// The directory.
        path: PathBuf,
    },
    /// Another process uses it.
    #[error("{}: held by another process; stop the broker that uses this directory", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// It belongs to another broker or cluster.
    #[error("{}: belongs to broker {broker} of cluster {cluster:?}; correct the configuration, or choose another directory", path.display())]
    Foreign {
        /// The file that says so.
        path: PathBuf,
        /// The broker it belongs to.
        broker: BrokerId,
        /// The cluster it belongs to.
        cluster: String,
    },
    /// The file cannot be understood.
    #[error("{}: {why}; restore it from a backup, or replace this broker's storage", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where it happened.
        path: PathBuf,
        /// What the system reported.
        source: io::Error,
    },
}

impl From<Fault> for DataDirError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::NoSpace { path } => Self::Io {
                path,
                source: io::ErrorKind::StorageFull.into(),
            },
            Fault::Fatal { path, source } => Self::Io { path, source },
        }
    }
}

/// A broker's data directory, locked for this process until dropped.
pub struct DataDir {
    root: PathBuf,
    identity: StorageIdentity,
    _lock: Box<dyn Send + Sync>,
}

impl std::fmt::Debug for DataDir {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DataDir")
            .field("root", &self.root)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

impl DataDir {
    /// Whether a directory was initialised.
    ///
    /// # Errors
    /// What the system reports.
    pub fn exists(storage: &Arc<dyn Storage>, root: &Path) -> io::Result<bool> {
        storage.exists(&root.join(STORAGE_FILE))
    }

    /// Makes a new data directory and opens it. It may exist, but must hold nothing of a broker.
    ///
    /// # Errors
    /// It was initialised before, holds data, is in use, or the system refuses.
    pub fn init(
        storage: &Arc<dyn Storage>,
        root: &Path,
        identity: StorageIdentity,
    ) -> Result<Self, DataDirError> {
        create_dir_durably(&**storage, root)?;
        let lock = take_lock(&**storage, root)?;
        let path = root.join(STORAGE_FILE);
        let io = |source| DataDirError::Io {
            path: root.into(),
            source,
        };
        if storage.exists(&path).map_err(io)? {
            return Err(DataDirError::Exists { path });
        }
        let used = |name: &str| storage.exists(&root.join(name)).map_err(io);
        if used("g")? || used("state")? {
            return Err(DataDirError::Orphaned { path: root.into() });
        }
        let identity = StorageIdentity {
            starts: 1,
            ..identity
        };
        replace(&**storage, &path, &identity.encode())?;
        Ok(Self {
            root: root.into(),
            identity,
            _lock: lock,
        })
    }

    /// Opens a data directory and counts the start.
    ///
    /// # Errors
    /// It is absent, in use, of another broker or cluster, not readable, or the system refuses.
    pub fn open(
        storage: &Arc<dyn Storage>,
        root: &Path,
        broker: BrokerId,
        cluster: &str,
    ) -> Result<Self, DataDirError> {
        let path = root.join(STORAGE_FILE);
        let io = |source| DataDirError::Io {
            path: path.clone(),
            source,
        };
        if !storage.exists(&path).map_err(io)? {
            return Err(DataDirError::Absent { path });
        }
        let lock = take_lock(&**storage, root)?;
        let bytes = read_small(&**storage, &path).map_err(io)?;
        let found = StorageIdentity::decode(&bytes).map_err(|why| DataDirError::Unreadable {
            path: path.clone(),
            why,
        })?;
        if found.broker != broker || found.cluster != cluster {
            let (broker, cluster) = (found.broker, found.cluster);
            return Err(DataDirError::Foreign {
                path,
                broker,
                cluster,
            });
        }
        let identity = StorageIdentity {
            starts: found.starts.saturating_add(1),
            ..found
        };
        replace(&**storage, &path, &identity.encode())?;
        Ok(Self {
            root: root.into(),
            identity,
            _lock: lock,
        })
    }

    /// What the directory says of itself.
    #[must_use]
    pub fn identity(&self) -> &StorageIdentity {
        &self.identity
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the state logs stand.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.root.join("state")
    }
}

fn take_lock(storage: &dyn Storage, root: &Path) -> Result<Box<dyn Send + Sync>, DataDirError> {
    let path = root.join(LOCK_FILE);
    storage.lock(&path).map_err(|source| match source.kind() {
        io::ErrorKind::WouldBlock => DataDirError::Locked { path },
        _ => DataDirError::Io { path, source },
    })
}

impl StorageIdentity {
    fn encode(&self) -> Vec<u8> {
        text(json!({
            "format": FORMAT,
            "storage_id": format!("{:032x}", self.storage_id),
            "broker": self.broker.get(),
            "cluster": self.cluster,
            "starts": self.starts,
        }))
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let fields = fields(bytes)?;
        let id = fields.get("storage_id").and_then(Value::as_str);
        let broker = number(&fields, "broker").and_then(|raw| u16::try_from(raw).ok());
        let cluster = fields.get("cluster").and_then(Value::as_str);
        Ok(Self {
            storage_id: id
                .and_then(|id| u128::from_str_radix(id, 16).ok())
                .ok_or("it has no valid storage id")?,
            broker: broker
                .map(BrokerId::new)
                .ok_or("it has no valid broker id")?,
            cluster: cluster.ok_or("it has no cluster name")?.into(),
            starts: number(&fields, "starts").ok_or("it has no start counter")?,
        })
    }
}

/// The file that makes a log count.
pub(crate) fn replica_path(dir: &Path) -> PathBuf {
    dir.join(REPLICA_FILE)
}

pub(crate) fn write_replica(
    storage: &dyn Storage,
    dir: &Path,
    identity: LogIdentity,
) -> Result<(), Fault> {
    let bytes = text(json!({
        "format": FORMAT,
        "group": identity.group.get(),
        "tag": identity.tag.get(),
        "replica": identity.replica.get(),
    }));
    replace(storage, &replica_path(dir), &bytes)
}

/// Reads the identity of the log in a directory.
pub(crate) fn read_replica(storage: &dyn Storage, dir: &Path) -> Result<LogIdentity, OpenError> {
    let path = replica_path(dir);
    let io = |error| OpenError::io(&path, error);
    if !storage.exists(&path).map_err(io)? {
        if holds_entries(storage, dir)? {
            let why = "it is missing although there are entries";
            return Err(OpenError::damaged(&path, 0, why));
        }
        return Err(OpenError::Absent { path: dir.into() });
    }
    let bytes = read_small(storage, &path).map_err(io)?;
    decode_replica(&bytes).map_err(|why| OpenError::damaged(&path, 0, why))
}

fn decode_replica(bytes: &[u8]) -> Result<LogIdentity, &'static str> {
    let fields = fields(bytes)?;
    let group = number(&fields, "group").and_then(|raw| u32::try_from(raw).ok());
    Ok(LogIdentity {
        group: group.map(GroupId::new).ok_or("it has no valid group")?,
        tag: number(&fields, "tag")
            .map(GroupTag::new)
            .ok_or("it has no group tag")?,
        replica: number(&fields, "replica")
            .map(ReplicaId::new)
            .ok_or("it has no replica id")?,
    })
}

/// The file's text: the fields and, as the last thing seen by a reader, their checksum.
fn text(value: Value) -> Vec<u8> {
    let Value::Object(mut fields) = value else {
        return Vec::new();
    };
    let crc = checksum(&fields);
    fields.insert(CHECKSUM.into(), crc.into());
    let mut bytes = format!("{:#}", Value::Object(fields)).into_bytes();
    bytes.push(b'\n');
    bytes
}

fn fields(bytes: &[u8]) -> Result<Map<String, Value>, &'static str> {
    let value: Value = serde_json::from_slice(bytes).map_err(|_| "it is not valid JSON")?;
    let Value::Object(mut fields) = value else {
        return Err("it is not a JSON object");
    };
    if number(&fields, "format") != Some(FORMAT) {
        return Err("its format is not known to this release");
    }
    let stored = fields.remove(CHECKSUM).and_then(|crc| crc.as_u64());
    if stored != Some(u64::from(checksum(&fields))) {
        return Err("it fails its checksum");
    }
    Ok(fields)
}

/// CRC32C of `name=value` lines in the order of names: white space in the file does not matter.
fn checksum(fields: &Map<String, Value>) -> u32 {
    let ordered: BTreeMap<&String, &Value> = fields.iter().collect();
    let mut crc = Crc::new();
    for (name, value) in ordered {
        crc.update(format!("{name}={value}\n").as_bytes());
    }
    crc.value()
}

fn number(fields: &Map<String, Value>, name: &str) -> Option<u64> {
    fields.get(name).and_then(Value::as_u64)
}

fn read_small(storage: &dyn Storage, path: &Path) -> io::Result<Vec<u8>> {
    let file = storage.open(path, Access::Read)?;
    let mut bytes = vec![0; in_memory(file.len()?.min(FILE_BYTES_MAX))];
    let count = file.read_at(&mut bytes, 0)?;
    bytes.truncate(count);
    Ok(bytes)
}
