//! Membership and leadership: which brokers belong to the cluster, which replicas to a group, and
//! who leads.
//!
//! What is wanted is written in group 0; whoever leads a group carries out its plan, step by step,
//! and may be relieved at any point.

pub(super) mod command;
mod state;

pub(super) use command::PlanCommand;
pub(super) use command::Site;
