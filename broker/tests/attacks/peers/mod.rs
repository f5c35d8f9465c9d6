//! The same for the peer port: brokers that are not who they say, and brokers that are broken.

mod frames;
mod identity;
mod lanes;
mod reach;
mod requests;
mod snapshots;
mod world;
