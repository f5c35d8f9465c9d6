//! What one publisher's messages came to: each number once and in order, or what is wrong.

use std::collections::BTreeMap;

/// The deliveries of one publisher, whose messages are numbered from 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ledger {
    /// The number that comes next.
    next: u64,
    /// Numbers that were passed over: from, to (exclusive).
    missing: BTreeMap<u64, u64>,
    delivered: u64,
    duplicates: u64,
    reordered: u64,
}

impl Ledger {
    /// A message was delivered.
    pub(super) fn see(&mut self, number: u64) {
        if number >= self.next {
            if number > self.next {
                self.missing.insert(self.next, number);
            }
            self.next = number.saturating_add(1);
            self.delivered += 1;
        } else if self.take(number) {
            self.reordered += 1;
            self.delivered += 1;
        } else {
            self.duplicates += 1;
        }
    }

    /// Messages delivered, each counted once.
    pub(super) const fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Messages delivered again.
    pub(super) const fn duplicates(&self) -> u64 {
        self.duplicates
    }

    /// Messages delivered behind later ones.
    pub(super) const fn reordered(&self) -> u64 {
        self.reordered
    }

    /// Of the first `acked` messages those that were not delivered.
    pub(super) fn lost(&self, acked: u64) -> u64 {
        let passed = self.missing.range(..acked);
        let passed: u64 = passed.map(|(from, to)| (*to).min(acked) - from).sum();
        passed.saturating_add(acked.saturating_sub(self.next))
    }

    /// Whether a number was missing; it is not any more.
    fn take(&mut self, number: u64) -> bool {
        let range = self.missing.range(..=number).next_back();
        let Some((from, to)) = range.map(|(from, to)| (*from, *to)) else {
            return false;
        };
        if number >= to {
            return false;
        }
        self.missing.remove(&from);
        if from < number {
            self.missing.insert(from, number);
        }
        if number + 1 < to {
            self.missing.insert(number + 1, to);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(numbers: &[u64]) -> Ledger {
        let mut ledger = Ledger::default();
        for number in numbers {
            ledger.see(*number);
        }
        ledger
    }

    #[test]
    fn a_stream_without_fault_is_complete() {
        let ledger = of(&[0, 1, 2, 3]);
        assert_eq!((ledger.delivered(), ledger.lost(4)), (4, 0));
        assert_eq!((ledger.duplicates(), ledger.reordered()), (0, 0));
    }

    #[test]
    fn what_is_missing_is_lost_only_if_it_was_acknowledged() {
        let ledger = of(&[0, 1, 5, 6]);
        assert_eq!(ledger.lost(7), 3);
        assert_eq!(ledger.lost(3), 1);
        assert_eq!(ledger.lost(9), 5);
        assert_eq!(ledger.lost(2), 0);
    }

    #[test]
    fn what_comes_late_is_not_lost_and_what_comes_again_is_a_duplicate() {
        let ledger = of(&[0, 4, 2, 2, 0, 1, 3]);
        assert_eq!((ledger.delivered(), ledger.lost(5)), (5, 0));
        assert_eq!((ledger.duplicates(), ledger.reordered()), (2, 3));
    }
}
