//! The client against a real broker: what each call promises, checked through the public door.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed step fails the test"
)]

mod admin;
mod failover;
mod fake;
mod faults;
mod publish;
mod reading;
mod refusal;
mod subscribe;
mod world;
