//! `quorate demo`: a failover that anybody can watch, with the count of what it lost: nothing.

mod ledger;
mod publisher;
mod story;
mod subscriber;
mod told;
pub(crate) mod work;

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::commands::demo::story::Story;
use crate::commands::demo::told::Outcome;
use crate::commands::demo::told::Teller;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::local;
use crate::local::Layout;
use crate::local::Wish;
use crate::runtime;
use crate::stop::Stop;
use crate::values::Rate;

/// The cluster of the story.
const WISH: Wish = Wish {
    nodes: Some(3),
    base_port: Some(0),
};

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Messages of the fast publisher [default: as many as it can until the end]
    #[arg(long, value_name = "N")]
    messages: Option<u64>,
    /// Messages a second of the fast publisher [default: as many as it can]
    #[arg(long, value_name = "R")]
    rate: Option<Rate>,
    /// Pass each message of the steady publisher through a processing step that takes so long,
    /// drawn evenly, and kill that step too; without a fast publisher
    #[arg(long, value_name = "LOW..HIGH", value_parser = work::busy_time)]
    #[arg(conflicts_with_all = ["messages", "rate"])]
    work: Option<RangeInclusive<Duration>>,
    /// Keep the brokers' data and logs, and say where
    #[arg(long)]
    keep: bool,
}

/// Tells the story; done only if nothing was lost, doubled or reordered.
pub(crate) fn run(arguments: &Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    runtime::run(perform(arguments, invocation))
}

async fn perform(arguments: &Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    let mut stop = Stop::listen()?;
    let teller = Teller::new(&invocation.output);
    let mut layout = Layout::prepare(None, WISH)?;
    if arguments.keep {
        layout.keep();
    }
    let mut brokers = local::brokers(&layout, &invocation.overrides);
    let told = {
        let mut story = Story::new(arguments, &layout, &teller, &mut brokers);
        tokio::select! {
            told = story.tell() => told,
            () = stop.requested() => Err(Failure::silent(Exit::Interrupted)),
        }
    };
    let stopped = match arguments.keep {
        true => local::stop(&mut brokers).await,
        // What is thrown away needs no good end.
        false => local::kill(&mut brokers).await,
    };
    let removed = layout.remove_if_temporary();
    if arguments.keep {
        let shown = layout.root().display();
        let kept = format_args!("data and logs: {shown}");
        invocation.output.note(kept);
    }
    let outcome = told?;
    teller.outcome(&outcome)?;
    stopped.and(removed).map(|()| exit(&outcome))
}

const fn exit(outcome: &Outcome) -> Exit {
    match outcome.ok {
        true => Exit::Done,
        false => Exit::Failed,
    }
}
