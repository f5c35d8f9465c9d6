//! `quorate topic describe NAME`.

use quorate::PartitionDescription;
use quorate::TopicDescription;
use serde::Serialize;

use crate::commands::topic::list;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::output::Output;
use crate::runtime;
use crate::settings::PrivateKey;
use crate::settings::Settings;
use crate::settings::Target;

/// Arguments of `topic describe`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The topic
    name: String,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    private_key: PrivateKey,
}

#[derive(Serialize)]
struct Description {
    #[serde(flatten)]
    summary: list::Line,
    retention_bytes: u64,
    retention_time_ms: u64,
    dedup_window_ms: u64,
    dedup_ids_max: u32,
    segment_age_ms: u64,
    record_bytes_max: u32,
    id: String,
    partition_list: Vec<Partition>,
}

#[derive(Serialize)]
struct Partition {
    partition: u32,
    leader: Option<u16>,
    preferred: Option<u16>,
    term: u64,
    replicas: Vec<u16>,
    in_sync: Vec<u16>,
    start_offset: u64,
    high_watermark: u64,
    bytes: u64,
}

impl From<&TopicDescription> for Description {
    fn from(described: &TopicDescription) -> Self {
        let settings = &described.summary.settings;
        let millis =
            |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            summary: list::Line::from(&described.summary),
            retention_bytes: settings.retention_bytes,
            retention_time_ms: millis(settings.retention_time),
            dedup_window_ms: millis(settings.dedup_window),
            dedup_ids_max: settings.dedup_ids_max,
            segment_age_ms: millis(settings.segment_age),
            record_bytes_max: settings.record_bytes_max,
            id: described.summary.id.to_string(),
            partition_list: described.partitions.iter().map(Partition::from).collect(),
        }
    }
}

impl From<&PartitionDescription> for Partition {
    fn from(described: &PartitionDescription) -> Self {
        let numbers = |ids: &[quorate::BrokerId]| ids.iter().map(|id| id.get()).collect();
        Self {
            partition: described.partition.get(),
            leader: described.leader.map(quorate::BrokerId::get),
            preferred: described.preferred.map(quorate::BrokerId::get),
            term: described.term.get(),
            replicas: numbers(&described.replicas),
            in_sync: numbers(&described.in_sync),
            start_offset: described.start_offset.get(),
            high_watermark: described.high_watermark.get(),
            bytes: described.bytes,
        }
    }
}

pub(super) fn run(arguments: Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    let settings = invocation.settings(arguments.target, Some(arguments.private_key))?;
    runtime::run(describe(&arguments.name, &settings, &invocation.output))
}

async fn describe(name: &str, settings: &Settings, output: &Output) -> Result<Exit, Failure> {
    let described = settings
        .with_client(async |client| Ok(client.admin().topic(name).await?))
        .await?;
    let description = Description::from(&described);
    if output.is_json() {
        output.object(&description)?;
    } else {
        print(&description, output)?;
    }
    Ok(Exit::Done)
}

fn print(description: &Description, output: &Output) -> Result<(), Failure> {
    let summary = &description.summary;
    let settings = [
        ("id", description.id.clone()),
        ("replicas", summary.replicas.to_string()),
        ("storage", summary.storage.to_owned()),
        ("flush", summary.flush.clone()),
        ("ack", summary.ack.to_owned()),
        ("retention_bytes", description.retention_bytes.to_string()),
        (
            "retention_time_ms",
            description.retention_time_ms.to_string(),
        ),
        ("dedup_window_ms", description.dedup_window_ms.to_string()),
        ("dedup_ids_max", description.dedup_ids_max.to_string()),
        ("segment_age_ms", description.segment_age_ms.to_string()),
        ("record_bytes_max", description.record_bytes_max.to_string()),
    ];
    output.line(&summary.name)?;
    for (name, value) in settings {
        output.line(format_args!("  {name:<18} {value}"))?;
    }
    let head = [
        "PARTITION",
        "LEADER",
        "TERM",
        "REPLICAS",
        "IN SYNC",
        "START",
        "END",
        "BYTES",
    ];
    let rows = description.partition_list.iter().map(row).collect();
    output.table(&head, rows)
}

fn row(partition: &Partition) -> Vec<String> {
    let list = |ids: &[u16]| {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        ids.join(",")
    };
    vec![
        partition.partition.to_string(),
        partition
            .leader
            .map_or_else(|| "none".to_owned(), |leader| leader.to_string()),
        partition.term.to_string(),
        list(&partition.replicas),
        list(&partition.in_sync),
        partition.start_offset.to_string(),
        partition.high_watermark.to_string(),
        partition.bytes.to_string(),
    ]
}
