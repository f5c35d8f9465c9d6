//! The commands, one file each.

pub(crate) mod bench;
pub(crate) mod cert;
pub(crate) mod cluster;
pub(crate) mod completions;
pub(crate) mod ctx;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod publish;
pub(crate) mod read;
pub(crate) mod serve;
pub(crate) mod sub;
pub(crate) mod topic;
