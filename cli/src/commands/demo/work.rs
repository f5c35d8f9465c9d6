//! A processing step: takes each record of one topic, is busy with it, and hands it on to another.
//!
//! Where it goes on after a crash stands in what it handed on last, so a record counts as processed
//! exactly when its result is replicated. The result's message id is the record's place: a result
//! that was handed on twice is stored once.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;
use std::time::SystemTime;

use quorate::Client;
use quorate::Message;
use quorate::MessageId;
use quorate::Record;
use quorate::Start;

use crate::clock;
use crate::clock::Moment;
use crate::commands::serve;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::logging;
use crate::runtime;
use crate::settings::Target;
use crate::values;

/// The header that names the offset a result was made from.
const SOURCE: &str = "source-offset";
/// Records that are worked on at the same time.
const AT_ONCE: usize = 8;

/// Arguments of the step.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where records come from
    from: String,
    /// Where results go
    to: String,
    /// How long each record takes, drawn evenly from LOW..HIGH
    #[arg(long, value_name = "LOW..HIGH", value_parser = busy_time)]
    busy: RangeInclusive<Duration>,
    /// Stop when this process is gone
    #[arg(long, value_name = "PID")]
    parent: i32,
}

/// Reads `50ms..150ms`, or one duration for both ends.
pub(super) fn busy_time(text: &str) -> Result<RangeInclusive<Duration>, String> {
    let (low, high) = text.split_once("..").unwrap_or((text, text));
    let (low, high) = (values::duration(low)?, values::duration(high)?);
    match low <= high {
        true => Ok(low..=high),
        false => Err("the first duration is the shorter one".to_owned()),
    }
}

/// Runs until it is killed.
pub(crate) fn run(arguments: &Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    serve::follow(arguments.parent)?;
    logging::start_client(invocation.verbose);
    let settings = invocation.settings(Target::default(), None)?;
    runtime::run(async {
        let client = settings.connect().await?;
        work(&client, arguments).await?;
        Ok(Exit::Done)
    })
}

async fn work(client: &Client, arguments: &Arguments) -> Result<(), Failure> {
    let producer = client.producer(&arguments.to).await?;
    let begin = resume(client, &arguments.to).await?;
    let mut records = client
        .subscribe(&arguments.from)
        .from(Start::Offset(begin))
        .await?;
    let mut busy = VecDeque::new();
    loop {
        tokio::select! {
            record = records.next(), if busy.len() < AT_ONCE => match record {
                Some(record) => busy.push_back(begin_work(record?, &arguments.busy)),
                None => return Ok(()),
            },
            record = finished(&mut busy) => {
                let delivery = producer.send(result(&record, &arguments.from)).await?;
                delivery.await?;
            }
        }
    }
}

/// The offset behind the one that the last result was made from.
async fn resume(client: &Client, results: &str) -> Result<u64, Failure> {
    let page = client.read(results).last(1).await?;
    let last = page.records.last();
    let source = last.and_then(|record| record.headers.get(SOURCE));
    let text = source.and_then(|bytes| std::str::from_utf8(bytes).ok());
    let offset = text.and_then(|text| text.parse::<u64>().ok());
    Ok(offset.map_or(0, |offset| offset.saturating_add(1)))
}

fn begin_work(record: Record, busy: &RangeInclusive<Duration>) -> (Moment, Record) {
    let span = busy.end().saturating_sub(*busy.start());
    let micros = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let drawn = scatter(record.offset.get()) % micros.saturating_add(1);
    let done = clock::now() + *busy.start() + Duration::from_micros(drawn);
    (done, record)
}

/// The oldest record, when it is done; results keep the order of the records. Cancel-safe.
async fn finished(busy: &mut VecDeque<(Moment, Record)>) -> Record {
    loop {
        match busy.front() {
            Some((done, _)) => tokio::time::sleep_until(*done).await,
            None => std::future::pending().await,
        }
        if let Some((_, record)) = busy.pop_front() {
            return record;
        }
    }
}

fn result(record: &Record, topic: &str) -> Message {
    let (partition, offset) = (record.partition, record.offset);
    Message::new(record.value_bytes().to_vec())
        .header(SOURCE, offset.to_string())
        .id(MessageId::hash(format!("{topic}/{partition}@{offset}")))
}

/// Evenly spread numbers, different in each run.
fn scatter(number: u64) -> u64 {
    let now = clock::wall().duration_since(SystemTime::UNIX_EPOCH);
    let seed = now.map_or(0, |now| u64::from(now.subsec_nanos()));
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_time_is_a_range_of_durations() {
        let range = busy_time("50ms..150ms").unwrap();
        assert_eq!(*range.start(), Duration::from_millis(50));
        assert_eq!(*range.end(), Duration::from_millis(150));
        assert_eq!(busy_time("1s").unwrap().end(), &Duration::from_secs(1));
        assert!(busy_time("2s..1s").is_err() && busy_time("..").is_err());
    }
}
