//! Sends without waiting for receipts, and reports receipts in the order of the messages.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use quorate::Delivery;
use quorate::ErrorCode;
use quorate::Producer;
use quorate::Receipt;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::clock;
use crate::clock::Moment;
use crate::commands::publish::Template;
use crate::commands::publish::source::Source;
use crate::encoding;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::stop::Stop;
use crate::values::Rate;

/// Messages whose receipts may be outstanding; the client bounds their bytes.
const UNREPORTED_MAX: usize = 65_536;
/// The progress bar moves once in so many messages.
const PROGRESS_EVERY: u64 = 1024;

/// What became of the messages.
#[derive(Debug)]
pub(super) struct Outcomes {
    pub(super) acked: u64,
    pub(super) failed: u64,
    pub(super) interrupted: bool,
    /// What the last failure asks the process to exit with.
    pub(super) last_exit: Exit,
}

/// One run from a source to a topic.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub(super) source: Source,
    pub(super) template: Template,
    pub(super) rate: Option<Rate>,
}

/// What is told about each message.
#[derive(Clone, Copy)]
struct Style {
    /// Failures need their index.
    many: bool,
    /// Receipts are printed.
    shown: bool,
}

struct Sent {
    index: u64,
    at: Moment,
    delivery: Result<Delivery, quorate::Error>,
}

impl Pipeline {
    /// Publishes all values, until a signal or until the producer is finished; a signal while
    /// only receipts are outstanding abandons them.
    pub(super) async fn run(
        self,
        producer: &Producer,
        output: &Output,
        stop: &mut Stop,
    ) -> Result<Outcomes, Failure> {
        let many = !self.template.single;
        // Where people watch a file go, the bar tells more than a line for each message.
        let watched = self.source.length() > 0 && output.is_terminal();
        let style = Style {
            many,
            shown: output.is_json() || !(watched || output.is_quiet()),
        };
        let (queue, sent) = mpsc::channel(UNREPORTED_MAX);
        let mut reporting = pin!(report_all(sent, output, style));
        let interrupted = tokio::select! {
            result = self.send_all(producer, output, queue, stop) => result?,
            outcomes = &mut reporting => return outcomes,
        };
        tokio::select! {
            outcomes = reporting => Ok(Outcomes { interrupted, ..outcomes? }),
            () = stop.requested() => Err(Failure::silent(Exit::Interrupted)),
        }
    }

    /// Sends until the source ends; whether a signal came first.
    async fn send_all(
        mut self,
        producer: &Producer,
        output: &Output,
        queue: mpsc::Sender<Sent>,
        stop: &mut Stop,
    ) -> Result<bool, Failure> {
        let progress = output.progress(self.source.length());
        let start = clock::now();
        let mut interrupted = false;
        for index in 0.. {
            let sent = tokio::select! {
                sent = self.send_next(producer, start, index) => sent?,
                () = stop.requested() => {
                    interrupted = true;
                    None
                }
            };
            let Some(sent) = sent else { break };
            let finished = sent
                .delivery
                .as_ref()
                .is_err_and(|error| !is_about_one_message(error));
            if queue.send(sent).await.is_err() || finished {
                break;
            }
            if index % PROGRESS_EVERY == 0 {
                progress.set_position(self.source.done());
            }
        }
        progress.finish_and_clear();
        Ok(interrupted)
    }

    async fn send_next(
        &mut self,
        producer: &Producer,
        start: Moment,
        index: u64,
    ) -> Result<Option<Sent>, Failure> {
        let Some(value) = self.source.next().await? else {
            return Ok(None);
        };
        if let Some(rate) = self.rate {
            tokio::time::sleep_until(start + rate.due(index)).await;
        }
        let message = self.template.message(index, value);
        let at = clock::now();
        let delivery = producer.send(message).await;
        Ok(Some(Sent {
            index,
            at,
            delivery,
        }))
    }
}

/// Whether the messages after it may fare better.
fn is_about_one_message(error: &quorate::Error) -> bool {
    let code = error.code();
    let codes = [
        ErrorCode::BATCH_TOO_LARGE,
        ErrorCode::INVALID_ARGUMENT,
        ErrorCode::UNKNOWN_PARTITION,
    ];
    codes.contains(&code)
}

async fn report_all(
    mut sent: mpsc::Receiver<Sent>,
    output: &Output,
    style: Style,
) -> Result<Outcomes, Failure> {
    let mut outcomes = Outcomes {
        acked: 0,
        failed: 0,
        interrupted: false,
        last_exit: Exit::Done,
    };
    while let Some(Sent {
        index,
        at,
        delivery,
    }) = sent.recv().await
    {
        let result = match delivery {
            Ok(delivery) => settle(delivery, output).await?,
            Err(error) => Err(error),
        };
        match result {
            Ok(receipt) => {
                outcomes.acked += 1;
                if style.shown {
                    print(&receipt, at, output).map_err(stopped)?;
                }
            }
            Err(error) => {
                outcomes.failed += 1;
                let failure = Failure::from(error);
                let numbered = style.many || output.is_json();
                let failure = if numbered {
                    failure.with_index(index)
                } else {
                    failure
                };
                outcomes.last_exit = failure.exit();
                output.failure(&failure);
            }
        }
        if sent.is_empty() {
            output.flush().map_err(stopped)?;
        }
    }
    Ok(outcomes)
}

/// A reader of receipts that leaves stops the publisher, and that is worth telling.
fn stopped(failure: Failure) -> Failure {
    if !failure.is_silent() {
        return failure;
    }
    let message = "nobody reads the receipts any more; later messages were not published";
    Failure::new(ErrorCode::CANCELLED, Exit::Partly, message)
}

/// Waits for one receipt; what was printed before is shown before waiting.
async fn settle(
    delivery: Delivery,
    output: &Output,
) -> Result<Result<Receipt, quorate::Error>, Failure> {
    let mut delivery = pin!(delivery);
    let early = poll_fn(|context| Poll::Ready(delivery.as_mut().poll(context))).await;
    if let Poll::Ready(result) = early {
        return Ok(result);
    }
    output.flush().map_err(stopped)?;
    Ok(delivery.await)
}

#[derive(Serialize)]
struct ReceiptLine<'a> {
    topic: &'a str,
    partition: u32,
    offset: Option<u64>,
    term: Option<u64>,
    timestamp: Option<String>,
    level: &'static str,
    duplicate: bool,
}

fn print(receipt: &Receipt, sent: Moment, output: &Output) -> Result<(), Failure> {
    let line = ReceiptLine {
        topic: &receipt.topic,
        partition: receipt.partition.get(),
        offset: receipt.offset.map(quorate::Offset::get),
        term: receipt.term.map(quorate::Term::get),
        timestamp: receipt.timestamp.map(encoding::timestamp),
        level: receipt.level.as_str(),
        duplicate: receipt.duplicate,
    };
    if output.is_json() {
        return output.object(&line);
    }
    let place = line
        .offset
        .map(|offset| format!("@{offset}"))
        .unwrap_or_default();
    let term = line
        .term
        .map(|term| format!(" term {term}"))
        .unwrap_or_default();
    let duplicate = if line.duplicate { " duplicate" } else { "" };
    let waited = clock::since(sent).as_secs_f64() * 1000.0;
    output.line(format_args!(
        "{}/{}{place}{term} {}{duplicate} {waited:.1} ms",
        line.topic, line.partition, line.level
    ))
}
