//! Group 0: applies metadata commands in the order of its log.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use quorate_protocol::ControlRecord;
use quorate_protocol::ErrorCode;
use quorate_protocol::LogIndex;
use quorate_protocol::Offset;
use quorate_protocol::ReplicaId;
use quorate_protocol::Stamp;
use quorate_protocol::Term;
use quorate_protocol::control_batch;
use quorate_storage::Entry;
use quorate_storage::EntryKind;
use tokio::sync::watch;

use crate::metadata::checkpoint;
use crate::metadata::command::Stamped;
use crate::metadata::error::MetadataError;
use crate::metadata::state::Effect;
use crate::metadata::state::State;
use crate::metadata::topology::Topology;
use crate::replication::Admission;
use crate::replication::Applied;
use crate::replication::RestoreError;
use crate::replication::Role;
use crate::replication::Seat;
use crate::replication::StateMachine;

/// What is asked of the leader of group 0.
#[derive(Debug)]
pub struct Proposal {
    entry: Content,
}

#[derive(Debug)]
enum Content {
    Command(Bytes),
    Trim(LogIndex),
}

impl Proposal {
    /// A stamped command in bytes.
    pub(super) fn command(stamped: Bytes) -> Self {
        Self {
            entry: Content::Command(stamped),
        }
    }

    pub(super) fn trim(up_to: LogIndex) -> Self {
        Self {
            entry: Content::Trim(up_to),
        }
    }
}

/// The answer to a proposal.
#[derive(Debug)]
pub struct Reply {
    outcome: Result<Effect, MetadataError>,
}

impl Reply {
    pub(super) fn into_outcome(self) -> Result<Effect, MetadataError> {
        self.outcome
    }
}

/// What the machine shows to the rest of the broker.
#[derive(Debug)]
pub(super) struct View {
    /// The applied state.
    pub(super) state: RwLock<State>,
    /// The topology of that state.
    pub(super) topology: watch::Sender<Arc<Topology>>,
    /// Whether this broker leads group 0 and has applied all of it.
    pub(super) ready: watch::Sender<bool>,
}

impl View {
    pub(super) fn new() -> Self {
        Self {
            state: RwLock::default(),
            topology: watch::Sender::new(Arc::default()),
            ready: watch::Sender::new(false),
        }
    }

    fn publish(&self) {
        let topology = Arc::clone(&self.state.read().topology);
        self.topology.send_if_modified(|shown| {
            let moved = shown.epoch() != topology.epoch();
            *shown = topology;
            moved
        });
    }
}

/// The state machine of group 0.
#[derive(Debug)]
pub struct MetadataMachine {
    view: Arc<View>,
}

impl MetadataMachine {
    pub(super) fn new(view: Arc<View>) -> Self {
        Self { view }
    }

    fn apply_command(&self, index: LogIndex, bytes: &[u8]) -> Reply {
        let stamped = Stamped::decode(bytes);
        assert!(
            stamped.is_ok(),
            "the committed metadata command at index {index} is of a kind this build does not know"
        );
        let outcome = match stamped {
            Ok(stamped) => self.view.state.write().apply_once(stamped),
            Err(error) => Err(MetadataError::new(ErrorCode::INTERNAL, error.to_string())),
        };
        self.view.publish();
        Reply { outcome }
    }

    fn noted(&self) -> Reply {
        let epoch = self.view.state.read().topology.epoch();
        Reply {
            outcome: Ok(Effect::Done { epoch }),
        }
    }
}

impl StateMachine for MetadataMachine {
    type Proposal = Proposal;
    type Reply = Reply;

    fn size(proposal: &Proposal) -> usize {
        match &proposal.entry {
            Content::Command(bytes) => bytes.len(),
            Content::Trim(_) => 0,
        }
    }

    fn admit(&mut self, proposal: Proposal, seat: Seat) -> Admission<Reply> {
        let (record, reply) = match proposal.entry {
            Content::Command(bytes) => (ControlRecord::Metadata(bytes), None),
            Content::Trim(up_to) => (ControlRecord::Trim { up_to }, Some(self.noted())),
        };
        let stamp = Stamp {
            base_offset: seat.next_offset,
            term: seat.term,
            append_time: seat.append_time,
            group: seat.group,
        };
        match control_batch(&record, stamp) {
            Ok(batch) => Admission::Append {
                batch,
                reply,
                early: false,
            },
            Err(error) => {
                let outcome = Err(MetadataError::invalid(error.to_string()));
                Admission::Answer(Reply { outcome })
            }
        }
    }

    fn apply(&mut self, entry: &Entry) -> Applied<Reply> {
        if entry.kind != EntryKind::Control {
            return Applied {
                reply: None,
                trim: None,
            };
        }
        match ControlRecord::decode(&entry.batch) {
            Ok(ControlRecord::Metadata(bytes)) => Applied {
                reply: Some(self.apply_command(entry.index, &bytes)),
                trim: None,
            },
            Ok(ControlRecord::Trim { up_to }) => Applied {
                reply: None,
                trim: Some(up_to),
            },
            record => {
                assert!(
                    record.is_ok(),
                    "the committed control record at index {} of group 0 cannot be read",
                    entry.index
                );
                Applied {
                    reply: None,
                    trim: None,
                }
            }
        }
    }

    fn committed(&mut self, _commit: LogIndex, _high_watermark: Offset, _log_start: Offset) {}

    fn role_changed(&mut self, role: Role, _term: Term, ready: bool, _leader: Option<ReplicaId>) {
        let ready = role == Role::Leader && ready;
        self.view
            .ready
            .send_if_modified(|shown| std::mem::replace(shown, ready) != ready);
    }

    fn checkpoint(&self) -> Bytes {
        checkpoint::encode(&self.view.state.read())
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        let state = checkpoint::decode(state)
            .map_err(|error| RestoreError(format!("checkpoint of group 0: {error}")))?;
        *self.view.state.write() = state;
        self.view.publish();
        Ok(())
    }
}
