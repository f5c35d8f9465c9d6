//! `quorate topic`: create, list, describe and delete topics.

mod create;
mod delete;
mod describe;
mod list;

use quorate::Flush;
use quorate::Storage;

use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::logging;

/// What to do with topics.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Create a topic
    Create(Box<create::Arguments>),
    /// List all topics
    List(list::Arguments),
    /// Show a topic's settings and partitions
    Describe(describe::Arguments),
    /// Delete a topic and its records
    Delete(delete::Arguments),
}

/// Reads or changes topics.
pub(crate) fn run(command: Command, invocation: &Invocation) -> Result<Exit, Failure> {
    logging::start_client(invocation.verbose);
    match command {
        Command::Create(arguments) => create::run(*arguments, invocation),
        Command::List(arguments) => list::run(arguments, invocation),
        Command::Describe(arguments) => describe::run(arguments, invocation),
        Command::Delete(arguments) => delete::run(arguments, invocation),
    }
}

/// How changes are made.
#[derive(Debug, clap::Args)]
pub(crate) struct Change {
    /// Check everything and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

const fn storage_name(storage: Storage) -> &'static str {
    match storage {
        Storage::File => "file",
        Storage::Memory => "memory",
        _ => "other",
    }
}

fn flush_name(flush: Flush) -> String {
    match flush {
        Flush::Batch => "batch".to_owned(),
        Flush::Interval(interval) => format!("interval:{}us", interval.as_micros()),
        _ => "other".to_owned(),
    }
}
