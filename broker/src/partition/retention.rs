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
