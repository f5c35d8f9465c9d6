//! Group 0: brokers, topics, assignments, producer ids.
//!
//! Every change is a command in one replicated log; what a broker shows is a snapshot of the
//! applied state, and its partitions follow from that.

mod assign;
mod checkpoint;
mod command;
pub mod describe;
mod encoding;
mod error;
mod follow;
mod handle;
mod machine;
mod plan;
mod producers;
mod propose;
mod state;
mod together;
mod topology;
mod validate;

pub use error::MetadataError;
pub use handle::Config;
pub use handle::Entropy;
pub use handle::Environment;
pub use handle::Metadata;
pub use handle::StartError;
pub use machine::MetadataMachine;
pub use machine::Proposal;
pub use machine::Reply;
pub use topology::Assignment;
pub use topology::Broker;
pub use topology::Moving;
pub use topology::Registration;
pub use topology::Replica;
pub use topology::Topic;
pub use topology::Topology;
pub use validate::Limits;

#[cfg(test)]
mod tests;
