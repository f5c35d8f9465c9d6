//! Logs that are not flushed before they are acknowledged: where they stand, and what they may have lost.
//!
//! A replica that may have lost what it acknowledged is not opened: it could vote for a log without it.

use std::path::Path;
use std::sync::Arc;

use quorate_storage::{LogIdentity, Storage, create_log, log_exists, log_identity, may_have_lost};

use crate::replication::config::{Durability, GroupSpec};
use crate::replication::recovery::{Context, OpenError, birth};

/// The two volumes a log may stand on.
pub(super) struct Volumes<'a> {
    pub(super) disk: &'a Arc<dyn Storage>,
    pub(super) memory: &'a Arc<dyn Storage>,
}

/// Where a log stands, and whether its end may be missing.
pub(super) struct Place {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) lost: bool,
}

impl Volumes<'_> {
    /// Looks at what is there before the log is opened.
    pub(super) fn place(&self, spec: &GroupSpec) -> Result<Place, OpenError> {
        let place = match spec.durability {
            Durability::Flush => self.on_disk(false),
            Durability::Interval(_) => {
                let lost = may_have_lost(self.disk, &spec.dir);
                self.on_disk(lost.map_err(|error| context(spec).storage(error))?)
            }
            Durability::Memory => self.in_memory(spec)?,
        };
        if place.lost && !spec.release {
            let (group, replica) = (spec.group, spec.replica);
            let dir = spec.dir.clone();
            return Err(OpenError::Forgetful {
                group,
                replica,
                dir,
            });
        }
        Ok(place)
    }

    fn on_disk(&self, lost: bool) -> Place {
        Place {
            storage: Arc::clone(self.disk),
            lost,
        }
    }

    /// The disk holds an empty log: it says that the replica once was.
    fn in_memory(&self, spec: &GroupSpec) -> Result<Place, OpenError> {
        let failed = |error| context(spec).storage(error);
        let here = log_exists(self.memory, &spec.dir).map_err(failed)?;
        let was =
            log_identity(self.disk, &spec.dir).map_err(|error| context(spec).storage(error))?;
        let wanted = spec.identity();
        match was {
            Some(found) if found != wanted => {
                return Err(OpenError::Identity {
                    dir: spec.dir.clone(),
                    found,
                    wanted,
                });
            }
            Some(_) => {}
            None => self.begin(spec, wanted, here)?,
        }
        Ok(Place {
            storage: Arc::clone(self.memory),
            lost: was.is_some() && !here,
        })
    }

    fn begin(&self, spec: &GroupSpec, identity: LogIdentity, here: bool) -> Result<(), OpenError> {
        if here {
            // What another replica left behind.
            let removed = remove_all(self.memory.as_ref(), &spec.dir);
            removed.map_err(|error| context(spec).storage(error))?;
        }
        let created = create_log(self.disk, &spec.dir, identity, &birth(spec));
        created.map_err(|error| context(spec).storage(error))
    }
}

fn context(spec: &GroupSpec) -> Context<'_> {
    Context {
        group: spec.group,
        dir: &spec.dir,
        log: spec.log,
    }
}

/// The file without which a folder holds no log.
const IDENTITY: &str = "replica.json";

/// Removes a folder with the files in it; all of it may be gone already. The identity goes first, so
/// that what a crash leaves is no log, instead of a damaged one.
pub(super) fn remove_all(storage: &dyn Storage, dir: &Path) -> std::io::Result<()> {
    if !storage.exists(dir)? {
        return Ok(());
    }
    let mut entries = storage.list(dir)?;
    entries.sort_by_key(|entry| entry.name != IDENTITY);
    for entry in entries {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            remove_all(storage, &path)?;
            continue;
        }
        storage.remove(&path)?;
        if entry.name == IDENTITY {
            storage.sync_dir(dir)?;
        }
    }
    storage.remove_dir(dir)?;
    dir.parent()
        .map_or(Ok(()), |parent| storage.sync_dir(parent))
}
