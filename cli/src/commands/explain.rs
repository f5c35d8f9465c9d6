//! `quorate explain CODE`: what an error means and what to do about it.

use quorate::ErrorCode;
use serde::Serialize;

use crate::failure;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A code such as QRT-0201, or a name such as NotLeader
    code: String,
}

#[derive(Serialize)]
struct Explanation {
    code: String,
    kind: &'static str,
    title: &'static str,
    cause: &'static str,
    fix: &'static str,
    retryable: bool,
    outcome: &'static str,
}

/// Prints the explanation of a code.
pub(crate) fn run(arguments: &Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    let asked = arguments.code.trim();
    let code = ErrorCode::parse(asked).ok();
    let info = ErrorCode::ALL
        .iter()
        .find(|info| Some(info.code) == code || info.name.eq_ignore_ascii_case(asked))
        .ok_or_else(|| unknown(asked))?;
    let explanation = Explanation {
        code: info.code.to_string(),
        kind: info.name,
        title: info.title,
        cause: info.cause,
        fix: info.fix,
        retryable: info.code.is_retryable(),
        outcome: failure::outcome_name(info.code.outcome()),
    };
    if invocation.output.is_json() {
        invocation.output.object(&explanation)?;
    } else {
        print(&explanation, invocation)?;
    }
    Ok(Exit::Done)
}

fn print(explanation: &Explanation, invocation: &Invocation) -> Result<(), Failure> {
    let output = &invocation.output;
    output.line(format_args!(
        "{} {}: {}",
        explanation.code, explanation.kind, explanation.title
    ))?;
    output.line(format_args!("  cause    {}", explanation.cause))?;
    output.line(format_args!("  fix      {}", explanation.fix))?;
    let retry = if explanation.retryable { "yes" } else { "no" };
    output.line(format_args!("  retry    {retry}"))?;
    output.line(format_args!(
        "  outcome  {}",
        explanation.outcome.replace('_', " ")
    ))
}

fn unknown(asked: &str) -> Failure {
    let shown = asked.escape_default();
    Failure::usage(format!("`{shown}` is no error code of Quorate"))
        .with_help("codes look like QRT-0201")
}
