//! The server's settings: file, environment and flags, checked once.
