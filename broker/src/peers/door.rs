//! What the rooms above give to this one, and what they get.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::Op;
use quorate_protocol::PeerMessage;
use thiserror::Error;

use crate::transport::FrameReceiver;
use crate::transport::FrameSender;

/// A future behind a trait.
pub type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Whose messages an envelope holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Channel(u8);

impl Channel {
    /// Group 0.
    pub const METADATA: Self = Self(0);
    /// All other groups.
    pub const PARTITIONS: Self = Self(1);
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::METADATA, Self::PARTITIONS];

    /// As envelopes carry it.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The number of the lane of its appends.
    pub(crate) const fn lane(self) -> u8 {
        self.0 + 1
    }

    /// The channel whose appends take this lane.
    pub(crate) fn of_appends(lane: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.lane() == lane)
    }

    /// From an envelope; `None` if there is none of this number.
    pub(crate) fn of(raw: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.0 == raw)
    }
}

/// How soon messages have to arrive. Each lane of a channel keeps its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Small and soon: votes, heartbeats.
    Urgent,
    /// Everything that carries entries, and its answers.
    Append,
}

/// Takes the messages of one channel.
pub trait Inbound: Debug + Send + Sync {
    /// Takes the messages of one envelope, `bytes` long, in order. Must not wait.
    fn deliver(&self, from: BrokerId, messages: Vec<PeerMessage>, bytes: usize);

    /// `None` if more may be delivered, or what to await before the next envelope is read. As long
    /// as nothing is read, the sender stops at the stream's window.
    fn has_room(&self) -> Option<Boxed<()>>;

    /// Messages to this peer may be lost: its connection ended, or a lane was full.
    fn lost(&self, peer: BrokerId);
}

/// Answers the requests of other brokers.
pub trait Answers: Debug + Send + Sync {
    /// Answers one request; dropped if the connection ends before.
    fn answer(&self, from: BrokerId, op: Op, body: Bytes) -> Boxed<Result<Bytes, PeerError>>;
}

/// Sends snapshots of one channel's groups to other brokers.
pub trait SnapshotServer: Debug + Send + Sync {
    /// Serves one transfer on a stream that the receiver opened, to its end.
    fn serve(&self, from: BrokerId, sender: FrameSender, receiver: FrameReceiver) -> Boxed<()>;
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{code} {detail}")]
pub struct PeerError {
    /// What went wrong.
    pub code: ErrorCode,
    /// For people.
    pub detail: String,
    /// Whether the other broker may have received the request, and may still act on it.
    pub sent: bool,
}
