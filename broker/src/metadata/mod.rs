//! Group 0: brokers, topics, assignments, producer ids.
//!
//! Every change is a command in one replicated log; what a broker shows is a snapshot of the
//! applied state, and its partitions follow from that.

mod assign;
mod bootstrap;
mod checkpoint;
mod colleagues;
mod command;
pub mod describe;
mod desk;
mod encoding;
mod error;
mod follow;
mod founding;
mod handle;
mod keep;
mod keeper;
mod leaders;
mod machine;
mod plan;
mod producers;
mod propose;
mod report;
mod start;
mod state;
mod status;
mod together;
mod topology;
mod validate;

pub(crate) use colleagues::members_of;
pub use error::MetadataError;
pub use founding::Founding;
pub use founding::FoundingError;
pub use handle::Metadata;
pub use leaders::Leaders;
pub use machine::MetadataMachine;
pub use machine::Proposal;
pub use machine::Reply;
pub use report::Vitals;
pub use start::Config;
pub use start::Entropy;
pub use start::Environment;
pub use start::StartError;
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
