//! Making connections: whom to dial, in which order, and what becomes of the answer.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::BrokerId;
use quorate_protocol::ErrorClass;
use quorate_protocol::ErrorCode;
use tokio::task::JoinSet;

use crate::backoff::random;
use crate::connection::Dialled;
use crate::connection::Link;
use crate::error::Error;
use crate::error::Result;
use crate::event::Event;
use crate::pool::Links;
use crate::pool::Pool;
use crate::pool::State;

/// How long the first server may be silent before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(100);

impl Pool {
    /// One attempt with every server.
    pub(crate) async fn connect_once(self: &Arc<Self>) -> Result<Arc<Link>> {
        let _one_at_a_time = self.dialling.lock().await;
        self.attempt().await
    }

    /// A connection with whichever broker; waits as long as it takes.
    pub(crate) async fn any(self: &Arc<Self>) -> Result<Arc<Link>> {
        if let Some(link) = self.usable(None) {
            return Ok(link);
        }
        let mut backoff = self.dialling.lock().await;
        loop {
            if let Some(link) = self.usable(None) {
                return Ok(link);
            }
            self.refuse_known_identity()?;
            match self.attempt().await {
                Ok(link) => {
                    backoff.reset();
                    return Ok(link);
                }
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => {
                    let wait = backoff.next(random());
                    let attempt = backoff.attempts();
                    self.state.send_replace(State::Reconnecting);
                    self.events.publish(Event::Reconnecting { attempt, error });
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.cancel.cancelled() => return Err(Error::closed("client")),
                    }
                }
            }
        }
    }

    /// A connection with this broker; one attempt.
    pub(super) async fn to(self: &Arc<Self>, broker: BrokerId) -> Result<Arc<Link>> {
        if let Some(link) = self.usable(Some(broker)) {
            return Ok(link);
        }
        let dial = self.dial_lock(broker);
        let _one_at_a_time = dial.lock().await;
        if let Some(link) = self.usable(Some(broker)) {
            return Ok(link);
        }
        self.dial_broker(broker).await
    }

    pub(super) fn dial_lock(&self, broker: BrokerId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.links.lock().dials.entry(broker).or_default())
    }

    pub(super) async fn dial_broker(self: &Arc<Self>, broker: BrokerId) -> Result<Arc<Link>> {
        self.refuse_known_identity()?;
        let known = self.links.lock().brokers.get(&broker).cloned();
        let Some(known) = known else {
            let message = format!("the address of broker {broker} is not known");
            return Err(Error::new(ErrorCode::STALE_TOPOLOGY, message));
        };
        self.race(vec![known.client_address.into_string()]).await
    }

    /// Tries every known address once.
    async fn attempt(self: &Arc<Self>) -> Result<Arc<Link>> {
        let addresses = self.links.lock().addresses(&self.options.servers);
        self.race(addresses).await
    }

    /// A connection with one more broker.
    pub(super) async fn another(self: &Arc<Self>) -> Result<Arc<Link>> {
        self.refuse_known_identity()?;
        let addresses = self.links.lock().addresses_elsewhere();
        self.race(addresses).await
    }

    /// Dials in this order, the later ones beside a silent first; takes whoever answers first.
    async fn race(self: &Arc<Self>, addresses: Vec<String>) -> Result<Arc<Link>> {
        let mut addresses = addresses.into_iter();
        let mut dials = JoinSet::new();
        let mut last = Error::new(ErrorCode::CONNECT, "no server is known")
            .with_help("set client.servers, such as quorate://host:4747");
        let mut more = true;
        loop {
            if let Some(address) = addresses.next().filter(|_| more) {
                let pool = Arc::clone(self);
                dials.spawn(async move {
                    let dialled = pool.dialer.dial(&address).await;
                    pool.links.lock().note_dial(&address, dialled.is_ok());
                    dialled
                });
            } else {
                more = false;
            }
            let finished = tokio::select! {
                finished = dials.join_next() => finished,
                () = tokio::time::sleep(STAGGER), if more => continue,
                () = self.cancel.cancelled() => return Err(Error::closed("client")),
            };
            match finished {
                Some(Ok(Err(error))) if !is_final(&error) => last = error,
                Some(Ok(dialled)) => return self.adopt(dialled),
                Some(Err(_)) => {}
                None if more => {}
                None => return Err(last),
            }
        }
    }

    /// Takes a new connection in and keeps it running; or remembers a refusal.
    fn adopt(self: &Arc<Self>, dialled: Result<Dialled>) -> Result<Arc<Link>> {
        let dialled = match dialled {
            Ok(dialled) => dialled,
            Err(error) => {
                self.remember_refusal(&error);
                return Err(error);
            }
        };
        let link = Arc::clone(&dialled.link);
        self.learn_brokers(&dialled.ack.brokers);
        {
            let mut links = self.links.lock();
            links.refused = None;
            links.live.push(Arc::clone(&link));
        }
        self.state.send_replace(State::Connected);
        self.events.publish(Event::Connected {
            address: Arc::clone(&link.address),
            broker: link.broker,
        });
        self.tracker
            .spawn(Arc::clone(self).run(Arc::clone(&link), dialled));
        self.wake_keeper();
        Ok(link)
    }

    /// Serves a connection until it ends.
    async fn run(self: Arc<Self>, link: Arc<Link>, dialled: Dialled) {
        let serving = dialled.serve();
        tokio::pin!(serving);
        let error = tokio::select! {
            error = &mut serving => error,
            () = link.draining.cancelled() => {
                self.goes_away(&link);
                serving.await
            }
        };
        self.remove(&link, error);
    }

    pub(super) fn remember_refusal(&self, error: &Error) {
        if !is_final(error) {
            return;
        }
        if let Ok(fingerprint) = self.dialer.identity_fingerprint() {
            self.links.lock().refused = Some((fingerprint, error.clone()));
            self.state.send_replace(State::Refused);
        }
    }

    /// The earlier refusal, if the identity files are still the same.
    fn refuse_known_identity(&self) -> Result<()> {
        if self.cancel.is_cancelled() {
            return Err(Error::closed("client"));
        }
        let refused = self.links.lock().refused.clone();
        match refused {
            Some((fingerprint, error)) if self.dialer.identity_fingerprint()? == fingerprint => {
                Err(error)
            }
            _ => Ok(()),
        }
    }
}

