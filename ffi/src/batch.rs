//! Records as C reads them: views of what the library holds until they are freed.

use std::ffi::CString;
use std::ffi::c_char;
use std::ffi::c_void;
use std::ptr::null;
use std::sync::Arc;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use quorate::Record;

use crate::abi::quorate_batch_t;
use crate::abi::quorate_header_t;
use crate::abi::quorate_record_t;
use crate::border::cross;
use crate::failure::Failure;
use crate::handle::BATCHES;

/// Some records and the views of them.
pub(crate) struct Batch {
    views: Box<[quorate_record_t]>,
    _records: Vec<Record>,
    _ids: Vec<[u8; 16]>,
    _headers: Vec<quorate_header_t>,
    _texts: Vec<CString>,
}

// SAFETY: the views point into the other fields, which nobody changes until all of it is dropped.
unsafe impl Send for Batch {}
// SAFETY: as above.
unsafe impl Sync for Batch {}

impl Batch {
    pub(crate) fn new(records: Vec<Record>) -> Self {
        let mut texts = Names::default();
        let ids: Vec<[u8; 16]> = records
            .iter()
            .filter_map(|record| Some(record.id?.get().to_be_bytes()))
            .collect();
        let headers: Vec<quorate_header_t> = records
            .iter()
            .flat_map(|record| record.headers.iter())
            .map(|(name, value)| {
                let (value, value_len) = part(value.map(AsRef::as_ref));
                quorate_header_t {
                    name: texts.keep(name),
                    value,
                    value_len,
                }
            })
            .collect();
        let mut id = ids.iter();
        let mut rest = headers.as_slice();
        let views = records.iter().map(|record| {
            let own;
            (own, rest) = rest.split_at(record.headers.len());
            let id = record.id.and_then(|_| id.next());
            view(record, id, own, &mut texts)
        });
        Self {
            views: views.collect(),
            _records: records,
            _ids: ids,
            _headers: headers,
            _texts: texts.texts,
        }
    }
}

fn view(
    record: &Record,
    id: Option<&[u8; 16]>,
    headers: &[quorate_header_t],
    texts: &mut Names,
) -> quorate_record_t {
    let (payload, payload_len) = part(record.value.as_deref());
    let (key, key_len) = part(record.key.as_deref());
    quorate_record_t {
        topic: texts.topic(&record.topic),
        broker: texts.broker(&record.broker),
        payload,
        payload_len,
        key,
        key_len,
        id: id.map_or(null(), |id| id.as_ptr()),
        headers: match headers {
            [] => null(),
            headers => headers.as_ptr(),
        },
        headers_len: headers.len(),
        offset: record.offset.get(),
        term: record.term.get(),
        hlc: record.hlc.get(),
        timestamp_us: micros(record.timestamp),
        partition: record.partition.get(),
        attempt: 1,
    }
}

/// Microseconds from 1970 to a time.
pub(crate) fn micros(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// NULL for what is not there; never for what is empty.
fn part(bytes: Option<&[u8]>) -> (*const c_void, usize) {
    bytes.map_or((null(), 0), |bytes| (bytes.as_ptr().cast(), bytes.len()))
}

/// Texts with a NUL behind them, each topic and broker once.
#[derive(Default)]
struct Names {
    texts: Vec<CString>,
    topic: Option<(Arc<str>, *const c_char)>,
    broker: Option<(Arc<str>, *const c_char)>,
}

impl Names {
    fn keep(&mut self, text: &str) -> *const c_char {
        let until_nul = text.split('\0').next().unwrap_or_default();
        let text = CString::new(until_nul).unwrap_or_default();
        // The text itself does not move with its owner.
        let pointer = text.as_ptr();
        self.texts.push(text);
        pointer
    }

    fn topic(&mut self, name: &Arc<str>) -> *const c_char {
        match &self.topic {
            Some((known, pointer)) if Arc::ptr_eq(known, name) => *pointer,
            _ => {
                let pointer = self.keep(name);
                self.topic = Some((Arc::clone(name), pointer));
                pointer
            }
        }
    }

    fn broker(&mut self, name: &Arc<str>) -> *const c_char {
        match &self.broker {
            Some((known, pointer)) if Arc::ptr_eq(known, name) => *pointer,
            _ => {
                let pointer = self.keep(name);
                self.broker = Some((Arc::clone(name), pointer));
                pointer
            }
        }
    }
}

/// How many records there are; 0 if the handle is wrong. Does not block; a batch is for one thread
/// at a time.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_batch_len(batch: *const quorate_batch_t) -> usize {
    cross(|| Ok(BATCHES.get(batch)?.views.len())).unwrap_or(0)
}

/// The record at `index`, from 0 on; NULL if there is none. It and what it points to are valid
/// until `quorate_batch_free`. Does not block; a batch is for one thread at a time.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_batch_at(
    batch: *const quorate_batch_t,
    index: usize,
) -> *const quorate_record_t {
    let found = cross(|| {
        let batch = BATCHES.get(batch)?;
        let view = batch.views.get(index).ok_or_else(|| {
            let len = batch.views.len();
            Failure::invalid(format!("there is no record {index}; the batch has {len}"))
        })?;
        Ok(&raw const *view)
    });
    found.unwrap_or(null())
}

/// Frees a batch and everything its records point to. NULL is fine; a batch that was freed is left
/// alone. Does not block; may be called from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_batch_free(batch: *mut quorate_batch_t) {
    if !batch.is_null() {
        // There is no way to tell, and nothing to do about it.
        let _freed = cross(|| BATCHES.remove(batch)).is_ok();
    }
}
