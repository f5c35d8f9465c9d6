//! What became of the batches of one PRODUCE stream, in their order: acks, then at most one Nack.
//!
//! After the first failure nothing is acked any more: a later batch that may be in the log widens
//! the unknown range of the Nack instead, so that the producer resends it and learns.

use quorate_protocol::Ack;
use quorate_protocol::AckLevel;
use quorate_protocol::Bounded;
use quorate_protocol::ErrorClass;
use quorate_protocol::HybridTime;
use quorate_protocol::Nack;
use quorate_protocol::Outcome;
use quorate_protocol::Sequence;
use quorate_protocol::Term;
use quorate_protocol::Text;

use crate::partition::AppendError;
use crate::partition::Receipt;

/// Acks in one frame.
const ACKS_MAX: usize = 64;
/// When a throttled producer may try again.
const THROTTLED_MS: u32 = 500;
/// When a producer may try again that came at a bad moment.
const TRANSIENT_MS: u32 = 20;

/// The place of one batch in its producer's sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    /// Sequence of the first record.
    pub(super) base: Sequence,
    /// Records in the batch.
    pub(super) count: u32,
}

impl Span {
    /// The sequence after the last record.
    pub(super) fn end(self) -> Sequence {
        self.base
            .checked_add(u64::from(self.count))
            .unwrap_or(self.base)
    }
}

/// Settled batches that the producer has not been told about.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    acks: Vec<Ack>,
    failure: Option<Failure>,
}

/// The first batch that failed, and what is known of those behind it.
#[derive(Debug)]
struct Failure {
    from: Sequence,
    unproposed: Sequence,
    error: AppendError,
}

impl Failure {
    fn into_nack(self) -> Nack {
        Nack {
            from_sequence: self.from,
            unproposed_sequence: self.unproposed,
            code: self.error.code,
            detail: Text::clipped(&self.error.detail),
            leader: self.error.leader,
            retry_after_ms: retry_after_ms(self.error.code.class()),
            duplicates: Bounded::clipped(self.error.duplicates),
        }
    }
}

impl Ledger {
    /// Notes what became of the next batch, in order.
    pub(super) fn settle(
        &mut self,
        span: Span,
        level: AckLevel,
        outcome: Result<Receipt, AppendError>,
    ) {
        match (&mut self.failure, outcome) {
            (None, Ok(receipt)) => self.acks.push(ack(span, level, &receipt)),
            (None, Err(error)) => {
                let applied = error.outcome() != Outcome::NotApplied;
                let unproposed = if applied { span.end() } else { span.base };
                self.failure = Some(Failure {
                    from: span.base,
                    unproposed,
                    error,
                });
            }
            (Some(failure), Ok(_)) => failure.unproposed = span.end(),
            (Some(failure), Err(error)) => {
                if error.outcome() != Outcome::NotApplied {
                    failure.unproposed = span.end();
                }
            }
        }
    }

    /// Whether a batch failed: nothing that follows will be acked.
    pub(super) fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    /// Whether one more ack still fits the frame.
    pub(super) fn has_room(&self) -> bool {
        self.acks.len() < ACKS_MAX
    }

    /// The acks to send now.
    pub(super) fn take_acks(&mut self) -> Vec<Ack> {
        std::mem::take(&mut self.acks)
    }

    /// The Nack, once every batch that was in flight is settled.
    pub(super) fn take_nack(&mut self) -> Option<Nack> {
        self.failure.take().map(Failure::into_nack)
    }
}

fn ack(span: Span, level: AckLevel, receipt: &Receipt) -> Ack {
    let ack = Ack {
        base_sequence: span.base,
        count: span.count,
        base_offset: receipt.base_offset,
        term: receipt.term,
        append_time: receipt.append_time,
        level,
        duplicate: receipt.duplicate,
    };
    if level != AckLevel::NONE {
        return ack;
    }
    // Nothing is promised, so no place is named.
    Ack {
        base_offset: None,
        term: Term::ZERO,
        append_time: HybridTime::ZERO,
        ..ack
    }
}

