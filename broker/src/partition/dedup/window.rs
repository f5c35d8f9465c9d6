//! The application's message ids of the recent past, each with the offset of its record.
//!
//! Invariant: `ids` are those of `runs` one after the other; the last `in_flight` runs are not
//! applied; no id is looked at in the order of a hash.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use quorate_protocol::HybridTime;
use quorate_protocol::LogIndex;
use quorate_protocol::MessageId;
use quorate_protocol::Offset;

use crate::partition::codec::CodecError;
use crate::partition::codec::Reader;
use crate::partition::codec::Writer;
use crate::partition::dedup::Place;

/// The most ids any topic may ask to remember per partition; bounds memory and checkpoints.
pub const DEDUP_IDS_MAX: u32 = 131_072;
const IDS_MAX: usize = 131_072;

/// How many ids are remembered and for how long in log time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowLimits {
    ids_max: usize,
    micros_max: u64,
}

impl WindowLimits {
    pub(crate) fn new(ids_max: u32, window_ms: u64) -> Self {
        let ids_max = usize::try_from(ids_max.min(DEDUP_IDS_MAX)).unwrap_or(IDS_MAX);
        Self {
            ids_max,
            micros_max: window_ms.saturating_mul(1_000),
        }
    }
}

/// What the ids of a batch say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IdVerdict {
    /// None is known; they are in the window now.
    Fresh,
    /// All are known, one after the other from this place.
    Known(Place),
    /// Some are known, or all at scattered places: (index in the batch, offset of the record).
    /// `in_flight`: the last entry among them that is not applied yet.
    Partial {
        known: Vec<(u32, Offset)>,
        in_flight: Option<LogIndex>,
    },
    /// The batch names one id twice, the second time at this index.
    Repeated(u32),
}

/// 128 bits aligned to 8, which makes an entry of the map a quarter smaller.
type Key = (u64, u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    place: Place,
    count: u32,
}

#[derive(Debug, Clone, Copy)]
struct FlyingRun {
    index: LogIndex,
    count: u32,
}

/// An expired id that a batch in flight uses again, with its earlier offset.
#[derive(Debug, Clone, Copy)]
struct Reborn {
    index: LogIndex,
    key: Key,
    earlier: Offset,
}

/// The message ids of one partition.
#[derive(Debug)]
pub(crate) struct IdWindow {
    limits: WindowLimits,
    ids: VecDeque<Key>,
    runs: VecDeque<Run>,
    offsets: HashMap<Key, Offset>,
    in_flight: VecDeque<FlyingRun>,
    ids_in_flight: usize,
    reborn: VecDeque<Reborn>,
}

impl IdWindow {
    pub(crate) fn new(limits: WindowLimits) -> Self {
        Self {
            limits,
            ids: VecDeque::new(),
            runs: VecDeque::new(),
            offsets: HashMap::new(),
            in_flight: VecDeque::new(),
            ids_in_flight: 0,
            reborn: VecDeque::new(),
        }
    }

    /// Puts the ids of a batch about to be appended into the window, if none is known.
    pub(crate) fn enter(
        &mut self,
        index: LogIndex,
        place: Place,
        ids: impl Iterator<Item = MessageId>,
    ) -> IdVerdict {
        if self.limits.ids_max == 0 || self.limits.micros_max == 0 {
            return IdVerdict::Fresh;
        }
        let mut known = Vec::new();
        let mut repeated = None;
        let mut total = 0u32;
        let mut next = place.base_offset;
        self.begin_run(index, place);
        for id in ids {
            let key = key_of(id);
            match self.earlier(index, place, key, next) {
                None => self.push_id(key),
                Some(offset) if offset >= place.base_offset => repeated = repeated.or(Some(total)),
                Some(offset) => known.push((total, offset)),
            }
            total = total.saturating_add(1);
            next = next.next();
        }
        if known.is_empty() && repeated.is_none() {
            return IdVerdict::Fresh;
        }
        self.drop_in_flight(index);
        match repeated {
            Some(at) => IdVerdict::Repeated(at),
            None => self.describe_known(known, total),
        }
    }

