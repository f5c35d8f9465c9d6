//! The quorate command.

#![forbid(unsafe_code)]

fn main() {}
