//! Messages of replicas, many in one frame.
//!
//! ```text
//! body:     0 u8 channel | 1 3 bytes 0 | 4 u32 messages
//! message:  0 u32 group | 4 u8 type | 5 u8 flags | 6 u16 0 | 8 u64 tag | 16 u64 from | 24 u64 to
//!          32 u64 term | 40 fields of the type, u64 each
//! append:  previous, its term, commit | u32 entries | entries
//! entry:    0 u8 kind | 1 batch
//! ```
//!
//! Invariant: a decoded envelope holds only whole batches with right checksums, which share the
//! frame's bytes.

use bytes::BufMut;
use bytes::Bytes;
use bytes::BytesMut;

use crate::batch::BATCH_HEADER_LEN;
use crate::batch::RecordBatch;
use crate::frame::FRAME_HEADER_LEN;
use crate::frame::Flags;
use crate::frame::FrameHeader;
use crate::ids::GroupId;
use crate::ids::GroupTag;
use crate::ids::LogIndex;
use crate::ids::ReplicaId;
use crate::ids::Term;
use crate::kind::Kind;
use crate::message::DecodeError;
use crate::peer::cursor::Cursor;

/// Bytes of a body before its first message.
const HEADER_LEN: usize = 8;
/// Bytes of a message before the fields of its type.
const MESSAGE_LEN: usize = 40;
/// Bytes of an entry before its batch.
const ENTRY_LEN: usize = 1;
/// Smaller batches are copied: a piece of its own would cost more.
const OWN_PIECE_BYTES: usize = 4096;

const APPEND: u8 = 1;
const APPENDED: u8 = 2;
const MISMATCH: u8 = 3;
const HEARTBEAT: u8 = 4;
const HEARTBEAT_REPLY: u8 = 5;
const VOTE: u8 = 6;
const VOTE_REPLY: u8 = 7;
const SNAPSHOT: u8 = 8;
const SNAPSHOT_STATUS: u8 = 9;
const TIMEOUT_NOW: u8 = 10;
const FORGETFUL_VOTE: u8 = 11;

/// Messages that travel together, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Whose groups they are of: 0 metadata, 1 partitions.
    pub channel: u8,
    /// The messages.
    pub messages: Vec<PeerMessage>,
}

/// One message between two replicas of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMessage {
    /// The group.
    pub group: GroupId,
    /// The group's incarnation.
    pub tag: GroupTag,
    /// The speaker.
    pub from: ReplicaId,
    /// The listener.
    pub to: ReplicaId,
    /// The speaker's term, or the term it asks votes for.
    pub term: Term,
    /// What it says.
    pub body: PeerBody,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerBody {
    /// Leader: entries behind `previous`, possibly none.
    Append {
        /// The index before the first entry.
        previous: LogIndex,
        /// Its term.
        previous_term: Term,
        /// The leader's commit index.
        commit: LogIndex,
        /// Contiguous entries.
        entries: Vec<PeerEntry>,
    },
    /// Follower: its durable log matches the leader's up to `index`.
    Appended {
        /// The last matching index.
        index: LogIndex,
        /// The follower's commit index.
        commit: LogIndex,
    },
    /// Follower: `index` does not match; try behind `hint`.
    Mismatch {
        /// The refused `previous`.
        index: LogIndex,
        /// The follower's commit index.
        commit: LogIndex,
        /// The index that may match.
        hint: LogIndex,
        /// The follower's term there.
        hint_term: Term,
    },
    /// Leader: alive; `commit` is within what the listener confirmed.
    Heartbeat {
        /// The commit index for the listener.
        commit: LogIndex,
        /// What the answer repeats to confirm a read; 0 = nothing.
        context: u64,
    },
    /// Follower: heard.
    HeartbeatReply {
        /// The follower's commit index.
        commit: LogIndex,
        /// The heartbeat's.
        context: u64,
    },
    /// Candidate: asks for a vote.
    Vote {
        /// Would I win? Changes nothing at the listener.
        pre: bool,
        /// The leader asked the candidate to take over.
        transfer: bool,
        /// The candidate's last index.
        last: LogIndex,
        /// Its term.
        last_term: Term,
        /// The candidate's commit index.
        commit: LogIndex,
        /// The term of the entry there.
        commit_term: Term,
    },
    /// The answer to a vote request.
    VoteReply {
        /// It answers a pre-vote.
        pre: bool,
        /// The vote is given.
        granted: bool,
        /// The voter's commit index, if the vote is refused.
        commit: LogIndex,
        /// The term of the entry there.
        commit_term: Term,
    },
    /// Leader: the listener needs entries that are gone; a checkpoint at `index` replaces them.
    Snapshot {
        /// The retention point.
        index: LogIndex,
        /// The term of the entry there.
        term: Term,
    },
    /// Follower: how a snapshot ended.
    SnapshotStatus {
        /// Its retention point.
        index: LogIndex,
        /// It was installed, or what the follower has is newer.
        finished: bool,
    },
    /// Leader: take over, now.
    TimeoutNow,
    /// A vote that is given, by a replica that may have forgotten what it once acknowledged.
    ForgetfulVote,
}

