//! A machine whose every byte can be checked: batches follow from their numbers, state is a hash.

use bytes::Bytes;
use quorate_protocol::{
    BatchBuilder, BatchIdentity, ControlRecord, GroupId, HybridTime, LogIndex, Offset,
    ProducerEpoch, ProducerId, RecordBatch, RecordDraft, ReplicaId, Sequence, Stamp, Term,
    control_batch, records,
};
use quorate_storage::{Entry, EntryKind};
use std::collections::BTreeMap;

use crate::replication::machine::{Admission, Applied, RestoreError, Role, Seat, StateMachine};
use crate::replication::tests::mix;

/// What a test asks of a book.
#[derive(Clone, Debug)]
pub(super) enum Ask {
    /// A batch of `records` whose bytes follow from `number`.
    Write {
        number: u64,
        records: u32,
        len: usize,
    },
    /// As `Write`, answered as soon as it is in the leader's log.
    WriteEarly { number: u64 },
    /// As `Write`, answered only by apply.
    WriteAtApply { number: u64 },
    /// Joins the youngest entry that is on its way.
    Again,
    /// Answered at once.
    Peek,
    /// Note that something was lost.
    Loss,
    /// Forget up to here.
    Trim(LogIndex),
}

/// What a book answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) index: LogIndex,
    pub(super) offset: Offset,
}

/// State: a hash over all that was applied, and how much that was.
#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) hash: u64,
    pub(super) count: u64,
    pub(super) applied: LogIndex,
    pub(super) overlay: BTreeMap<LogIndex, Offset>,
    pub(super) told: (LogIndex, Offset, Offset),
    pub(super) role: (Role, Term, bool, Option<ReplicaId>),
    /// Where something was lost, since the last restore.
    pub(super) losses: Vec<Offset>,
    /// Entries applied since the last restore.
    pub(super) digests: BTreeMap<u64, u64>,
}

fn value(number: u64, len: usize) -> Vec<u8> {
    let mut value = number.to_le_bytes().to_vec();
    value.extend((0..len as u64).map(|at| mix(number ^ (at << 32)) as u8));
    value
}

fn batch(number: u64, count: u32, len: usize, seat: Seat) -> RecordBatch {
    let mut builder = BatchBuilder::new(256 + len);
    let value = value(number, len);
    for _ in 0..count {
        let value = Some(&value[..]);
        let draft = RecordDraft {
            key: None,
            value,
            headers: &[],
            timestamp_us: 1,
            id: None,
        };
        builder.push(&draft).unwrap();
    }
    let identity = BatchIdentity {
        producer_id: ProducerId::new(1),
        epoch: ProducerEpoch::new(0),
        base_sequence: Sequence::new(number),
        topic_hash: 0,
    };
    builder.finish(identity).stamp(stamp(seat))
}

fn stamp(seat: Seat) -> Stamp {
    Stamp {
        base_offset: seat.next_offset,
        term: seat.term,
        append_time: seat.append_time,
        group: seat.group,
    }
}

/// The content of a data entry is what its number says.
fn verify(entry: &Entry) {
    let (batch, payload) = (&entry.batch, entry.batch.payload());
    let number = batch.base_sequence().get();
    for record in records(&payload, batch.record_count(), batch.base_timestamp_us()) {
        let found = record.unwrap().value.unwrap();
        assert_eq!(found, value(number, found.len() - 8), "content damaged");
    }
}

impl Book {
    fn write(&mut self, batch: RecordBatch, seat: Seat, now: bool) -> Admission<Receipt> {
        self.overlay.insert(seat.index, seat.next_offset);
        let receipt = Receipt {
            index: seat.index,
            offset: seat.next_offset,
        };
        Admission::Append {
            batch,
            reply: now.then_some(receipt),
            early: false,
        }
    }
}

impl StateMachine for Book {
    type Proposal = Ask;
    type Reply = Receipt;

    fn size(proposal: &Ask) -> usize {
        match proposal {
            Ask::Write { records, len, .. } => 160 + *records as usize * (len + 32),
            _ => 160,
        }
    }

