//! Brokers as real processes, faults for them, and a checker of what clients saw.

#![forbid(unsafe_code)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::missing_panics_doc,
    reason = "a failing test should stop where it fails, and say what it could not run"
)]

use std::io;
use std::io::Write;

mod broker;
mod brokers;
mod checker;
mod cluster;
mod files;
mod follow;
mod full_disk;
mod history;
mod load;
mod network;
mod patience;
mod plan;
mod process;
mod reading;
mod replicas;
mod sync_fault;

pub use broker::TestBroker;
pub use brokers::Brokers;
pub use checker::Verdict;
pub use checker::check;
pub use cluster::TestCluster;
pub use files::LogFolder;
pub use files::cut;
pub use files::end_of_frames;
pub use files::flip;
pub use files::overwrite;
pub use follow::Follower;
pub use full_disk::SmallDisk;
pub use history::Answer;
pub use history::Attempt;
pub use history::Content;
pub use history::History;
pub use history::Place;
pub use history::Seen;
pub use load::Load;
pub use load::Plan;
pub use network::CLIENT;
pub use network::Network;
pub use patience::eventually;
pub use patience::within;
pub use plan::ClusterPlan;
pub use process::Refused;
pub use reading::kept_offsets;
pub use reading::read_all;
pub use reading::read_topic;
pub use replicas::Comparison;
pub use replicas::compare_replicas;
pub use sync_fault::SyncFault;

/// Says by name that a test could not run on this machine.
///
/// It is written past the test runner, which hides what passing tests print.
pub fn could_not_run(test: &str, why: &str) {
    let told = writeln!(io::stderr(), "NOT RUN: {test}: {why}");
    told.expect("standard error takes a line");
}
