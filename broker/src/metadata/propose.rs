//! Brings this broker's commands into the log of group 0, one after another, each with one effect.

use std::fmt;

use bytes::Bytes;
use quorate_protocol::BrokerId;
use tokio::sync::Mutex;

use crate::metadata::command::Command;
use crate::metadata::command::Origin;
use crate::metadata::command::Stamped;
use crate::metadata::error::MetadataError;
use crate::metadata::machine::MetadataMachine;
use crate::metadata::machine::Proposal;
use crate::metadata::state::Effect;
use crate::metadata::state::State;
use crate::replication::Group;

/// Numbers and sends what this broker wants changed.
pub(super) struct Proposer {
    broker: BrokerId,
    incarnation: u64,
    group: Group<MetadataMachine>,
    /// The number of the last command. Held while one is under way: the state remembers no more
    /// than the newest of each broker.
    last: Mutex<u64>,
}

impl fmt::Debug for Proposer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proposer")
            .field("broker", &self.broker)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

impl Proposer {
    pub(super) fn new(broker: BrokerId, incarnation: u64, group: Group<MetadataMachine>) -> Self {
        Self {
            broker,
            incarnation,
            group,
            last: Mutex::new(0),
        }
    }

    pub(super) const fn group(&self) -> &Group<MetadataMachine> {
        &self.group
    }

    /// Whether a command of this life of the broker is in a state.
    pub(super) fn has_spoken(&self, state: &State) -> bool {
        let last = state.proposers.get(&self.broker);
        last.is_some_and(|last| last.incarnation == self.incarnation)
    }

    /// Brings one command into the log. Cancel safe: dropped, it may have been brought or not.
    pub(super) async fn propose(&self, command: &Command) -> Result<Effect, MetadataError> {
        let mut last = self.last.lock().await;
        *last += 1;
        let origin = Origin {
            broker: self.broker,
            incarnation: self.incarnation,
            sequence: *last,
        };
        let stamped = Bytes::from(Stamped::encode(origin, command));
        self.propose_here(stamped).await
    }

    async fn propose_here(&self, stamped: Bytes) -> Result<Effect, MetadataError> {
        let failed = |failure| MetadataError::of_failure(&failure);
        let ticket = self
            .group
            .propose(Proposal::command(stamped))
            .await
            .map_err(failed)?;
        ticket.await.map_err(failed)?.into_outcome()
    }
}
