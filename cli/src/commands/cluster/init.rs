//! `quorate cluster init`: makes the data directory of a broker that the cluster begins with.

use std::path::PathBuf;

use quorate_broker::Environment;
use serde::Serialize;

use crate::commands::serve;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;

/// Arguments of `cluster init`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The broker's configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Serialize)]
struct Initialised<'a> {
    cluster: &'a str,
    id: u16,
    name: &'a str,
    data_dir: String,
    brokers: Vec<u16>,
}

/// Formats the directory and starts nothing.
pub(super) fn run(arguments: &Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    let config = serve::load(Some(&arguments.config), invocation)?;
    serve::check_files(&config)?;
    quorate_broker::format(&config, &Environment::machine())
        .map_err(|error| serve::start_failed(&error))?;
    let (node, output) = (&config.node, &invocation.output);
    let peers = config.peers.iter().map(|peer| peer.id.get());
    let brokers = match config.peers.is_empty() {
        true => vec![node.id.get()],
        false => peers.collect(),
    };
    let (name, data_dir) = (node.name.as_str(), node.data_dir.display().to_string());
    if output.is_json() {
        output.object(&Initialised {
            cluster: &node.cluster,
            id: node.id.get(),
            name,
            data_dir,
            brokers,
        })?;
        return Ok(Exit::Done);
    }
    let others = config.peers.iter().filter(|peer| peer.id != node.id);
    let others: Vec<_> = others.map(|peer| peer.name.as_str()).collect();
    output.line(format_args!("{name} has an empty log in {data_dir}"))?;
    let file = arguments.config.display();
    output.note(format_args!("next: quorate serve --config {file}"));
    if !others.is_empty() {
        let others = others.join(", ");
        output.note(format_args!("and the same two commands on {others}"));
    }
    Ok(Exit::Done)
}
