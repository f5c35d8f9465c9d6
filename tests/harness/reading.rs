//! Reading back everything a topic holds.

use std::collections::BTreeMap;

use quorate::Client;
use quorate::ErrorKind;

use crate::history::Seen;
use crate::patience::eventually;
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

/// The offsets that each partition keeps (half-open).
///
/// # Errors
/// What the broker answers.
pub async fn kept_offsets(
    client: &Client,
    topic: &str,
) -> quorate::Result<BTreeMap<u32, (u64, u64)>> {
    // Administration is not repeated by the client: the connection may have been lost.
    let described = eventually("the topic is described", async || {
        match within(client.admin().topic(topic)).await {
            Err(error) if error.is_retryable() || error.kind() == ErrorKind::Connect => None,
            described => Some(described),
        }
    });
    let mut kept = BTreeMap::new();
    for partition in described.await?.partitions {
        let number = partition.partition.get();
        // Brokers that do not lead a partition learn of its end a moment later; the page is the
        // leader's.
        let page = within(client.read(topic).partition(number).last(1)).await?;
        kept.insert(number, (partition.start_offset.get(), page.tail.get()));
    }
    Ok(kept)
}

/// Everything in a topic, and the offsets each partition keeps.
///
/// # Errors
/// What the broker answers to a page that it cannot read.
pub async fn read_topic(
    client: &Client,
    topic: &str,
) -> quorate::Result<(Vec<Seen>, BTreeMap<u32, (u64, u64)>)> {
    let kept = kept_offsets(client, topic).await?;
    let mut seen = Vec::new();
    for partition in kept.keys() {
        seen.extend(read_all(client, topic, *partition).await?);
    }
    Ok((seen, kept))
}
