//! The certificate authorities and certificates of a Quorate cluster.

#![forbid(unsafe_code)]
