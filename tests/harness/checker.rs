//! Whether a history and a final read of the log keep the promises.
//!
//! Pure, and linear in the history. I1 lost write, I2 one value per place, I3 duplicates, I4
//! phantoms, I6 producer order, I7 consumer order, I10 read bounds, I12 every request ends.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use crate::history::Answer;
use crate::history::Attempt;
use crate::history::History;
use crate::history::Place;
use crate::history::Seen;

/// How many violations are told one by one.
const TOLD_MAX: usize = 20;

/// What the checker found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Messages with a receipt.
    pub applied: usize,
    /// Receipts that name an earlier copy.
    pub duplicates: usize,
    /// Messages that are not in the log, as was said.
    pub not_applied: usize,
    /// Messages nobody knows about.
    pub unknown: usize,
    /// Those of them that are in the log.
    pub unknown_found: usize,
    /// Records in the log.
    pub records: usize,
    /// Records given to consumers.
    pub delivered: usize,
    /// Broken promises.
    pub violations: Vec<String>,
}

impl Verdict {
    /// Stops the test if a promise was broken.
    pub fn assert_holds(&self) {
        assert!(self.violations.is_empty(), "{self}");
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "applied {} (duplicates {}), not applied {}, unknown {} (in the log {}), records {}, \
             delivered {}, violations {}",
            self.applied,
            self.duplicates,
            self.not_applied,
            self.unknown,
            self.unknown_found,
            self.records,
            self.delivered,
            self.violations.len()
        )?;
        for violation in self.violations.iter().take(TOLD_MAX) {
            write!(f, "\n  {violation}")?;
        }
        Ok(())
    }
}

/// Checks a history against everything that can be read in the end, in order of offset, and the
/// offsets kept by each partition (half-open).
#[must_use]
pub fn check(history: &History, log: &[Seen], kept: &BTreeMap<u32, (u64, u64)>) -> Verdict {
    let attempts = history.attempts();
    let deliveries = history.deliveries();
    let mut check = Check {
        attempts: &attempts,
        kept,
        by_place: BTreeMap::new(),
        by_key: BTreeMap::new(),
        verdict: Verdict {
            records: log.len(),
            delivered: deliveries.values().map(Vec::len).sum(),
            ..Verdict::default()
        },
    };
    check.log(log);
    check.answers();
    check.producer_order(log);
    for (consumer, stream) in &deliveries {
        check.consumer(consumer, stream);
    }
    check.verdict
}

struct Check<'a> {
    attempts: &'a BTreeMap<String, Attempt>,
    kept: &'a BTreeMap<u32, (u64, u64)>,
    by_place: BTreeMap<Place, Seen>,
    by_key: BTreeMap<String, Place>,
    verdict: Verdict,
}

