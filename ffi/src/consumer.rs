//! Consumers: following a topic, and reading pages of a partition.

use std::ffi::c_char;
use std::pin::pin;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use quorate::Record;
use quorate::Start;
use quorate::Subscription;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::abi::QUORATE_END;
use crate::abi::QUORATE_OK;
use crate::abi::quorate_batch_t;
use crate::abi::quorate_client_t;
use crate::abi::quorate_config_t;
use crate::abi::quorate_consumer_t;
use crate::abi::quorate_status_t;
use crate::batch::Batch;
use crate::border;
use crate::border::Wait;
use crate::border::cross;
use crate::client::Client;
use crate::event::Event;
use crate::failure::Failure;
use crate::handle::BATCHES;
use crate::handle::CLIENTS;
use crate::handle::CONSUMERS;
use crate::settings;
use crate::texts;

/// A batch has at most so many records, whatever is asked for.
const RECORDS_MAX: usize = 100_000;

/// An open subscription.
#[derive(Debug)]
pub(crate) struct Consumer {
    reading: Mutex<Reading>,
    /// As it was when a record was taken last.
    lag: AtomicU64,
    event: OnceLock<Arc<Event>>,
    closed: CancellationToken,
    client: Arc<Client>,
}

#[derive(Debug)]
struct Reading {
    subscription: Subscription,
    /// Taken to see whether something is there.
    ahead: Option<Ahead>,
    /// Why a partition cannot be read on; then the end is not the one that was asked for.
    broken: Option<quorate::Error>,
}

/// What comes next.
#[derive(Debug)]
enum Ahead {
    Record(Box<Record>),
    Failed(quorate::Error),
    End,
}

impl From<Option<quorate::Result<Record>>> for Ahead {
    fn from(next: Option<quorate::Result<Record>>) -> Self {
        match next {
            Some(Ok(record)) => Self::Record(Box::new(record)),
            Some(Err(error)) => Self::Failed(error),
            None => Self::End,
        }
    }
}

impl Reading {
    /// At least one and at most `max` records; none at the end. Cancel-safe.
    async fn take(&mut self, max: usize) -> quorate::Result<Vec<Record>> {
        let taken = self.take_next(max).await;
        match (&taken, &self.broken) {
            (Err(error), _) if error.gap().is_none() => self.broken = Some(error.clone()),
            (Ok(records), Some(error)) if records.is_empty() => return Err(error.clone()),
            _ => {}
        }
        taken
    }

    async fn take_next(&mut self, max: usize) -> quorate::Result<Vec<Record>> {
        match self.ahead.take() {
            None => self.subscription.next_batch(max).await,
            Some(Ahead::Failed(error)) => Err(error),
            Some(Ahead::End) => {
                self.ahead = Some(Ahead::End);
                Ok(Vec::new())
            }
            Some(Ahead::Record(first)) => {
                let mut records = vec![*first];
                self.take_more(&mut records, max);
                Ok(records)
            }
        }
    }

    /// Adds what is there already.
    fn take_more(&mut self, records: &mut Vec<Record>, max: usize) {
        let room = max.saturating_sub(records.len());
        if room == 0 {
            return;
        }
        let taken = {
            let taking = pin!(self.subscription.next_batch(room));
            taking.poll(&mut Context::from_waker(Waker::noop()))
        };
        match taken {
            Poll::Ready(Ok(more)) if more.is_empty() => self.ahead = Some(Ahead::End),
            Poll::Ready(Ok(more)) => records.extend(more),
            Poll::Ready(Err(error)) => self.ahead = Some(Ahead::Failed(error)),
            Poll::Pending => {}
        }
    }

    /// Whether something is there; if not, `waker` is called when that changes.
    fn look_ahead(&mut self, waker: &Waker) -> bool {
        if self.ahead.is_none() {
            let next = pin!(self.subscription.next()).poll(&mut Context::from_waker(waker));
            if let Poll::Ready(next) = next {
                self.ahead = Some(Ahead::from(next));
            }
        }
        self.ahead.is_some()
    }

    fn lag(&self) -> u64 {
        let ahead = matches!(self.ahead, Some(Ahead::Record(_)));
        self.subscription.lag().saturating_add(u64::from(ahead))
    }
}

impl Consumer {
    fn next(&self, max: usize, wait: Wait) -> Result<Vec<Record>, Failure> {
        let taking = async {
            let mut reading = self.reading.lock().await;
            let taken = reading.take(max.min(RECORDS_MAX)).await;
            self.lag.store(reading.lag(), Ordering::Relaxed);
            taken
        };
        let taken = self.client.executor.wait(wait, &self.closed, taking);
        self.renew_event();
        taken
    }

