//! One module per promise, each kept by a real `quorate serve`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failing test should stop where it fails; a verdict is worth reading"
)]

mod bad_input;
mod damage;
mod data_dir;
mod dedup;
mod divided;
mod drain;
mod failover;
mod five;
mod flush;
mod full_disk;
mod kill;
mod membership;
mod minority;
mod pause;
mod retention;
mod rolling;
mod snapshot;
mod stale_leader;
mod subscribe;
mod topic;
