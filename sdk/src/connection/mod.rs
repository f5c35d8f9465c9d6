//! Connections with brokers: TLS, QUIC, the greeting, framed streams.
//!
//! Invariant: the only room that names quinn or rustls; its errors are this crate's.

mod control;
mod dial;
mod endpoint;
mod frames;
mod identity;
mod link;
mod refusal;
mod silence;
mod verifier;

pub(crate) use control::answer;
pub(crate) use dial::Dialer;
pub(crate) use dial::Dialled;
pub(crate) use frames::Frame;
pub(crate) use frames::FrameReceiver;
pub(crate) use frames::FrameSender;
pub(crate) use link::Link;
pub(crate) use link::Rejected;
pub(crate) use link::Stream;
pub(crate) use link::milliseconds;

/// Stream priorities: what is urgent goes first.
pub(crate) const PRIORITY_CONTROL: i32 = 7;
pub(crate) const PRIORITY_PRODUCE: i32 = 6;
pub(crate) const PRIORITY_SUBSCRIBE: i32 = 4;
pub(crate) const PRIORITY_ADMIN: i32 = 3;
pub(crate) const PRIORITY_READ: i32 = 2;