    fn seek(&self, start: Start) -> Result<(), Failure> {
        let seeking = async {
            let mut reading = self.reading.lock().await;
            reading.ahead = None;
            reading.broken = None;
            reading.subscription.seek(start).await
        };
        let executor = &self.client.executor;
        let sought = executor.wait(Wait::Ever, &self.closed, seeking);
        self.renew_event();
        sought
    }

    /// Makes the descriptor tell the truth. Whoever holds the reader does it afterwards.
    fn renew_event(&self) {
        let Some(event) = self.event.get() else {
            return;
        };
        let Ok(mut reading) = self.reading.try_lock() else {
            return;
        };
        let _timers = self.client.executor.enter();
        event.clear();
        if reading.look_ahead(&Waker::from(Arc::clone(event))) {
            event.set();
        }
    }

    fn event_fd(&self) -> Result<i32, Failure> {
        let event = match self.event.get() {
            Some(event) => event,
            None => {
                let made = Arc::new(Event::new()?);
                self.event.get_or_init(|| made)
            }
        };
        let number = event.number();
        self.renew_event();
        Ok(number)
    }
}

/// Follows a topic, to be closed with `quorate_consumer_close`. `config` NULL: the client's
/// `subscribe.*` options ("subscribe.from" above all: earliest, latest, offset:N, time:T, last:N);
/// else those of `config` over them, the rest of it is not looked at. Waits for the brokers, at most
/// `client.request_timeout_ms`; may be called from any thread.
///
/// Errors: `QUORATE_E_UNKNOWN_TOPIC`, `QUORATE_E_OFFSET_OUT_OF_RANGE`, `QUORATE_E_CLOSED`, or why no
/// broker answers. `*out` is NULL then.
///
/// # Safety
/// `topic` is NULL or NUL-terminated; `out` is NULL or a place for a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_subscribe(
    client: *mut quorate_client_t,
    topic: *const c_char,
    config: *const quorate_config_t,
    out: *mut *mut quorate_consumer_t,
) -> quorate_status_t {
    border::status(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { border::out(out, "out") }?;
        out.set(std::ptr::null_mut());
        let client = CLIENTS.get(client)?;
        // SAFETY: as the caller promises.
        let topic = unsafe { border::text(topic, "topic") }?;
        let mut builder = client.sdk.subscribe(topic);
        for (key, value) in settings::given(config, "subscribe")? {
            builder = builder.set(&key, &value);
        }
        let closed = client.closed.child_token();
        let opening = builder.into_future();
        let subscription = client.executor.wait(Wait::Ever, &closed, opening)?;
        let reading = Reading {
            subscription,
            ahead: None,
            broken: None,
        };
        let consumer = Consumer {
            lag: AtomicU64::new(reading.lag()),
            reading: Mutex::new(reading),
            event: OnceLock::new(),
            closed,
            client,
        };
        out.set(CONSUMERS.insert(consumer)?);
        Ok(())
    })
}

/// Takes at least one and at most `max` records (never more than 100,000), as many as are there;
/// the batch is to be freed with `quorate_batch_free`. Waits for the first record: `timeout_ms` 0
/// not at all, -1 for ever. May be called from any thread; each record goes to one caller.
///
/// Returns `QUORATE_OK`, or `QUORATE_END` once "subscribe.until" is reached, with `*out` NULL.
/// Errors, with `*out` NULL: `QUORATE_E_WOULD_BLOCK`, `QUORATE_E_WAIT_TIMEOUT`: there is none.
/// `QUORATE_E_GAP`: records are missing here, `quorate_last_error()` says which; the next call goes
/// on behind them. Others: a partition cannot be read on.
///
/// # Safety
/// `out` is NULL or a place for a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_consumer_next(
    consumer: *mut quorate_consumer_t,
    max: usize,
    timeout_ms: i32,
    out: *mut *mut quorate_batch_t,
) -> quorate_status_t {
    let taken = cross(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { border::out(out, "out") }?;
        out.set(std::ptr::null_mut());
        let wait = Wait::new(timeout_ms)?;
        let consumer = CONSUMERS.get(consumer)?;
        if max == 0 {
            return Err(Failure::invalid("max is 0"));
        }
        let records = consumer.next(max, wait)?;
        if records.is_empty() {
            return Ok(QUORATE_END);
        }
        out.set(BATCHES.insert(Batch::new(records))?);
        Ok(QUORATE_OK)
    });
    taken.unwrap_or_else(|status| status)
}

