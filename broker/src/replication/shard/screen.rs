//! What a message must satisfy before the engine sees it.
//!
//! The engine ends the process on messages that contradict its durable state; here they end the
//! replica, because they mean that state was lost.

use quorate_protocol::{LogIndex, Term};
use raft::RawNode;

use crate::replication::message::{Body, Message};
use crate::replication::store::Store;

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Step it.
    Pass,
    /// Not for this replica, or malformed.
    Drop,
    /// The log contradicts a current leader: this replica lost state.
    Repair(&'static str),
}

/// Judges one message; group and replica ids were compared before.
pub(super) fn screen(raw: &RawNode<Store>, message: &Message) -> Verdict {
    let log = &raw.raft.raft_log;
    let current = message.term.get() >= raw.raft.term;
    let last = LogIndex::new(log.last_index());
    match &message.body {
        Body::Heartbeat { commit, .. } if current && *commit > last => {
            Verdict::Repair("a leader counts on entries that are not here")
        }
        Body::Append { .. } => append(raw, message, current),
        // Nobody can hold more of this leader's log than the leader.
        Body::Appended { index, .. } if message.term.get() == raw.raft.term && *index > last => {
            Verdict::Drop
        }
        Body::Snapshot { index, term } if current => snapshot(raw, *index, *term),
        _ => Verdict::Pass,
    }
}

fn append(raw: &RawNode<Store>, message: &Message, current: bool) -> Verdict {
    let Body::Append {
        previous,
        previous_term,
        entries,
        ..
    } = &message.body
    else {
        return Verdict::Pass;
    };
    let (mut index, mut term) = (*previous, *previous_term);
    for entry in entries {
        let next = entry.batch.term();
        if entry.index != index.next() || next < term || next > message.term {
            return Verdict::Drop;
        }
        (index, term) = (entry.index, next);
    }
    let first = (*previous, *previous_term);
    let places = entries
        .iter()
        .map(|entry| (entry.index, entry.batch.term()));
    if current
        && std::iter::once(first)
            .chain(places)
            .any(|(at, term)| contradicts(raw, at, term))
    {
        return Verdict::Repair("a leader's log differs from what is committed here");
    }
    Verdict::Pass
}

fn snapshot(raw: &RawNode<Store>, index: LogIndex, term: Term) -> Verdict {
    if contradicts(raw, index, term) {
        return Verdict::Repair("a leader's retention point differs from what is committed here");
    }
    Verdict::Pass
}

/// Is another term committed at this index?
fn contradicts(raw: &RawNode<Store>, index: LogIndex, term: Term) -> bool {
    let log = &raw.raft.raft_log;
    let known = index.get() >= log.first_index().saturating_sub(1) && index.get() <= log.committed;
    known && !log.match_term(index.get(), term.get())
}