/// One entry of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerEntry {
    /// Whether the batch holds records, or what it holds of the cluster's own; as on disk.
    pub kind: u8,
    /// The entry's batch.
    pub batch: RecordBatch,
}

impl Envelope {
    /// The kind of its frame.
    pub const KIND: Kind = Kind::ENVELOPE;
    /// The version of the body's layout.
    pub const VERSION: u16 = 1;
    /// The most bytes of messages, by [`encoded_len`](Self::encoded_len), that one envelope holds.
    pub const MESSAGES_LEN_MAX: usize = Kind::ENVELOPE_BYTES as usize - HEADER_LEN;

    /// The whole frame, in pieces to be sent one after another. Large batches are pieces of their
    /// own, shared and not copied.
    pub fn encode(&self) -> Vec<Bytes> {
        let lens = self.messages.iter().map(Self::encoded_len);
        let body_len = HEADER_LEN + lens.sum::<usize>();
        let header = FrameHeader {
            body_len: u32::try_from(body_len).unwrap_or(u32::MAX),
            kind: Self::KIND,
            flags: Flags::CRITICAL,
            version: Self::VERSION,
        };
        let shared = self.messages.iter().map(PeerMessage::shared_len);
        let copied = FRAME_HEADER_LEN + body_len - shared.sum::<usize>();
        let mut out = Pieces::with_capacity(copied);
        out.copied.put_slice(&header.encode());
        out.copied.put_u32_le(u32::from(self.channel));
        let count = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        out.copied.put_u32_le(count);
        for message in &self.messages {
            message.encode(&mut out);
        }
        out.finish()
    }

    /// Reads the body of an envelope; its batches share the bytes.
    ///
    /// # Errors
    /// The body is no envelope, or a checksum of a batch is wrong.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let mut fields = Cursor::new("Envelope", body);
        let (channel, zero, zeros) = (fields.u8()?, fields.u8()?, fields.u16()?);
        if zero != 0 || zeros != 0 {
            return Err(fields.malformed("reserved bits are set"));
        }
        let count = fields.count(MESSAGE_LEN)?;
        let mut messages = Vec::with_capacity(count);
        for _ in 0..count {
            messages.push(PeerMessage::decode(&mut fields)?);
        }
        fields.end()?;
        Ok(Self { channel, messages })
    }

    /// Bytes that a message takes in an envelope.
    pub fn encoded_len(message: &PeerMessage) -> usize {
        let entry_len = |entry: &PeerEntry| ENTRY_LEN + entry.batch.len();
        let body_len = match &message.body {
            PeerBody::Append { entries, .. } => 28 + entries.iter().map(entry_len).sum::<usize>(),
            PeerBody::Mismatch { .. } | PeerBody::Vote { .. } => 32,
            PeerBody::Appended { .. }
            | PeerBody::Heartbeat { .. }
            | PeerBody::HeartbeatReply { .. }
            | PeerBody::VoteReply { .. }
            | PeerBody::Snapshot { .. } => 16,
            PeerBody::SnapshotStatus { .. } => 8,
            PeerBody::TimeoutNow | PeerBody::ForgetfulVote => 0,
        };
        MESSAGE_LEN + body_len
    }
}

