//! The Quorate server, as a library: rooms by floor, wired by the roof.

#![forbid(unsafe_code)]

pub mod auth;
pub mod clock;
pub mod config;
pub mod metadata;
pub mod partition;
pub mod replication;
pub mod session;
pub mod transport;
