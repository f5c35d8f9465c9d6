//! `quorate completions SHELL`: the script a shell needs to complete commands.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::arguments::CommandLine;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(arguments: &Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut CommandLine::command(),
        "quorate",
        &mut script,
    );
    invocation.output.bytes(&script)?;
    Ok(Exit::Done)
}