fn retry_after_ms(class: ErrorClass) -> u32 {
    match class {
        ErrorClass::Throttled => THROTTLED_MS,
        ErrorClass::Transient => TRANSIENT_MS,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::ErrorCode;
    use quorate_protocol::Offset;

    use super::*;
    use crate::session::produce::in_flight::failed;

    fn span(base: u64, count: u32) -> Span {
        Span {
            base: Sequence::new(base),
            count,
        }
    }

    fn receipt(offset: u64) -> Result<Receipt, AppendError> {
        Ok(Receipt {
            base_offset: Some(Offset::new(offset)),
            count: 1,
            term: Term::new(1),
            append_time: HybridTime::ZERO,
            duplicate: false,
        })
    }

    fn nack(ledger: &mut Ledger) -> (u64, u64, ErrorCode) {
        let nack = ledger.take_nack().expect("a Nack");
        (
            nack.from_sequence.get(),
            nack.unproposed_sequence.get(),
            nack.code,
        )
    }

    #[test]
    fn acks_come_in_order_and_stop_at_the_first_failure() {
        let mut ledger = Ledger::default();
        ledger.settle(span(0, 10), AckLevel::QUORUM, receipt(100));
        ledger.settle(span(10, 5), AckLevel::QUORUM, receipt(110));
        ledger.settle(
            span(15, 1),
            AckLevel::QUORUM,
            Err(failed(ErrorCode::NOT_LEADER, "")),
        );
        ledger.settle(
            span(16, 1),
            AckLevel::QUORUM,
            Err(failed(ErrorCode::NOT_LEADER, "")),
        );
        let acked: Vec<_> = ledger
            .take_acks()
            .iter()
            .map(|ack| ack.base_sequence.get())
            .collect();
        assert_eq!(acked, [0, 10]);
        assert!(ledger.has_failed());
        assert_eq!(nack(&mut ledger), (15, 15, ErrorCode::NOT_LEADER));
        assert!(!ledger.has_failed());
    }

    #[test]
    fn a_later_batch_that_may_be_in_the_log_widens_the_unknown_range() {
        let mut ledger = Ledger::default();
        let unknown = || Err(failed(ErrorCode::AMBIGUOUS_COMMIT, ""));
        ledger.settle(span(0, 2), AckLevel::QUORUM, unknown());
        ledger.settle(span(2, 2), AckLevel::QUORUM, unknown());
        ledger.settle(
            span(4, 2),
            AckLevel::QUORUM,
            Err(failed(ErrorCode::NOT_LEADER, "")),
        );
        assert_eq!(nack(&mut ledger), (0, 4, ErrorCode::AMBIGUOUS_COMMIT));
        ledger.settle(
            span(0, 2),
            AckLevel::QUORUM,
            Err(failed(ErrorCode::SEQUENCE_REUSED, "")),
        );
        ledger.settle(span(7, 3), AckLevel::QUORUM, receipt(9));
        assert_eq!(nack(&mut ledger), (0, 10, ErrorCode::SEQUENCE_REUSED));
        assert!(ledger.take_acks().is_empty());
    }

    #[test]
    fn an_ack_of_level_none_names_no_place() {
        let mut ledger = Ledger::default();
        ledger.settle(span(0, 1), AckLevel::NONE, receipt(7));
        let acks = ledger.take_acks();
        assert_eq!(acks[0].base_offset, None);
        assert_eq!(acks[0].term, Term::ZERO);
    }

    #[test]
    fn a_frame_of_acks_is_bounded() {
        let mut ledger = Ledger::default();
        for base in 0..64 {
            assert!(ledger.has_room());
            ledger.settle(span(base, 1), AckLevel::QUORUM, receipt(base));
        }
        assert!(!ledger.has_room());
    }
}
