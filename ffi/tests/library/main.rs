//! The C library as C programs meet it: compiled, linked and run against a real broker.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed step fails the test"
)]

mod compilers;
mod examples;
mod failover;
mod header;
mod packaging;
mod place;
mod programs;
mod world;
