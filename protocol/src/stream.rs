//! Opening a stream: what it is for, on which partition, with which parameters.

use serde::Deserialize;
use serde::Serialize;

use crate::bounded::Blob;
use crate::bounded::Text;
use crate::error_code::ErrorCode;
use crate::ids::BrokerId;
use crate::ids::Credit;
use crate::ids::Offset;
use crate::ids::PartitionId;
use crate::ids::ProducerEpoch;
use crate::ids::ProducerId;
use crate::ids::TopicId;
use crate::message::bodies;
use crate::message::messages;
use crate::wire_code::wire_code;

wire_code! {
    /// What a stream is for.
    StreamType(u16) {
        /// Publishing to one partition.
        PRODUCE = 1,
        /// Following one partition.
        SUBSCRIBE = 2,
        /// Reading one range of one partition.
        READ = 3,
        /// One administrative request.
        ADMIN = 4,
    }
}

wire_code! {
    /// What happens to a subscriber that does not keep up.
    SlowPolicy(u16) {
        /// It is served from the log when it has room again.
        PAUSE = 0,
        /// It skips to the newest records and is told of the gap.
        SKIP_TO_LATEST = 1,
        /// Its stream ends.
        DISCONNECT = 2,
    }
}

/// First frame of every stream but the connection's first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamOpen {
    /// What the stream is for.
    pub stream: StreamType,
    /// The topic; zero on an admin stream.
    pub topic: TopicId,
    /// The partition; zero on an admin stream.
    pub partition: PartitionId,
    /// The opener's picture of the cluster.
    pub topology_epoch: u64,
    /// Time the opener gives the broker to answer; 0 = default.
    pub deadline_ms: u32,
    /// The principal for whom a gateway acts.
    pub on_behalf_of: Option<Text<256>>,
    /// Parameters of the stream's type.
    pub params: Blob<1024>,
}

/// Parameters of a PRODUCE stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProduceParams {
    /// Who numbers the batches.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
}

/// Parameters of a SUBSCRIBE stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscribeParams {
    /// Where to begin.
    pub start: StartPosition,
    /// What to do when credit runs out.
    pub slow: SlowPolicy,
    /// Bytes the subscriber can take at once.
    pub credit: Credit,
}

/// Parameters of a READ stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadParams {
    /// Where to begin.
    pub from: StartPosition,
    /// Where to stop, exclusive.
    pub until: EndPosition,
    /// Records wanted at most.
    pub records_max: u32,
    /// Bytes wanted at most; one batch is sent even if it is larger.
    pub bytes_max: u32,
}

/// A [`Start`] on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartPosition {
    /// How `value` is meant.
    pub kind: u16,
    /// Offset, time or count.
    pub value: u64,
}

/// An [`Until`] on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndPosition {
    /// How `value` is meant.
    pub kind: u16,
    /// Offset or time.
    pub value: u64,
}

/// Where reading begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// The first kept record.
    Earliest,
    /// The next record to be committed.
    Latest,
    /// This offset.
    Offset(Offset),
    /// The first record appended at this time or later, in microseconds since 1970.
    Time(u64),
    /// This many records before the newest.
    Last(u64),
}

/// Where reading stops, exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Until {
    /// The high watermark of the moment the stream was accepted.
    Tail,
    /// This offset.
    Offset(Offset),
    /// The first record appended at this time or later, in microseconds since 1970.
    Time(u64),
    /// It does not stop.
    Never,
}

/// A position of a kind this build does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("position kind {kind} is not known")]
pub struct UnknownPosition {
    /// The kind.
    pub kind: u16,
}

/// The stream may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamAccept {
    /// Where reading begins, resolved.
    pub start: Offset,
    /// The first kept offset.
    pub log_start: Offset,
    /// The first offset that is not committed.
    pub high_watermark: Offset,
    /// Bytes a producer may send, cumulative from zero.
    pub credit: Credit,
}

