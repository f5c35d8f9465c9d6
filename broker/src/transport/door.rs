//! Decides about each attempt to connect, and completes those that are let in.

use std::sync::Arc;

use quinn::Endpoint;
use quinn::Incoming;
use quinn::ServerConfig;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use crate::transport::admission::Gate;
use crate::transport::admission::InFlight;
use crate::transport::admission::Verdict;
use crate::transport::connection::Established;
use crate::transport::handshake::Reception;

/// Connections that wait to be taken. Their handshakes count as in flight until then.
pub(crate) const ACCEPTED_MAX: usize = 64;

/// The task that decides about each attempt. It does nothing that takes time itself.
pub(crate) struct Door {
    pub(crate) endpoint: Endpoint,
    pub(crate) loopback: Arc<ServerConfig>,
    pub(crate) network: Arc<ServerConfig>,
    pub(crate) gate: Gate,
    pub(crate) reception: Arc<Reception>,
    pub(crate) sender: mpsc::Sender<Established>,
    pub(crate) tracker: TaskTracker,
}

impl Door {
    pub(crate) async fn run(mut self) {
        while let Some(incoming) = self.endpoint.accept().await {
            self.handle(incoming);
        }
    }

    fn handle(&mut self, incoming: Incoming) {
        let source = incoming.remote_address().ip();
        let validated = incoming.remote_address_validated();
        let now = self.reception.clock.monotonic();
        match self.gate.judge(source, validated, now) {
            Verdict::Accept(in_flight) => self.receive(incoming, in_flight),
            Verdict::Retry => {
                if let Err(error) = incoming.retry() {
                    error.into_incoming().ignore();
                }
            }
            Verdict::Ignore => incoming.ignore(),
        }
    }

    fn receive(&self, incoming: Incoming, in_flight: InFlight) {
        let remote = incoming.remote_address();
        let config = if remote.ip().to_canonical().is_loopback() {
            self.loopback.clone()
        } else {
            self.network.clone()
        };
        let reception = self.reception.clone();
        let sender = self.sender.clone();
        self.tracker.spawn(async move {
            match reception.receive(incoming, config).await {
                // Nobody listens any more if this fails.
                Ok(established) => drop(sender.send(established).await),
                Err(error) => reception.handle_refusal(remote, &error),
            }
            drop(in_flight);
        });
    }
}
