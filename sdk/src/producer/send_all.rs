//! Sending a stream of messages and waiting for all of it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;

use futures_core::Stream;

use crate::error::Result;
use crate::message::Message;
use crate::producer::Delivery;
use crate::producer::Producer;
use crate::record::Receipt;

/// What became of a stream of messages: each has a receipt.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct BatchReceipt {
    /// Messages that have a receipt.
    pub messages: u64,
    /// Of those, messages in batches that were in the log before.
    pub duplicates: u64,
    /// The receipt of the first message.
    pub first: Option<Receipt>,
    /// The receipt of the last message.
    pub last: Option<Receipt>,
}

/// Messages of one batch: once that has ended, the first and the last stand for all.
struct Run {
    first: Delivery,
    last: Option<Delivery>,
    messages: u64,
}

pub(super) async fn send_all<S>(producer: &Producer, messages: S) -> Result<BatchReceipt>
where
    S: Stream,
    S::Item: Into<Message>,
{
    let mut messages = pin!(messages);
    let mut runs: VecDeque<Run> = VecDeque::new();
    let mut report = BatchReceipt::default();
    while let Some(message) = poll_fn(|cx| messages.as_mut().poll_next(cx)).await {
        let delivery = producer.send(message).await?;
        match runs.back_mut() {
            Some(run) if run.first.is_with(&delivery) => {
                run.last = Some(delivery);
                run.messages += 1;
            }
            _ => runs.push_back(Run {
                first: delivery,
                last: None,
                messages: 1,
            }),
        }
        while runs.len() > 1
            && let Some(run) = runs.front()
            && let Some(ended) = run.first.whole_batch().try_receipt()
            && let Some(first) = run.first.try_receipt()
        {
            ended?;
            let last = run
                .last
                .as_ref()
                .and_then(Delivery::try_receipt)
                .transpose()?;
            report.note(first?, last, run.messages);
            runs.pop_front();
        }
    }
    for run in runs {
        run.first.whole_batch().await?;
        let first = run.first.await?;
        let last = match run.last {
            Some(last) => Some(last.await?),
            None => None,
        };
        report.note(first, last, run.messages);
    }
    Ok(report)
}

impl BatchReceipt {
    fn note(&mut self, first: Receipt, last: Option<Receipt>, messages: u64) {
        self.messages += messages;
        if first.duplicate {
            self.duplicates += messages;
        }
        let last = last.unwrap_or_else(|| first.clone());
        self.first.get_or_insert(first);
        self.last = Some(last);
    }
}
