//! Producers: messages in from any thread, reports out.

use std::ffi::c_char;
use std::ffi::c_void;
use std::num::NonZeroU64;
use std::sync::Arc;

use quorate::ErrorCode;
use quorate::MessageRef;
use quorate::ReportSink;
use tokio_util::sync::CancellationToken;

use crate::abi::quorate_client_t;
use crate::abi::quorate_close_report_t;
use crate::abi::quorate_config_t;
use crate::abi::quorate_delivery_t;
use crate::abi::quorate_message_t;
use crate::abi::quorate_producer_t;
use crate::abi::quorate_status_t;
use crate::border;
use crate::border::Wait;
use crate::border::cross;
use crate::client::Client;
use crate::failure::Failure;
use crate::handle::CLIENTS;
use crate::handle::PRODUCERS;
use crate::message;
use crate::reports::Function;
use crate::reports::Reports;
use crate::settings;

/// An open producer.
#[derive(Debug)]
pub(crate) struct Producer {
    sdk: quorate::Producer,
    reports: Arc<Reports>,
    closed: CancellationToken,
    client: Arc<Client>,
}

impl Producer {
    #[inline]
    fn send(
        &self,
        message: &MessageRef<'_>,
        user_data: *mut c_void,
        wait: Wait,
    ) -> Result<(), Failure> {
        let tag = tag(user_data);
        match self.sdk.try_send_ref(message, tag) {
            Err(error) if error.code() == ErrorCode::WOULD_BLOCK && wait != Wait::Try => {
                let sending = self.sdk.send_ref(message, tag);
                self.client.executor.wait(wait, &self.closed, sending)
            }
            tried => tried.map_err(Failure::from),
        }
    }

    /// Accepts a message or says how much room it needs.
    fn try_send(
        &self,
        message: &MessageRef<'_>,
        user_data: *mut c_void,
    ) -> Result<Option<usize>, Failure> {
        match self.sdk.try_send_ref(message, tag(user_data)) {
            Ok(()) => Ok(None),
            Err(error) if error.code() == ErrorCode::WOULD_BLOCK => Ok(Some(size(message))),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends until `next` has no more, waiting for room as long as `wait` allows.
    fn send_all(
        &self,
        wait: Wait,
        next: &mut dyn FnMut() -> Result<Tried, Failure>,
    ) -> Result<(), Failure> {
        let sending = async {
            loop {
                match next()? {
                    Tried::Finished => return Ok::<_, Failure>(()),
                    Tried::Sent => {}
                    // What was reserved is free again for the next attempt.
                    Tried::Full(bytes) => drop(self.sdk.reserve(bytes).await?),
                }
            }
        };
        self.client.executor.wait(wait, &self.closed, sending)
    }

    fn poll(
        &self,
        room: usize,
        mut out: impl FnMut(usize, quorate_delivery_t),
        wait: Wait,
    ) -> Result<usize, Failure> {
        let taken = self.reports.take(room, &mut out);
        if taken > 0 {
            return Ok(taken);
        }
        let arriving = async {
            loop {
                let mut arrived = std::pin::pin!(self.reports.arrived.notified());
                arrived.as_mut().enable();
                let taken = self.reports.take(room, &mut out);
                if taken > 0 {
                    return Ok::<_, Failure>(taken);
                }
                arrived.await;
            }
        };
        self.client.executor.wait(wait, &self.closed, arriving)
    }
}

/// What became of the next of several messages.
enum Tried {
    /// There are no more.
    Finished,
    /// It was accepted.
    Sent,
    /// There is no room for so many bytes.
    Full(usize),
}

/// Bytes that a message takes, without what every message takes.
fn size(message: &MessageRef<'_>) -> usize {
    let length = |field: Option<&[u8]>| field.map_or(0, <[u8]>::len);
    let headers = message.headers.iter();
    let headers: usize = headers
        .map(|(name, value)| name.len() + length(*value) + 20)
        .sum();
    length(message.value) + length(message.key) + headers
}

fn tag(user_data: *mut c_void) -> Option<NonZeroU64> {
    let address = user_data.expose_provenance();
    u64::try_from(address).ok().and_then(NonZeroU64::new)
}

/// Opens a producer for a topic, to be closed with `quorate_producer_close`. `config` NULL: the
/// client's `producer.*` options; else those of `config` over them, the rest of it is not looked
/// at. Waits for a broker, at most `client.request_timeout_ms`; may be called from any thread.
///
/// Errors: `QUORATE_E_UNKNOWN_TOPIC`, `QUORATE_E_CLOSED`, or why no broker answers. `*out` is NULL
/// then.
///
/// # Safety
/// `topic` is NULL or NUL-terminated; `out` is NULL or a place for a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_producer_open(
    client: *mut quorate_client_t,
    topic: *const c_char,
    config: *const quorate_config_t,
    out: *mut *mut quorate_producer_t,
) -> quorate_status_t {
    border::status(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { border::out(out, "out") }?;
        out.set(std::ptr::null_mut());
        let client = CLIENTS.get(client)?;
        // SAFETY: as the caller promises.
        let topic = unsafe { border::text(topic, "topic") }?;
        let reports = Arc::new(Reports::default());
        let sink: Arc<dyn ReportSink> = Arc::<Reports>::clone(&reports);
        let mut builder = client.sdk.producer(topic).reports_to(sink);
        for (key, value) in settings::given(config, "producer")? {
            builder = builder.set(&key, &value);
        }
        let closed = client.closed.child_token();
        let opening = builder.into_future();
        let sdk = client.executor.wait(Wait::Ever, &closed, opening)?;
        let producer = Producer {
            sdk,
            reports,
            closed,
            client,
        };
        out.set(PRODUCERS.insert(producer)?);
        Ok(())
    })
}

