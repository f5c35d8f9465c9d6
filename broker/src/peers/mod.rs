//! The other brokers: who they are, connections to each, ordered lanes, requests, failure detection.
//!
//! What this broker sends to another travels on the connection that this broker dialled, on one
//! ordered stream per lane; every queue has a maximum, and no peer makes another one wait. The
//! room knows no Raft and no topics: it hands messages to whoever is attached.

mod accept;
mod ask;
mod dial;
mod door;
mod fault;
mod greeting;
mod handle;
mod hub;
mod lanes;
mod monitor;
mod peer;
mod queue;
mod retry;
mod samples;
mod seen;
mod serve;
mod settings;
mod snapshots;
mod states;

pub use crate::peers::door::Answers;
pub use crate::peers::door::Boxed;
pub use crate::peers::door::Channel;
pub use crate::peers::door::Inbound;
pub use crate::peers::door::Lane;
pub use crate::peers::door::PeerError;
pub use crate::peers::door::SnapshotServer;
pub use crate::peers::handle::Peers;
pub use crate::peers::settings::Config;
pub use crate::peers::settings::Environment;
pub use crate::peers::settings::Member;
pub use crate::peers::settings::Timings;
pub use crate::peers::states::PeerState;
pub use crate::peers::states::PeerStates;
pub use crate::peers::states::Reach;
