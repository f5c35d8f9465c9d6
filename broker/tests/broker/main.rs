//! A whole broker over loopback, spoken to frame by frame.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing test should stop where it fails"
)]

mod admin;
mod brokers;
mod client;
mod cluster;
mod credit;
mod faults;
mod greeting;
mod journal;
mod kill;
mod leaders;
mod lifecycle;
mod produce;
mod read;
mod restart;
mod sdk;
mod subscribe;
mod world;
