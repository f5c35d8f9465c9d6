//! `quorate cluster`: the brokers of a cluster.

mod init;

use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;

/// What to do with brokers.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make the data directory of a broker that the cluster begins with
    Init(init::Arguments),
}

/// Looks at brokers or changes them.
pub(crate) fn run(command: Command, invocation: &Invocation) -> Result<Exit, Failure> {
    match command {
        Command::Init(arguments) => init::run(&arguments, invocation),
    }
}
