//! The command as people and scripts use it: a process, its output, its exit status.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod arguments;
mod bench;
mod broker;
mod certificates;
mod cluster;
mod contexts;
mod development;
mod messages;
mod process;
mod topics;