impl PeerMessage {
    /// Bytes of its batches that are not copied.
    fn shared_len(&self) -> usize {
        let PeerBody::Append { entries, .. } = &self.body else {
            return 0;
        };
        let lens = entries.iter().map(|entry| entry.batch.len());
        lens.filter(|len| *len >= OWN_PIECE_BYTES).sum()
    }

    fn encode(&self, out: &mut Pieces) {
        out.copied.put_u32_le(self.group.get());
        out.copied.put_u8(self.body.number());
        out.copied.put_u8(self.body.flags());
        out.copied.put_u16_le(0);
        out.copied.put_u64_le(self.tag.get());
        out.copied.put_u64_le(self.from.get());
        out.copied.put_u64_le(self.to.get());
        out.copied.put_u64_le(self.term.get());
        self.body.encode(out);
    }

    fn decode(fields: &mut Cursor) -> Result<Self, DecodeError> {
        let group = GroupId::new(fields.u32()?);
        let (number, flags, zero) = (fields.u8()?, fields.u8()?, fields.u16()?);
        if zero != 0 {
            return Err(fields.malformed("reserved bits are set"));
        }
        Ok(Self {
            group,
            tag: GroupTag::new(fields.u64()?),
            from: ReplicaId::new(fields.u64()?),
            to: ReplicaId::new(fields.u64()?),
            term: Term::new(fields.u64()?),
            body: PeerBody::decode(number, flags, fields)?,
        })
    }
}

impl PeerBody {
    const fn number(&self) -> u8 {
        match self {
            Self::Append { .. } => APPEND,
            Self::Appended { .. } => APPENDED,
            Self::Mismatch { .. } => MISMATCH,
            Self::Heartbeat { .. } => HEARTBEAT,
            Self::HeartbeatReply { .. } => HEARTBEAT_REPLY,
            Self::Vote { .. } => VOTE,
            Self::VoteReply { .. } => VOTE_REPLY,
            Self::Snapshot { .. } => SNAPSHOT,
            Self::SnapshotStatus { .. } => SNAPSHOT_STATUS,
            Self::TimeoutNow => TIMEOUT_NOW,
            Self::ForgetfulVote => FORGETFUL_VOTE,
        }
    }

    fn flags(&self) -> u8 {
        let (low, high) = match *self {
            Self::Vote { pre, transfer, .. } => (pre, transfer),
            Self::VoteReply { pre, granted, .. } => (pre, granted),
            Self::SnapshotStatus { finished, .. } => (finished, false),
            _ => (false, false),
        };
        u8::from(low) | u8::from(high) << 1
    }

    fn encode(&self, out: &mut Pieces) {
        match *self {
            Self::Append {
                previous,
                previous_term,
                commit,
                ref entries,
            } => {
                out.numbers([previous.get(), previous_term.get(), commit.get()]);
                out.entries(entries);
            }
            Self::Appended { index, commit } => out.numbers([index.get(), commit.get()]),
            Self::Mismatch {
                index,
                commit,
                hint,
                hint_term,
            } => out.numbers([index.get(), commit.get(), hint.get(), hint_term.get()]),
            Self::Heartbeat { commit, context } | Self::HeartbeatReply { commit, context } => {
                out.numbers([commit.get(), context]);
            }
            Self::Vote {
                last,
                last_term,
                commit,
                commit_term,
                ..
            } => out.numbers([last.get(), last_term.get(), commit.get(), commit_term.get()]),
            Self::VoteReply {
                commit,
                commit_term,
                ..
            } => out.numbers([commit.get(), commit_term.get()]),
            Self::Snapshot { index, term } => out.numbers([index.get(), term.get()]),
            Self::SnapshotStatus { index, .. } => out.numbers([index.get()]),
            Self::TimeoutNow | Self::ForgetfulVote => {}
        }
    }

