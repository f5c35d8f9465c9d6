//! What travels on the wire and rests on disk: frames, batches, ids, error codes.

#![forbid(unsafe_code)]
