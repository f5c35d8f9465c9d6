//! A log and its twin, a plain map, under any sequence of operations and crashes.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use quorate_storage::{Crash, Entry, EntryKind, MemoryStorage, Opened, Storage};

use crate::fixture::*;

const SEGMENT: u64 = 14_000;

#[derive(Clone, Debug)]
enum Step {
    Append {
        sizes: Vec<u16>,
        blank: bool,
        sync: bool,
    },
    Replace {
        back: u8,
        sizes: Vec<u16>,
        sync: bool,
    },
    Trim {
        keep: u8,
    },
    ReadOffset {
        at: u16,
        bytes: u16,
    },
    ReadTime {
        micros: u16,
    },
    Flush,
    Close,
    Crash(Crash),
}

fn sizes() -> impl Strategy<Value = Vec<u16>> {
    proptest::collection::vec(prop_oneof![3 => 1_u16..700, 1 => 700_u16..5_000], 1..8)
}

fn crash() -> impl Strategy<Value = Crash> {
    prop_oneof![
        Just(Crash::Process),
        Just(Crash::Synced),
        any::<u64>().prop_map(Crash::Seeded),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (sizes(), any::<bool>(), any::<bool>())
            .prop_map(|(sizes, blank, sync)| Step::Append { sizes, blank, sync }),
        3 => (0_u8..30, sizes(), any::<bool>())
            .prop_map(|(back, sizes, sync)| Step::Replace { back, sizes, sync }),
        1 => (0_u8..4).prop_map(|keep| Step::Trim { keep }),
        3 => (any::<u16>(), any::<u16>()).prop_map(|(at, bytes)| Step::ReadOffset { at, bytes }),
        1 => any::<u16>().prop_map(|micros| Step::ReadTime { micros }),
        1 => Just(Step::Flush),
        1 => Just(Step::Close),
        3 => crash().prop_map(Step::Crash),
    ]
}

struct Pair {
    memory: Arc<MemoryStorage>,
    storage: Arc<dyn Storage>,
    log: Option<Opened>,
    twin: BTreeMap<u64, Entry>,
    first: u64,
    /// Last index that must survive any crash.
    durable: u64,
    place: Place,
}

impl Pair {
    fn new() -> Self {
        let (memory, storage) = memory();
        let log = Some(create(&storage, SEGMENT));
        let place = Place::start();
        Self {
            memory,
            storage,
            log,
            twin: BTreeMap::new(),
            first: 2,
            durable: 1,
            place,
        }
    }

    fn log(&mut self) -> &mut Opened {
        self.log.as_mut().unwrap()
    }

    fn write(&mut self, entries: Vec<Entry>, sync: bool) {
        self.log().writer.write(&entries, sync).unwrap();
        let Some(first) = entries.first() else { return };
        self.twin.retain(|index, _| *index < first.index.get());
        self.durable = self.durable.min(first.index.get() - 1);
        self.twin
            .extend(entries.into_iter().map(|entry| (entry.index.get(), entry)));
        if sync {
            self.durable = self.place.index - 1;
        }
    }

