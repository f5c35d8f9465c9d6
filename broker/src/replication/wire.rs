//! Messages of replicas as the peer plane carries them, and back.
//!
//! The same values under other names; entries get their indexes from their place.

use quorate_protocol::{LogIndex, PeerBody, PeerEntry, PeerMessage, Term};
use quorate_storage::{Entry, EntryKind};

use crate::replication::message::{Ballot, Body, Message};

/// As it travels.
pub(super) fn outbound(message: Message) -> PeerMessage {
    PeerMessage {
        group: message.group,
        tag: message.tag,
        from: message.from,
        to: message.to,
        term: message.term,
        body: outbound_body(message.body),
    }
}

fn outbound_body(body: Body) -> PeerBody {
    match body {
        Body::Append {
            previous,
            previous_term,
            commit,
            entries,
        } => PeerBody::Append {
            previous,
            previous_term,
            commit,
            entries: entries.into_iter().map(outbound_entry).collect(),
        },
        Body::Appended { index, commit } => PeerBody::Appended { index, commit },
        Body::Mismatch {
            index,
            commit,
            hint,
            hint_term,
        } => PeerBody::Mismatch {
            index,
            commit,
            hint,
            hint_term,
        },
        Body::Heartbeat { commit, question } => PeerBody::Heartbeat {
            commit,
            context: question,
        },
        Body::HeartbeatReply { commit, question } => PeerBody::HeartbeatReply {
            commit,
            context: question,
        },
        Body::Vote(ballot) => outbound_ballot(ballot),
        Body::VoteReply {
            pre: false,
            granted: true,
            forgetful: true,
            ..
        } => PeerBody::ForgetfulVote,
        Body::VoteReply {
            pre,
            granted,
            commit,
            commit_term,
            ..
        } => PeerBody::VoteReply {
            pre,
            granted,
            commit,
            commit_term,
        },
        Body::Snapshot { index, term } => PeerBody::Snapshot { index, term },
        Body::SnapshotStatus { index, finished } => PeerBody::SnapshotStatus { index, finished },
        Body::TimeoutNow => PeerBody::TimeoutNow,
    }
}

fn outbound_entry(entry: Entry) -> PeerEntry {
    PeerEntry {
        kind: entry.kind.to_byte(),
        batch: entry.batch,
    }
}

const fn outbound_ballot(ballot: Ballot) -> PeerBody {
    PeerBody::Vote {
        pre: ballot.pre,
        transfer: ballot.transfer,
        last: ballot.last,
        last_term: ballot.last_term,
        commit: ballot.commit,
        commit_term: ballot.commit_term,
    }
}

/// As replicas understand it; none if an entry is of a kind this build does not know.
pub(super) fn inbound(message: PeerMessage) -> Option<Message> {
    Some(Message {
        group: message.group,
        tag: message.tag,
        from: message.from,
        to: message.to,
        term: message.term,
        body: inbound_body(message.body)?,
    })
}

fn inbound_entries(previous: LogIndex, entries: Vec<PeerEntry>) -> Option<Vec<Entry>> {
    let mut index = previous;
    let entry = |entry: PeerEntry| {
        index = index.next();
        let kind = EntryKind::from_byte(entry.kind)?;
        let batch = entry.batch;
        Some(Entry { index, kind, batch })
    };
    entries.into_iter().map(entry).collect()
}

fn inbound_body(body: PeerBody) -> Option<Body> {
    Some(match body {
        PeerBody::Append {
            previous,
            previous_term,
            commit,
            entries,
        } => Body::Append {
            previous,
            previous_term,
            commit,
            entries: inbound_entries(previous, entries)?,
        },
        PeerBody::Appended { index, commit } => Body::Appended { index, commit },
        PeerBody::Mismatch {
            index,
            commit,
            hint,
            hint_term,
        } => Body::Mismatch {
            index,
            commit,
            hint,
            hint_term,
        },
        PeerBody::Heartbeat { commit, context } => Body::Heartbeat {
            commit,
            question: context,
        },
        PeerBody::HeartbeatReply { commit, context } => Body::HeartbeatReply {
            commit,
            question: context,
        },
        PeerBody::Vote {
            pre,
            transfer,
            last,
            last_term,
            commit,
            commit_term,
        } => Body::Vote(Ballot {
            pre,
            transfer,
            last,
            last_term,
            commit,
            commit_term,
        }),
        PeerBody::VoteReply {
            pre,
            granted,
            commit,
            commit_term,
        } => Body::VoteReply {
            pre,
            granted,
            forgetful: false,
            commit,
            commit_term,
        },
        PeerBody::ForgetfulVote => Body::VoteReply {
            pre: false,
            granted: true,
            forgetful: true,
            commit: LogIndex::ZERO,
            commit_term: Term::ZERO,
        },
        PeerBody::Snapshot { index, term } => Body::Snapshot { index, term },
        PeerBody::SnapshotStatus { index, finished } => Body::SnapshotStatus { index, finished },
        PeerBody::TimeoutNow => Body::TimeoutNow,
    })
}