/// Accepts a message: copies it into the batch that leaves next for its partition, and fixes its
/// place in the order. How it ended is reported once, with `user_data`; with `user_data` NULL it is
/// not reported. Waits only while the buffers are full (`producer.in_flight_bytes_max`,
/// `client.in_flight_bytes_max`): `timeout_ms` 0 not at all, -1 for ever. Room comes back when
/// messages are answered, not when reports are taken. May be called from any thread; inside a
/// callback with `timeout_ms` 0.
///
/// Errors: nothing was accepted, and nothing will be reported. `QUORATE_E_WOULD_BLOCK`,
/// `QUORATE_E_WAIT_TIMEOUT`: no room. `QUORATE_E_BATCH_TOO_LARGE`, `QUORATE_E_UNKNOWN_PARTITION`,
/// `QUORATE_E_INVALID_ARGUMENT`, `QUORATE_E_ABI_MISMATCH`: this message can never be sent.
/// `QUORATE_E_CLOSED`, `QUORATE_E_PRODUCER_FENCED`: nor can any other.
///
/// # Safety
/// `message` is NULL or a message whose pointers are NULL or valid for the lengths beside them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_producer_send(
    producer: *mut quorate_producer_t,
    message: *const quorate_message_t,
    user_data: *mut c_void,
    timeout_ms: i32,
) -> quorate_status_t {
    border::status(|| {
        let wait = Wait::new(timeout_ms)?;
        let producer = PRODUCERS.get(producer)?;
        // SAFETY: as the caller promises.
        unsafe { message::read(message, |message| producer.send(message, user_data, wait)) }
    })
}

/// Accepts `n` messages in order, as `quorate_producer_send` does; all have the `struct_size` of
/// the first. `user_data` is NULL or has `n` entries. Waits at most `timeout_ms` for all of them
/// together. `*accepted`, if not NULL, tells how many were accepted, from the first on. May be
/// called from any thread.
///
/// Errors: those of `quorate_producer_send` for the first message that was not accepted.
///
/// # Safety
/// `messages` and `user_data` are NULL or arrays of `n`; `accepted` is NULL or a place for a number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_producer_send_batch(
    producer: *mut quorate_producer_t,
    messages: *const quorate_message_t,
    n: usize,
    user_data: *const *mut c_void,
    accepted: *mut usize,
    timeout_ms: i32,
) -> quorate_status_t {
    let mut count = 0;
    let sent = border::status(|| {
        let wait = Wait::new(timeout_ms)?;
        let producer = PRODUCERS.get(producer)?;
        if n == 0 {
            return Ok(());
        }
        // SAFETY: as the caller promises.
        let stride = unsafe { message::stride(messages) }?;
        let mut next = || -> Result<Tried, Failure> {
            if count == n {
                return Ok(Tried::Finished);
            }
            let message = messages.wrapping_byte_add(count.saturating_mul(stride));
            let tag = match user_data.is_null() {
                true => std::ptr::null_mut(),
                // SAFETY: the array has `n` entries and `count` is below.
                false => unsafe { user_data.wrapping_add(count).read() },
            };
            // SAFETY: as the caller promises.
            let full =
                unsafe { message::read(message, |message| producer.try_send(message, tag)) }?;
            count += usize::from(full.is_none());
            Ok(full.map_or(Tried::Sent, Tried::Full))
        };
        producer.send_all(wait, &mut next)
    });
    if !accepted.is_null() {
        // SAFETY: not NULL, and a place for a number as the caller promises.
        unsafe { accepted.write(count) };
    }
    sent
}

