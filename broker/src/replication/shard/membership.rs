//! Who belongs to a group, and its changes: our own encoding, in checkpoints and control entries.

use bytes::Bytes;
use quorate_protocol::{ControlRecord, ReplicaId};
use quorate_storage::Entry;

/// The members of a group. `outgoing` is not empty while a joint change is under way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Vote, and count for commits.
    pub voters: Vec<ReplicaId>,
    /// The voters before a joint change; both majorities are needed.
    pub outgoing: Vec<ReplicaId>,
    /// Receive entries, do not vote.
    pub learners: Vec<ReplicaId>,
    /// Outgoing voters that become learners when the joint change ends.
    pub next_learners: Vec<ReplicaId>,
}

/// One step of a membership change. Two or more together are one joint change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Becomes a voter.
    Voter(ReplicaId),
    /// Becomes a learner.
    Learner(ReplicaId),
    /// Leaves.
    Remove(ReplicaId),
}

impl Change {
    /// The replica that changes.
    pub const fn replica(self) -> ReplicaId {
        match self {
            Self::Voter(id) | Self::Learner(id) | Self::Remove(id) => id,
        }
    }
}

/// Bytes that are no membership.
#[derive(Debug, thiserror::Error)]
#[error(
    "{0} bytes do not encode a membership; the log or checkpoint was written by an unknown version"
)]
pub struct MembershipError(usize);

impl Membership {
    /// A group's first members.
    pub fn of(voters: &[ReplicaId]) -> Self {
        Self {
            voters: voters.to_vec(),
            ..Self::default()
        }
    }

    /// Is a joint change under way?
    pub fn joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Is `replica` the only one whose vote counts?
    pub fn sole_voter(&self, replica: ReplicaId) -> bool {
        self.voters == [replica] && !self.joint()
    }

    /// Does it belong to the group?
    pub fn contains(&self, replica: ReplicaId) -> bool {
        [&self.voters, &self.outgoing, &self.learners]
            .iter()
            .any(|list| list.contains(&replica))
    }

    /// May these changes be made now? No change at all leaves the joint state.
    pub(in crate::replication) fn judge(&self, changes: &[Change]) -> Result<(), &'static str> {
        if self.joint() {
            return match changes {
                [] => Ok(()),
                _ => Err("a joint change is not left yet"),
            };
        }
        if changes.is_empty() {
            return Err("there is no joint change to leave");
        }
        let mut voters = self.voters.clone();
        for change in changes {
            let id = change.replica();
            let known = self.contains(id);
            voters.retain(|voter| *voter != id);
            match change {
                Change::Voter(_) if !known => return Err("a voter must be a learner first"),
                Change::Remove(_) if !known => return Err("the replica to remove is no member"),
                Change::Voter(_) => voters.push(id),
                Change::Learner(_) | Change::Remove(_) => {}
            }
        }
        if voters.is_empty() {
            return Err("no voter would be left");
        }
        Ok(())
    }

    /// Four lists, each `count u32 | ids u64`.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        for list in [
            &self.voters,
            &self.outgoing,
            &self.learners,
            &self.next_learners,
        ] {
            put_count(&mut out, list.len());
            for id in list {
                out.extend_from_slice(&id.get().to_le_bytes());
            }
        }
        out.into()
    }

    /// The inverse of `encode`.
    ///
    /// # Errors
    /// If the bytes are anything else.
    pub fn decode(bytes: &[u8]) -> Result<Self, MembershipError> {
        let mut rest = bytes;
        let mut list = || take_ids(&mut rest).ok_or(MembershipError(bytes.len()));
        let (voters, outgoing, learners, next_learners) = (list()?, list()?, list()?, list()?);
        if rest.is_empty() {
            Ok(Self {
                voters,
                outgoing,
                learners,
                next_learners,
            })
        } else {
            Err(MembershipError(bytes.len()))
        }
    }
}

