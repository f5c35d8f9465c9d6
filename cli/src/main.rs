//! The `quorate` command: parses, runs one command, reports. Holds no logic a program would want.
#![forbid(unsafe_code)]

mod arguments;
mod clock;
mod commands;
mod contexts;
mod encoding;
mod failure;
mod invocation;
mod lines;
mod local;
mod logging;
mod output;
mod record_line;
mod runtime;
mod settings;
mod stop;
mod values;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::arguments::Command;
use crate::arguments::CommandLine;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::Output;

fn main() -> ExitCode {
    let exit = match CommandLine::try_parse() {
        Ok(line) => execute(line),
        Err(error) => refuse(&error),
    };
    ExitCode::from(exit.code())
}

fn execute(line: CommandLine) -> Exit {
    let invocation = Invocation {
        output: Output::new(line.common.json, line.common.quiet),
        verbose: line.common.verbose,
        overrides: line.common.set,
        target: line.target,
        private_key: line.private_key,
    };
    let result = run(line.command, &invocation);
    let flushed = invocation.output.flush();
    match result.and_then(|exit| flushed.map(|()| exit)) {
        Ok(exit) => exit,
        Err(failure) => {
            invocation.output.failure(&failure);
            failure.exit()
        }
    }
}

fn run(command: Command, invocation: &Invocation) -> Result<Exit, Failure> {
    match command {
        Command::Bench(arguments) => commands::bench::run(&arguments, invocation),
        Command::Demo(arguments) => commands::demo::run(&arguments, invocation),
        Command::DemoStep(arguments) => commands::demo::work::run(&arguments, invocation),
        Command::Dev(arguments) => commands::dev::run(arguments, invocation),
        Command::Serve(arguments) => commands::serve::run(&arguments, invocation),
        Command::Pub(arguments) => commands::publish::run(arguments, invocation),
        Command::Sub(arguments) => commands::sub::run(arguments, invocation),
        Command::Read(arguments) => commands::read::run(arguments, invocation),
        Command::Topic(command) => commands::topic::run(command, invocation),
        Command::Cert(command) => commands::cert::run(command, invocation),
        Command::Cluster(command) => commands::cluster::run(command, invocation),
        Command::Doctor(arguments) => commands::doctor::run(arguments, invocation),
        Command::Explain(arguments) => commands::explain::run(&arguments, invocation),
        Command::Ctx(command) => commands::ctx::run(command, invocation),
        Command::Completions(arguments) => commands::completions::run(&arguments, invocation),
    }
}

/// Help and version are results; everything else is a usage error in the form asked for.
fn refuse(error: &clap::Error) -> Exit {
    let json = std::env::args_os().any(|argument| argument == "--json");
    let output = Output::new(json, false);
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        let printed = output.line(error.render().to_string().trim_end());
        return printed
            .and_then(|()| output.flush())
            .map_or_else(|f| f.exit(), |()| Exit::Done);
    }
    let text = error.render().to_string();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand && !json {
        output.help(text.trim_end());
        return Exit::Usage;
    }
    let text = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
    let text = text
        .strip_suffix("For more information, try '--help'.")
        .unwrap_or(text)
        .trim_end();
    let (message, rest) = text.split_once('\n').unwrap_or((text, ""));
    let failure = Failure::usage(message);
    let failure = match rest.trim() {
        "" => failure,
        rest => failure.with_cause(rest),
    };
    output.failure(&failure.with_help("quorate --help"));
    Exit::Usage
}
