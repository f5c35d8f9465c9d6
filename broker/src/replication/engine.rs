//! Our values as the engine's types and back: the one file that knows both.
//!
//! The engine never sees our bytes of blank and membership entries: for it a blank is empty and a
//! membership change is the protobuf it proposed, so that sizes it counts come out even.

use protobuf::Message as _;
use quorate_protocol::{LogIndex, ReplicaId, Term};
use quorate_storage::{Entry, EntryKind};
use raft::eraftpb;
use raft::eraftpb::{ConfChangeTransition, ConfChangeType, EntryType, MessageType};

use crate::replication::message::{Ballot, Body, Message};
use crate::replication::shard::membership;
use crate::replication::shard::membership::{Change, Membership, MembershipError};

/// What the engine marks a ballot with when the leader asked for it.
const TRANSFER: &[u8] = b"CampaignTransfer";

/// An entry as the engine knows it.
pub(super) fn of(entry: &Entry) -> Result<eraftpb::Entry, MembershipError> {
    let mut out = header(entry.index, entry.batch.term(), entry.kind);
    match entry.kind {
        EntryKind::Data | EntryKind::Control => out.data = entry.batch.bytes().clone(),
        EntryKind::Membership => out.data = change_bytes(&membership::of_entry(entry)?).into(),
        EntryKind::Blank => {}
    }
    Ok(out)
}

/// An entry without its content: enough for the engine to count and to look for changes.
pub(super) fn header(index: LogIndex, term: Term, kind: EntryKind) -> eraftpb::Entry {
    let mut out = eraftpb::Entry {
        index: index.get(),
        term: term.get(),
        ..Default::default()
    };
    if kind == EntryKind::Membership {
        out.set_entry_type(EntryType::EntryConfChangeV2);
    }
    out
}

/// Does an entry in the engine's form hold nothing of ours?
pub(super) fn is_blank(entry: &eraftpb::Entry) -> bool {
    entry.get_entry_type() == EntryType::EntryNormal && entry.data.is_empty()
}

/// One proposal of several entries.
pub(super) fn proposal(replica: ReplicaId, entries: Vec<eraftpb::Entry>) -> eraftpb::Message {
    let mut out = eraftpb::Message {
        from: replica.get(),
        ..Default::default()
    };
    out.set_msg_type(MessageType::MsgPropose);
    out.set_entries(entries.into());
    out
}

/// A membership change as the engine knows it. Never left automatically.
pub(super) fn conf_change(changes: &[Change]) -> eraftpb::ConfChangeV2 {
    let single = |change: &Change| {
        let (kind, id) = match change {
            Change::Voter(id) => (ConfChangeType::AddNode, id),
            Change::Learner(id) => (ConfChangeType::AddLearnerNode, id),
            Change::Remove(id) => (ConfChangeType::RemoveNode, id),
        };
        let mut single = eraftpb::ConfChangeSingle {
            node_id: id.get(),
            ..Default::default()
        };
        single.set_change_type(kind);
        single
    };
    let mut out = eraftpb::ConfChangeV2::default();
    out.set_changes(changes.iter().map(single).collect::<Vec<_>>().into());
    if changes.len() > 1 {
        out.set_transition(ConfChangeTransition::Explicit);
    }
    out
}

/// The bytes the engine's own proposal of a change would have.
pub(super) fn change_bytes(changes: &[Change]) -> Vec<u8> {
    // Encoding into a vector cannot fail: all fields are optional in this protobuf.
    conf_change(changes).write_to_bytes().unwrap_or_default()
}

/// The members as the engine knows them.
pub(super) fn conf_state(membership: &Membership) -> eraftpb::ConfState {
    let raw = |ids: &[ReplicaId]| ids.iter().map(|id| id.get()).collect();
    eraftpb::ConfState {
        voters: raw(&membership.voters),
        voters_outgoing: raw(&membership.outgoing),
        learners: raw(&membership.learners),
        learners_next: raw(&membership.next_learners),
        ..Default::default()
    }
}

/// The inverse of `conf_state`, in a fixed order.
pub(super) fn members(state: &eraftpb::ConfState) -> Membership {
    let sorted = |ids: &[u64]| {
        let mut ids: Vec<_> = ids.iter().copied().map(ReplicaId::new).collect();
        ids.sort_unstable();
        ids
    };
    Membership {
        voters: sorted(&state.voters),
        outgoing: sorted(&state.voters_outgoing),
        learners: sorted(&state.learners),
        next_learners: sorted(&state.learners_next),
    }
}

