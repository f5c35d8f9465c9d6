//! Producer ids and the principals they belong to.
//!
//! Ids are given out in blocks of 1,024 to one principal, so the owner of any id follows from few
//! numbers, however many ids were given out.

use std::collections::BTreeMap;

use quorate_protocol::ProducerEpoch;
use quorate_protocol::ProducerId;

use crate::auth::PrincipalKey;
use crate::partition::codec::CodecError;
use crate::partition::codec::Reader;
use crate::partition::codec::Writer;

/// Ids per block, as a power of two.
const BLOCK_BITS: u32 = 10;
/// The most named producers in the cluster.
pub(super) const NAMED_MAX: usize = 50_000;
/// The most named producers of one principal.
pub(super) const NAMED_PER_PRINCIPAL_MAX: usize = 10_000;
/// The longest name of a producer.
pub(super) const NAME_BYTES_MAX: usize = 128;
/// The most changes of owner between one block and the next.
const RUNS_MAX: usize = 100_000;

/// The ids of one block that are not given out yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Block {
    next: u64,
    end: u64,
}

impl Block {
    fn new(number: u64) -> Self {
        let next = number << BLOCK_BITS;
        Self {
            next,
            end: next + (1 << BLOCK_BITS),
        }
    }

    /// Takes the next id of the block.
    pub(super) fn take(&mut self) -> Option<ProducerId> {
        let id = (self.next < self.end).then(|| ProducerId::new(self.next))?;
        self.next += 1;
        Some(id)
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.u64(self.next);
        writer.u64(self.end);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            next: reader.u64()?,
            end: reader.u64()?,
        })
    }
}

/// A producer that keeps its id through restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) producer: ProducerId,
    pub(super) epoch: ProducerEpoch,
}

/// Why no id was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exhausted {
    /// The principal has too many names, or the cluster has.
    Names,
    /// There is no number left, or no room to note its owner.
    Blocks,
}

/// All producer ids given out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProducerIds {
    next_block: u64,
    /// First block of a run with one owner.
    runs: BTreeMap<u64, PrincipalKey>,
    named: BTreeMap<PrincipalKey, BTreeMap<String, Named>>,
    named_total: usize,
}

impl Default for ProducerIds {
    fn default() -> Self {
        Self {
            next_block: 1,
            runs: BTreeMap::new(),
            named: BTreeMap::new(),
            named_total: 0,
        }
    }
}

impl ProducerIds {
    /// The principal that may use an id, if the id was given out.
    pub(super) fn owner_of(&self, producer: ProducerId) -> Option<PrincipalKey> {
        let block = producer.get() >> BLOCK_BITS;
        let known = block < self.next_block;
        let run = self.runs.range(..=block).next_back().filter(|_| known);
        run.map(|(_, owner)| *owner)
    }

    /// Gives the next block to a principal.
    pub(super) fn mint(&mut self, owner: PrincipalKey) -> Result<Block, Exhausted> {
        let block = self.next_block;
        if block >= u64::MAX >> BLOCK_BITS {
            return Err(Exhausted::Blocks);
        }
        let last_owner = self.runs.last_key_value().map(|(_, last)| *last);
        if last_owner != Some(owner) {
            if self.runs.len() == RUNS_MAX {
                return Err(Exhausted::Blocks);
            }
            self.runs.insert(block, owner);
        }
        self.next_block = block + 1;
        Ok(Block::new(block))
    }

    pub(super) fn named(&self, owner: PrincipalKey, name: &str) -> Option<Named> {
        self.named.get(&owner)?.get(name).copied()
    }

    /// Whether an id belongs to some name of this principal.
    pub(super) fn is_named(&self, owner: PrincipalKey, producer: ProducerId) -> bool {
        let mut names = self
            .named
            .get(&owner)
            .into_iter()
            .flat_map(BTreeMap::values);
        names.any(|named| named.producer == producer)
    }

    /// Gives a name its id with the next epoch; a new name gets the candidate.
    pub(super) fn claim(
        &mut self,
        owner: PrincipalKey,
        name: &str,
        candidate: ProducerId,
    ) -> Result<Named, Exhausted> {
        let names = self.named.get_mut(&owner);
        let held = names.as_ref().map_or(0, |names| names.len());
        if let Some(named) = names.and_then(|names| names.get_mut(name)) {
            let next = named.epoch.get().checked_add(1).ok_or(Exhausted::Names)?;
            named.epoch = ProducerEpoch::new(next);
            return Ok(*named);
        }
        if self.named_total >= NAMED_MAX || held >= NAMED_PER_PRINCIPAL_MAX {
            return Err(Exhausted::Names);
        }
        let named = Named {
            producer: candidate,
            epoch: ProducerEpoch::new(0),
        };
        let names = self.named.entry(owner).or_default();
        names.insert(name.to_owned(), named);
        self.named_total += 1;
        Ok(named)
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.varint(self.next_block);
        writer.count(self.runs.len());
        for (block, owner) in &self.runs {
            writer.varint(*block);
            writer.u64(owner.get());
        }
        writer.count(self.named_total);
        for (owner, names) in &self.named {
            for (name, named) in names {
                writer.u64(owner.get());
                writer.text(name);
                writer.u64(named.producer.get());
                writer.u32(named.epoch.get());
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut ids = Self {
            next_block: reader.varint()?,
            ..Self::default()
        };
        let runs = reader.count("producer id blocks", RUNS_MAX)?;
        for _ in 0..runs {
            let (block, owner) = (reader.varint()?, PrincipalKey::new(reader.u64()?));
            let last = ids.runs.last_key_value().map(|(last, _)| *last);
            if last.is_some_and(|last| last >= block) || block >= ids.next_block {
                return Err(CodecError::Invalid("producer id blocks are not in order"));
            }
            ids.runs.insert(block, owner);
        }
        ids.named_total = reader.count("named producers", NAMED_MAX)?;
        for _ in 0..ids.named_total {
            let owner = PrincipalKey::new(reader.u64()?);
            let name = reader
                .text("bytes of a producer's name", NAME_BYTES_MAX)?
                .to_owned();
            let producer = ProducerId::new(reader.u64()?);
            let named = Named {
                producer,
                epoch: ProducerEpoch::new(reader.u32()?),
            };
            if ids
                .named
                .entry(owner)
                .or_default()
                .insert(name, named)
                .is_some()
            {
                return Err(CodecError::Invalid("a producer's name appears twice"));
            }
        }
        Ok(ids)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_name_leaves_no_trace() {
        let mut ids = ProducerIds {
            named_total: NAMED_MAX,
            ..ProducerIds::default()
        };
        let before = ids.clone();
        let refused = ids.claim(PrincipalKey::new(7), "till", ProducerId::new(1));
        assert_eq!(refused, Err(Exhausted::Names));
        assert_eq!(ids, before);
    }
}
