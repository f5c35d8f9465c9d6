//! `quorate cluster`: the brokers of a cluster.

mod change;
mod init;
mod report;
mod status;

use crate::commands::cluster::change::Change;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::logging;

/// What to do with brokers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make the data directory of a broker that the cluster begins with
    Init(init::Arguments),
    /// Show brokers, partitions and alarms
    Status(status::Arguments),
    /// Make a broker give its leaderships away and get none, before it is stopped
    Drain(change::OfBroker),
    /// Let a drained broker lead again
    Undrain(change::OfBroker),
    /// Let a new broker join
    Add(change::Add),
    /// Move everything away from a broker and let it go
    Remove(change::OfBroker),
    /// Let a broker that lost its disk begin anew, with `serve --replace`
    Replace(change::OfBroker),
    /// Make another broker lead a partition
    Transfer(change::Transfer),
    /// Make other brokers hold a partition
    Move(change::Move),
    /// Switch on the features of the newest version that all brokers run
    Finalize(change::Finalize),
}

/// Looks at brokers or changes them.
pub(crate) fn run(command: Command, invocation: &Invocation) -> Result<Exit, Failure> {
    if !matches!(command, Command::Init(_)) {
        logging::start_client(invocation.verbose);
    }
    let change = match command {
        Command::Init(arguments) => return init::run(&arguments, invocation),
        Command::Status(arguments) => return status::run(arguments, invocation),
        Command::Drain(of) => Change::Drain(of),
        Command::Undrain(of) => Change::Undrain(of),
        Command::Add(add) => Change::Add(add),
        Command::Remove(of) => Change::Remove(of),
        Command::Replace(of) => Change::Replace(of),
        Command::Transfer(transfer) => Change::Transfer(transfer),
        Command::Move(moving) => Change::Move(moving),
        Command::Finalize(finalize) => Change::Finalize(finalize),
    };
    change::run(change, invocation)
}
