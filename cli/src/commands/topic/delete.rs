//! `quorate topic delete NAME`.

use quorate::Client;
use serde::Serialize;

use crate::commands::topic::Change;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::Output;
use crate::runtime;
use crate::settings::PrivateKey;
use crate::settings::Settings;
use crate::settings::Target;

/// Arguments of `topic delete`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The topic
    name: String,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    private_key: PrivateKey,
    #[command(flatten)]
    change: Change,
}

#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    deleted: bool,
}

pub(super) fn run(arguments: Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    let settings = invocation.settings(
        arguments.target.clone(),
        Some(arguments.private_key.clone()),
    )?;
    let question = format!("delete topic {} and all its records?", arguments.name);
    let change = &arguments.change;
    if !change.yes && !change.dry_run && !invocation.output.confirm(&question)? {
        return Err(Failure::silent(Exit::Failed));
    }
    runtime::run(delete(&arguments, &settings, &invocation.output))
}

async fn delete(
    arguments: &Arguments,
    settings: &Settings,
    output: &Output,
) -> Result<Exit, Failure> {
    let work = async |client: &Client| {
        let mut deletion = client.admin().delete_topic(&arguments.name);
        if arguments.change.dry_run {
            deletion = deletion.dry_run();
        }
        Ok(deletion.await?)
    };
    settings.with_client(work).await?;
    let deleted = !arguments.change.dry_run;
    if output.is_json() {
        output.object(&Line {
            topic: &arguments.name,
            deleted,
        })?;
    } else {
        let what = if deleted {
            "deleted"
        } else {
            "would be deleted"
        };
        output.line(format_args!("topic {} {what}", arguments.name))?;
    }
    Ok(Exit::Done)
}
