//! The Rust client of the Quorate message broker: producer, consumer, reader, admin.

#![forbid(unsafe_code)]
