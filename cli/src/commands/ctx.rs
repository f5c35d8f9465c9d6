//! `quorate ctx`: choose between clusters.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::contexts::Contexts;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::settings;

/// What to do with contexts.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List all contexts
    List,
    /// Make a context current
    Use {
        /// The context
        name: String,
    },
    /// Show the settings of a context
    Show {
        /// The context; by default the current one
        name: Option<String>,
    },
    /// Remove a context
    Rm {
        /// The context
        name: String,
    },
}

#[derive(Serialize)]
struct List<'a> {
    current: Option<&'a str>,
    contexts: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    current: bool,
    servers: Option<String>,
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    current: bool,
    settings: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Used<'a> {
    name: &'a str,
    changed: bool,
}

#[derive(Serialize)]
struct Removed<'a> {
    name: &'a str,
    removed: bool,
}

/// Reads or changes the file of contexts.
pub(crate) fn run(command: Command, invocation: &Invocation) -> Result<Exit, Failure> {
    let contexts = Contexts::load()?;
    match command {
        Command::List => list(&contexts, invocation)?,
        Command::Use { name } => select(contexts, &name, invocation)?,
        Command::Show { name } => show(&contexts, name, invocation)?,
        Command::Rm { name } => remove(contexts, &name, invocation)?,
    }
    Ok(Exit::Done)
}

fn list(contexts: &Contexts, invocation: &Invocation) -> Result<(), Failure> {
    let current = contexts.current();
    let mut lines = Vec::new();
    for name in contexts.names() {
        let settings = contexts.settings(name)?;
        let servers = settings
            .into_iter()
            .find(|(key, _)| key == "client.servers");
        let servers = servers.map(|(_, servers)| servers);
        lines.push(Line {
            name,
            current: current == Some(name),
            servers,
        });
    }
    if invocation.output.is_json() {
        return invocation.output.object(&List {
            current,
            contexts: lines,
        });
    }
    if lines.is_empty() {
        invocation
            .output
            .note("no contexts; `quorate dev` makes one");
        return Ok(());
    }
    let row = |line: Line<'_>| {
        let mark = if line.current { "*" } else { "" };
        vec![
            mark.to_owned(),
            line.name.to_owned(),
            line.servers.unwrap_or_default(),
        ]
    };
    invocation.output.table(
        &["", "NAME", "SERVERS"],
        lines.into_iter().map(row).collect(),
    )
}

fn select(mut contexts: Contexts, name: &str, invocation: &Invocation) -> Result<(), Failure> {
    let changed = contexts.select(name)?;
    if changed {
        contexts.save()?;
    }
    if invocation.output.is_json() {
        return invocation.output.object(&Used { name, changed });
    }
    invocation
        .output
        .line(format_args!("context `{name}` is selected"))
}

fn show(contexts: &Contexts, name: Option<String>, invocation: &Invocation) -> Result<(), Failure> {
    let name = name
        .or_else(settings::context_variable)
        .or_else(|| contexts.current().map(str::to_owned))
        .ok_or_else(|| {
            Failure::usage("no context is selected").with_help("quorate ctx use NAME")
        })?;
    let settings: BTreeMap<_, _> = contexts.settings(&name)?.into_iter().collect();
    let current = contexts.current() == Some(name.as_str());
    if invocation.output.is_json() {
        return invocation.output.object(&Shown {
            name: &name,
            current,
            settings,
        });
    }
    for (key, value) in settings {
        invocation.output.line(format_args!("{key} = {value}"))?;
    }
    Ok(())
}

fn remove(mut contexts: Contexts, name: &str, invocation: &Invocation) -> Result<(), Failure> {
    contexts.remove(name)?;
    contexts.save()?;
    if invocation.output.is_json() {
        return invocation.output.object(&Removed {
            name,
            removed: true,
        });
    }
    invocation
        .output
        .line(format_args!("context `{name}` is removed"))
}
