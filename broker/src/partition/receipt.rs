//! The two answers to a published batch: where it stands, or why it was not appended.

use quorate_protocol::ErrorCode;
use quorate_protocol::HybridTime;
use quorate_protocol::Offset;
use quorate_protocol::Term;

use crate::partition::dedup::Numbers;
use crate::partition::dedup::Place;
use crate::partition::dedup::Verdict;

/// Where a batch stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The offset of its first record; none if the first copy is no longer remembered.
    pub base_offset: Option<Offset>,
    /// How many records it has.
    pub count: u32,
    /// The term in which it was appended; zero without an offset.
    pub term: Term,
    /// When it was appended; zero without an offset.
    pub append_time: HybridTime,
    /// This is a first copy's receipt, given again.
    pub duplicate: bool,
}

impl Receipt {
    pub(crate) fn first(place: Place, count: u32) -> Self {
        Self {
            duplicate: false,
            ..Self::duplicate(place, count)
        }
    }

    pub(crate) fn duplicate(place: Place, count: u32) -> Self {
        Self {
            base_offset: Some(place.base_offset),
            count,
            term: place.term,
            append_time: place.append_time,
            duplicate: true,
        }
    }

    /// A batch older than those remembered: it is in the log, its place is not known any more.
    pub(crate) fn forgotten(count: u32) -> Self {
        let (term, append_time) = (Term::new(0), HybridTime::new(0));
        Self {
            base_offset: None,
            count,
            term,
            append_time,
            duplicate: true,
        }
    }
}

/// Why a batch was not appended. Nothing of it is in the log on account of this attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The class and kind of the refusal.
    pub code: ErrorCode,
    /// What was refused, and what to do.
    pub detail: String,
    /// Records that are in the log already: index in the batch, offset.
    pub duplicates: Vec<(u32, Offset)>,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            duplicates: Vec::new(),
        }
    }

    pub(crate) fn partial_duplicate(duplicates: Vec<(u32, Offset)>, count: u32) -> Self {
        let detail = format!(
            "{} of the {count} messages are in the log already; nothing was appended: send the others",
            duplicates.len()
        );
        Self {
            code: ErrorCode::PARTIAL_DUPLICATE,
            detail,
            duplicates,
        }
    }

    pub(crate) fn repeated_id(at: u32) -> Self {
        Self::new(
            ErrorCode::INVALID_ARGUMENT,
            format!(
                "message {at} of the batch repeats the id of an earlier one: send it in a later batch"
            ),
        )
    }

    pub(crate) fn precondition(expected: Offset, actual: Offset) -> Self {
        Self::new(
            ErrorCode::PRECONDITION_FAILED,
            format!("the next offset is {actual}, not {expected}"),
        )
    }

    /// The refusal that a verdict on a batch's numbers stands for.
    pub(crate) fn of_numbers(verdict: Verdict, numbers: &Numbers) -> Self {
        let Numbers {
            producer,
            epoch,
            base_sequence,
            ..
        } = numbers;
        match verdict {
            Verdict::Fenced { current } => Self::new(
                ErrorCode::PRODUCER_FENCED,
                format!("producer {producer} has epoch {current}; epoch {epoch} has ended"),
            ),
            Verdict::OutOfOrder { expected } => Self::new(
                ErrorCode::OUT_OF_ORDER_SEQUENCE,
                format!("producer {producer} sent sequence {base_sequence}, expected {expected}"),
            ),
            Verdict::Unknown => Self::new(
                ErrorCode::UNKNOWN_PRODUCER,
                format!(
                    "nothing is known of producer {producer} here, so sequence {base_sequence} \
                     cannot be told from a duplicate: open a new producer"
                ),
            ),
            _ => Self::new(
                ErrorCode::SEQUENCE_REUSED,
                format!("sequence {base_sequence} of producer {producer} belongs to another batch"),
            ),
        }
    }
}
