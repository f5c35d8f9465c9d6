//! A leader whose log is damaged: it hands over first, then it ends like any other replica.

use quorate_protocol::ReplicaId;

use crate::replication::machine::StateMachine;
use crate::replication::shard::Halt;
use crate::replication::shard::replica::Replica;

impl<M: StateMachine> Replica<M> {
    /// Ends the replica: at once, or as soon as somebody else could have taken over.
    pub(super) fn doom(&mut self, halt: Halt) -> Result<(), Halt> {
        if self.doomed.is_some() {
            return Ok(());
        }
        let Some(heir) = self.heir() else {
            return Err(halt);
        };
        let patience = u64::try_from(self.raw.raft.election_timeout()).unwrap_or(u64::MAX);
        self.doomed = Some((halt, self.ticks.saturating_add(patience)));
        self.transfer(heir)
    }

    /// Whoever needs nothing that might be damaged here, and has the most.
    fn heir(&self) -> Option<ReplicaId> {
        if !self.is_leader() {
            return None;
        }
        let seen = self.inspect();
        let others = seen.progress.iter().filter(|member| {
            let voter = seen.membership.voters.contains(&member.replica);
            voter && member.replica != self.identity.replica
        });
        let able = others.filter(|member| member.active && member.matched >= seen.commit);
        able.max_by_key(|member| member.matched)
            .map(|member| member.replica)
    }

    /// The end, once there is nothing left to hand over.
    pub(super) fn meet_doom(&mut self) -> Result<(), Halt> {
        let (leads, now) = (self.is_leader(), self.ticks);
        let due = self.doomed.take_if(|(_, at)| !leads || now >= *at);
        due.map_or(Ok(()), |(halt, _)| Err(halt))
    }
}
