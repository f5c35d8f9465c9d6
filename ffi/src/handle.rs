//! Handles: numbers that C keeps as pointers. They are looked up, never followed.
//!
//! Invariant: a handle names one object for ever; after `remove` it names nothing.

use std::sync::Arc;
use std::sync::OnceLock;

use parking_lot::Mutex;
use parking_lot::RwLock;
use quorate::ErrorCode;

use crate::abi::quorate_batch_t;
use crate::abi::quorate_client_t;
use crate::abi::quorate_config_t;
use crate::abi::quorate_consumer_t;
use crate::abi::quorate_producer_t;
use crate::batch::Batch;
use crate::client::Client;
use crate::consumer::Consumer;
use crate::failure::Failure;
use crate::producer::Producer;
use crate::settings::Settings;

pub(crate) static CONFIGS: Table<quorate_config_t, Mutex<Settings>> = Table::new(Kind::Config);
pub(crate) static CLIENTS: Table<quorate_client_t, Client> = Table::new(Kind::Client);
pub(crate) static PRODUCERS: Table<quorate_producer_t, Producer> = Table::new(Kind::Producer);
pub(crate) static CONSUMERS: Table<quorate_consumer_t, Consumer> = Table::new(Kind::Consumer);
pub(crate) static BATCHES: Table<quorate_batch_t, Batch> = Table::new(Kind::Batch);

/// What a handle is; odd, as no address of an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Config = 1,
    Client = 3,
    Producer = 5,
    Consumer = 7,
    Batch = 9,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Config,
        Self::Client,
        Self::Producer,
        Self::Consumer,
        Self::Batch,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Client => "client",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
            Self::Batch => "batch",
        }
    }
}

const KIND_BITS: u32 = 4;
const INDEX_BITS: u32 = 16;
const CHUNK: usize = 256;
const CHUNKS: usize = 256;

/// The objects of one kind; `C` is what C calls them.
pub(crate) struct Table<C, T> {
    kind: Kind,
    chunks: [OnceLock<Box<[Slot<T>]>>; CHUNKS],
    free: Mutex<Free>,
    name: std::marker::PhantomData<fn(C)>,
}

struct Slot<T>(RwLock<Entry<T>>);

struct Entry<T> {
    generation: usize,
    object: Option<Arc<T>>,
}

/// Places without an object: those given back, and all from `fresh` on.
struct Free {
    returned: Vec<usize>,
    fresh: usize,
}

impl<C, T> Table<C, T> {
    const fn new(kind: Kind) -> Self {
        Self {
            kind,
            chunks: [const { OnceLock::new() }; CHUNKS],
            free: Mutex::new(Free {
                returned: Vec::new(),
                fresh: 0,
            }),
            name: std::marker::PhantomData,
        }
    }

    /// Keeps an object; its handle.
    pub(crate) fn insert(&self, object: T) -> Result<*mut C, Failure> {
        let index = self.place().ok_or_else(|| {
            let name = self.kind.name();
            let max = CHUNK * CHUNKS;
            let text = format!("{max} {name} handles are open; close those that are not used");
            Failure::new(ErrorCode::OVERLOADED, text)
        })?;
        let slot = self.slot(index).ok_or_else(|| self.unknown())?;
        let mut entry = slot.0.write();
        entry.object = Some(Arc::new(object));
        let place = index << KIND_BITS | usize::from(self.kind as u8);
        let address = entry.generation << (INDEX_BITS + KIND_BITS) | place;
        Ok(std::ptr::without_provenance_mut(address))
    }

    /// The object of a handle.
    #[inline]
    pub(crate) fn get(&self, handle: *const C) -> Result<Arc<T>, Failure> {
        let (slot, generation) = self.find(handle)?;
        let entry = slot.0.read();
        match &entry.object {
            Some(object) if entry.generation == generation => Ok(Arc::clone(object)),
            _ => Err(Failure::closed(self.kind.name())),
        }
    }

    /// Forgets a handle; who is using its object goes on.
    pub(crate) fn remove(&self, handle: *const C) -> Result<Arc<T>, Failure> {
        let (slot, generation) = self.find(handle)?;
        let mut entry = slot.0.write();
        if entry.generation != generation {
            return Err(Failure::closed(self.kind.name()));
        }
        let object = entry.object.take();
        let object = object.ok_or_else(|| Failure::closed(self.kind.name()))?;
        entry.generation = next_generation(generation);
        drop(entry);
        let index = handle.addr() >> KIND_BITS & ((1 << INDEX_BITS) - 1);
        self.free.lock().returned.push(index);
        Ok(object)
    }