/// `count u32 | (operation u8, id u64)..`. No change at all leaves the joint state.
pub fn encode_changes(changes: &[Change]) -> Bytes {
    let mut out = Vec::new();
    put_count(&mut out, changes.len());
    for change in changes {
        let (operation, id) = match change {
            Change::Voter(id) => (0_u8, id),
            Change::Remove(id) => (1, id),
            Change::Learner(id) => (2, id),
        };
        out.push(operation);
        out.extend_from_slice(&id.get().to_le_bytes());
    }
    out.into()
}

/// The inverse of `encode_changes`.
///
/// # Errors
/// If the bytes are anything else.
pub fn decode_changes(bytes: &[u8]) -> Result<Vec<Change>, MembershipError> {
    let wrong = || MembershipError(bytes.len());
    let mut rest = bytes;
    let count = take_u32(&mut rest).ok_or_else(wrong)?;
    let mut changes = Vec::new();
    for _ in 0..count {
        let (operation, after) = rest.split_first().ok_or_else(wrong)?;
        rest = after;
        let id = take_id(&mut rest).ok_or_else(wrong)?;
        changes.push(match operation {
            0 => Change::Voter(id),
            1 => Change::Remove(id),
            2 => Change::Learner(id),
            _ => return Err(wrong()),
        });
    }
    if rest.is_empty() {
        Ok(changes)
    } else {
        Err(wrong())
    }
}

/// The changes a membership entry holds.
pub(in crate::replication) fn of_entry(entry: &Entry) -> Result<Vec<Change>, MembershipError> {
    match ControlRecord::decode(&entry.batch) {
        Ok(ControlRecord::Membership(changes)) => decode_changes(&changes),
        _ => Err(MembershipError(entry.batch.len())),
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    out.extend_from_slice(&count.to_le_bytes());
}

fn take_ids(rest: &mut &[u8]) -> Option<Vec<ReplicaId>> {
    let count = take_u32(rest)?;
    (0..count).map(|_| take_id(rest)).collect()
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (bytes, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_le_bytes(*bytes))
}

fn take_id(rest: &mut &[u8]) -> Option<ReplicaId> {
    let (bytes, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(ReplicaId::new(u64::from_le_bytes(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[u64]) -> Vec<ReplicaId> {
        ids.iter().copied().map(ReplicaId::new).collect()
    }

    #[test]
    fn membership_survives_encoding_and_no_prefix_does() {
        let membership = Membership {
            voters: ids(&[1, 2, u64::MAX]),
            outgoing: ids(&[1]),
            learners: ids(&[7]),
            next_learners: Vec::new(),
        };
        let bytes = membership.encode();
        assert_eq!(Membership::decode(&bytes).unwrap(), membership);
        for end in 0..bytes.len() {
            assert!(Membership::decode(&bytes[..end]).is_err());
        }
    }

    #[test]
    fn changes_that_would_break_the_group_are_refused() {
        let id = ReplicaId::new;
        let mut members = Membership::of(&ids(&[1, 2, 3]));
        for wrong in [
            vec![],
            vec![Change::Voter(id(4))],
            vec![Change::Remove(id(4))],
            vec![
                Change::Remove(id(1)),
                Change::Remove(id(2)),
                Change::Learner(id(3)),
            ],
        ] {
            assert!(members.judge(&wrong).is_err(), "{wrong:?}");
        }
        members.judge(&[Change::Learner(id(4))]).unwrap();
        members.learners = ids(&[4]);
        let replace = [Change::Voter(id(4)), Change::Remove(id(3))];
        members.judge(&replace).unwrap();
        members.outgoing = ids(&[1, 2, 3]);
        assert!(members.judge(&replace).is_err());
        members.judge(&[]).unwrap();
    }

    #[test]
    fn changes_survive_encoding_and_unknown_operations_do_not() {
        let id = ReplicaId::new(9);
        let changes = [Change::Voter(id), Change::Learner(id), Change::Remove(id)];
        let bytes = encode_changes(&changes);
        assert_eq!(decode_changes(&bytes).unwrap(), changes);
        assert_eq!(decode_changes(&encode_changes(&[])).unwrap(), []);
        let mut unknown = bytes.to_vec();
        unknown[4] = 3;
        assert!(decode_changes(&unknown).is_err());
        assert!(decode_changes(&bytes[..bytes.len() - 1]).is_err());
    }
}