    fn admit(&mut self, proposal: Ask, seat: Seat) -> Admission<Receipt> {
        assert!(self.role.2, "only a ready leader admits");
        match proposal {
            Ask::Write {
                number,
                records,
                len,
            } => self.write(batch(number, records, len, seat), seat, true),
            Ask::WriteEarly { number } => {
                let mut admission = self.write(batch(number, 1, 8, seat), seat, true);
                if let Admission::Append { early, .. } = &mut admission {
                    *early = true;
                }
                admission
            }
            Ask::WriteAtApply { number } => self.write(batch(number, 1, 8, seat), seat, false),
            Ask::Again => match self.overlay.last_key_value() {
                Some((&index, &offset)) => Admission::Join {
                    index,
                    reply: Receipt { index, offset },
                },
                None => Admission::Answer(Receipt {
                    index: self.applied,
                    offset: Offset::ZERO,
                }),
            },
            Ask::Peek => Admission::Answer(Receipt {
                index: self.applied,
                offset: seat.next_offset,
            }),
            Ask::Trim(_) | Ask::Loss => {
                let record = match proposal {
                    Ask::Trim(up_to) => ControlRecord::Trim { up_to },
                    _ => ControlRecord::DataLoss {
                        from: seat.next_offset,
                    },
                };
                let batch = control_batch(&record, stamp(seat)).unwrap();
                let receipt = Receipt {
                    index: seat.index,
                    offset: seat.next_offset,
                };
                Admission::Append {
                    batch,
                    reply: Some(receipt),
                    early: false,
                }
            }
        }
    }

    fn apply(&mut self, entry: &Entry) -> Applied<Receipt> {
        assert!(
            self.applied.get() == 0 || entry.index == self.applied.next(),
            "applied once, in order"
        );
        self.applied = entry.index;
        let digest = u64::from(entry.batch.header_crc()) << 32 | u64::from(entry.batch.body_crc());
        self.digests.insert(
            entry.index.get(),
            mix(digest ^ u64::from(entry.kind.to_byte())),
        );
        self.hash =
            mix(self.hash ^ mix(entry.index.get()) ^ digest ^ u64::from(entry.kind.to_byte()));
        self.overlay.remove(&entry.index);
        let mut trim = None;
        match entry.kind {
            EntryKind::Data => {
                verify(entry);
                self.count += u64::from(entry.batch.record_count());
            }
            EntryKind::Control => match ControlRecord::decode(&entry.batch).unwrap() {
                ControlRecord::Trim { up_to } => trim = Some(up_to),
                ControlRecord::DataLoss { from } => self.losses.push(from),
                _ => {}
            },
            EntryKind::Blank | EntryKind::Membership => {}
        }
        let reply = Some(Receipt {
            index: entry.index,
            offset: entry.batch.base_offset(),
        });
        Applied { reply, trim }
    }

    fn committed(&mut self, commit: LogIndex, high_watermark: Offset, log_start: Offset) {
        assert!(commit >= self.told.0, "commit never moves back");
        assert!(
            high_watermark >= self.told.1,
            "the high watermark never moves back"
        );
        assert!(log_start >= self.told.2, "the log start never moves back");
        self.told = (commit, high_watermark, log_start);
    }

    fn role_changed(&mut self, role: Role, term: Term, ready: bool, leader: Option<ReplicaId>) {
        if role != Role::Leader || term != self.role.1 {
            self.overlay.clear();
        }
        self.role = (role, term, ready, leader);
    }

    fn loss(&self) -> Option<Ask> {
        Some(Ask::Loss)
    }

    fn checkpoint(&self) -> Bytes {
        let mut out = self.hash.to_le_bytes().to_vec();
        out.extend(self.count.to_le_bytes());
        out.extend(self.applied.get().to_le_bytes());
        out.into()
    }

    fn restore(&mut self, state: &[u8]) -> Result<(), RestoreError> {
        *self = Self::default();
        if state.is_empty() {
            return Ok(());
        }
        let number = |at: usize| u64::from_le_bytes(state[at..at + 8].try_into().unwrap());
        (self.hash, self.count, self.applied) = (number(0), number(8), LogIndex::new(number(16)));
        Ok(())
    }
}

/// The group of all tests.
pub(super) const GROUP: GroupId = GroupId::new(7);

/// Time that only moves when told to.
pub(super) fn time(micros: u64) -> HybridTime {
    HybridTime::from_parts(micros, 0)
}
