//! Who may begin a handshake, and who may keep a connection. No I/O, no clock.

mod bucket;
mod gate;
mod places;
mod sources;
mod stream_rate;

pub(crate) use crate::transport::admission::gate::Gate;
pub(crate) use crate::transport::admission::gate::InFlight;
pub(crate) use crate::transport::admission::gate::Verdict;
pub(crate) use crate::transport::admission::places::Place;
pub(crate) use crate::transport::admission::places::Places;
pub(crate) use crate::transport::admission::places::Refusal;
pub(crate) use crate::transport::admission::stream_rate::STREAMS_PER_SECOND;
pub(crate) use crate::transport::admission::stream_rate::StreamRate;
pub(crate) use crate::transport::admission::stream_rate::Turn;
