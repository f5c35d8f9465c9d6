//! Reading back everything a topic holds.

use std::collections::BTreeMap;

use quorate::Client;

use crate::history::Seen;
use crate::patience::within;

/// Everything in one partition, page by page.
///
/// # Errors
/// What the broker answers to a page that it cannot read.
pub async fn read_all(client: &Client, topic: &str, partition: u32) -> quorate::Result<Vec<Seen>> {
    let mut records = client.read(topic).partition(partition).limit(1000).stream();
    let mut seen = Vec::new();
    while let Some(record) = within(records.next()).await {
        seen.push(Seen::from(&record?));
    }
    Ok(seen)
}

/// Everything in a topic, and the offsets each partition keeps.
///
/// # Errors
/// What the broker answers to a page that it cannot read.
pub async fn read_topic(
    client: &Client,
    topic: &str,
) -> quorate::Result<(Vec<Seen>, BTreeMap<u32, (u64, u64)>)> {
    let described = within(client.admin().topic(topic)).await?;
    let mut seen = Vec::new();
    let mut kept = BTreeMap::new();
    for partition in &described.partitions {
        let number = partition.partition.get();
        let (start, end) = (partition.start_offset, partition.high_watermark);
        kept.insert(number, (start.get(), end.get()));
        seen.extend(read_all(client, topic, number).await?);
    }
    Ok((seen, kept))
}
