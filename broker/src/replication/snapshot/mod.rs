//! Snapshots between brokers: a replica that needs entries which are gone gets files instead.
//!
//! The shard decides; here files are carried, staged, proved and exchanged. Whatever happens, the shard
//! hears of it, and with it the leader. Files are read and written on threads of the disk only.

mod exchange;
mod intake;
mod job;
pub(super) mod line;
mod office;
mod pace;
mod place;
mod receive;
mod serve;

pub(super) use office::{Office, Parts, Reception};
pub(super) use place::Place;
