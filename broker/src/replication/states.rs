//! Hard state: concurrent writers of one state log share its flushes.

use parking_lot::Mutex;
use quorate_protocol::ReplicaId;
use quorate_storage::{HardState, HardStates, StateLog, WriteError};

/// The state log of a shard: concurrent writers share flushes.
#[derive(Debug)]
pub(super) struct States {
    waiting: Mutex<(Vec<(ReplicaId, HardState)>, u64)>,
    /// The file, how many records it holds durably, and the newest of each replica.
    log: Mutex<(StateLog, u64, HardStates)>,
}

impl States {
    pub(super) fn new(log: (StateLog, HardStates)) -> Self {
        let waiting = Mutex::new((Vec::new(), 0));
        Self {
            waiting,
            log: Mutex::new((log.0, 0, log.1)),
        }
    }

    /// Makes one record durable, along with all that wait.
    pub(super) fn save(&self, replica: ReplicaId, hard: HardState) -> Result<(), WriteError> {
        let turn = {
            let mut waiting = self.waiting.lock();
            waiting.0.push((replica, hard));
            waiting.1 += 1;
            waiting.1
        };
        let mut log = self.log.lock();
        if log.1 >= turn {
            return Ok(());
        }
        let (records, newest) = {
            let mut waiting = self.waiting.lock();
            (std::mem::take(&mut waiting.0), waiting.1)
        };
        if let Err(error) = log.0.write(&records, true) {
            // Tried again with the job of whoever comes next; older records stay in front.
            self.waiting.lock().0.splice(0..0, records);
            return Err(error);
        }
        log.1 = newest;
        log.2.extend(records);
        Ok(())
    }

    /// Notes one record; it may be lost. One that is out of date by now is skipped.
    pub(super) fn note(&self, replica: ReplicaId, hard: HardState) -> Result<(), WriteError> {
        let mut log = self.log.lock();
        let newest = log.2.get(&replica);
        let adds = |newest: &HardState| {
            (newest.term, newest.vote) == (hard.term, hard.vote) && newest.commit < hard.commit
        };
        if !newest.is_some_and(adds) {
            return Ok(());
        }
        log.0.write(&[(replica, hard)], false)?;
        log.2.insert(replica, hard);
        Ok(())
    }

    pub(super) fn newest(&self, replica: ReplicaId) -> Option<HardState> {
        self.log.lock().2.get(&replica).copied()
    }

    pub(super) fn forget(&self, replica: ReplicaId) {
        let mut log = self.log.lock();
        log.0.forget(replica);
        log.2.remove(&replica);
    }
}