impl Links {
    /// Where to dial: whom a leaving broker named, then configured servers and other brokers from
    /// a random place on, and what failed last at the end.
    fn addresses(&self, servers: &[String]) -> Vec<String> {
        let mut all = servers.to_vec();
        all.extend(self.brokers.keys().filter_map(|id| self.address_of(*id)));
        self.in_order(all)
    }

    /// The same of brokers without a connection.
    fn addresses_elsewhere(&self) -> Vec<String> {
        let others = self.unconnected().filter_map(|id| self.address_of(id));
        self.in_order(others.collect())
    }

    fn address_of(&self, broker: BrokerId) -> Option<String> {
        let address = self.brokers.get(&broker)?.client_address.as_str();
        (!address.is_empty()).then(|| address.to_owned())
    }

    fn in_order(&self, mut all: Vec<String>) -> Vec<String> {
        let start = usize::try_from(random()).unwrap_or_default() % all.len().max(1);
        all.rotate_left(start);
        let preferred = self.preferred.iter().filter_map(|id| self.address_of(*id));
        let preferred: Vec<_> = preferred.collect();
        let rank = |address: &String| {
            let named = preferred.iter().position(|named| named == address);
            (self.failed.contains(address), named.unwrap_or(usize::MAX))
        };
        all.sort_by_key(rank);
        let mut seen = BTreeSet::new();
        all.retain(|address| seen.insert(address.clone()));
        all
    }

    fn note_dial(&mut self, address: &str, answered: bool) {
        if answered {
            self.failed.remove(address);
        } else {
            self.failed.insert(address.to_owned());
        }
    }
}

/// Whether another attempt with the same identity is pointless.
fn is_final(error: &Error) -> bool {
    let code = error.code();
    code.class() == ErrorClass::Auth
        || code == ErrorCode::UNSUPPORTED_VERSION
        || code == ErrorCode::WRONG_CLUSTER
        || code == ErrorCode::IDENTITY_FILES
}

#[cfg(test)]
mod tests {
    use quorate_protocol::BrokerInfo;
    use quorate_protocol::Text;

    use super::*;

    fn links(brokers: u16) -> Links {
        let mut links = Links::default();
        for number in 1..=brokers {
            let id = BrokerId::new(number);
            let info = BrokerInfo {
                id,
                name: Text::default(),
                client_address: Text::clipped(&format!("b{number}:1")),
            };
            links.brokers.insert(id, info);
        }
        links
    }

    #[test]
    fn whom_a_leaving_broker_names_is_dialled_first_and_what_failed_last() {
        let mut links = links(4);
        links.preferred = vec![BrokerId::new(3), BrokerId::new(2)];
        links.note_dial("b1:1", false);
        let servers = ["b1:1".to_owned(), "x:1".to_owned()];
        for _ in 0..20 {
            let order = links.addresses(&servers);
            assert_eq!(order.len(), 5);
            assert_eq!(order[..2], ["b3:1", "b2:1"]);
            assert_eq!(order[4], "b1:1");
        }
        links.note_dial("b3:1", false);
        assert_eq!(links.addresses(&servers)[0], "b2:1");
        links.note_dial("b3:1", true);
        assert_eq!(links.addresses(&servers)[0], "b3:1");
    }
}
