//! What a broker has shown of itself so far, and whether what it shows now fits. No I/O, no clock.
//!
//! Two processes that call themselves the same broker never both pass: a start older than one
//! that was seen is refused, and a process that another one has replaced stays out.

use std::collections::VecDeque;

use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::StorageId;

use crate::peers::settings::Member;

/// Replaced processes that are remembered.
const FENCED_MAX: usize = 16;

/// Why a broker is not let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) text: String,
}

/// What a broker says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) storage: StorageId,
    pub(crate) incarnation: u64,
    /// `None` where it does not say.
    pub(crate) starts: Option<u64>,
}

/// What is known of one broker's processes.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    storage: Option<StorageId>,
    incarnation: Option<u64>,
    starts: u64,
    fenced: VecDeque<u64>,
}

impl Seen {
    /// Whether a broker that shows this may be this member.
    pub(crate) fn judge(&self, member: &Member, shown: &Shown) -> Result<(), Refusal> {
        let known = member.storage.or(self.storage);
        if known.is_some_and(|known| known != shown.storage) {
            return Err(unknown_storage(member.id));
        }
        let old_start = shown.starts.is_some_and(|starts| starts < self.starts);
        if old_start || self.fenced.contains(&shown.incarnation) {
            return Err(fenced(member.id));
        }
        Ok(())
    }

    /// Believes in a data folder that no record names.
    pub(crate) fn believe(&mut self, storage: StorageId) {
        self.storage = Some(storage);
    }

    /// This process is the broker from now on; one that was before is not. True: there was one.
    pub(crate) fn admit(&mut self, shown: &Shown) -> bool {
        self.believe(shown.storage);
        self.starts = self.starts.max(shown.starts.unwrap_or_default());
        let older = self.incarnation.replace(shown.incarnation);
        let Some(older) = older.filter(|older| *older != shown.incarnation) else {
            return false;
        };
        if self.fenced.len() == FENCED_MAX {
            self.fenced.pop_front();
        }
        self.fenced.push_back(older);
        true
    }

    /// The process that is the broker.
    pub(crate) const fn incarnation(&self) -> Option<u64> {
        self.incarnation
    }

    /// The member's record names another data folder than before, or none any more. True: what
    /// was believed until now does not fit, and what is connected has to go.
    pub(crate) fn handle_record(&mut self, old: &Member, new: &Member) -> bool {
        if old.storage == new.storage {
            return false;
        }
        let fits = new.storage.is_some() && new.storage == self.storage;
        let replaced = self.storage.is_some() && !fits;
        if replaced {
            // Starts are counted for each data folder.
            (self.storage, self.starts) = (None, 0);
        }
        replaced
    }
}

fn unknown_storage(id: BrokerId) -> Refusal {
    Refusal {
        code: ErrorCode::NOT_MEMBER,
        text: format!(
            "broker {id} is known with another data folder; if its data is lost, run `quorate \
             cluster replace {id}` and start it with --replace"
        ),
    }
}

fn fenced(id: BrokerId) -> Refusal {
    Refusal {
        code: ErrorCode::INCARNATION_FENCED,
        text: format!(
            "a newer process is broker {id}; stop one of the two, and never start a broker on a \
             copy of its data folder"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(storage: Option<u128>) -> Member {
        Member {
            id: BrokerId::new(2),
            name: "two".to_owned(),
            address: String::new(),
            storage: storage.map(StorageId::new),
        }
    }

    const fn shown(storage: u128, incarnation: u64, starts: u64) -> Shown {
        Shown {
            storage: StorageId::new(storage),
            incarnation,
            starts: Some(starts),
        }
    }

    fn code(result: Result<(), Refusal>) -> Option<ErrorCode> {
        result.err().map(|refusal| refusal.code)
    }

    #[test]
    fn the_first_data_folder_is_believed_and_another_is_not() {
        let mut seen = Seen::default();
        let unrecorded = member(None);
        assert_eq!(seen.judge(&unrecorded, &shown(7, 1, 1)), Ok(()));
        seen.admit(&shown(7, 1, 1));
        let refusal = seen.judge(&unrecorded, &shown(8, 2, 1)).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::NOT_MEMBER);
        assert!(refusal.text.contains("quorate cluster replace 2"));
        let other = seen.judge(&member(Some(8)), &shown(7, 1, 1));
        assert_eq!(code(other), Some(ErrorCode::NOT_MEMBER));
    }

    #[test]
    fn a_replaced_process_stays_out_and_so_does_an_older_start() {
        let mut seen = Seen::default();
        let member = member(Some(7));
        seen.admit(&shown(7, 1, 3));
        assert_eq!(seen.judge(&member, &shown(7, 1, 3)), Ok(()), "itself again");
        assert_eq!(seen.judge(&member, &shown(7, 2, 3)), Ok(()));
        seen.admit(&shown(7, 2, 3));
        let fenced = Some(ErrorCode::INCARNATION_FENCED);
        assert_eq!(code(seen.judge(&member, &shown(7, 1, 3))), fenced);
        assert_eq!(code(seen.judge(&member, &shown(7, 9, 2))), fenced);
        assert_eq!(seen.judge(&member, &shown(7, 9, 4)), Ok(()));
    }

    #[test]
    fn a_replaced_data_folder_may_count_its_starts_anew() {
        let mut seen = Seen::default();
        seen.admit(&shown(7, 1, 30));
        assert!(!seen.handle_record(&member(None), &member(Some(7))));
        assert!(seen.handle_record(&member(Some(7)), &member(None)));
        assert_eq!(seen.judge(&member(None), &shown(8, 2, 1)), Ok(()));
        seen.admit(&shown(8, 2, 1));
        assert!(!seen.handle_record(&member(None), &member(Some(8))));
        let old = seen.judge(&member(Some(8)), &shown(7, 1, 30));
        assert_eq!(code(old), Some(ErrorCode::NOT_MEMBER));
    }

    #[test]
    fn what_is_remembered_of_replaced_processes_is_bounded() {
        let mut seen = Seen::default();
        for incarnation in 0..1_000 {
            seen.admit(&shown(7, incarnation, 1));
        }
        assert_eq!(seen.fenced.len(), FENCED_MAX);
    }
}
