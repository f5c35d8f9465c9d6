//! What clients asked, what they were told, and what they saw.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use quorate::Outcome;
use quorate::Receipt;
use quorate::Record;
use quorate_protocol::crc32c;

/// A place in a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The partition.
    pub partition: u32,
    /// The offset in it.
    pub offset: u64,
}

/// What a message is recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// The value's length.
    pub length: usize,
    /// The value's checksum.
    pub checksum: u32,
}

impl Content {
    /// The content of a value.
    #[must_use]
    pub fn of(value: &[u8]) -> Self {
        Self {
            length: value.len(),
            checksum: crc32c(value),
        }
    }
}

/// How a publish ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// There is a receipt.
    Applied {
        /// Where the record is, unless that is forgotten.
        offset: Option<u64>,
        /// It was there already.
        duplicate: bool,
    },
    /// It is not in the log and never will be.
    NotApplied,
    /// It is in the log at most once.
    Unknown,
}

impl From<&quorate::Result<Receipt>> for Answer {
    fn from(result: &quorate::Result<Receipt>) -> Self {
        match result {
            Ok(receipt) => Self::Applied {
                offset: receipt.offset.map(|offset| offset.get()),
                duplicate: receipt.duplicate,
            },
            Err(error) => match error.outcome() {
                Outcome::NotApplied => Self::NotApplied,
                _ => Self::Unknown,
            },
        }
    }
}

/// One message and what became of it. Its key is unique in the history.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Who sent it.
    pub producer: u32,
    /// Where to.
    pub partition: u32,
    /// Its place in the order of sending of this producer.
    pub number: u64,
    /// What was sent.
    pub content: Content,
    /// All answers: more than one if it was sent again.
    pub answers: Vec<Answer>,
}

/// A record as somebody saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where.
    pub place: Place,
    /// The key of the message.
    pub key: String,
    /// What it held.
    pub content: Content,
    /// Its append time.
    pub time: u64,
}

impl From<&Record> for Seen {
    fn from(record: &Record) -> Self {
        let key = record.key.as_deref().unwrap_or_default();
        Self {
            place: Place {
                partition: record.partition.get(),
                offset: record.offset.get(),
            },
            key: String::from_utf8_lossy(key).into_owned(),
            content: Content::of(record.value_bytes()),
            time: record.hlc.micros(),
        }
    }
}

/// The history of one topic.
#[derive(Debug, Default)]
pub struct History {
    attempts: Mutex<BTreeMap<String, Attempt>>,
    /// Counted along: whoever waits for progress asks every few milliseconds.
    applied: AtomicUsize,
    refused: AtomicUsize,
    deliveries: Mutex<BTreeMap<String, Vec<Seen>>>,
}

impl History {
    /// An empty history.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A message of this key and value is about to be sent to partition 0 as the `number`th of its
    /// producer.
    pub fn invoke_text(&self, producer: u32, number: u64, key: &str) {
        let attempt = Attempt {
            producer,
            partition: 0,
            number,
            content: Content::of(key.as_bytes()),
            answers: Vec::new(),
        };
        self.invoke(key, attempt);
    }

    /// A message is about to be sent.
    pub fn invoke(&self, key: &str, attempt: Attempt) {
        let before = self.attempts.lock().insert(key.to_owned(), attempt);
        assert!(before.is_none(), "the key {key} was used before");
    }

    /// A publish has ended.
    pub fn answer(&self, key: &str, result: &quorate::Result<Receipt>) {
        self.settle(key, Answer::from(result));
    }

    pub(crate) fn settle(&self, key: &str, answer: Answer) {
        let mut attempts = self.attempts.lock();
        let attempt = attempts.get_mut(key).expect("it was invoked");
        let first = |is: fn(&Answer) -> bool| is(&answer) && !attempt.answers.iter().any(is);
        let applied = first(|answer| matches!(answer, Answer::Applied { .. }));
        let refused = first(|answer| *answer == Answer::NotApplied);
        attempt.answers.push(answer);
        drop(attempts);
        self.applied.fetch_add(applied.into(), Ordering::Relaxed);
        self.refused.fetch_add(refused.into(), Ordering::Relaxed);
    }

    /// A consumer was given a record.
    pub fn deliver(&self, consumer: &str, record: &Record) {
        self.see(consumer, Seen::from(record));
    }

    pub(crate) fn see(&self, consumer: &str, seen: Seen) {
        let mut deliveries = self.deliveries.lock();
        deliveries
            .entry(consumer.to_owned())
            .or_default()
            .push(seen);
    }

    /// How many messages have a receipt.
    #[must_use]
    pub fn applied(&self) -> usize {
        self.applied.load(Ordering::Relaxed)
    }

    /// How many publishes ended with the word that nothing was written.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many records a consumer was given.
    #[must_use]
    pub fn delivered(&self, consumer: &str) -> usize {
        self.deliveries.lock().get(consumer).map_or(0, Vec::len)
    }

    /// Every message by its key.
    #[must_use]
    pub fn attempts(&self) -> BTreeMap<String, Attempt> {
        self.attempts.lock().clone()
    }

    /// What each consumer was given, in order.
    #[must_use]
    pub fn deliveries(&self) -> BTreeMap<String, Vec<Seen>> {
        self.deliveries.lock().clone()
    }
}
