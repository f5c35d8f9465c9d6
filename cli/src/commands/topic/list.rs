//! `quorate topic list`.

use quorate::TopicSummary;
use serde::Serialize;

use crate::commands::topic;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::Output;
use crate::runtime;
use crate::settings::PrivateKey;
use crate::settings::Settings;
use crate::settings::Target;

/// Arguments of `topic list`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    private_key: PrivateKey,
}

#[derive(Serialize)]
struct List {
    topics: Vec<Line>,
}

/// What a list says about a topic.
#[derive(Serialize)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) partitions: u32,
    pub(super) replicas: u32,
    pub(super) storage: &'static str,
    pub(super) flush: String,
    pub(super) ack: &'static str,
    pub(super) records: u64,
    pub(super) bytes: u64,
    pub(super) subscribers: u64,
}

impl From<&TopicSummary> for Line {
    fn from(summary: &TopicSummary) -> Self {
        Self {
            name: summary.name.clone(),
            partitions: summary.partitions,
            replicas: summary.replicas,
            storage: topic::storage_name(summary.settings.storage),
            flush: topic::flush_name(summary.settings.flush),
            ack: summary.settings.ack.as_str(),
            records: summary.records,
            bytes: summary.bytes,
            subscribers: summary.subscribers,
        }
    }
}

pub(super) fn run(arguments: Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    let settings = invocation.settings(arguments.target, Some(arguments.private_key))?;
    runtime::run(list(&settings, &invocation.output))
}

async fn list(settings: &Settings, output: &Output) -> Result<Exit, Failure> {
    let topics = settings
        .with_client(async |client| Ok(client.admin().topics().await?))
        .await?;
    let topics: Vec<_> = topics.iter().map(Line::from).collect();
    if output.is_json() {
        output.object(&List { topics })?;
        return Ok(Exit::Done);
    }
    if topics.is_empty() {
        output.note("no topics; `quorate topic create NAME` makes one");
        return Ok(Exit::Done);
    }
    let row = |line: Line| {
        let numbers = [line.records, line.bytes, line.subscribers].map(|n| n.to_string());
        let sizes = [line.partitions, line.replicas].map(|n| n.to_string());
        let mut row = vec![line.name];
        row.extend(sizes);
        row.extend(numbers);
        row
    };
    let head = [
        "NAME",
        "PARTITIONS",
        "REPLICAS",
        "RECORDS",
        "BYTES",
        "SUBSCRIBERS",
    ];
    output.table(&head, topics.into_iter().map(row).collect())?;
    Ok(Exit::Done)
}