    /// The live offset of an id; an unknown or expired one is taken for the new offset.
    fn earlier(&mut self, index: LogIndex, place: Place, key: Key, next: Offset) -> Option<Offset> {
        let mut occupied = match self.offsets.entry(key) {
            Entry::Vacant(vacant) => {
                vacant.insert(next);
                return None;
            }
            Entry::Occupied(occupied) => occupied,
        };
        let earlier = *occupied.get();
        let expired = earlier < place.base_offset
            && run_at(&self.runs, earlier).is_none_or(|(_, run)| {
                self.limits
                    .expired(run.place.append_time, place.append_time)
            });
        if !expired {
            return Some(earlier);
        }
        occupied.insert(next);
        self.reborn.push_back(Reborn {
            index,
            key,
            earlier,
        });
        None
    }

    fn begin_run(&mut self, index: LogIndex, place: Place) {
        self.runs.push_back(Run { place, count: 0 });
        self.in_flight.push_back(FlyingRun { index, count: 0 });
    }

    fn push_id(&mut self, key: Key) {
        self.ids.push_back(key);
        self.ids_in_flight += 1;
        if let (Some(run), Some(flying)) = (self.runs.back_mut(), self.in_flight.back_mut()) {
            run.count += 1;
            flying.count += 1;
        }
    }

    fn describe_known(&self, known: Vec<(u32, Offset)>, total: u32) -> IdVerdict {
        let first = known.first().map_or(Offset::ZERO, |(_, offset)| *offset);
        let contiguous = known
            .iter()
            .all(|(position, offset)| first.checked_add(u64::from(*position)) == Some(*offset));
        let all = u32::try_from(known.len()) == Ok(total);
        if let Some((_, run)) = run_at(&self.runs, first).filter(|_| all && contiguous) {
            return IdVerdict::Known(Place {
                base_offset: first,
                ..run.place
            });
        }
        let applied = self.runs.len().saturating_sub(self.in_flight.len());
        let newest = known.iter().map(|(_, offset)| *offset).max();
        let position = newest
            .and_then(|offset| run_at(&self.runs, offset))
            .map(|(at, _)| at);
        let in_flight = position
            .and_then(|at| at.checked_sub(applied))
            .and_then(|at| self.in_flight.get(at))
            .map(|flying| flying.index);
        IdVerdict::Partial { known, in_flight }
    }

    /// Forgets the ids of entries from `from` on: they were not appended, or may never commit.
    pub(crate) fn drop_in_flight(&mut self, from: LogIndex) {
        while let Some(flying) = self
            .in_flight
            .back()
            .copied()
            .filter(|run| run.index >= from)
        {
            self.in_flight.pop_back();
            let run = self.runs.pop_back();
            let base = run.map_or(Offset::ZERO, |run| run.place.base_offset);
            for _ in 0..flying.count {
                if let Some(key) = self.ids.pop_back() {
                    self.ids_in_flight -= 1;
                    self.remove_from(key, base);
                }
            }
        }
        while let Some(reborn) = self
            .reborn
            .back()
            .copied()
            .filter(|reborn| reborn.index >= from)
        {
            self.reborn.pop_back();
            if run_at(&self.runs, reborn.earlier).is_some() {
                self.offsets.insert(reborn.key, reborn.earlier);
            }
        }
    }

    /// Removes an id unless it stands for a record before `base`.
    fn remove_from(&mut self, key: Key, base: Offset) {
        if let Entry::Occupied(occupied) = self.offsets.entry(key)
            && *occupied.get() >= base
        {
            occupied.remove();
        }
    }

    /// Applies a committed batch with ids: they are remembered, the oldest leave.
    pub(crate) fn apply(
        &mut self,
        index: LogIndex,
        place: Place,
        ids: impl Iterator<Item = MessageId>,
    ) {
        self.age(place.append_time);
        self.reborn.retain(|reborn| reborn.index > index);
        if let Some(flying) = self
            .in_flight
            .front()
            .copied()
            .filter(|run| run.index == index)
        {
            self.in_flight.pop_front();
            self.ids_in_flight -= usize::try_from(flying.count).unwrap_or(usize::MAX);
        } else {
            self.drop_in_flight(LogIndex::new(0));
            self.enter_applied(place, ids);
        }
        while self.applied_len() > self.limits.ids_max {
            self.evict_oldest();
        }
    }

