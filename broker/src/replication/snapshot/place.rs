//! What transfers have to know of one open group, and the one that is coming in.

use std::sync::Arc;

use parking_lot::Mutex;
use quorate_storage::{Arrived, CheckpointStore, LogIdentity, LogReader};
use tokio::sync::{OwnedMutexGuard, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::replication::config::{ElectionWindow, GroupSpec};
use crate::replication::group::GroupStatus;
use crate::replication::shard::event::Install;

/// One open group.
#[derive(Debug)]
pub(in crate::replication) struct Place {
    pub(super) spec: GroupSpec,
    pub(super) window: ElectionWindow,
    pub(super) reader: LogReader,
    pub(super) checkpoints: CheckpointStore,
    pub(super) status: watch::Receiver<GroupStatus>,
    /// The group closes.
    pub(super) stop: CancellationToken,
    /// Everything that touches the group's folder for a transfer.
    pub(super) tasks: TaskTracker,
    /// One of them at a time.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    incoming: Mutex<Incoming>,
}

/// The newest transfer to this replica.
#[derive(Debug, Default)]
struct Incoming {
    current: Option<(Install, CancellationToken)>,
    /// It is still under way.
    live: bool,
    /// While it is here nothing else touches the folder.
    arrived: Option<(Install, Arrived, Turn)>,
}

/// The right to change what was staged.
pub(super) type Turn = OwnedMutexGuard<()>;

impl Place {
    pub(in crate::replication) fn new(
        spec: GroupSpec,
        window: ElectionWindow,
        (reader, checkpoints): (LogReader, CheckpointStore),
        status: watch::Receiver<GroupStatus>,
    ) -> Self {
        Self {
            spec,
            window,
            reader,
            checkpoints,
            status,
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
            turn: Arc::default(),
            incoming: Mutex::default(),
        }
    }

    pub(super) const fn identity(&self) -> LogIdentity {
        LogIdentity {
            group: self.spec.group,
            tag: self.spec.tag,
            replica: self.spec.replica,
        }
    }

    /// Begins a transfer in place of the one before. None if this very one is under way, or the
    /// group closes.
    pub(super) fn begin(&self, install: &Install) -> Option<CancellationToken> {
        let mut incoming = self.incoming.lock();
        if self.stop.is_cancelled() {
            return None;
        }
        if let Some((current, stop)) = &incoming.current {
            if incoming.live && current == install {
                return None;
            }
            stop.cancel();
        }
        let stop = self.stop.child_token();
        incoming.current = Some((*install, stop.clone()));
        incoming.live = true;
        Some(stop)
    }

    /// A transfer ended; what arrived waits for the shard's word.
    pub(super) fn end(&self, install: &Install, arrived: Option<(Arrived, Turn)>) {
        let mut incoming = self.incoming.lock();
        if incoming
            .current
            .as_ref()
            .is_some_and(|(current, _)| current == install)
        {
            incoming.live = false;
        }
        if let Some((arrived, turn)) = arrived {
            incoming.arrived = Some((*install, arrived, turn));
        }
    }

    /// What arrived for this install.
    pub(super) fn take_arrived(&self, install: &Install) -> Option<(Arrived, Turn)> {
        let mut incoming = self.incoming.lock();
        let wanted = incoming.arrived.take_if(|(for_it, ..)| for_it == install);
        wanted.map(|(_, arrived, turn)| (arrived, turn))
    }
}
