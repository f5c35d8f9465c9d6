//! The term of every index the log still knows, as runs: answers never touch a disk.

use quorate_protocol::{LogIndex, Term};

/// Runs of equal terms over `[first, last]`, where `first` is the retention point.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    runs: Vec<(LogIndex, Term)>,
    last: LogIndex,
}

impl Terms {
    /// Runs as recovery found them, the first at the retention point.
    pub(super) fn new(runs: Vec<(LogIndex, Term)>, last: LogIndex) -> Self {
        assert!(
            runs.first().is_some_and(|run| run.0 <= last),
            "a log has a term at its retention point"
        );
        Self { runs, last }
    }

    /// The last index.
    pub(super) const fn last(&self) -> LogIndex {
        self.last
    }

    /// The retention point.
    pub(super) fn first(&self) -> LogIndex {
        self.runs.first().map_or(self.last, |run| run.0)
    }

    /// The term at `index`, if it is known.
    pub(super) fn at(&self, index: LogIndex) -> Option<Term> {
        if index > self.last {
            return None;
        }
        let after = self.runs.partition_point(|run| run.0 <= index);
        self.runs.get(after.checked_sub(1)?).map(|run| run.1)
    }

    /// Appends one entry; whatever was at or behind it is forgotten.
    pub(super) fn append(&mut self, index: LogIndex, term: Term) {
        assert!(index <= self.last.next(), "the log has no holes");
        if index <= self.last {
            let keep = self.runs.partition_point(|run| run.0 < index);
            self.runs.truncate(keep);
        }
        if self.runs.last().is_none_or(|run| run.1 != term) {
            self.runs.push((index, term));
        }
        self.last = index;
    }

    /// Forgets what is below the new retention point.
    pub(super) fn trim(&mut self, point: LogIndex) {
        let after = self.runs.partition_point(|run| run.0 <= point);
        let Some(keep) = after.checked_sub(1) else {
            return;
        };
        self.runs.drain(..keep);
        if let Some(run) = self.runs.first_mut() {
            run.0 = run.0.max(point);
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::cast_possible_truncation, reason = "the model is a short list")]

    use proptest::prelude::*;

    use super::*;

    fn index(raw: u64) -> LogIndex {
        LogIndex::new(raw)
    }

    proptest! {
        #[test]
        fn runs_answer_as_a_plain_list_does(steps in prop::collection::vec((0_u64..4, 0_u64..3, 0_u64..8), 1..60)) {
            let (mut model, mut base) = (vec![1_u64], 1_u64);
            let mut terms = Terms::new(vec![(index(1), Term::new(1))], index(1));
            for (what, step, back) in steps {
                let last = base + model.len() as u64 - 1;
                if what == 0 {
                    let point = (base + back).min(last);
                    terms.trim(index(point));
                    model.drain(..(point - base) as usize);
                    base = point;
                } else {
                    let at = if what == 1 { (last + 1).saturating_sub(back).max(base + 1) } else { last + 1 };
                    let term = model.last().unwrap() + step;
                    model.truncate((at - base) as usize);
                    model.push(term);
                    terms.append(index(at), Term::new(term));
                }
                prop_assert_eq!(terms.first(), index(base));
                prop_assert_eq!(terms.at(index(base - 1)), None);
                for (place, term) in model.iter().enumerate() {
                    prop_assert_eq!(terms.at(index(base + place as u64)), Some(Term::new(*term)));
                }
                prop_assert_eq!(terms.at(index(base + model.len() as u64)), None);
            }
        }
    }
}
