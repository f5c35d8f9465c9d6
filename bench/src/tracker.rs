//! Accounts for every message: lost, received twice, received behind a later one.

/// What arrived, per producer.
#[derive(Debug)]
pub(crate) struct Tracker {
    run: u64,
    producers: Vec<Arrivals>,
    pub(crate) duplicates: u64,
    pub(crate) reordered: u64,
}

#[derive(Debug, Default)]
struct Arrivals {
    seen: Vec<u64>,
    count: u64,
    /// Per partition: one past the last number.
    next: Vec<u64>,
}

impl Tracker {
    pub(crate) fn new(run: u64, producers: u32) -> Self {
        let producers = (0..producers).map(|_| Arrivals::default()).collect();
        Self {
            run,
            producers,
            duplicates: 0,
            reordered: 0,
        }
    }

    /// The stamp's run for a producer: unlikely to be met in an older message of the topic.
    pub(crate) fn run_of(run: u64, producer: u32) -> u64 {
        run << 8 | u64::from(producer)
    }

    /// Counts one message; false when it is not of this run.
    pub(crate) fn arrived(&mut self, run: u64, number: u64, partition: u32) -> bool {
        let Some(producer) = run.checked_sub(self.run << 8) else {
            return false;
        };
        let index = usize::try_from(producer).unwrap_or(usize::MAX);
        let Some(arrivals) = self.producers.get_mut(index) else {
            return false;
        };
        let (duplicate, reordered) = arrivals.note(number, partition);
        self.duplicates += u64::from(duplicate);
        self.reordered += u64::from(reordered);
        true
    }

    /// Different messages that arrived.
    pub(crate) fn count(&self) -> u64 {
        self.producers.iter().map(|arrivals| arrivals.count).sum()
    }
}

impl Arrivals {
    fn note(&mut self, number: u64, partition: u32) -> (bool, bool) {
        let (word, bit) = (
            usize::try_from(number / 64).unwrap_or(usize::MAX),
            number % 64,
        );
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        let place = usize::try_from(partition).unwrap_or(usize::MAX);
        if self.next.len() <= place {
            self.next.resize(place + 1, 0);
        }
        let (Some(seen), Some(next)) = (self.seen.get_mut(word), self.next.get_mut(place)) else {
            return (false, false);
        };
        let duplicate = *seen & 1 << bit != 0;
        *seen |= 1 << bit;
        self.count += u64::from(!duplicate);
        let reordered = !duplicate && number < *next;
        *next = (*next).max(number + 1);
        (duplicate, reordered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_gaps_and_reordering_are_told_apart() {
        let mut tracker = Tracker::new(9, 2);
        let run = Tracker::run_of(9, 1);
        for number in [0, 1, 3, 3, 2] {
            assert!(tracker.arrived(run, number, 0));
        }
        assert!(!tracker.arrived(Tracker::run_of(8, 1), 5, 0), "another run");
        assert_eq!(
            (tracker.count(), tracker.duplicates, tracker.reordered),
            (4, 1, 1)
        );
    }

    #[test]
    fn partitions_have_orders_of_their_own() {
        let mut tracker = Tracker::new(1, 1);
        let run = Tracker::run_of(1, 0);
        for (number, partition) in [(4, 0), (1, 1), (5, 0), (2, 1)] {
            assert!(tracker.arrived(run, number, partition));
        }
        assert_eq!((tracker.count(), tracker.reordered), (4, 0));
    }
}
