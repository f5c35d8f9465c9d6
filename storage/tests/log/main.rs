//! The promises of the log, checked through its public door: on a volume in memory that can crash and
//! fail, and on disk.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    unreachable_pub,
    reason = "test code"
)]

mod crash;
mod disk;
mod faults;
mod fixture;
mod golden;
mod index;
mod model;
mod reading;
mod tear;
mod transfer;
