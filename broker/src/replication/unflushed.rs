//! Groups whose writes no flush has covered yet, and when one is due: one clock for all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_protocol::GroupId;

/// Due times count ticks.
#[derive(Debug)]
pub(super) struct Unflushed {
    tick: Duration,
    groups: Mutex<(u64, BTreeMap<GroupId, u64>)>,
}

impl Unflushed {
    pub(super) fn new(tick: Duration) -> Self {
        Self {
            tick,
            groups: Mutex::default(),
        }
    }

    /// A group wrote; its flush is due after `interval` unless one is due earlier.
    pub(super) fn note(&self, group: GroupId, interval: Duration) {
        let mut groups = self.groups.lock();
        let due = groups.0.saturating_add(self.ticks(interval));
        groups.1.entry(group).or_insert(due);
    }

    /// Whole ticks within the interval: a flush comes rather too early than too late.
    fn ticks(&self, interval: Duration) -> u64 {
        let ticks = interval.as_micros() / self.tick.as_micros().max(1);
        u64::try_from(ticks).unwrap_or(u64::MAX).max(1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.lock().1.is_empty()
    }

    /// One tick later: the groups whose flush is due. What they write from here on is due later.
    pub(super) fn tick(&self) -> Vec<GroupId> {
        let mut groups = self.groups.lock();
        groups.0 = groups.0.saturating_add(1);
        let now = groups.0;
        let due = groups.1.extract_if(.., |_, due| *due <= now);
        due.map(|(group, _)| group).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_is_due_once_per_interval_however_much_is_written() {
        let unflushed = Unflushed::new(Duration::from_millis(50));
        let (fast, slow) = (GroupId::new(1), GroupId::new(2));
        let mut flushes = Vec::new();
        for _ in 0..40 {
            for _ in 0..3 {
                unflushed.note(fast, Duration::from_millis(100));
                unflushed.note(slow, Duration::from_millis(1000));
            }
            flushes.extend(unflushed.tick());
        }
        let count = |group| flushes.iter().filter(|flushed| **flushed == group).count();
        assert_eq!((count(fast), count(slow)), (20, 2));
        assert!(unflushed.is_empty());
    }
}
