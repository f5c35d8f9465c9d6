//! `quorate topic create NAME`.

use std::time::Duration;

use quorate::Client;
use quorate::TopicId;
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
use crate::values;

/// Arguments of `topic create`.
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
    /// How many partitions [default: 1]
    #[arg(long, value_name = "N")]
    partitions: Option<u32>,
    /// How many brokers keep each partition [default: 3, or all brokers if fewer]
    #[arg(long, value_name = "N")]
    replicas: Option<u32>,
    /// Keep so many bytes of each partition; 0: no limit [default: 0]
    #[arg(long, value_name = "BYTES")]
    retention_bytes: Option<String>,
    /// Keep records so long; 0: for ever [default: 0]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    retention_time: Option<Duration>,
    /// file or memory [default: file]
    #[arg(long, value_name = "KIND")]
    storage: Option<String>,
    /// batch: on disk before it is acknowledged; interval:D: every D [default: batch]
    #[arg(long, value_name = "WHEN")]
    flush: Option<String>,
    /// What producers wait for unless they say: quorum, leader or none [default: quorum]
    #[arg(long, value_name = "LEVEL")]
    ack: Option<String>,
    /// How long message ids are remembered [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    dedup_window: Option<Duration>,
    /// It is fine if the topic exists
    #[arg(long)]
    if_not_exists: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    /// A topic that was only planned has none.
    id: Option<String>,
    partitions: u32,
    replicas: u32,
    created: bool,
}

pub(super) fn run(arguments: Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    let mut settings = invocation.settings(
        arguments.target.clone(),
        Some(arguments.private_key.clone()),
    )?;
    settings.flag_if(
        "topic.partitions",
        arguments.partitions.map(|n| n.to_string()),
    );
    settings.flag_if("topic.replicas", arguments.replicas.map(|n| n.to_string()));
    settings.flag_if("topic.retention_bytes", arguments.retention_bytes.clone());
    settings.flag_if(
        "topic.retention_time_ms",
        arguments.retention_time.map(values::setting),
    );
    settings.flag_if("topic.storage", arguments.storage.clone());
    settings.flag_if("topic.flush", arguments.flush.clone());
    settings.flag_if("topic.ack", arguments.ack.clone());
    settings.flag_if(
        "topic.dedup_window_ms",
        arguments.dedup_window.map(values::setting),
    );
    runtime::run(create(&arguments, &settings, &invocation.output))
}

async fn create(
    arguments: &Arguments,
    settings: &Settings,
    output: &Output,
) -> Result<Exit, Failure> {
    let work = async |client: &Client| {
        let mut creation = client.admin().create_topic(&arguments.name);
        if arguments.if_not_exists {
            creation = creation.if_not_exists();
        }
        if arguments.change.dry_run {
            creation = creation.dry_run();
        }
        Ok(creation.await?)
    };
    let created = settings.with_client(work).await?;
    let line = Line {
        topic: &arguments.name,
        id: (created.id != TopicId::new(0)).then(|| created.id.to_string()),
        partitions: created.partitions,
        replicas: created.replicas,
        created: created.created,
    };
    if output.is_json() {
        output.object(&line)?;
        return Ok(Exit::Done);
    }
    let what = match (arguments.change.dry_run, line.created) {
        (true, _) if line.id.is_none() => "would be created",
        (false, true) => "created",
        _ => "exists already",
    };
    output.line(format_args!(
        "topic {} {what}: {} partitions, {} replicas",
        line.topic, line.partitions, line.replicas
    ))?;
    Ok(Exit::Done)
}
