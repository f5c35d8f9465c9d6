//! Brings this broker's commands into the log of group 0, one after another, each with one effect,
//! whoever leads and however often that changes.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::Blob;
use quorate_protocol::Body;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::GroupTag;
use quorate_protocol::Op;
use quorate_protocol::PeerForward;
use quorate_protocol::PeerForwarded;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::metadata::colleagues::Colleagues;
use crate::metadata::command::Command;
use crate::metadata::command::Origin;
use crate::metadata::command::Stamped;
use crate::metadata::encoding::decode_outcome;
use crate::metadata::error::MetadataError;
use crate::metadata::machine::MetadataMachine;
use crate::metadata::machine::Proposal;
use crate::metadata::state::Effect;
use crate::metadata::state::State;
use crate::partition::codec::Reader;
use crate::peers::PeerError;
use crate::replication::Failure;
use crate::replication::Group;
use crate::replication::Role;

/// How long a command is tried, by whichever leader.
const PROPOSE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long one broker may take to answer a forwarded command.
const FORWARD_TIME_MAX: Duration = Duration::from_secs(2);
/// The first and the longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// Numbers and sends what this broker wants changed.
pub(super) struct Proposer {
    incarnation: u64,
    tag: GroupTag,
    group: Group<MetadataMachine>,
    colleagues: Colleagues,
    /// The number of the last command. Held while one is under way: the state remembers no more
    /// than the newest of each broker.
    last: Mutex<u64>,
}

impl fmt::Debug for Proposer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proposer")
            .field("incarnation", &self.incarnation)
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

/// What became of one attempt.
enum Attempt {
    /// The command stands in the log, with this effect.
    Settled(Result<Effect, MetadataError>),
    /// This attempt can never succeed, and another one is of no use.
    Hopeless(MetadataError),
    /// Another attempt may succeed. `open`: this one may still.
    Again { why: MetadataError, open: bool },
    /// Somebody else is said to lead.
    Elsewhere(BrokerId),
}

/// The attempts so far.
struct Trial {
    why: MetadataError,
    /// An attempt may have succeeded unheard, or still may.
    open: bool,
    hint: Option<BrokerId>,
    turn: usize,
    pause: Duration,
}

impl Proposer {
    pub(super) fn new(
        incarnation: u64,
        group: Group<MetadataMachine>,
        colleagues: Colleagues,
    ) -> Self {
        Self {
            incarnation,
            tag: colleagues.founding.tag(),
            group,
            colleagues,
            last: Mutex::new(0),
        }
    }

    /// This broker's replica of group 0.
    pub(super) const fn group(&self) -> &Group<MetadataMachine> {
        &self.group
    }

    /// The incarnation of group 0.
    pub(super) const fn tag(&self) -> GroupTag {
        self.tag
    }

    pub(super) const fn colleagues(&self) -> &Colleagues {
        &self.colleagues
    }

    /// Who leads group 0, as far as this broker knows.
    pub(super) fn leader(&self) -> Option<BrokerId> {
        let leader = self.group.status().leader?;
        self.colleagues.broker_of(leader)
    }

    /// Whether a command of this life of the broker is in a state.
    pub(super) fn has_spoken(&self, state: &State) -> bool {
        let last = state.proposers.get(&self.colleagues.me);
        last.is_some_and(|last| last.incarnation == self.incarnation)
    }

    /// Brings one command into the log. Cancel safe: dropped, it may have been brought or not.
    ///
    /// # Errors
    /// The command was refused, or it is not known within the time whether it was accepted.
    pub(super) async fn propose(&self, command: &Command) -> Result<Effect, MetadataError> {
        let mut trial = Trial::new();
        let tried = timeout(
            PROPOSE_TIME_MAX,
            self.try_until_settled(command, &mut trial),
        )
        .await;
        tried.unwrap_or_else(|_| Err(trial.into_error()))
    }

    async fn try_until_settled(
        &self,
        command: &Command,
        trial: &mut Trial,
    ) -> Result<Effect, MetadataError> {
        let mut last = self.last.lock().await;
        *last += 1;
        let origin = Origin {
            broker: self.colleagues.me,
            incarnation: self.incarnation,
            sequence: *last,
        };
        let stamped = Bytes::from(Stamped::encode(origin, command));
        let mut status = self.group.watch();
        loop {
            status.mark_unchanged();
            // Whoever is interrupted in an attempt does not know how it ends.
            let open = std::mem::replace(&mut trial.open, true);
            let attempt = self.attempt(&stamped, trial).await;
            trial.open = open;
            match attempt {
                Attempt::Settled(outcome) => return outcome,
                Attempt::Hopeless(why) => return Err(trial.given_up(why)),
                Attempt::Elsewhere(leader) => trial.hint = Some(leader),
                Attempt::Again { why, open } => trial.failed(why, open),
            }
            // Whoever is elected is worth an attempt at once.
            drop(timeout(trial.pause, status.changed()).await);
            trial.pause = (trial.pause * 2).min(PAUSES.1);
        }
    }

