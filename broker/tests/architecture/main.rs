//! The walls of the house, as tests: floors, confinement, sizes, docs, dependencies.
#![expect(
    clippy::expect_used,
    reason = "a failing test should stop where it fails"
)]

mod dependencies;
mod floors;
mod libraries;
mod map;
mod promises;
mod sizes;
mod source;
