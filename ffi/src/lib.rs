//! The C library: `include/quorate.h` over the Rust client, and the only shipped unsafe code.
//!
//! Invariant: no panic, no enum and no Rust pointer crosses the border. Handles are numbers that
//! are looked up, never followed.

#![expect(unsafe_code, reason = "this is the border with C")]

pub mod abi;
pub mod admin;
pub mod batch;
pub mod border;
pub mod client;
mod cluster_json;
pub mod consumer;
mod contexts;
mod event;
mod executor;
pub mod failure;
mod fork;
mod handle;
mod json;
pub mod log;
mod message;
pub mod producer;
mod reports;
pub mod settings;
pub mod status;
pub mod texts;
