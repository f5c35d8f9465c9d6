//! Work on threads of the disk, and values that are away with it.

use quorate_storage::{Lane, StageError, Storage};
use tokio::sync::oneshot;

/// Work that was lost: its thread gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("work on the disk was lost, see its message")]
pub(super) struct Lost;

/// Runs work on a lane. It runs to its end, also if nobody awaits it.
pub(super) fn run<T: Send + 'static>(
    storage: &dyn Storage,
    lane: Lane,
    work: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (sender, done) = oneshot::channel();
    // Nobody may be waiting any more.
    storage.submit(lane, Box::new(move || drop(sender.send(work()))));
    done
}

/// What became of something that was away.
#[derive(Debug, thiserror::Error)]
pub(super) enum Setback {
    #[error(transparent)]
    Stage(#[from] StageError),
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// A value that is here, or away with work that gives it back.
#[derive(Debug)]
pub(super) struct Held<T> {
    here: Option<T>,
    away: Option<oneshot::Receiver<(T, Result<(), StageError>)>>,
}

impl<T: Send + 'static> Held<T> {
    pub(super) const fn new(value: T) -> Self {
        Self {
            here: Some(value),
            away: None,
        }
    }

    /// The value, once the work that has it is done. Cancel safe.
    pub(super) async fn back(&mut self) -> Result<&mut T, Setback> {
        if let Some(away) = &mut self.away {
            let returned = away.await;
            self.away = None;
            let (value, outcome) = returned.map_err(|_| Lost)?;
            self.here = Some(value);
            outcome?;
        }
        Ok(self.here.as_mut().ok_or(Lost)?)
    }

    /// Sends the value away with work. It must be here.
    pub(super) fn lend(
        &mut self,
        storage: &dyn Storage,
        work: impl FnOnce(&mut T) -> Result<(), StageError> + Send + 'static,
    ) {
        let Some(mut value) = self.here.take() else {
            return;
        };
        let work = move || {
            let outcome = work(&mut value);
            (value, outcome)
        };
        self.away = Some(run(storage, Lane::Flush, work));
    }

    /// The value itself, if it is here.
    pub(super) const fn take(&mut self) -> Option<T> {
        self.here.take()
    }
}
