//! Which part of the log a topic's settings let go.
//!
//! Pure. A segment goes whole, the newest never; a trim names only an entry whose successor is
//! applied and begins a segment, because a roll seen on an uncommitted entry can be undone.

use std::time::Duration;

use quorate_protocol::ByteSize;
use quorate_protocol::LogIndex;
use quorate_protocol::TopicSettings;
use quorate_storage::LogConfig;
use quorate_storage::SegmentInfo;

/// The smallest segment that a topic with little retention is given.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// A topic that limits its bytes keeps at least this many segments of them.
const SEGMENTS_KEPT: u64 = 4;

/// What a leader should propose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Let go of all entries up to this one.
    Trim(LogIndex),
    /// Append an entry without records, so that the expired newest segment is closed.
    Roll,
}

/// How much of a log is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    bytes_max: Option<u64>,
    age_max: Option<Duration>,
}

impl Limits {
    pub(crate) fn new(settings: &TopicSettings) -> Self {
        Self {
            bytes_max: Some(settings.retention_bytes).filter(|bytes| *bytes > 0),
            age_max: Some(settings.retention_time_ms)
                .filter(|millis| *millis > 0)
                .map(Duration::from_millis),
        }
    }
}

/// How a topic's log is cut into segments. Retention works on whole segments, so one is never
/// larger or older than what retention is meant to keep.
pub(crate) fn log_config(settings: &TopicSettings, segment_bytes: ByteSize) -> LogConfig {
    let limits = Limits::new(settings);
    let share = limits
        .bytes_max
        .map_or(u64::MAX, |bytes| bytes / SEGMENTS_KEPT);
    let age = Duration::from_millis(settings.segment_age_ms);
    LogConfig {
        segment_bytes: ByteSize::new(segment_bytes.get().min(share.max(SEGMENT_BYTES_MIN))),
        segment_age: limits.age_max.map_or(age, |kept| kept.min(age)),
    }
}

