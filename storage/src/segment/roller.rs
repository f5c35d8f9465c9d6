//! Where segments end: a function of the log alone, or replicas would differ.

use std::time::Duration;

use quorate_protocol::ByteSize;
use quorate_protocol::HybridTime;

use super::PAGE;

/// Tells, entry by entry, which of them begin a segment.
///
/// Cheap to copy: who may have to undo entries keeps the copy from before them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Roller {
    segment_bytes: u64,
    segment_age_us: u64,
    position: u64,
    first_time: Option<HybridTime>,
}

impl Roller {
    /// At the start of an empty segment. An age of zero sets no limit.
    #[must_use]
    pub fn new(segment_bytes: ByteSize, segment_age: Duration) -> Self {
        let age = u64::try_from(segment_age.as_micros()).unwrap_or(u64::MAX);
        Self {
            segment_bytes: segment_bytes.get(),
            segment_age_us: if age == 0 { u64::MAX } else { age },
            position: PAGE,
            first_time: None,
        }
    }

    /// Inside a segment whose frames end at `position` and whose first entry has `first_time`.
    pub(crate) fn at(mut self, position: u64, first_time: Option<HybridTime>) -> Self {
        self.position = position;
        self.first_time = first_time;
        self
    }

    /// Whether an entry of [`frame_len`](crate::frame_len) bytes made at `time` begins a new segment.
    #[must_use]
    pub fn rolls_before(&self, frame_len: u64, time: HybridTime) -> bool {
        self.first_time.is_some_and(|first| {
            let age = time.micros().saturating_sub(first.micros());
            self.position.saturating_add(frame_len) > self.segment_bytes
                || age > self.segment_age_us
        })
    }

    /// Takes note of the next entry; answers whether it begins a new segment.
    pub fn note(&mut self, frame_len: u64, time: HybridTime) -> bool {
        let rolls = self.rolls_before(frame_len, time);
        if rolls {
            *self = self.at(PAGE, None);
        }
        self.position = self.position.saturating_add(frame_len);
        self.first_time.get_or_insert(time);
        rolls
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> HybridTime {
        HybridTime::from_parts(micros, 0)
    }

    #[test]
    fn an_entry_that_would_pass_the_size_begins_a_segment() {
        let mut roller = Roller::new(ByteSize::new(PAGE + 100), Duration::ZERO);
        assert!(!roller.note(60, at(1)));
        assert!(!roller.note(40, at(1)));
        assert!(roller.note(8, at(1)));
    }

    #[test]
    fn an_oversize_first_entry_stays_alone() {
        let mut roller = Roller::new(ByteSize::new(PAGE + 100), Duration::ZERO);
        assert!(!roller.note(5000, at(1)));
        assert!(roller.note(8, at(1)));
    }

    #[test]
    fn age_counts_from_the_first_entry() {
        let mut roller = Roller::new(ByteSize::new(1 << 20), Duration::from_micros(10));
        assert!(!roller.note(8, at(5)));
        assert!(!roller.note(8, at(15)));
        assert!(roller.note(8, at(16)));
        assert!(!roller.note(8, at(26)));
    }
}