    fn data(&mut self, sizes: &[u16]) -> Vec<Entry> {
        sizes
            .iter()
            .map(|len| {
                self.place
                    .data(u32::from(*len % 3) + 1, usize::from(*len) / 2)
            })
            .collect()
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Append { sizes, blank, sync } => {
                let mut entries = self.data(&sizes);
                if blank {
                    entries.push(self.place.blank());
                }
                self.write(entries, sync);
            }
            Step::Replace { back, sizes, sync } => self.replace(u64::from(back), &sizes, sync),
            Step::Trim { keep } => self.trim(usize::from(keep)),
            Step::ReadOffset { at, bytes } => self.read_offset(at, usize::from(bytes)),
            Step::ReadTime { micros } => self.read_time(1_000 + u64::from(micros) % 6_000),
            Step::Flush => {
                self.log().writer.write(&[], true).unwrap();
                self.durable = self.place.index - 1;
            }
            Step::Close => {
                self.log.take().unwrap().writer.close().unwrap();
                self.durable = self.place.index - 1;
                self.reopen();
            }
            Step::Crash(crash) => self.crash(crash),
        }
        self.check();
    }

    fn replace(&mut self, back: u64, sizes: &[u16], sync: bool) {
        let at = self.place.index.saturating_sub(back).max(self.first);
        let term = self.place.term + 1;
        self.place = match self.twin.get(&(at - 1)) {
            Some(before) => Place {
                term,
                ..Place::after(before)
            },
            None => {
                let offset = self.log().reader.log_start().get();
                Place {
                    index: at,
                    offset,
                    term,
                    micros: self.place.micros,
                }
            }
        };
        let entries = self.data(sizes);
        self.write(entries, sync);
    }

    fn trim(&mut self, keep: usize) {
        let segments = self.log().reader.segments();
        let Some(kept) = segments
            .len()
            .checked_sub(keep + 1)
            .and_then(|at| segments.get(at))
        else {
            return;
        };
        let base = kept.base_index.get();
        if base == self.first {
            return;
        }
        let seed = seed_of(&self.memory, base);
        let checkpoint = checkpoint_at(&self.log().reader, base - 1, seed);
        self.log().checkpoints.write(&checkpoint).unwrap();
        self.log().writer.trim(checkpoint.index).unwrap();
        self.first = base;
        self.twin.retain(|index, _| *index >= base);
    }

    fn read_offset(&self, at: u16, bytes: usize) {
        let reader = &self.log.as_ref().unwrap().reader;
        let (start, end) = (reader.log_start().get(), reader.log_end().get());
        if start == end {
            return;
        }
        let from = start + u64::from(at) % (end - start);
        let found = read(reader, from, end, bytes);
        let mut expected = self
            .twin
            .values()
            .filter(|entry| entry.kind == EntryKind::Data)
            .filter(|entry| entry.batch.next_offset().get() > from);
        assert!(!found.is_empty());
        for batch in &found {
            assert_eq!(batch.bytes(), expected.next().unwrap().batch.bytes());
        }
        let total: usize = found.iter().map(|batch| batch.len()).sum();
        assert!(found.len() == 1 || total <= bytes);
    }

    fn read_time(&self, micros: u64) {
        let reader = &self.log.as_ref().unwrap().reader;
        let expected = self
            .twin
            .values()
            .filter(|entry| entry.kind == EntryKind::Data)
            .find(|entry| entry.batch.append_time().micros() >= micros)
            .map_or_else(|| reader.log_end(), |entry| entry.batch.base_offset());
        assert_eq!(reader.offset_at_time(micros).unwrap(), expected);
    }

    fn crash(&mut self, crash: Crash) {
        self.log = None;
        self.memory.crash(crash);
        self.reopen();
        let last = self.log().reader.last_index().get();
        assert!(
            last >= self.durable,
            "{crash:?}: {last} is before {}",
            self.durable
        );
        self.twin.retain(|index, _| *index <= last);
        self.durable = last;
        let term = self.place.term + 1;
        self.place = match self.twin.get(&last) {
            Some(entry) => Place {
                term,
                ..Place::after(entry)
            },
            None => {
                let offset = self.log().reader.log_end().get();
                Place {
                    index: last + 1,
                    offset,
                    term,
                    micros: self.place.micros,
                }
            }
        };
    }

    fn reopen(&mut self) {
        let opened = open(&self.storage, SEGMENT);
        assert_eq!(opened.recovery.first_index.get(), self.first);
        self.log = Some(opened);
    }

    fn check(&self) {
        let reader = &self.log.as_ref().unwrap().reader;
        let found = all_entries(reader);
        let expected: Vec<Entry> = self.twin.values().cloned().collect();
        assert!(same(&found, &expected));
        assert_eq!(reader.first_index().get(), self.first);
        let segments = reader.segments();
        let follow = segments.windows(2).all(|pair| {
            pair[0].last_index.next() == pair[1].base_index
                && pair[0].next_offset == pair[1].base_offset
                && pair[0].sealed
        });
        assert!(follow);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_log_is_a_map_whatever_happens(steps in proptest::collection::vec(step(), 1..40)) {
        let mut pair = Pair::new();
        for step in steps {
            pair.run(step);
        }
    }

    #[test]
    fn segments_are_the_same_however_a_log_was_written(
        sizes in proptest::collection::vec(1_usize..4_000, 1..40),
        cuts in proptest::collection::vec(1_usize..9, 1..20),
        undone in 0_usize..20,
    ) {
        let mut place = Place::start();
        let written: Vec<Entry> = sizes.iter().map(|len| place.data(1, *len)).collect();
        let (one, straight) = memory();
        let mut opened = create(&straight, SEGMENT);
        opened.writer.write(&written, true).unwrap();
        opened.writer.close().unwrap();
        let (other, winding) = memory();
        let mut opened = create(&winding, SEGMENT);
        let kept = written.len().saturating_sub(undone);
        let mut place = kept.checked_sub(1).map_or_else(Place::start, |at| Place::after(&written[at]));
        let wrong: Vec<Entry> = (0..undone).map(|n| place.data(2, 3_000 + n)).collect();
        opened.writer.write(&written[..kept], true).unwrap();
        opened.writer.write(&wrong, true).unwrap();
        let mut rest = &written[kept..];
        for cut in cuts.iter().cycle().take(60) {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            opened.writer.write(now, false).unwrap();
            rest = later;
        }
        opened.writer.write(rest, true).unwrap();
        if kept == written.len() && undone > 0 {
            return Ok(());
        }
        opened.writer.close().unwrap();
        for name in names(&straight).iter().filter(|name| name.ends_with(".seg")) {
            let path = dir().join(name);
            let (a, b) = (one.contents(&path).unwrap(), other.contents(&path).unwrap_or_default());
            prop_assert!(a[4096..] == b[4096..], "{name} differs");
        }
    }
}