impl Check<'_> {
    fn violated(&mut self, what: String) {
        self.verdict.violations.push(what);
    }

    /// I2, I3, I4 and I10 of what can be read.
    fn log(&mut self, log: &[Seen]) {
        let mut next: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
        for seen in log {
            let Place { partition, offset } = seen.place;
            let start = self.kept.get(&partition).map_or(0, |(start, _)| *start);
            let (expected, time) = next.get(&partition).copied().unwrap_or((start, 0));
            if offset != expected {
                self.violated(format!(
                    "I10 {partition}@{offset}: expected {expected} here"
                ));
            }
            if seen.time < time {
                self.violated(format!(
                    "I10 {partition}@{offset}: its time is before {time}"
                ));
            }
            next.insert(partition, (offset + 1, seen.time));
            self.known(seen);
            if let Some(first) = self.by_key.insert(seen.key.clone(), seen.place) {
                let (key, place) = (&seen.key, seen.place);
                self.violated(format!(
                    "I3 {key} is twice in the log: {first:?}, {place:?}"
                ));
            }
            self.by_place.insert(seen.place, seen.clone());
        }
        for (partition, (start, end)) in self.kept {
            let read = next.get(partition).map_or(*start, |(next, _)| *next);
            if read != *end {
                self.violated(format!(
                    "I10 {partition}: read up to {read}, kept up to {end}"
                ));
            }
        }
    }

    /// I4: it was sent like this, and nobody said that it is not there.
    fn known(&mut self, seen: &Seen) {
        let key = &seen.key;
        match self.attempts.get(key) {
            None => self.violated(format!("I4 {key} at {:?} was never sent", seen.place)),
            Some(sent) if sent.content != seen.content => {
                let (is, was) = (seen.content, sent.content);
                self.violated(format!(
                    "I4 {key} at {:?} is {is:?}, was {was:?}",
                    seen.place
                ));
            }
            Some(sent) if sent.partition != seen.place.partition => {
                let (is, was) = (seen.place.partition, sent.partition);
                self.violated(format!("I4 {key} was sent to {was}, is in {is}"));
            }
            Some(_) => {}
        }
    }

    /// I1, I3, I4, I12 of what producers were told.
    fn answers(&mut self) {
        for (key, attempt) in self.attempts {
            let place = self.by_key.get(key).copied();
            let mut applied = None;
            for answer in &attempt.answers {
                match answer {
                    Answer::Applied { offset, duplicate } => {
                        self.verdict.duplicates += usize::from(*duplicate);
                        if let (Some(Some(first)), Some(again)) = (applied, *offset)
                            && first != again
                        {
                            self.violated(format!("I3 {key}: receipts for {first} and {again}"));
                        }
                        applied = Some(applied.flatten().or(*offset));
                    }
                    Answer::NotApplied | Answer::Unknown => {}
                }
            }
            match (applied, attempt.answers.last()) {
                (Some(offset), _) => self.applied(key, attempt, offset, place),
                (None, None) => self.violated(format!("I12 {key}: the publish never ended")),
                (None, Some(_)) => self.without_receipt(key, attempt, place),
            }
        }
    }

    fn applied(&mut self, key: &str, attempt: &Attempt, offset: Option<u64>, found: Option<Place>) {
        self.verdict.applied += 1;
        let partition = attempt.partition;
        let start = self.kept.get(&partition).map_or(0, |(start, _)| *start);
        let Some(offset) = offset else {
            return;
        };
        let place = Place { partition, offset };
        match found {
            Some(found) if found == place => {}
            Some(found) => {
                self.violated(format!(
                    "I1 {key}: receipt for {place:?}, found at {found:?}"
                ));
            }
            None if offset < start => {}
            None => self.violated(format!("I1 {key}: lost; its receipt was for {place:?}")),
        }
    }

    fn without_receipt(&mut self, key: &str, attempt: &Attempt, found: Option<Place>) {
        if attempt.answers.contains(&Answer::Unknown) {
            self.verdict.unknown += 1;
            self.verdict.unknown_found += usize::from(found.is_some());
            return;
        }
        self.verdict.not_applied += 1;
        if let Some(found) = found {
            self.violated(format!(
                "I4 {key} was said not to be applied, is at {found:?}"
            ));
        }
    }

    /// I6: per producer and partition, offsets follow the order of sending.
    fn producer_order(&mut self, log: &[Seen]) {
        let mut last: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for seen in log {
            let Some(attempt) = self.attempts.get(&seen.key) else {
                continue;
            };
            // Whoever sends again on another producer gives up the order.
            if attempt.answers.len() > 1 {
                continue;
            }
            match last.entry((attempt.producer, attempt.partition)) {
                Entry::Occupied(mut before) => {
                    if attempt.number <= *before.get() {
                        let (key, before) = (&seen.key, *before.get());
                        self.violated(format!("I6 {key} at {:?} is behind {before}", seen.place));
                    }
                    before.insert(attempt.number);
                }
                Entry::Vacant(first) => {
                    first.insert(attempt.number);
                }
            }
        }
    }

    /// I2 and I7 of what one consumer was given.
    fn consumer(&mut self, consumer: &str, stream: &[Seen]) {
        let mut next: BTreeMap<u32, u64> = BTreeMap::new();
        for seen in stream {
            let Place { partition, offset } = seen.place;
            let expected = next.insert(partition, offset + 1).unwrap_or(offset);
            if offset != expected {
                self.violated(format!(
                    "I7 {consumer}: {partition}@{offset} after {expected}"
                ));
            }
            self.known(seen);
            match self.by_place.get(&seen.place) {
                Some(kept) if kept == seen => {}
                Some(kept) => {
                    let (was, is) = (&seen.key, &kept.key);
                    self.violated(format!(
                        "I2 {:?}: {consumer} saw {was}, now {is}",
                        seen.place
                    ));
                }
                None => {
                    let start = self.kept.get(&partition).map_or(0, |(start, _)| *start);
                    if offset >= start {
                        let key = &seen.key;
                        self.violated(format!("I5 {:?}: {key} has vanished", seen.place));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Content;

    /// Three messages with receipts for 0, 1, 2, and a fourth without an answer that counts.
    fn world() -> (History, Vec<Seen>, BTreeMap<u32, (u64, u64)>) {
        let history = History::new();
        let mut log = Vec::new();
        for number in 0..3 {
            let key = number.to_string();
            invoke(&history, number);
            settle(&history, &key, applied(number));
            log.push(seen(&key, number));
        }
        (history, log, BTreeMap::from([(0, (0, 3))]))
    }

    fn invoke(history: &History, number: u64) {
        let attempt = Attempt {
            producer: 1,
            partition: 0,
            number,
            content: Content::of(b"value"),
            answers: Vec::new(),
        };
        history.invoke(&number.to_string(), attempt);
    }

    fn settle(history: &History, key: &str, answer: Answer) {
        history.settle(key, answer);
    }

    fn applied(offset: u64) -> Answer {
        Answer::Applied {
            offset: Some(offset),
            duplicate: false,
        }
    }

    fn seen(key: &str, offset: u64) -> Seen {
        Seen {
            place: Place {
                partition: 0,
                offset,
            },
            key: key.to_owned(),
            content: Content::of(b"value"),
            time: 100 + offset,
        }
    }

    fn found(history: &History, log: &[Seen], end: u64) -> String {
        let verdict = check(history, log, &BTreeMap::from([(0, (0, end))]));
        let rules: Vec<_> = verdict.violations.iter().map(|told| &told[..3]).collect();
        rules.join(" ").replace("  ", " ").trim().to_owned()
    }

    #[test]
    fn a_good_history_holds() {
        let (history, log, kept) = world();
        let verdict = check(&history, &log, &kept);
        assert_eq!((verdict.applied, verdict.records), (3, 3));
        verdict.assert_holds();
    }

    #[test]
    fn a_lost_write_is_found() {
        let (history, log, _) = world();
        assert_eq!(found(&history, &log[..2], 2), "I1");
    }

    #[test]
    fn a_moved_or_changed_record_is_found() {
        let (history, mut log, _) = world();
        log.swap(1, 2);
        log[1].place.offset = 1;
        log[2].place.offset = 2;
        (log[1].time, log[2].time) = (101, 102);
        assert_eq!(found(&history, &log, 3), "I1 I1 I6");
        let (history, mut log, _) = world();
        log[1].content = Content::of(b"other");
        assert_eq!(found(&history, &log, 3), "I4");
    }

    #[test]
    fn a_duplicate_and_a_phantom_are_found() {
        let (history, mut log, _) = world();
        log.push(seen("2", 3));
        assert_eq!(found(&history, &log, 4), "I3 I1 I6");
        let (history, mut log, _) = world();
        log.push(seen("nobody's", 3));
        assert_eq!(found(&history, &log, 4), "I4");
        let (history, mut log, _) = world();
        invoke(&history, 3);
        settle(&history, "3", Answer::NotApplied);
        assert_eq!(found(&history, &log, 3), "");
        log.push(seen("3", 3));
        assert_eq!(found(&history, &log, 4), "I4");
    }

    #[test]
    fn an_unknown_outcome_may_go_either_way_and_no_outcome_may_not() {
        let (history, mut log, _) = world();
        invoke(&history, 3);
        assert_eq!(found(&history, &log, 3), "I12");
        settle(&history, "3", Answer::Unknown);
        assert_eq!(found(&history, &log, 3), "");
        log.push(seen("3", 3));
        assert_eq!(found(&history, &log, 4), "");
    }

    #[test]
    fn holes_and_time_that_goes_back_are_found() {
        let (history, mut log, _) = world();
        log[2].time = 0;
        assert_eq!(found(&history, &log, 3), "I10");
        assert_eq!(found(&history, &log, 9), "I10 I10");
        let (history, mut log, _) = world();
        log.remove(1);
        assert_eq!(found(&history, &log, 3), "I10 I1");
    }

    #[test]
    fn a_consumer_that_misses_repeats_or_sees_other_records_is_found() {
        let log = world().1;
        let streams: [(&[usize], &str); 4] = [
            (&[0, 1, 2], ""),
            (&[0, 2], "I7"),
            (&[0, 1, 1, 2], "I7"),
            (&[1, 0, 1], "I7"),
        ];
        for (stream, expected) in streams {
            let (history, _, _) = world();
            for at in stream {
                history.see("c", log[*at].clone());
            }
            let found = found(&history, &log, 3);
            assert!(found.starts_with(expected), "{stream:?}: {found}");
            assert_eq!(found.is_empty(), expected.is_empty(), "{stream:?}: {found}");
        }
        let (history, log, _) = world();
        let mut other = log[1].clone();
        other.time += 1;
        history.see("c", other);
        assert_eq!(found(&history, &log, 3), "I2");
    }
}
