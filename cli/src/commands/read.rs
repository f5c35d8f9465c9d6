//! `quorate read`: one page of a partition, and where the next one begins.

use quorate::Page;
use serde::Serialize;

use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::logging;
use crate::output::Output;
use crate::record_line;
use crate::record_line::RecordLine;
use crate::runtime;
use crate::settings::PrivateKey;
use crate::settings::Settings;
use crate::settings::Target;

/// Arguments of `read`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The topic
    topic: String,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    private_key: PrivateKey,
    /// The partition [default: 0]
    #[arg(long, value_name = "P")]
    partition: Option<u32>,
    /// earliest, latest, offset:N, time:T or last:N [default: earliest]
    #[arg(long, value_name = "START")]
    from: Option<String>,
    /// tail, offset:N or time:T, exclusive [default: tail]
    #[arg(long, value_name = "END")]
    until: Option<String>,
    /// At most so many records [default: 1000]
    #[arg(long, value_name = "N")]
    limit: Option<u32>,
    /// Go on where a page before ended: its `next`
    #[arg(long, value_name = "CURSOR", conflicts_with = "from")]
    cursor: Option<String>,
}

#[derive(Serialize)]
struct PageLine<'a> {
    records: Vec<RecordLine<'a>>,
    next: Option<String>,
    tail: u64,
}

/// Prints one page.
pub(crate) fn run(arguments: Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    logging::start_client(invocation.verbose);
    let mut settings = invocation.settings(arguments.target, Some(arguments.private_key))?;
    settings.flag_if("read.partition", arguments.partition.map(|p| p.to_string()));
    settings.flag_if("read.from", arguments.from);
    settings.flag_if("read.until", arguments.until);
    settings.flag_if("read.limit", arguments.limit.map(|limit| limit.to_string()));
    settings.flag_if("read.cursor", arguments.cursor);
    runtime::run(read(&arguments.topic, &settings, &invocation.output))
}

async fn read(topic: &str, settings: &Settings, output: &Output) -> Result<Exit, Failure> {
    let page = settings
        .with_client(async |client| Ok(client.read(topic).await?))
        .await?;
    print(&page, output)?;
    Ok(Exit::Done)
}

fn print(page: &Page, output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.object(&PageLine {
            records: page.records.iter().map(RecordLine).collect(),
            next: page.next.as_ref().map(|cursor| cursor.to_string()),
            tail: page.tail.get(),
        });
    }
    for record in &page.records {
        record_line::print(output, record, false)?;
    }
    if let Some(next) = &page.next {
        output.note(format_args!("more: --cursor {next}"));
    }
    Ok(())
}
