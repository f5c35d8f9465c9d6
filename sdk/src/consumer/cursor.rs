//! A subscription's place in one partition: the batch being read, and what follows it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::Offset;

use crate::consumer::decode::BatchReader;
use crate::consumer::decode::Source;
use crate::consumer::queue::Item;
use crate::consumer::queue::Partition;
use crate::error::Error;
use crate::error::Result;
use crate::record::Record;

/// Reads one partition.
#[derive(Debug)]
pub(super) struct Cursor {
    pub(super) queue: Arc<Partition>,
    topic: Arc<str>,
    reader: Option<BatchReader>,
    position: Option<Offset>,
    /// Read ahead for ordering, with the time it was.
    head: Option<(Record, Duration)>,
    done: bool,
}

/// What a partition has to give.
#[derive(Debug)]
pub(super) enum Taken {
    /// A record, or what is missing.
    Item(Box<Result<Record>>),
    /// Nothing now.
    Nothing,
    /// Nothing any more.
    Done,
}

impl Cursor {
    pub(super) fn new(queue: Arc<Partition>, topic: Arc<str>) -> Self {
        Self {
            queue,
            topic,
            reader: None,
            position: None,
            head: None,
            done: false,
        }
    }

    /// The next record of the batch being read; the way that is taken nearly always.
    #[inline]
    pub(super) fn next_in_batch(&mut self) -> Option<Result<Record>> {
        self.reader.as_mut()?.next()
    }

    /// The next record or error, from the next batch if need be.
    pub(super) fn take(&mut self) -> Taken {
        loop {
            if let Some(item) = self.next_in_batch() {
                return Taken::Item(Box::new(item));
            }
            self.finish_batch();
            if self.done {
                return Taken::Done;
            }
            match self.queue.pop() {
                None => return Taken::Nothing,
                Some(Item::Done) => self.done = true,
                Some(Item::Failed(error)) => {
                    self.done = true;
                    return error_item(error);
                }
                Some(Item::Missing(gap)) => {
                    self.position = Some(gap.to);
                    return error_item(Error::missing_records(gap));
                }
                Some(Item::Batch {
                    batch,
                    from,
                    until,
                    broker,
                }) => {
                    let source = Source {
                        topic: Arc::clone(&self.topic),
                        partition: self.queue.id,
                        broker,
                    };
                    let (len, next) = (batch.len(), batch.next_offset());
                    match BatchReader::new(source, batch, from, until) {
                        Ok(reader) => self.reader = Some(reader),
                        Err(error) => {
                            self.position = Some(next);
                            self.queue.release(len);
                            return error_item(error);
                        }
                    }
                }
            }
        }
    }

    /// Gives the room of a batch that was read back.
    fn finish_batch(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.position = Some(reader.position());
            self.queue.release(reader.batch_len());
        }
    }

    /// Makes sure that the next record is at hand; errors come through at once.
    pub(super) fn look_ahead(&mut self, now: Duration) -> Option<Error> {
        if self.head.is_some() {
            return None;
        }
        match self.take() {
            Taken::Item(item) => match *item {
                Ok(record) => {
                    self.head = Some((record, now));
                    None
                }
                Err(error) => Some(error),
            },
            Taken::Nothing | Taken::Done => None,
        }
    }

    pub(super) fn head(&self) -> Option<&(Record, Duration)> {
        self.head.as_ref()
    }

    pub(super) fn take_head(&mut self) -> Option<Record> {
        self.head.take().map(|(record, _)| record)
    }

    /// Whether nothing will come any more.
    pub(super) fn is_done(&self) -> bool {
        self.done && self.head.is_none()
    }

    /// The offset of the next record.
    pub(super) fn position(&self) -> Offset {
        let known = match (&self.head, &self.reader) {
            (Some((record, _)), _) => Some(record.offset),
            (None, Some(reader)) => Some(reader.position()),
            (None, None) => self.position.or_else(|| self.queue.start()),
        };
        known.unwrap_or(Offset::ZERO)
    }

    /// Committed records not yet taken; none before the broker has said where its end is.
    pub(super) fn lag(&self) -> Option<u64> {
        let tail = self.queue.high_watermark()?;
        Some(tail.distance_from(self.position()))
    }
}

fn error_item(error: Error) -> Taken {
    Taken::Item(Box::new(Err(error)))
}

/// Errors that came while records were read ahead.
pub(super) type Errors = VecDeque<Error>;
