//! Raft groups: the shard loop, the log store over storage, elections. Knows no topics.
//!
//! A caller sees [`Replication`], its [`Group`]s and the [`StateMachine`] it gives them. The shard
//! itself, under [`shard`], is a plain struct without clock, files or tasks.

mod config;
mod engine;
mod flush;
mod gate;
mod group;
mod inbox;
mod inspect;
mod machine;
pub mod message;
mod offsets;
mod outbox;
mod recovery;
mod replay;
mod routes;
pub mod shard;
mod shell;
mod snapshot;
mod states;
mod store;
mod tail;
mod task;
mod terms;
mod ticket;
mod unflushed;
mod weak;
mod wire;

pub use config::{Durability, ElectionWindow, GroupSpec, ReplicationConfig};
pub use flush::Poison;
pub use group::{Group, GroupStatus};
pub use inspect::{Inspection, Progress};
pub use machine::{Admission, Applied, RestoreError, Role, Seat, StateMachine};
pub use recovery::{Files, OpenError, Recovered, recover};
pub use shard::Halt;
pub use shard::membership::{Change, Membership};
pub use task::{Environment, Replication, StartError};
pub use ticket::{Answer, Failure, Ticket};

#[cfg(test)]
mod tests;
