//! What hostile or broken clients send to the client port, and what must come of it.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failing test should stop where it fails"
)]

mod admission;
mod authority;
mod certificates;
mod frames;
mod handshakes;
mod paths;
mod streams;
mod world;
