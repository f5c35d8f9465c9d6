//! The batches of one PRODUCE stream whose outcome is open, oldest first.
//!
//! A batch waits twice: for its place in the partition's queue, one at a time so that the order is
//! kept, and then for its commit, many at a time.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;

use quorate_protocol::AckLevel;
use quorate_protocol::ErrorCode;

use crate::partition::AppendError;
use crate::partition::PendingAppend;
use crate::partition::Receipt;
use crate::session::produce::ledger::Span;

/// A batch on its way into the partition's queue.
pub(super) type Admission =
    Pin<Box<dyn Future<Output = Result<PendingAppend, AppendError>> + Send>>;

/// What the session knows of a batch besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    /// Its place in the producer's sequence.
    pub(super) span: Span,
    /// The level asked for.
    pub(super) level: AckLevel,
    /// Credit it used.
    pub(super) bytes: u64,
    /// When its outcome must be known, in monotonic time.
    pub(super) deadline: Duration,
}

/// A batch whose outcome is known.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) terms: Terms,
    pub(super) outcome: Result<Receipt, AppendError>,
}

enum Fate {
    Committing(PendingAppend),
    Failed(AppendError),
}

/// Batches in the order they were sent.
#[derive(Default)]
pub(super) struct InFlight {
    committing: VecDeque<(Terms, Fate)>,
    admitting: Option<(Terms, Admission)>,
}

impl InFlight {
    /// Batches whose outcome is open.
    pub(super) fn len(&self) -> usize {
        self.committing.len() + usize::from(self.admitting.is_some())
    }

    /// Whether the outcome of every batch is known.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether another batch may enter now.
    pub(super) fn may_enter(&self) -> bool {
        self.admitting.is_none()
    }

    /// Takes a batch that seeks its place in the partition's queue.
    pub(super) fn enter(&mut self, terms: Terms, admission: Admission) {
        assert!(
            self.admitting.is_none(),
            "batches enter the queue one at a time"
        );
        self.admitting = Some((terms, admission));
    }

    /// Takes a batch that failed before it could enter, behind those before it.
    pub(super) fn fail(&mut self, terms: Terms, error: AppendError) {
        assert!(
            self.admitting.is_none(),
            "batches enter the queue one at a time"
        );
        self.committing.push_back((terms, Fate::Failed(error)));
    }

    /// Waits until the entering batch has its place or is refused.
    pub(super) fn poll_entered(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some((terms, mut admission)) = self.admitting.take() else {
            return Poll::Pending;
        };
        let fate = match admission.as_mut().poll(context) {
            Poll::Pending => {
                self.admitting = Some((terms, admission));
                return Poll::Pending;
            }
            Poll::Ready(Ok(pending)) => Fate::Committing(pending),
            Poll::Ready(Err(error)) => Fate::Failed(error),
        };
        self.committing.push_back((terms, fate));
        Poll::Ready(())
    }

    /// Waits for the outcome of the oldest batch.
    pub(super) fn poll_settled(&mut self, context: &mut Context<'_>) -> Poll<Settled> {
        let Some((_, fate)) = self.committing.front_mut() else {
            return Poll::Pending;
        };
        let ready = match fate {
            Fate::Failed(_) => None,
            Fate::Committing(pending) => match Pin::new(pending).poll(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(outcome) => Some(outcome),
            },
        };
        match (self.committing.pop_front(), ready) {
            (Some((terms, Fate::Failed(error))), None) => Poll::Ready(Settled {
                terms,
                outcome: Err(error),
            }),
            (Some((terms, _)), Some(outcome)) => Poll::Ready(Settled { terms, outcome }),
            _ => Poll::Pending,
        }
    }

    /// When the first outcome must be known.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let oldest = self.committing.front().map(|(terms, _)| terms.deadline);
        let entering = self.admitting.as_ref().map(|(terms, _)| terms.deadline);
        oldest.into_iter().chain(entering).min()
    }

    /// Gives up what is overdue. If the oldest proposed batch is, all are: they end in order.
    pub(super) fn expire(&mut self, now: Duration) -> Vec<Settled> {
        let oldest_overdue = self
            .committing
            .front()
            .is_some_and(|(terms, _)| terms.deadline <= now);
        let entering_overdue = self
            .admitting
            .as_ref()
            .is_some_and(|(terms, _)| terms.deadline <= now);
        if (oldest_overdue || entering_overdue)
            && let Some((terms, _)) = self.admitting.take()
        {
            self.committing.push_back((terms, Fate::Failed(timeout())));
        }
        if !oldest_overdue {
            return Vec::new();
        }
        let gone = self.committing.drain(..).map(|(terms, fate)| {
            let error = match fate {
                Fate::Committing(_) => ambiguous(),
                Fate::Failed(error) => error,
            };
            Settled {
                terms,
                outcome: Err(error),
            }
        });
        gone.collect()
    }
}

fn timeout() -> AppendError {
    failed(
        ErrorCode::TIMEOUT,
        "the partition's queue had no place before the deadline",
    )
}

fn ambiguous() -> AppendError {
    failed(
        ErrorCode::AMBIGUOUS_COMMIT,
        "not committed before the deadline: send it again to learn",
    )
}

/// A failure that the session itself found.
pub(super) fn failed(code: ErrorCode, detail: &str) -> AppendError {
    AppendError {
        code,
        detail: detail.to_owned(),
        leader: None,
        duplicates: Vec::new(),
    }
}