/// What to propose for a log of these segments, oldest first.
pub(crate) fn plan(
    segments: &[SegmentInfo],
    applied: LogIndex,
    now_micros: u64,
    limits: Limits,
) -> Option<Step> {
    let expired = |segment: &SegmentInfo| {
        let age = Duration::from_micros(now_micros.saturating_sub(segment.last_time.micros()));
        limits.age_max.is_some_and(|kept| age > kept)
    };
    let mut bytes: u64 = segments.iter().map(|segment| segment.bytes.get()).sum();
    let mut trim = None;
    for (segment, successor) in segments.iter().zip(segments.iter().skip(1)) {
        let follows = successor.base_index == segment.last_index.next();
        if !follows || successor.base_index > applied {
            break;
        }
        let kept = bytes.saturating_sub(segment.bytes.get());
        if !expired(segment) && limits.bytes_max.is_none_or(|max| kept < max) {
            break;
        }
        bytes = kept;
        trim = Some(Step::Trim(segment.last_index));
    }
    let holds_records = |segment: &&SegmentInfo| segment.next_offset > segment.base_offset;
    let roll = || {
        segments
            .last()
            .filter(holds_records)
            .is_some_and(expired)
            .then_some(Step::Roll)
    };
    trim.or_else(roll)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_protocol::HybridTime;
    use quorate_protocol::Offset;

    use super::*;

    /// Segments of ten entries, each of the given size and time since the one before.
    fn log(shape: &[(u64, u64)]) -> Vec<SegmentInfo> {
        let mut micros = 1_000_000;
        let mut segments = Vec::new();
        for (number, (bytes, gap)) in (0u64..).zip(shape) {
            let first_time = HybridTime::from_parts(micros, 0);
            micros += gap;
            segments.push(SegmentInfo {
                base_index: LogIndex::new(2 + number * 10),
                last_index: LogIndex::new(11 + number * 10),
                base_offset: Offset::new(number * 100),
                next_offset: Offset::new(number * 100 + 100),
                bytes: ByteSize::new(*bytes),
                first_time,
                last_time: HybridTime::from_parts(micros, 0),
                sealed: number + 1 < shape.len() as u64,
                chain: 0,
            });
        }
        segments
    }

    fn limits(bytes: u64, millis: u64) -> Limits {
        Limits::new(&TopicSettings {
            retention_bytes: bytes,
            retention_time_ms: millis,
            ..TopicSettings::default()
        })
    }

    const ALL: LogIndex = LogIndex::new(u64::MAX);

    #[test]
    fn without_limits_everything_is_kept() {
        assert_eq!(
            plan(&log(&[(1 << 40, 1); 9]), ALL, u64::MAX, limits(0, 0)),
            None
        );
    }

    #[test]
    fn a_segment_goes_once_the_others_hold_what_is_kept() {
        let segments = log(&[(100, 1), (100, 1), (100, 1)]);
        assert_eq!(plan(&segments, ALL, 0, limits(201, 0)), None);
        let one = Some(Step::Trim(LogIndex::new(11)));
        assert_eq!(plan(&segments, ALL, 0, limits(200, 0)), one);
        assert_eq!(
            plan(&segments, LogIndex::new(12), 0, limits(1, 0)),
            one,
            "as far as applied"
        );
        assert_eq!(plan(&segments, LogIndex::new(11), 0, limits(1, 0)), None);
    }

    #[test]
    fn an_expired_newest_segment_is_closed_unless_it_holds_no_records() {
        let mut segments = log(&[(100, 1_000)]);
        let late = segments[0].last_time.micros() + 5_001;
        assert_eq!(plan(&segments, ALL, late, limits(0, 5)), Some(Step::Roll));
        assert_eq!(plan(&segments, ALL, late - 1, limits(0, 5)), None);
        segments[0].next_offset = segments[0].base_offset;
        assert_eq!(plan(&segments, ALL, late, limits(0, 5)), None);
    }

    #[test]
    fn segments_are_cut_finer_than_what_is_kept() {
        let settings = |bytes, millis| TopicSettings {
            retention_bytes: bytes,
            retention_time_ms: millis,
            ..TopicSettings::default()
        };
        let cut = |settings: &TopicSettings| log_config(settings, ByteSize::new(256 << 20));
        assert_eq!(cut(&settings(0, 0)).segment_bytes, ByteSize::new(256 << 20));
        assert_eq!(
            cut(&settings(64 << 20, 0)).segment_bytes,
            ByteSize::new(16 << 20)
        );
        assert_eq!(cut(&settings(10, 0)).segment_bytes, ByteSize::new(1 << 20));
        assert_eq!(cut(&settings(0, 9_000)).segment_age, Duration::from_secs(9));
        assert_eq!(
            cut(&settings(0, 0)).segment_age,
            Duration::from_secs(7 * 24 * 3_600)
        );
    }

    proptest! {
        #[test]
        fn what_goes_is_a_whole_applied_prefix_and_no_more_than_allowed(
            shape in proptest::collection::vec((1u64..1_000, 0u64..10_000), 1..12),
            applied in 1u64..140,
            bytes_max in 0u64..4_000,
            millis_max in 0u64..60,
            now in 1_000_000u64..1_200_000,
        ) {
            let segments = log(&shape);
            let limits = limits(bytes_max, millis_max);
            let applied = LogIndex::new(applied);
            let expired = |segment: &SegmentInfo| {
                millis_max > 0 && now.saturating_sub(segment.last_time.micros()) > millis_max * 1_000
            };
            let gone = match plan(&segments, applied, now, limits) {
                Some(Step::Trim(point)) => {
                    1 + segments.iter().position(|segment| segment.last_index == point).unwrap()
                }
                Some(Step::Roll) => {
                    prop_assert!(expired(segments.last().unwrap()));
                    0
                }
                None => 0,
            };
            prop_assert!(gone < segments.len(), "the newest segment stays");
            let kept: u64 = segments[gone..].iter().map(|segment| segment.bytes.get()).sum();
            let enough = |kept: u64| bytes_max > 0 && kept >= bytes_max;
            for (position, segment) in segments[..gone].iter().enumerate() {
                let behind: u64 =
                    segments[position + 1..].iter().map(|segment| segment.bytes.get()).sum();
                prop_assert!(expired(segment) || enough(behind));
                prop_assert!(segments[position + 1].base_index <= applied);
            }
            if let Some(next) = segments.get(gone + 1) {
                let more = expired(&segments[gone]) || enough(kept - segments[gone].bytes.get());
                prop_assert!(!more || next.base_index > applied, "nothing is kept too long");
            }
        }
    }
}
