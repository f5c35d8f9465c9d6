//! Clients: connecting, publishing one message, closing.

use std::ffi::c_char;
use std::sync::Arc;

use quorate::ErrorCode;
use tokio_util::sync::CancellationToken;

use crate::abi::quorate_client_t;
use crate::abi::quorate_close_report_t;
use crate::abi::quorate_config_t;
use crate::abi::quorate_delivery_t;
use crate::abi::quorate_message_t;
use crate::abi::quorate_status_t;
use crate::border;
use crate::border::Wait;
use crate::executor::Executor;
use crate::failure::Failure;
use crate::handle::CLIENTS;
use crate::handle::CONFIGS;
use crate::log;
use crate::message;
use crate::reports;
use crate::settings::Settings;

/// A connected client. The fields end in this order: the thread last.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) sdk: quorate::Client,
    pub(crate) closed: CancellationToken,
    pub(crate) executor: Arc<Executor>,
}

/// Connects to a cluster and starts the thread that serves the connection; to be closed with
/// `quorate_close`. `config` NULL: the context and the environment, as after
/// `quorate_config_load(config, NULL)`; else `config` alone. Waits until a broker has accepted this
/// client: `timeout_ms` -1 as long as `client.connect_timeout_ms` allows. May be called from any
/// thread.
///
/// Errors: `QUORATE_E_CONNECT`, `QUORATE_E_TLS`, `QUORATE_E_IDENTITY_FILES`, a refusal
/// (`QUORATE_E_IDENTITY_REJECTED`..), `QUORATE_E_WAIT_TIMEOUT`. `*out` is NULL then.
///
/// # Safety
/// `out` is NULL or a place for a handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_connect(
    config: *const quorate_config_t,
    timeout_ms: i32,
    out: *mut *mut quorate_client_t,
) -> quorate_status_t {
    border::status(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { border::out(out, "out") }?;
        out.set(std::ptr::null_mut());
        let wait = Wait::new(timeout_ms)?.for_an_answer()?;
        let connector = match config.is_null() {
            true => {
                let mut settings = Settings::new();
                settings.load(None)?;
                settings.connector()
            }
            false => CONFIGS.get(config)?.lock().connector(),
        };
        log::start();
        let executor = Executor::start()?;
        let closed = CancellationToken::new();
        let sdk = executor.wait(wait, &closed, connector.into_future())?;
        let client = Client {
            sdk,
            closed,
            executor,
        };
        out.set(CLIENTS.insert(client)?);
        Ok(())
    })
}

/// Refuses new work, waits at most `timeout_ms` until accepted messages are answered, closes the
/// connections and frees the client whatever happens. Producers and consumers of it are closed with
/// it, and their handles are still to be freed with their own close functions; what waits in other
/// threads ends with `QUORATE_E_CLOSED`. `report` may be NULL. NULL as the client is fine. May be
/// called from any thread but not inside a callback.
///
/// Errors: `QUORATE_E_CLOSED`: it was closed before. `QUORATE_E_WOULD_BLOCK`: called inside a
/// callback; it is still open.
///
/// # Safety
/// `report` is NULL or a place for a report.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_close(
    client: *mut quorate_client_t,
    timeout_ms: i32,
    report: *mut quorate_close_report_t,
) -> quorate_status_t {
    border::status(|| {
        if client.is_null() {
            return Ok(());
        }
        let wait = Wait::new(timeout_ms)?;
        CLIENTS.get(client)?.executor.refuse_here()?;
        let client = CLIENTS.remove(client)?;
        let open = CancellationToken::new();
        let closing = client.sdk.close(wait.limit());
        let closed = client.executor.wait(Wait::Ever, &open, closing);
        client.closed.cancel();
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

/// Publishes one message and waits for its receipt: `timeout_ms` -1 as long as
/// `producer.delivery_timeout_ms` allows. For a steady stream a producer is far cheaper. `out`, if
/// not NULL, gets the receipt or, after an error, its status and outcome. May be called from any
/// thread but not inside a callback.
///
/// Errors: those of a delivery; `quorate_last_error_outcome()` says whether the message may have
/// been stored. `QUORATE_E_WAIT_TIMEOUT`: no receipt in time.
///
/// # Safety
/// `topic` is NULL or NUL-terminated; `message` is as for `quorate_producer_send`; `out` is NULL or
/// a place for a delivery.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_publish(
    client: *mut quorate_client_t,
    topic: *const c_char,
    message: *const quorate_message_t,
    timeout_ms: i32,
    out: *mut quorate_delivery_t,
) -> quorate_status_t {
    border::status(|| {
        let wait = Wait::new(timeout_ms)?.for_an_answer()?;
        let client = CLIENTS.get(client)?;
        // SAFETY: as the caller promises.
        let topic = unsafe { border::text(topic, "topic") }?;
        // SAFETY: as the caller promises.
        let message = unsafe { message::read(message, |message| Ok(message::owned(message))) }?;
        let mut publishing = client.sdk.publish(topic, message);
        if let Wait::For(limit) = wait {
            publishing = publishing.timeout(limit);
        }
        let publishing = async {
            let published = publishing.await;
            let told = reports::of(published.clone(), 0);
            Ok::<_, Failure>((published, told))
        };
        // Closing the client ends it too, and then it knows whether the message was sent.
        let open = CancellationToken::new();
        let published = client.executor.wait(Wait::Ever, &open, publishing);
        let (published, told) = published?;
        let failure = published.err().map(Failure::from).map(|failure| {
            // The caller's own limit is over, not the broker's.
            match failure.code() {
                ErrorCode::TIMEOUT if wait != Wait::Ever => {
                    failure.with_code(ErrorCode::WAIT_TIMEOUT)
                }
                _ => failure,
            }
        });
        // SAFETY: as the caller promises.
        if let Ok(out) = unsafe { border::out(out, "out") } {
            let status = failure.as_ref().map(Failure::status);
            out.set(quorate_delivery_t {
                status: status.unwrap_or(told.status),
                ..told
            });
        }
        failure.map_or(Ok(()), Err)
    })
}