    fn decode(number: u8, flags: u8, fields: &mut Cursor) -> Result<Self, DecodeError> {
        let known = match number {
            VOTE | VOTE_REPLY => 0b11,
            SNAPSHOT_STATUS => 0b01,
            _ => 0,
        };
        if flags & !known != 0 {
            return Err(fields.malformed("reserved flags are set"));
        }
        let (low, high) = (flags & 1 != 0, flags & 2 != 0);
        match number {
            APPEND => Self::decode_append(fields),
            VOTE => Ok(Self::Vote {
                pre: low,
                transfer: high,
                last: LogIndex::new(fields.u64()?),
                last_term: Term::new(fields.u64()?),
                commit: LogIndex::new(fields.u64()?),
                commit_term: Term::new(fields.u64()?),
            }),
            VOTE_REPLY => Ok(Self::VoteReply {
                pre: low,
                granted: high,
                commit: LogIndex::new(fields.u64()?),
                commit_term: Term::new(fields.u64()?),
            }),
            SNAPSHOT_STATUS => Ok(Self::SnapshotStatus {
                index: LogIndex::new(fields.u64()?),
                finished: low,
            }),
            _ => Self::decode_plain(number, fields),
        }
    }

    /// Types without flags or entries.
    fn decode_plain(number: u8, fields: &mut Cursor) -> Result<Self, DecodeError> {
        Ok(match number {
            APPENDED => Self::Appended {
                index: LogIndex::new(fields.u64()?),
                commit: LogIndex::new(fields.u64()?),
            },
            MISMATCH => Self::Mismatch {
                index: LogIndex::new(fields.u64()?),
                commit: LogIndex::new(fields.u64()?),
                hint: LogIndex::new(fields.u64()?),
                hint_term: Term::new(fields.u64()?),
            },
            HEARTBEAT => Self::Heartbeat {
                commit: LogIndex::new(fields.u64()?),
                context: fields.u64()?,
            },
            HEARTBEAT_REPLY => Self::HeartbeatReply {
                commit: LogIndex::new(fields.u64()?),
                context: fields.u64()?,
            },
            SNAPSHOT => Self::Snapshot {
                index: LogIndex::new(fields.u64()?),
                term: Term::new(fields.u64()?),
            },
            TIMEOUT_NOW => Self::TimeoutNow,
            FORGETFUL_VOTE => Self::ForgetfulVote,
            _ => return Err(fields.malformed("a message is of an unknown type")),
        })
    }

    fn decode_append(fields: &mut Cursor) -> Result<Self, DecodeError> {
        let previous = LogIndex::new(fields.u64()?);
        let previous_term = Term::new(fields.u64()?);
        let commit = LogIndex::new(fields.u64()?);
        let count = fields.count(ENTRY_LEN + BATCH_HEADER_LEN)?;
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            let kind = fields.u8()?;
            let batch = RecordBatch::split_first(fields.left());
            let batch = batch.map_err(|_| fields.malformed("an entry is no valid batch"))?;
            entries.push(PeerEntry { kind, batch });
        }
        Ok(Self::Append {
            previous,
            previous_term,
            commit,
            entries,
        })
    }
}

/// A frame under construction.
struct Pieces {
    done: Vec<Bytes>,
    copied: BytesMut,
}

impl Pieces {
    fn with_capacity(copied: usize) -> Self {
        Self {
            done: Vec::new(),
            copied: BytesMut::with_capacity(copied),
        }
    }

    fn numbers<const N: usize>(&mut self, numbers: [u64; N]) {
        for number in numbers {
            self.copied.put_u64_le(number);
        }
    }

    fn entries(&mut self, entries: &[PeerEntry]) {
        let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        self.copied.put_u32_le(count);
        for entry in entries {
            self.copied.put_u8(entry.kind);
            let batch = entry.batch.bytes();
            if batch.len() < OWN_PIECE_BYTES {
                self.copied.put_slice(batch);
            } else {
                self.done.push(self.copied.split().freeze());
                self.done.push(batch.clone());
            }
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        if !self.copied.is_empty() {
            self.done.push(self.copied.freeze());
        }
        self.done
    }
}
