//! Who may begin a handshake, and who may keep a connection. No I/O, no clock.

mod bucket;
mod gate;
mod places;
mod sources;

pub(crate) use crate::transport::admission::bucket::TokenBucket;
pub(crate) use crate::transport::admission::gate::Gate;
pub(crate) use crate::transport::admission::gate::InFlight;
pub(crate) use crate::transport::admission::gate::Verdict;
pub(crate) use crate::transport::admission::places::Place;
pub(crate) use crate::transport::admission::places::Places;
pub(crate) use crate::transport::admission::places::Refusal;