/// The stream is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamReject {
    /// Why.
    pub code: ErrorCode,
    /// For people.
    pub detail: Text<1024>,
    /// Who leads the partition, if known.
    pub leader: Option<BrokerId>,
    /// When to try again; 0 = no advice.
    pub retry_after_ms: u32,
    /// Offsets that can be read, if the start could not.
    pub range: Option<(Offset, Offset)>,
}

messages! {
    StreamOpen: STREAM_OPEN v 1,
    StreamAccept: STREAM_ACCEPT v 1,
    StreamReject: STREAM_REJECT v 1,
}

bodies! {
    ProduceParams,
    SubscribeParams,
    ReadParams,
}

impl StartPosition {
    const EARLIEST: u16 = 0;
    const LATEST: u16 = 1;
    const OFFSET: u16 = 2;
    const TIME: u16 = 3;
    const LAST: u16 = 4;
}

impl From<Start> for StartPosition {
    fn from(start: Start) -> Self {
        let (kind, value) = match start {
            Start::Earliest => (Self::EARLIEST, 0),
            Start::Latest => (Self::LATEST, 0),
            Start::Offset(offset) => (Self::OFFSET, offset.get()),
            Start::Time(micros) => (Self::TIME, micros),
            Start::Last(count) => (Self::LAST, count),
        };
        Self { kind, value }
    }
}

impl TryFrom<StartPosition> for Start {
    type Error = UnknownPosition;

    fn try_from(position: StartPosition) -> Result<Self, UnknownPosition> {
        let StartPosition { kind, value } = position;
        match kind {
            StartPosition::EARLIEST => Ok(Self::Earliest),
            StartPosition::LATEST => Ok(Self::Latest),
            StartPosition::OFFSET => Ok(Self::Offset(Offset::new(value))),
            StartPosition::TIME => Ok(Self::Time(value)),
            StartPosition::LAST => Ok(Self::Last(value)),
            _ => Err(UnknownPosition { kind }),
        }
    }
}

impl EndPosition {
    const TAIL: u16 = 0;
    const OFFSET: u16 = 1;
    const TIME: u16 = 2;
    const NEVER: u16 = 3;
}

impl From<Until> for EndPosition {
    fn from(until: Until) -> Self {
        let (kind, value) = match until {
            Until::Tail => (Self::TAIL, 0),
            Until::Offset(offset) => (Self::OFFSET, offset.get()),
            Until::Time(micros) => (Self::TIME, micros),
            Until::Never => (Self::NEVER, 0),
        };
        Self { kind, value }
    }
}

impl TryFrom<EndPosition> for Until {
    type Error = UnknownPosition;

    fn try_from(position: EndPosition) -> Result<Self, UnknownPosition> {
        let EndPosition { kind, value } = position;
        match kind {
            EndPosition::TAIL => Ok(Self::Tail),
            EndPosition::OFFSET => Ok(Self::Offset(Offset::new(value))),
            EndPosition::TIME => Ok(Self::Time(value)),
            EndPosition::NEVER => Ok(Self::Never),
            _ => Err(UnknownPosition { kind }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_round_trip_and_unknown_kinds_are_refused() {
        let starts = [
            Start::Earliest,
            Start::Latest,
            Start::Offset(Offset::new(7)),
            Start::Time(8),
            Start::Last(9),
        ];
        for start in starts {
            assert_eq!(Start::try_from(StartPosition::from(start)), Ok(start));
        }
        for until in [
            Until::Tail,
            Until::Offset(Offset::new(7)),
            Until::Time(8),
            Until::Never,
        ] {
            assert_eq!(Until::try_from(EndPosition::from(until)), Ok(until));
        }
        assert!(Start::try_from(StartPosition { kind: 5, value: 0 }).is_err());
        assert!(Until::try_from(EndPosition { kind: 4, value: 0 }).is_err());
    }
}
