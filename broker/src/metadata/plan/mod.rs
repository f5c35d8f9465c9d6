//! Membership and leadership: which brokers belong to the cluster, which replicas to a group, and
//! who leads.
//!
//! What is wanted is written in group 0; whoever leads a group carries out its plan, step by step,
//! and may be relieved at any point.

pub(super) mod agenda;
mod change;
mod command;
mod hand_over;
mod horizon;
mod keep_up;
mod outlook;
mod repair;
mod safety;
mod state;
pub(super) mod step;
mod steward;

pub(super) use command::PlanCommand;
pub(super) use command::Site;
pub(super) use horizon::Horizon;
pub(super) use steward::Office;
pub(super) use steward::Steward;
