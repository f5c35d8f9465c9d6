//! One partition's segmented log: append, flush, read, truncate, recover, retain.

#![forbid(unsafe_code)]