    fn enter_applied(&mut self, place: Place, ids: impl Iterator<Item = MessageId>) {
        if self.limits.ids_max == 0 || self.limits.micros_max == 0 {
            return;
        }
        let mut count = 0u32;
        let mut offset = place.base_offset;
        for id in ids {
            let key = key_of(id);
            self.ids.push_back(key);
            self.offsets.insert(key, offset);
            count += 1;
            offset = offset.next();
        }
        if count > 0 {
            self.runs.push_back(Run { place, count });
        }
    }

    /// Drops the applied ids that are too old at this log time.
    pub(crate) fn age(&mut self, log_time: HybridTime) {
        while self.applied_len() > 0
            && self
                .runs
                .front()
                .is_some_and(|run| self.limits.expired(run.place.append_time, log_time))
        {
            self.evict_oldest();
        }
    }

    fn applied_len(&self) -> usize {
        self.ids.len() - self.ids_in_flight
    }

    fn evict_oldest(&mut self) {
        let (Some(key), Some(run)) = (self.ids.pop_front(), self.runs.front_mut()) else {
            return;
        };
        let offset = run.place.base_offset;
        run.place.base_offset = offset.next();
        run.count -= 1;
        if run.count == 0 {
            self.runs.pop_front();
        }
        if let Entry::Occupied(occupied) = self.offsets.entry(key)
            && *occupied.get() == offset
        {
            occupied.remove();
        }
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        let applied = self.runs.len().saturating_sub(self.in_flight.len());
        writer.count(applied);
        let mut last = Run {
            place: Place::ZERO,
            count: 0,
        };
        let mut ids = self.ids.iter();
        for run in self.runs.iter().take(applied) {
            writer.varint(u64::from(run.count));
            run.place.encode(writer, &last.place);
            last = *run;
            for (low, high) in ids
                .by_ref()
                .take(usize::try_from(run.count).unwrap_or(usize::MAX))
            {
                writer.u64(*low);
                writer.u64(*high);
            }
        }
    }

    pub(crate) fn decode(
        reader: &mut Reader<'_>,
        limits: WindowLimits,
    ) -> Result<Self, CodecError> {
        let mut window = Self::new(limits);
        let runs = reader.count("runs of message ids", IDS_MAX)?;
        let (mut last, mut end) = (Place::ZERO, Offset::ZERO);
        for _ in 0..runs {
            let room = IDS_MAX.saturating_sub(window.ids.len());
            let count = reader.count("message ids", room)?;
            let place = Place::decode(reader, &last)?;
            let ordered = place.base_offset >= end && place.append_time >= last.append_time;
            if count == 0 || !ordered {
                return Err(CodecError::Invalid(
                    "message ids are not in the order of the log",
                ));
            }
            last = place;
            end = window.decode_run(reader, place, count)?;
        }
        Ok(window)
    }

    fn decode_run(
        &mut self,
        reader: &mut Reader<'_>,
        place: Place,
        count: usize,
    ) -> Result<Offset, CodecError> {
        let mut offset = place.base_offset;
        for _ in 0..count {
            let key = (reader.u64()?, reader.u64()?);
            self.ids.push_back(key);
            self.offsets.insert(key, offset);
            offset = offset.next();
        }
        let count = u32::try_from(count).map_err(|_| CodecError::Number)?;
        self.runs.push_back(Run { place, count });
        Ok(offset)
    }
}

impl WindowLimits {
    fn expired(self, appended: HybridTime, now: HybridTime) -> bool {
        now.micros().saturating_sub(appended.micros()) > self.micros_max
    }
}

/// The run that holds an offset, and its position; runs stand in the order of offsets.
fn run_at(runs: &VecDeque<Run>, offset: Offset) -> Option<(usize, Run)> {
    let after = runs.partition_point(|run| run.place.base_offset <= offset);
    let at = after.checked_sub(1)?;
    let run = *runs.get(at)?;
    let inside = offset.distance_from(run.place.base_offset) < u64::from(run.count);
    inside.then_some((at, run))
}

fn key_of(id: MessageId) -> Key {
    let bits = id.get();
    let low = u64::try_from(bits & u128::from(u64::MAX)).unwrap_or(u64::MAX);
    let high = u64::try_from(bits >> 64).unwrap_or(u64::MAX);
    (low, high)
}
