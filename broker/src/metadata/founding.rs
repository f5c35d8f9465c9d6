//! How this broker came to its cluster: the file that says where to begin while the metadata cannot
//! be read yet.
//!
//! Written once, before the replica of group 0 is made, and never changed.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use quorate_protocol::BrokerId;
use quorate_protocol::GroupTag;
use quorate_protocol::ReplicaId;
use quorate_protocol::crc32c;
use quorate_storage::Storage;
use quorate_storage::read_file;
use quorate_storage::write_file;

use crate::config::PeerSeed;
use crate::metadata::encoding::decode_flag;
use crate::metadata::encoding::decode_ids;
use crate::metadata::encoding::decode_seeds;
use crate::metadata::encoding::encode_ids;
use crate::metadata::encoding::encode_seeds;
use crate::metadata::state::founder;
use crate::partition::codec::CodecError;
use crate::partition::codec::Reader;
use crate::partition::codec::Writer;

const FILE: &str = "founding";
const VERSION: u16 = 1;
const BYTES_MAX: usize = 64 << 10;
/// The most first voters of group 0.
const VOTERS_MAX: usize = 5;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}; restore it from a backup, or replace this broker's storage", path.display())]
pub struct FoundingError {
    path: PathBuf,
    source: io::Error,
}

/// Where this broker begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Founding {
    /// Whether it is one of the brokers that the cluster begins with.
    pub(super) founder: bool,
    /// The voters group 0 was born with.
    pub(super) voters: Vec<ReplicaId>,
    /// This broker's replica of group 0.
    pub(super) replica: ReplicaId,
    /// The brokers known then, this one among them, each with its replica of group 0.
    pub(super) seeds: Vec<PeerSeed>,
    pub(super) seats: Vec<ReplicaId>,
}

impl Founding {
    /// The beginning of a cluster of these brokers; every one of them has to be told the same.
    #[must_use]
    pub fn found(me: BrokerId, mut seeds: Vec<PeerSeed>) -> Self {
        seeds.sort_by_key(|seed| seed.id);
        let voters = voters_wanted(seeds.len());
        let seats: Vec<_> = seeds.iter().map(|seed| founder(seed.id)).collect();
        Self {
            founder: true,
            voters: seats.iter().take(voters).copied().collect(),
            replica: founder(me),
            seeds,
            seats,
        }
    }

    /// The brokers known then.
    #[must_use]
    pub fn seeds(&self) -> &[PeerSeed] {
        &self.seeds
    }

    /// The incarnation of group 0: clusters that began with other voters are never mixed up.
    pub(super) fn tag(&self) -> GroupTag {
        let ids: BTreeSet<_> = self.voters.iter().map(|voter| voter.get()).collect();
        let mixed = ids.into_iter().fold(0u64, |hash, id| mix(hash ^ mix(id)));
        GroupTag::new(mixed)
    }

    /// Where the replicas of group 0 were then.
    pub(super) fn holders(&self) -> Vec<(ReplicaId, BrokerId)> {
        let brokers = self.seeds.iter().map(|seed| seed.id);
        self.seats.iter().copied().zip(brokers).collect()
    }

