//! How a producer's messages ended, from the library's thread to whoever wants to know.
//!
//! Invariant: each report goes to the callback if there was one when its batch ended, else to one
//! `poll`; a batch is one entry, whatever its size.

use std::collections::VecDeque;
use std::ffi::c_void;
use std::sync::OnceLock;

use parking_lot::Mutex;
use quorate::BatchReport;
use quorate::Error;
use quorate::ErrorCode;
use quorate::Outcome;
use quorate::Receipt;
use quorate::ReportSink;
use tokio::sync::Notify;

use crate::abi::QUORATE_DUPLICATE;
use crate::abi::QUORATE_LEVEL_LEADER;
use crate::abi::QUORATE_LEVEL_NONE;
use crate::abi::QUORATE_LEVEL_QUORUM;
use crate::abi::QUORATE_LEVEL_QUORUM_MEMORY;
use crate::abi::QUORATE_NO_OFFSET;
use crate::abi::QUORATE_OK;
use crate::abi::quorate_delivery_t;
use crate::event::Event;
use crate::failure;
use crate::failure::Failure;
use crate::status;

/// So many reports are handed to a callback at once.
const AT_ONCE: usize = 64;

/// A function that C wants to be called with reports.
pub(crate) type Function =
    unsafe extern "C" fn(reports: *const quorate_delivery_t, n: usize, ctx: *mut c_void);

/// Reports of one producer.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    waiting: Mutex<Waiting>,
    /// Something waits that did not before.
    pub(crate) arrived: Notify,
    callback: OnceLock<Callback>,
}

#[derive(Debug, Default)]
struct Waiting {
    batches: VecDeque<BatchReport>,
    /// Messages of the first batch that were looked at.
    taken: usize,
    event: Option<Event>,
}

#[derive(Debug, Clone, Copy)]
struct Callback {
    function: Function,
    context: *mut c_void,
}

// SAFETY: the header demands that the function may be called with this context from the library's
// thread; the library itself never follows the context.
unsafe impl Send for Callback {}
// SAFETY: as above.
unsafe impl Sync for Callback {}

impl Reports {
    /// From now on reports go to a function, once and for all.
    pub(crate) fn call(&self, function: Function, context: *mut c_void) -> Result<(), Failure> {
        let callback = Callback { function, context };
        let set = self.callback.set(callback);
        set.map_err(|_| {
            let text = "this producer has a callback already; it cannot be changed";
            Failure::new(ErrorCode::PRECONDITION_FAILED, text)
        })
    }

    /// The descriptor that is readable while reports wait.
    pub(crate) fn event_fd(&self) -> Result<i32, Failure> {
        let mut waiting = self.waiting.lock();
        if let Some(event) = &waiting.event {
            return Ok(event.number());
        }
        let event = Event::new()?;
        if !waiting.batches.is_empty() {
            event.set();
        }
        let number = event.number();
        waiting.event = Some(event);
        Ok(number)
    }

    /// Fills `out` from the front with what waits; how much that was.
    pub(crate) fn take(
        &self,
        room: usize,
        mut out: impl FnMut(usize, quorate_delivery_t),
    ) -> usize {
        let mut waiting = self.waiting.lock();
        let mut count = 0;
        while let Some(batch) = waiting.batches.front() {
            let mut at = waiting.taken;
            while count < room && at < batch.len() {
                if let Some(delivery) = delivery(batch, at) {
                    out(count, delivery);
                    count += 1;
                }
                at += 1;
            }
            if at < batch.len() {
                waiting.taken = at;
                return count;
            }
            waiting.batches.pop_front();
            waiting.taken = 0;
        }
        if let Some(event) = waiting.event.as_ref().filter(|_| count > 0) {
            event.clear();
        }
        count
    }
}

impl ReportSink for Reports {
    fn batch_ended(&self, report: BatchReport) {
        if let Some(callback) = self.callback.get() {
            return callback.tell(&report);
        }
        let mut waiting = self.waiting.lock();
        if let Some(event) = waiting
            .event
            .as_ref()
            .filter(|_| waiting.batches.is_empty())
        {
            event.set();
        }
        waiting.batches.push_back(report);
        drop(waiting);
        self.arrived.notify_waiters();
    }
}

impl Callback {
    fn tell(&self, report: &BatchReport) {
        let mut some = Vec::with_capacity(report.len().min(AT_ONCE));
        for at in 0..report.len() {
            some.extend(delivery(report, at));
            if some.len() == AT_ONCE {
                self.hand_over(&some);
                some.clear();
            }
        }
        self.hand_over(&some);
    }

    fn hand_over(&self, some: &[quorate_delivery_t]) {
        if some.is_empty() {
            return;
        }
        // SAFETY: the header demands a function that may be called with its context from the
        // library's thread until the producer is closed, and that takes an array of reports.
        unsafe { (self.function)(some.as_ptr(), some.len(), self.context) }
    }
}

/// The report about one message, if anybody asked for it.
fn delivery(batch: &BatchReport, at: usize) -> Option<quorate_delivery_t> {
    let tag = usize::try_from(batch.tag(at)?.get()).ok()?;
    let ended = of(batch.receipt(at), batch.partition().get());
    Some(quorate_delivery_t {
        user_data: std::ptr::with_exposed_provenance_mut(tag),
        ..ended
    })
}

/// A receipt, or what there is instead.
pub(crate) fn of(ended: Result<Receipt, Error>, partition: u32) -> quorate_delivery_t {
    match ended {
        Ok(receipt) => received(&receipt),
        Err(error) => failed(error.code(), failure::outcome(error.outcome()), partition),
    }
}

/// What is told about a message without a receipt.
pub(crate) fn failed(code: ErrorCode, outcome: u8, partition: u32) -> quorate_delivery_t {
    quorate_delivery_t {
        user_data: std::ptr::null_mut(),
        offset: 0,
        timestamp_us: 0,
        term: 0,
        status: status::of(code),
        partition,
        level: QUORATE_LEVEL_NONE,
        outcome,
        flags: QUORATE_NO_OFFSET,
        reserved: [0; 5],
    }
}

fn received(receipt: &Receipt) -> quorate_delivery_t {
    let level = level(receipt);
    let micros = receipt.timestamp.map(crate::batch::micros);
    quorate_delivery_t {
        user_data: std::ptr::null_mut(),
        offset: receipt.offset.map_or(0, quorate::Offset::get),
        timestamp_us: micros.unwrap_or_default(),
        term: receipt.term.map_or(0, quorate::Term::get),
        status: QUORATE_OK,
        partition: receipt.partition.get(),
        level,
        // Without an ack nobody knows.
        outcome: match level {
            QUORATE_LEVEL_NONE => failure::outcome(Outcome::Unknown),
            _ => failure::outcome(Outcome::Applied),
        },
        flags: if receipt.duplicate {
            QUORATE_DUPLICATE
        } else {
            0
        } | if receipt.offset.is_none() {
            QUORATE_NO_OFFSET
        } else {
            0
        },
        reserved: [0; 5],
    }
}

fn level(receipt: &Receipt) -> u8 {
    match receipt.level {
        quorate::AckLevel::Leader => QUORATE_LEVEL_LEADER,
        quorate::AckLevel::QuorumMemory => QUORATE_LEVEL_QUORUM_MEMORY,
        quorate::AckLevel::Quorum => QUORATE_LEVEL_QUORUM,
        _ => QUORATE_LEVEL_NONE,
    }
}
