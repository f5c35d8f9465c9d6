//! Reads that must not be stale: a majority confirms the leader before they are served.
//!
//! One question per turn serves all readers that came until then. The engine forgets its questions
//! when the role changes; they are asked again or refused here.

use std::collections::VecDeque;

use quorate_protocol::LogIndex;

use crate::replication::machine::{Role, StateMachine};
use crate::replication::shard::replica::Replica;
use crate::replication::ticket::{Answer, Failure};

/// Readers by how far they got.
#[derive(Debug, Default)]
pub(super) struct Reads {
    waiting: Vec<Answer<()>>,
    asked: VecDeque<(u64, Vec<Answer<()>>)>,
    /// Confirmed: served once everything up to the index is applied.
    confirmed: VecDeque<(LogIndex, Vec<Answer<()>>)>,
    questions: u64,
}

impl Reads {
    /// The next question, if somebody waits for an answer.
    fn ask(&mut self) -> Option<u64> {
        if self.waiting.is_empty() {
            return None;
        }
        self.questions += 1;
        let readers = std::mem::take(&mut self.waiting);
        self.asked.push_back((self.questions, readers));
        Some(self.questions)
    }

    /// A question was answered, and with it all before it.
    fn confirm(&mut self, question: u64, index: LogIndex) {
        while let Some((_, readers)) = self.asked.pop_front_if(|asked| asked.0 <= question) {
            self.confirmed.push_back((index, readers));
        }
    }

    fn serve(&mut self, applied: LogIndex) {
        while let Some((_, readers)) = self.confirmed.pop_front_if(|read| read.0 <= applied) {
            for reader in readers {
                reader.settle(Ok(()));
            }
        }
    }

    /// The questions are void, not those who asked them.
    fn ask_again(&mut self) {
        let readers = self.asked.drain(..).flat_map(|(_, readers)| readers);
        self.waiting.extend(readers);
    }

    /// Nobody can be told any more.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.ask_again();
        let confirmed = self.confirmed.drain(..).flat_map(|(_, readers)| readers);
        for reader in confirmed.chain(self.waiting.drain(..)) {
            reader.settle(Err(failure));
        }
    }
}

impl<M: StateMachine> Replica<M> {
    /// Takes a reader. It waits for a new leader to be ready, but not for a leader.
    pub(super) fn offer_read(&mut self, answer: Answer<()>) {
        match self.read_refusal() {
            Some(failure) => answer.settle(Err(failure)),
            None => self.reads.waiting.push(answer),
        }
    }

    fn read_refusal(&self) -> Option<Failure> {
        self.refusal()
            .filter(|failure| matches!(failure, Failure::NotLeader { .. }))
    }

    /// One question for all that wait. Before the leader is ready the engine would drop it.
    pub(super) fn ask_reads(&mut self) {
        if !self.standing.ready || !self.leads_as_told() {
            return;
        }
        if let Some(question) = self.reads.ask() {
            self.raw.read_index(question.to_le_bytes().to_vec());
        }
    }

    /// What the engine found out.
    pub(super) fn confirm_reads(&mut self, states: Vec<raft::ReadState>) {
        for state in states {
            let question = state.request_ctx.try_into().map(u64::from_le_bytes);
            if let Ok(question) = question {
                self.reads.confirm(question, LogIndex::new(state.index));
            }
        }
    }

    pub(super) fn serve_reads(&mut self) {
        self.reads.serve(self.applied.index);
    }

    /// The role or the term is another one.
    pub(super) fn void_reads(&mut self) {
        self.reads.ask_again();
        if self.standing.role != Role::Leader
            && let Some(failure) = self.read_refusal()
        {
            for reader in self.reads.waiting.drain(..) {
                reader.settle(Err(failure));
            }
        }
    }
}
