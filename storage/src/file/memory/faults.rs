//! Faults that can be ordered: a failing sync, a machine that stands still, a full volume.

use std::io;

/// What is to go wrong, and how much has happened so far.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    changes: u64,
    stop_after: Option<u64>,
    syncs_left: Option<u64>,
    room: Option<u64>,
}

impl Faults {
    pub(crate) fn fail_sync_after(&mut self, count: u64) {
        self.syncs_left = Some(count);
    }

    pub(crate) fn stop_after(&mut self, count: u64) {
        self.stop_after = Some(self.changes.saturating_add(count));
    }

    pub(crate) fn limit_space(&mut self, bytes: Option<u64>) {
        self.room = bytes;
    }

    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    pub(crate) fn room(&self) -> Option<u64> {
        self.room
    }

    /// Counts a change of any kind.
    pub(crate) fn change(&mut self) -> io::Result<()> {
        if self.stop_after.is_some_and(|limit| self.changes >= limit) {
            return Err(io::Error::other("the machine stands still"));
        }
        self.changes += 1;
        Ok(())
    }

    /// Whether this sync works.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        match self.syncs_left {
            Some(0) => {
                self.syncs_left = None;
                Err(io::Error::other("planted input/output error"))
            }
            Some(left) => {
                self.syncs_left = Some(left - 1);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Takes room for a file that grows; answers how much of it there was.
    pub(crate) fn grow(&mut self, bytes: usize) -> usize {
        let Some(room) = &mut self.room else {
            return bytes;
        };
        let granted = usize::try_from(*room).unwrap_or(usize::MAX).min(bytes);
        *room = room.saturating_sub(granted as u64);
        granted
    }
}