    async fn attempt(&self, stamped: &Bytes, trial: &mut Trial) -> Attempt {
        if self.group.status().role == Role::Leader {
            return match self.propose_here(stamped.clone()).await {
                Ok(outcome) => Attempt::Settled(outcome),
                Err(failure) => Attempt::of_failure(&failure),
            };
        }
        let known = trial.hint.take().or_else(|| self.leader());
        let others = self.colleagues.others();
        let next = || others.get(trial.turn.checked_rem(others.len())?).copied();
        let Some(to) = known.filter(|to| *to != self.colleagues.me).or_else(next) else {
            return Attempt::Again {
                why: leaderless(),
                open: false,
            };
        };
        trial.turn = trial.turn.wrapping_add(1);
        self.forward(to, stamped).await
    }

    async fn forward(&self, to: BrokerId, stamped: &Bytes) -> Attempt {
        let command = match Blob::new(stamped.clone()) {
            Ok(command) => command,
            Err(error) => {
                let detail = format!("the metadata command cannot be forwarded: {error}");
                return Attempt::Hopeless(MetadataError::invalid(detail));
            }
        };
        let body = PeerForward { command }.to_bytes();
        let asked = self
            .colleagues
            .request(to, Op::PEER_FORWARD, body, FORWARD_TIME_MAX)
            .await;
        match asked.map(|answer| PeerForwarded::from_bytes(&answer)) {
            Ok(Ok(forwarded)) => Attempt::of_answer(&forwarded),
            Ok(Err(error)) => Attempt::Again {
                why: MetadataError::new(ErrorCode::MALFORMED, error.to_string()),
                open: true,
            },
            Err(error) => Attempt::of_peer(to, error),
        }
    }

    /// Proposes a stamped command to this broker's replica; the outcome is that of the command.
    pub(super) async fn propose_here(
        &self,
        stamped: Bytes,
    ) -> Result<Result<Effect, MetadataError>, Failure> {
        let ticket = self.group.propose(Proposal::command(stamped)).await?;
        Ok(ticket.await?.into_outcome())
    }
}

impl Attempt {
    fn of_failure(failure: &Failure) -> Self {
        let why = MetadataError::of_failure(failure);
        match failure {
            Failure::NotLeader { .. } | Failure::NotReady => Self::Again { why, open: false },
            Failure::Unknown => Self::Again { why, open: true },
            _ => Self::Hopeless(why),
        }
    }

    fn of_peer(to: BrokerId, error: PeerError) -> Self {
        let detail = format!("broker {to}: {}", error.detail);
        Self::Again {
            why: MetadataError::new(error.code, detail),
            open: error.sent,
        }
    }

    fn of_answer(answer: &PeerForwarded) -> Self {
        let effect = answer.effect.as_bytes();
        if answer.code.is_ok() {
            let mut reader = Reader::new(effect);
            return match decode_outcome(&mut reader) {
                Ok(outcome) => Self::Settled(outcome),
                Err(error) => Self::Again {
                    why: MetadataError::new(ErrorCode::MALFORMED, error.to_string()),
                    open: true,
                },
            };
        }
        if answer.code == ErrorCode::NOT_LEADER
            && let Ok(leader) = Reader::new(effect).u16()
        {
            return Self::Elsewhere(BrokerId::new(leader));
        }
        let why = MetadataError::new(answer.code, answer.detail.as_str().to_owned());
        match answer.code {
            ErrorCode::LEADER_UNKNOWN | ErrorCode::LEADER_NOT_READY | ErrorCode::DRAINING => {
                Self::Again { why, open: false }
            }
            ErrorCode::AMBIGUOUS_COMMIT => Self::Again { why, open: true },
            _ => Self::Hopeless(why),
        }
    }
}

impl Trial {
    fn new() -> Self {
        Self {
            why: leaderless(),
            open: false,
            hint: None,
            turn: 0,
            pause: PAUSES.0,
        }
    }

    fn failed(&mut self, why: MetadataError, open: bool) {
        self.why = why;
        self.open |= open;
    }

    /// What is known when one attempt ended for good: an earlier one may still succeed.
    fn given_up(&self, why: MetadataError) -> MetadataError {
        match self.open {
            true => MetadataError::new(ErrorCode::AMBIGUOUS_COMMIT, why.detail),
            false => why,
        }
    }

    /// What is known when the time is over.
    fn into_error(self) -> MetadataError {
        let code = match self.open {
            true => ErrorCode::AMBIGUOUS_COMMIT,
            false => ErrorCode::LEADER_UNKNOWN,
        };
        let detail = format!(
            "the metadata group did not answer in time: {}",
            self.why.detail
        );
        MetadataError::new(code, detail)
    }
}

fn leaderless() -> MetadataError {
    let detail = "nobody is known to lead the metadata group".to_owned();
    MetadataError::new(ErrorCode::LEADER_UNKNOWN, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_stand_in_the_log_is_never_said_to_have_failed() {
        let full = || MetadataError::new(ErrorCode::DISK_FULL, "no room".to_owned());
        let mut trial = Trial::new();
        assert_eq!(trial.given_up(full()).code, ErrorCode::DISK_FULL);
        trial.failed(leaderless(), false);
        assert_eq!(trial.given_up(full()).code, ErrorCode::DISK_FULL);
        trial.failed(leaderless(), true);
        trial.failed(leaderless(), false);
        assert_eq!(trial.given_up(full()).code, ErrorCode::AMBIGUOUS_COMMIT);
        assert_eq!(trial.into_error().code, ErrorCode::AMBIGUOUS_COMMIT);
    }
}
