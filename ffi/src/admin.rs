//! Topics and the cluster: creating, listing, describing, deleting.

use std::ffi::c_char;

use quorate::ErrorCode;
use quorate::Outcome;
use serde::Serialize;

use crate::abi::quorate_client_t;
use crate::abi::quorate_config_t;
use crate::abi::quorate_status_t;
use crate::border;
use crate::border::Wait;
use crate::cluster_json::Report;
use crate::failure::Failure;
use crate::handle::CLIENTS;
use crate::json;
use crate::settings;
use crate::texts;

/// A change that was given up may still be made.
fn perhaps_made(failure: Failure) -> Failure {
    match failure.code() {
        ErrorCode::WAIT_TIMEOUT | ErrorCode::CLOSED => failure.with_outcome(Outcome::Unknown),
        _ => failure,
    }
}

fn text(value: &impl Serialize) -> Result<*mut c_char, Failure> {
    let text = serde_json::to_string(value)
        .map_err(|error| Failure::new(ErrorCode::INTERNAL, error.to_string()))?;
    texts::give(text)
}

/// Creates a topic. `config` NULL: the client's `topic.*` options; else those of `config` over them
/// ("topic.partitions", "topic.retention_bytes"..), the rest of it is not looked at. Waits for the
/// cluster: `timeout_ms` -1 as long as `client.request_timeout_ms` allows. May be called from any
/// thread but not inside a callback.
///
/// Errors: `QUORATE_E_ALREADY_EXISTS`, `QUORATE_E_INVALID_ARGUMENT`, `QUORATE_E_WAIT_TIMEOUT` (it
/// may still be made), or why no broker answers.
///
/// # Safety
/// `topic` is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_topic_create(
    client: *mut quorate_client_t,
    topic: *const c_char,
    config: *const quorate_config_t,
    timeout_ms: i32,
) -> quorate_status_t {
    border::status(|| {
        let wait = Wait::new(timeout_ms)?.for_an_answer()?;
        let client = CLIENTS.get(client)?;
        // SAFETY: as the caller promises.
        let topic = unsafe { border::text(topic, "topic") }?;
        let mut creation = client.sdk.admin().create_topic(topic);
        for (key, value) in settings::given(config, "topic")? {
            creation = creation.set(&key, &value);
        }
        let creating = creation.into_future();
        let created = client.executor.wait(wait, &client.closed, creating);
        created.map(|_| ()).map_err(perhaps_made)
    })
}

/// Deletes a topic with all its records. Waits for the cluster: `timeout_ms` -1 as long as
/// `client.request_timeout_ms` allows. May be called from any thread but not inside a callback.
///
/// Errors: `QUORATE_E_UNKNOWN_TOPIC`, `QUORATE_E_WAIT_TIMEOUT` (it may still be deleted), or why no
/// broker answers.
///
/// # Safety
/// `topic` is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_topic_delete(
    client: *mut quorate_client_t,
    topic: *const c_char,
    timeout_ms: i32,
) -> quorate_status_t {
    border::status(|| {
        let wait = Wait::new(timeout_ms)?.for_an_answer()?;
        let client = CLIENTS.get(client)?;
        // SAFETY: as the caller promises.
        let topic = unsafe { border::text(topic, "topic") }?;
        let deleting = client.sdk.admin().delete_topic(topic).into_future();
        let deleted = client.executor.wait(wait, &client.closed, deleting);
        deleted.map_err(perhaps_made)
    })
}

/// All topics as JSON, as `quorate topic list --json` prints them; to be freed with
/// `quorate_string_free`. Waits for a broker: `timeout_ms` -1 as long as
/// `client.request_timeout_ms` allows. May be called from any thread but not inside a callback.
///
/// Errors, with `*json` NULL: `QUORATE_E_WAIT_TIMEOUT`, or why no broker answers.
///
/// # Safety
/// `json` is NULL or a place for a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_topic_list(
    client: *mut quorate_client_t,
    timeout_ms: i32,
    json: *mut *mut c_char,
) -> quorate_status_t {
    border::status(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { border::out(json, "json") }?;
        out.set(std::ptr::null_mut());
        let wait = Wait::new(timeout_ms)?.for_an_answer()?;
        let client = CLIENTS.get(client)?;
        let admin = client.sdk.admin();
        let topics = client.executor.wait(wait, &client.closed, admin.topics())?;
        out.set(text(&json::List::from(topics.as_slice()))?);
        Ok(())
    })
}

/// A topic and its partitions as JSON, as `quorate topic describe --json` prints them; to be freed
/// with `quorate_string_free`. Waits for a broker: `timeout_ms` -1 as long as
/// `client.request_timeout_ms` allows. May be called from any thread but not inside a callback.
///
/// Errors, with `*json` NULL: `QUORATE_E_UNKNOWN_TOPIC`, `QUORATE_E_WAIT_TIMEOUT`, or why no broker
/// answers.
///
/// # Safety
/// `topic` is NULL or NUL-terminated; `json` is NULL or a place for a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_topic_describe(
    client: *mut quorate_client_t,
    topic: *const c_char,
    timeout_ms: i32,
    json: *mut *mut c_char,
) -> quorate_status_t {
    border::status(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { border::out(json, "json") }?;
        out.set(std::ptr::null_mut());
        let wait = Wait::new(timeout_ms)?.for_an_answer()?;
        let client = CLIENTS.get(client)?;
        // SAFETY: as the caller promises.
        let topic = unsafe { border::text(topic, "topic") }?;
        let admin = client.sdk.admin();
        let described = admin.topic(topic);
        let described = client.executor.wait(wait, &client.closed, described)?;
        out.set(text(&json::Description::from(&described))?);
        Ok(())
    })
}

/// How the cluster is as JSON, as `quorate cluster status --json` prints it; to be freed with
/// `quorate_string_free`. Waits for a broker: `timeout_ms` -1 as long as
/// `client.request_timeout_ms` allows. May be called from any thread but not inside a callback.
///
/// Errors, with `*json` NULL: `QUORATE_E_AUTHORIZATION_FAILED`, `QUORATE_E_WAIT_TIMEOUT`, or why no
/// broker answers.
///
/// # Safety
/// `json` is NULL or a place for a text.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_cluster_status(
    client: *mut quorate_client_t,
    timeout_ms: i32,
    json: *mut *mut c_char,
) -> quorate_status_t {
    border::status(|| {
        // SAFETY: as the caller promises.
        let out = unsafe { border::out(json, "json") }?;
        out.set(std::ptr::null_mut());
        let wait = Wait::new(timeout_ms)?.for_an_answer()?;
        let client = CLIENTS.get(client)?;
        let admin = client.sdk.admin();
        let asking = async {
            let status = admin.cluster_status().await?;
            let partitions = admin.cluster_partitions().await?;
            Ok::<_, Failure>(Report::new(&status, &partitions))
        };
        let report = client.executor.wait(wait, &client.closed, asking)?;
        out.set(text(&report)?);
        Ok(())
    })
}
