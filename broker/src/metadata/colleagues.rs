//! The other brokers as group 0 sees them: who holds which of its replicas, and how to ask them.
//!
//! Before the metadata can be read, what the data folder was founded with stands in for it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::Op;
use quorate_protocol::ReplicaId;

use crate::config::PeerSeed;
use crate::metadata::founding::Founding;
use crate::metadata::machine::View;
use crate::metadata::topology::Broker;
use crate::metadata::topology::Topology;
use crate::peers::Member;
use crate::peers::PeerError;
use crate::peers::Peers;
use crate::peers::Reach;

/// All brokers but this one.
#[derive(Debug, Clone)]
pub(super) struct Colleagues {
    pub(super) me: BrokerId,
    pub(super) peers: Option<Peers>,
    pub(super) view: Arc<View>,
    pub(super) founding: Arc<Founding>,
}

impl Colleagues {
    /// The replicas of group 0 and who holds them.
    pub(super) fn holders(&self) -> Vec<(ReplicaId, BrokerId)> {
        let topology = self.topology();
        if topology.brokers().is_empty() {
            return self.founding.holders();
        }
        let brokers = topology.brokers().iter();
        brokers.map(|(id, broker)| (broker.replica, *id)).collect()
    }

    /// Who holds a replica of group 0.
    pub(super) fn broker_of(&self, replica: ReplicaId) -> Option<BrokerId> {
        let holders = self.holders();
        let held = holders.iter().find(|(held, _)| *held == replica);
        held.map(|(_, broker)| *broker)
    }

    /// Everybody else.
    pub(super) fn others(&self) -> Vec<BrokerId> {
        let holders = self.holders().into_iter();
        let brokers = holders.map(|(_, broker)| broker);
        brokers.filter(|broker| *broker != self.me).collect()
    }

    /// The brokers of the cluster, for whoever connects to them.
    pub(super) fn members(&self) -> Vec<Member> {
        let topology = self.topology();
        if topology.brokers().is_empty() {
            return members_of(&self.founding.seeds);
        }
        let brokers = topology.brokers().iter();
        let member = |(id, broker): (&BrokerId, &Broker)| Member {
            id: *id,
            name: broker.name.clone(),
            address: broker.peer_address.clone(),
            storage: broker.storage,
        };
        brokers.map(member).collect()
    }

    /// Asks another broker.
    pub(super) async fn request(
        &self,
        to: BrokerId,
        op: Op,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, PeerError> {
        match &self.peers {
            Some(peers) => peers.request(to, op, body, deadline).await,
            None => Err(PeerError {
                code: ErrorCode::LEADER_UNKNOWN,
                detail: "this broker is alone".to_owned(),
                sent: false,
            }),
        }
    }

    /// Those that do not answer, with the reasons: for people who wait.
    pub(super) fn absent(&self) -> String {
        let Some(peers) = &self.peers else {
            return String::new();
        };
        let states = peers.states();
        let states = states.borrow();
        let others = self.others().into_iter();
        let absent = others.filter_map(|other| {
            let state = states.get(&other);
            if state.is_some_and(|state| state.state == Reach::Up) {
                return None;
            }
            let refused = state.and_then(|state| state.refused.as_deref());
            Some(format!(
                "broker {other} ({})",
                refused.unwrap_or("no connection")
            ))
        });
        absent.collect::<Vec<_>>().join(", ")
    }

    fn topology(&self) -> Arc<Topology> {
        Arc::clone(&self.view.topology.borrow())
    }
}

/// Brokers of which no more is known than where they should be.
pub(crate) fn members_of(seeds: &[PeerSeed]) -> Vec<Member> {
    let member = |seed: &PeerSeed| Member {
        id: seed.id,
        name: seed.name.clone(),
        address: seed.address.clone(),
        storage: None,
    };
    seeds.iter().map(member).collect()
}
