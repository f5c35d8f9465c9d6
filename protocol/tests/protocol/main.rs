//! What the protocol promises, checked from outside.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod batches;
