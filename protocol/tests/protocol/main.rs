//! What the protocol promises, checked from outside.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod batches;
mod bombs;
mod document;
mod golden;
mod properties;
mod samples;
mod versions;
mod wire_types;
