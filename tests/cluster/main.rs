//! One module per promise, each kept by a real `quorate serve`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failing test should stop where it fails; a verdict is worth reading"
)]

mod damage;
mod data_dir;
mod dedup;
mod drain;
mod flush;
mod full_disk;
mod kill;
mod pause;
mod retention;
mod snapshot;
mod subscribe;
mod topic;
