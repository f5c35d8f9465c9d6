//! One partition's rules: validate, deduplicate, high watermark, reads, retention, checkpoints.
//!
//! Knows topics, never clients or other partitions. What it decides lies in plain structs: rules,
//! dedup, retention; [`Partition`] and [`Registry`] are thin shells over replication.

mod append;
mod aside;
mod checkpoint;
pub(crate) mod codec;
mod dedup;
mod handle;
mod machine;
mod progress;
mod reads;
mod receipt;
mod registry;
mod retention;
mod rules;
mod scrub;
mod spec;

pub use append::AppendError;
pub use append::PendingAppend;
pub use dedup::DEDUP_IDS_MAX;
pub use handle::Partition;
pub use handle::PartitionStatus;
pub use handle::SubscriberGuard;
pub use machine::PartitionMachine;
pub use machine::Proposal;
pub use machine::Reply;
pub use progress::Leadership;
pub use reads::PartitionReadError;
pub use reads::ReadEnd;
pub use receipt::Receipt;
pub use receipt::Refusal;
pub use registry::Config;
pub use registry::Damage;
pub use registry::DeleteError;
pub use registry::Environment;
pub use registry::OpenError;
pub use registry::Registry;
pub use spec::DeletedReplica;
pub use spec::Members;
pub use spec::PartitionSpec;
pub use spec::group_dir;