/// Takes up to `cap` reports into `out`, oldest batch first; how many, at least 1. Waits for the
/// first one: `timeout_ms` 0 not at all, -1 for ever. May be called from any thread; each report
/// goes to one caller.
///
/// Errors (negative): `QUORATE_E_WOULD_BLOCK`, `QUORATE_E_WAIT_TIMEOUT`: none is there.
/// `QUORATE_E_CLOSED`: none will come.
///
/// # Safety
/// `out` is NULL or an array of `cap`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_producer_poll(
    producer: *mut quorate_producer_t,
    out: *mut quorate_delivery_t,
    cap: usize,
    timeout_ms: i32,
) -> isize {
    let polled = cross(|| {
        let wait = Wait::new(timeout_ms)?;
        let producer = PRODUCERS.get(producer)?;
        if out.is_null() || cap == 0 {
            return Err(Failure::invalid(
                "there is no room for reports: out is NULL or cap is 0",
            ));
        }
        let room = cap.min(isize::MAX.unsigned_abs());
        // SAFETY: `out` has `cap` places and `at` is below.
        let put = |at: usize, delivery| unsafe { out.wrapping_add(at).write(delivery) };
        producer.poll(room, put, wait)
    });
    match polled {
        Ok(count) => isize::try_from(count).unwrap_or(isize::MAX),
        Err(status) => isize::try_from(status).unwrap_or(isize::MIN),
    }
}

/// A descriptor that is readable while reports wait, for `poll` or `epoll`; do not read, write or
/// close it: it belongs to the library until the producer is closed. Take reports with a
/// `timeout_ms` of 0 until there are none. The same one at each call. Does not block; may be called
/// from any thread.
///
/// Errors: -1; see `quorate_last_error()`.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_producer_event_fd(producer: *mut quorate_producer_t) -> i32 {
    cross(|| PRODUCERS.get(producer)?.reports.event_fd()).unwrap_or(-1)
}

/// How many messages were accepted and not answered; 0 if the handle is wrong. Does not block; may
/// be called from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_producer_in_flight(producer: *mut quorate_producer_t) -> u64 {
    cross(|| Ok(PRODUCERS.get(producer)?.sdk.in_flight())).unwrap_or(0)
}

/// From now on reports go to `function`, with `ctx`, on the library's one thread of this client:
/// never inside `send`, and never after `close` has returned. It must not block (nothing else
/// happens on that thread meanwhile), must not throw or jump out, and may call what does not wait.
/// Once per producer, best before the first message; reports that wait already are for
/// `quorate_producer_poll`. Does not block; may be called from any thread.
///
/// Errors: `QUORATE_E_PRECONDITION_FAILED`: there is a callback. `QUORATE_E_INVALID_ARGUMENT`:
/// `function` is NULL.
///
/// # Safety
/// `function` may be called with `ctx` from another thread until the producer or its client is
/// closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_producer_set_callback(
    producer: *mut quorate_producer_t,
    function: Option<
        unsafe extern "C" fn(reports: *const quorate_delivery_t, n: usize, ctx: *mut c_void),
    >,
    ctx: *mut c_void,
) -> quorate_status_t {
    border::status(|| {
        let producer = PRODUCERS.get(producer)?;
        let function: Function = function.ok_or_else(|| Failure::invalid("function is NULL"))?;
        producer.reports.call(function, ctx)
    })
}

/// Sends what was accepted without lingering and waits until all of it is answered. Reports stay to
/// be taken. May be called from any thread.
///
/// Errors: why the first message failed that did since the last flush; `QUORATE_E_WOULD_BLOCK`,
/// `QUORATE_E_WAIT_TIMEOUT`: some are not answered yet, and go on.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_producer_flush(
    producer: *mut quorate_producer_t,
    timeout_ms: i32,
) -> quorate_status_t {
    border::status(|| {
        let wait = Wait::new(timeout_ms)?;
        let producer = PRODUCERS.get(producer)?;
        let flushing = producer.sdk.flush();
        producer
            .client
            .executor
            .wait(wait, &producer.closed, flushing)
    })
}

/// Refuses new messages, waits at most `timeout_ms` until the accepted ones are answered, gives up
/// the others, and frees the producer whatever happens. A callback has heard of each message when
/// this returns; reports that wait to be polled are dropped, so `flush` and `poll` before if they
/// matter. Calls that are waiting on this producer in other threads end with `QUORATE_E_CLOSED`.
/// `report` may be NULL. NULL as the producer is fine. May be called from any thread but not inside
/// a callback.
///
/// Errors: `QUORATE_E_CLOSED`: it was closed before. `QUORATE_E_WOULD_BLOCK`: called inside a
/// callback; it is still open.
///
/// # Safety
/// `report` is NULL or a place for a report.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_producer_close(
    producer: *mut quorate_producer_t,
    timeout_ms: i32,
    report: *mut quorate_close_report_t,
) -> quorate_status_t {
    border::status(|| {
        if producer.is_null() {
            return Ok(());
        }
        let wait = Wait::new(timeout_ms)?;
        PRODUCERS.get(producer)?.client.executor.refuse_here()?;
        let producer = PRODUCERS.remove(producer)?;
        let closing = producer.sdk.close_within(wait.limit());
        let open = CancellationToken::new();
        let closed = producer.client.executor.wait(Wait::Ever, &open, closing);
        producer.closed.cancel();
        let closed = closed?;
        // SAFETY: as the caller promises.
        if let Ok(report) = unsafe { border::out(report, "report") } {
            report.set(quorate_close_report_t {
                flushed: closed.flushed,
                abandoned: closed.abandoned,
            });
        }
        Ok(())
    })
}
