//! What hostile or broken programs send to the ports of a broker, and what must come of it.
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
mod peers;
mod streams;
mod world;