    #[inline]
    fn find(&self, handle: *const C) -> Result<(&Slot<T>, usize), Failure> {
        let address = handle.addr();
        if address & ((1 << KIND_BITS) - 1) != usize::from(self.kind as u8) {
            return Err(self.wrong_kind(address));
        }
        let index = address >> KIND_BITS & ((1 << INDEX_BITS) - 1);
        let slot = self.known_slot(index).ok_or_else(|| self.unknown())?;
        Ok((slot, address >> (INDEX_BITS + KIND_BITS)))
    }

    #[cold]
    fn wrong_kind(&self, address: usize) -> Failure {
        let name = self.kind.name();
        if address == 0 {
            return Failure::invalid(format!("the {name} is NULL"));
        }
        let low = address & ((1 << KIND_BITS) - 1);
        let other = Kind::ALL
            .iter()
            .find(|kind| usize::from(**kind as u8) == low);
        match other {
            Some(other) => Failure::invalid(format!("this is a {}, not a {name}", other.name())),
            None => self.unknown(),
        }
    }

    #[cold]
    fn unknown(&self) -> Failure {
        Failure::invalid(format!("this is no {} handle", self.kind.name()))
    }

    fn place(&self) -> Option<usize> {
        let mut free = self.free.lock();
        if let Some(index) = free.returned.pop() {
            return Some(index);
        }
        let index = free.fresh;
        (index < CHUNK * CHUNKS).then(|| {
            free.fresh += 1;
            index
        })
    }

    #[inline]
    fn known_slot(&self, index: usize) -> Option<&Slot<T>> {
        self.chunks.get(index / CHUNK)?.get()?.get(index % CHUNK)
    }

    fn slot(&self, index: usize) -> Option<&Slot<T>> {
        let empty = || {
            let entry = Entry {
                generation: 1,
                object: None,
            };
            Slot(RwLock::new(entry))
        };
        let chunk = self.chunks.get(index / CHUNK)?;
        let chunk = chunk.get_or_init(|| std::iter::repeat_with(empty).take(CHUNK).collect());
        chunk.get(index % CHUNK)
    }
}

/// Never 0, so that no handle is NULL and no small number is one.
fn next_generation(generation: usize) -> usize {
    let mask = usize::MAX >> (INDEX_BITS + KIND_BITS);
    ((generation + 1) & mask).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::QUORATE_E_CLOSED;
    use crate::status::QUORATE_E_INVALID_ARGUMENT;

    type Numbers = Table<u8, u32>;

    fn status<T>(result: Result<T, Failure>) -> i32 {
        result.map(|_| ()).unwrap_err().note()
    }

    #[test]
    fn a_handle_names_its_object_until_it_is_removed() {
        let table = Numbers::new(Kind::Client);
        let handle = table.insert(7).unwrap();
        assert_eq!(*table.get(handle).unwrap(), 7);
        let kept = table.get(handle).unwrap();
        assert_eq!(*table.remove(handle).unwrap(), 7);
        assert_eq!(*kept, 7);
        assert_eq!(status(table.get(handle)), QUORATE_E_CLOSED);
        assert_eq!(status(table.remove(handle)), QUORATE_E_CLOSED);
        let next = table.insert(8).unwrap();
        assert_ne!(next, handle);
        assert_eq!(status(table.get(handle)), QUORATE_E_CLOSED);
    }

    #[test]
    fn what_is_no_handle_is_refused() {
        let table = Numbers::new(Kind::Client);
        let producers = Table::<u8, u32>::new(Kind::Producer);
        let producer = producers.insert(1).unwrap();
        let object = Box::new(0u64);
        let address = (&raw const *object).cast::<u8>();
        let odd = std::ptr::without_provenance::<u8>(usize::MAX);
        let far = std::ptr::without_provenance::<u8>(1 << 20 | 0xfff3);
        for wrong in [std::ptr::null(), producer.cast_const(), address, odd, far] {
            assert_eq!(status(table.get(wrong)), QUORATE_E_INVALID_ARGUMENT);
        }
    }

    #[test]
    fn there_is_an_end_to_handles_and_they_come_back() {
        let table = Numbers::new(Kind::Batch);
        let handles: Vec<_> = (0..65_536).map(|n| table.insert(n).unwrap()).collect();
        assert!(table.insert(0).is_err());
        table.remove(handles[40_000]).unwrap();
        let again = table.insert(1).unwrap();
        assert_eq!(*table.get(again).unwrap(), 1);
        assert!(table.get(handles[40_000]).is_err());
    }
}