/// A peer's message for the engine; `entries` are its entries in the engine's form.
pub(super) fn inbound(message: &Message, entries: Vec<eraftpb::Entry>) -> Option<eraftpb::Message> {
    let mut out = eraftpb::Message {
        from: message.from.get(),
        to: message.to.get(),
        term: message.term.get(),
        ..Default::default()
    };
    let kind = match &message.body {
        Body::Append {
            previous,
            previous_term,
            commit,
            ..
        } => {
            (out.index, out.log_term, out.commit) =
                (previous.get(), previous_term.get(), commit.get());
            out.set_entries(entries.into());
            MessageType::MsgAppend
        }
        Body::Appended { index, commit } => {
            (out.index, out.commit) = (index.get(), commit.get());
            MessageType::MsgAppendResponse
        }
        Body::Mismatch {
            index,
            commit,
            hint,
            hint_term,
        } => {
            (out.index, out.commit) = (index.get(), commit.get());
            (out.reject, out.reject_hint, out.log_term) = (true, hint.get(), hint_term.get());
            MessageType::MsgAppendResponse
        }
        Body::Heartbeat { commit, question } => {
            (out.commit, out.context) = (commit.get(), context(*question));
            MessageType::MsgHeartbeat
        }
        Body::HeartbeatReply { commit, question } => {
            (out.commit, out.context) = (commit.get(), context(*question));
            MessageType::MsgHeartbeatResponse
        }
        Body::Vote(ballot) => inbound_ballot(&mut out, ballot),
        Body::VoteReply {
            pre,
            granted,
            commit,
            commit_term,
            ..
        } => {
            (out.reject, out.commit, out.commit_term) = (!granted, commit.get(), commit_term.get());
            pick(
                *pre,
                MessageType::MsgRequestPreVoteResponse,
                MessageType::MsgRequestVoteResponse,
            )
        }
        Body::Snapshot { index, term } => {
            let metadata = out.mut_snapshot().mut_metadata();
            (metadata.index, metadata.term) = (index.get(), term.get());
            // Stepped only where it moves the commit index; the engine wants to find itself in it.
            metadata.mut_conf_state().voters = vec![message.to.get()];
            MessageType::MsgSnapshot
        }
        Body::TimeoutNow => MessageType::MsgTimeoutNow,
        Body::SnapshotStatus { .. } => return None,
    };
    out.set_msg_type(kind);
    Some(out)
}

fn inbound_ballot(out: &mut eraftpb::Message, ballot: &Ballot) -> MessageType {
    (out.index, out.log_term) = (ballot.last.get(), ballot.last_term.get());
    (out.commit, out.commit_term) = (ballot.commit.get(), ballot.commit_term.get());
    if ballot.transfer {
        out.context = bytes::Bytes::from_static(TRANSFER);
    }
    pick(
        ballot.pre,
        MessageType::MsgRequestPreVote,
        MessageType::MsgRequestVote,
    )
}

/// A question of readers as the engine carries it.
fn context(question: u64) -> bytes::Bytes {
    if question == 0 {
        return bytes::Bytes::new();
    }
    bytes::Bytes::copy_from_slice(&question.to_le_bytes())
}

fn question(message: &eraftpb::Message) -> u64 {
    let context = message.context.as_ref().try_into();
    context.map_or(0, u64::from_le_bytes)
}

const fn pick(pre: bool, yes: MessageType, no: MessageType) -> MessageType {
    if pre { yes } else { no }
}

/// What the engine says, in our words; `entries` are ours. None: nothing a peer may hear.
pub(super) fn outbound(message: &eraftpb::Message, entries: Vec<Entry>) -> Option<Body> {
    let (index, commit) = (LogIndex::new(message.index), LogIndex::new(message.commit));
    let log_term = Term::new(message.log_term);
    let commit_term = Term::new(message.commit_term);
    Some(match message.get_msg_type() {
        MessageType::MsgAppend => Body::Append {
            previous: index,
            previous_term: log_term,
            commit,
            entries,
        },
        MessageType::MsgAppendResponse if message.reject => {
            let hint = LogIndex::new(message.reject_hint);
            Body::Mismatch {
                index,
                commit,
                hint,
                hint_term: log_term,
            }
        }
        MessageType::MsgAppendResponse => Body::Appended { index, commit },
        MessageType::MsgHeartbeat => Body::Heartbeat {
            commit,
            question: question(message),
        },
        MessageType::MsgHeartbeatResponse => Body::HeartbeatReply {
            commit,
            question: question(message),
        },
        kind @ (MessageType::MsgRequestVote | MessageType::MsgRequestPreVote) => {
            Body::Vote(Ballot {
                pre: kind == MessageType::MsgRequestPreVote,
                transfer: message.context == TRANSFER,
                last: index,
                last_term: log_term,
                commit,
                commit_term,
            })
        }
        kind @ (MessageType::MsgRequestVoteResponse | MessageType::MsgRequestPreVoteResponse) => {
            let pre = kind == MessageType::MsgRequestPreVoteResponse;
            Body::VoteReply {
                pre,
                granted: !message.reject,
                forgetful: false,
                commit,
                commit_term,
            }
        }
        MessageType::MsgSnapshot => {
            let metadata = message.get_snapshot().get_metadata();
            Body::Snapshot {
                index: LogIndex::new(metadata.index),
                term: Term::new(metadata.term),
            }
        }
        MessageType::MsgTimeoutNow => Body::TimeoutNow,
        _ => return None,
    })
}