    /// Reads the file of a data folder, if there is one. Blocks on the disk.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn load(
        storage: &Arc<dyn Storage>,
        data_dir: &Path,
    ) -> Result<Option<Self>, FoundingError> {
        let path = data_dir.join(FILE);
        let failed = |source| FoundingError {
            path: path.clone(),
            source,
        };
        let bytes = read_file(storage.as_ref(), &path, BYTES_MAX).map_err(failed)?;
        let founding = bytes.map(|bytes| Self::decode(&bytes)).transpose();
        founding.map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    /// Writes the file, durably. Blocks on the disk.
    ///
    /// # Errors
    /// What the system reports.
    pub fn save(&self, storage: &Arc<dyn Storage>, data_dir: &Path) -> Result<(), FoundingError> {
        let path = data_dir.join(FILE);
        write_file(storage.as_ref(), &path, &self.encode())
            .map_err(|source| FoundingError { path, source })
    }

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        writer.u16(VERSION);
        writer.u8(u8::from(self.founder));
        encode_ids(&mut writer, &self.voters);
        writer.u64(self.replica.get());
        encode_seeds(&mut writer, &self.seeds);
        for seat in &self.seats {
            writer.u64(seat.get());
        }
        let mut bytes = writer.into_bytes();
        let crc = crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let (fields, crc) = bytes.split_last_chunk::<4>().ok_or(CodecError::Truncated)?;
        if crc32c(fields) != u32::from_le_bytes(*crc) {
            return Err(CodecError::Invalid("its checksum does not match"));
        }
        let mut reader = Reader::new(fields);
        let version = reader.u16()?;
        if version != VERSION {
            return Err(CodecError::Version(version));
        }
        let founder = decode_flag(&mut reader)?;
        let voters = decode_ids(&mut reader)?;
        let replica = ReplicaId::new(reader.u64()?);
        let seeds = decode_seeds(&mut reader)?;
        let seats: Result<Vec<_>, _> = seeds.iter().map(|_| reader.u64()).collect();
        let seats = seats?.into_iter().map(ReplicaId::new).collect();
        reader.finish()?;
        Ok(Self {
            founder,
            voters,
            replica,
            seeds,
            seats,
        })
    }
}

/// How many voters group 0 has in a cluster of so many brokers. An even number more survives no
/// more; but of two brokers both vote, so that the metadata is on two disks.
pub(super) const fn voters_wanted(brokers: usize) -> usize {
    match brokers {
        0..=2 => brokers,
        3..=4 => 3,
        _ => VOTERS_MAX,
    }
}

/// Spreads a number over all 64 bits.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use quorate_storage::MemoryStorage;

    use super::*;

    fn seeds(ids: &[u16]) -> Vec<PeerSeed> {
        let seed = |id: &u16| PeerSeed {
            id: BrokerId::new(*id),
            name: format!("broker-{id}"),
            address: format!("host-{id}:4748"),
        };
        ids.iter().map(seed).collect()
    }

    fn found(ids: &[u16]) -> Founding {
        Founding::found(BrokerId::new(ids[0]), seeds(ids))
    }

    #[test]
    fn an_odd_number_of_the_first_brokers_votes_but_of_two_both() {
        let voters = |ids: &[u16]| -> Vec<_> {
            let founding = found(ids);
            founding.voters.iter().map(|voter| voter.get()).collect()
        };
        assert_eq!(voters(&[4]), [4]);
        assert_eq!(voters(&[9, 4]), [4, 9]);
        assert_eq!(voters(&[3, 1, 2]), [1, 2, 3]);
        assert_eq!(voters(&[3, 1, 2, 4]), [1, 2, 3]);
        assert_eq!(voters(&[1, 2, 3, 4, 5, 6, 7]), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn clusters_that_begin_with_other_brokers_have_other_groups() {
        assert_eq!(found(&[1, 2, 3]).tag(), found(&[3, 2, 1]).tag());
        let others = [&[1u16, 2][..], &[1], &[2], &[3], &[1, 2, 4], &[0, 3]];
        let tags: BTreeSet<_> = others.iter().map(|ids| found(ids).tag()).collect();
        assert_eq!(tags.len(), others.len());
        assert!(!tags.contains(&found(&[1, 2, 3]).tag()));
    }

    #[test]
    fn the_file_comes_back_and_no_damaged_one_does() {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::inline());
        let root = Path::new("/data");
        storage.create_dir(root).unwrap();
        assert_eq!(Founding::load(&storage, root).unwrap(), None);
        let founding = found(&[2, 1, 3]);
        founding.save(&storage, root).unwrap();
        assert_eq!(
            Founding::load(&storage, root).unwrap(),
            Some(founding.clone())
        );
        let bytes = founding.encode();
        for cut in 0..bytes.len() {
            assert!(Founding::decode(&bytes[..cut]).is_err());
            let mut flipped = bytes.clone();
            flipped[cut] ^= 4;
            assert!(Founding::decode(&flipped).is_err());
        }
        write_file(storage.as_ref(), &root.join(FILE), &bytes[1..]).unwrap();
        let error = Founding::load(&storage, root).unwrap_err().to_string();
        assert!(error.starts_with("/data/founding: "), "{error}");
    }
}
