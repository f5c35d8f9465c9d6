//! Promises of Quorate, checked on whole brokers.

#![forbid(unsafe_code)]