/// Goes on from another place in every partition: "earliest", "latest", "offset:N", "time:T" or
/// "last:N". What was received and not taken is dropped. Waits for the brokers, at most
/// `client.request_timeout_ms`; may be called from any thread.
///
/// Errors: `QUORATE_E_INVALID_ARGUMENT`: this is no place. `QUORATE_E_OFFSET_OUT_OF_RANGE`: it is
/// not in the log.
///
/// # Safety
/// `start` is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_consumer_seek(
    consumer: *mut quorate_consumer_t,
    start: *const c_char,
) -> quorate_status_t {
    border::status(|| {
        let consumer = CONSUMERS.get(consumer)?;
        // SAFETY: as the caller promises.
        let start = unsafe { border::text(start, "start") }?;
        let start = start.parse::<Start>().map_err(Failure::invalid)?;
        consumer.seek(start)
    })
}

/// A descriptor that is readable while records wait (or the end, or an error), for `poll` or
/// `epoll`; do not read, write or close it: it belongs to the library until the consumer is closed.
/// Take records with a `timeout_ms` of 0 until there are none. The same one at each call. Does not
/// block; may be called from any thread.
///
/// Errors: -1; see `quorate_last_error()`.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_consumer_event_fd(consumer: *mut quorate_consumer_t) -> i32 {
    cross(|| CONSUMERS.get(consumer)?.event_fd()).unwrap_or(-1)
}

/// How many committed records were not taken yet, as far as known; while another thread waits for
/// records, as it was before. 0 if the handle is wrong. Does not block; may be called from any
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_consumer_lag(consumer: *mut quorate_consumer_t) -> u64 {
    let lag = cross(|| {
        let consumer = CONSUMERS.get(consumer)?;
        let now = consumer.reading.try_lock().map(|reading| reading.lag());
        Ok(now.unwrap_or_else(|_| consumer.lag.load(Ordering::Relaxed)))
    });
    lag.unwrap_or(0)
}

/// Ends a subscription and frees it; what was received and not taken is dropped. Batches stay until
/// they are freed. Calls that are waiting on this consumer in other threads end with
/// `QUORATE_E_CLOSED`. NULL as the consumer is fine. Does not block; may be called from any thread.
///
/// Errors: `QUORATE_E_CLOSED`: it was closed before.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_consumer_close(
    consumer: *mut quorate_consumer_t,
    timeout_ms: i32,
) -> quorate_status_t {
    border::status(|| {
        if consumer.is_null() {
            return Ok(());
        }
        Wait::new(timeout_ms)?;
        let consumer = CONSUMERS.remove(consumer)?;
        consumer.closed.cancel();
        Ok(())
    })
}

/// Reads a page of a partition's history, to be freed with `quorate_batch_free`. `config` NULL: the
/// client's `read.*` options; else those of `config` over them ("read.partition", "read.from",
/// "read.until", "read.limit", "read.cursor"), the rest of it is not looked at. `next_cursor`, if not
/// NULL, gets the "read.cursor" of the next page, to be freed with `quorate_string_free`, or NULL
/// when this page reached the end. Waits for a broker: `timeout_ms` -1 as long as
/// `client.request_timeout_ms` allows. May be called from any thread but not inside a callback.
///
/// Errors, with `*out` NULL: `QUORATE_E_UNKNOWN_TOPIC`, `QUORATE_E_UNKNOWN_PARTITION`,
/// `QUORATE_E_OFFSET_OUT_OF_RANGE`, `QUORATE_E_WAIT_TIMEOUT`, `QUORATE_E_CLOSED`, or why no broker
/// answers.
///
/// # Safety
/// `topic` is NULL or NUL-terminated; `out` is NULL or a place for a handle; `next_cursor` is NULL or
/// a place for a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_read(
    client: *mut quorate_client_t,
    topic: *const c_char,
    config: *const quorate_config_t,
    timeout_ms: i32,
    out: *mut *mut quorate_batch_t,
    next_cursor: *mut *mut c_char,
) -> quorate_status_t {
    border::status(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { border::out(out, "out") }?;
        out.set(std::ptr::null_mut());
        // SAFETY: as the caller promises.
        let next_cursor = unsafe { border::out(next_cursor, "next_cursor") }.ok();
        if let Some(next_cursor) = &next_cursor {
            next_cursor.set(std::ptr::null_mut());
        }
        let wait = Wait::new(timeout_ms)?.for_an_answer()?;
        let client = CLIENTS.get(client)?;
        // SAFETY: as the caller promises.
        let topic = unsafe { border::text(topic, "topic") }?;
        let mut read = client.sdk.read(topic);
        for (key, value) in settings::given(config, "read")? {
            read = read.set(&key, &value);
        }
        let reading = read.into_future();
        let page = client.executor.wait(wait, &client.closed, reading)?;
        out.set(BATCHES.insert(Batch::new(page.records))?);
        if let (Some(place), Some(cursor)) = (next_cursor, page.next) {
            place.set(texts::give(cursor.to_string())?);
        }
        Ok(())
    })
}
