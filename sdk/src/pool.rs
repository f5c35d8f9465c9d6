//! The connections of one client: made when needed, replaced when lost, without end.
//!
//! Invariant: one dial at a time; after a refusal of class 05 nobody dials again until the
//! identity files change.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use quorate_protocol::BrokerId;
use quorate_protocol::BrokerInfo;
use quorate_protocol::ErrorClass;
use quorate_protocol::ErrorCode;
use quorate_protocol::HelloAck;
use quorate_protocol::StreamOpen;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff::Backoff;
use crate::backoff::random;
use crate::config::ClientOptions;
use crate::connection::Dialer;
use crate::connection::Dialled;
use crate::connection::Link;
use crate::connection::Rejected;
use crate::connection::Stream;
use crate::error::Error;
use crate::error::Result;
use crate::event::Event;
use crate::event::EventBus;

/// How long the first server may be silent before the next one is tried beside it.
const STAGGER: Duration = Duration::from_millis(250);

/// How a client stands with its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Connected with at least one broker.
    Connected,
    /// Connected with none; attempts go on.
    Reconnecting,
    /// Refused; nothing is tried until the identity files change.
    Refused,
    /// Closed.
    Closed,
}

/// The client's connections.
#[derive(Debug)]
pub(crate) struct Pool {
    dialer: Dialer,
    options: ClientOptions,
    events: EventBus,
    tracker: TaskTracker,
    cancel: CancellationToken,
    state: watch::Sender<State>,
    links: Mutex<Links>,
    dialling: tokio::sync::Mutex<Backoff>,
    lost: Notify,
}

#[derive(Debug, Default)]
struct Links {
    live: Vec<Arc<Link>>,
    brokers: BTreeMap<BrokerId, BrokerInfo>,
    /// The identity that was refused, and how.
    refused: Option<(u64, Error)>,
}

impl Pool {
    pub(crate) fn new(
        dialer: Dialer,
        options: ClientOptions,
        events: EventBus,
        tracker: TaskTracker,
        cancel: CancellationToken,
    ) -> Self {
        let backoff = Backoff::new(options.reconnect_min, options.reconnect_max);
        Self {
            dialer,
            options,
            events,
            tracker,
            cancel,
            state: watch::Sender::new(State::Reconnecting),
            links: Mutex::default(),
            dialling: tokio::sync::Mutex::new(backoff),
            lost: Notify::new(),
        }
    }

    pub(crate) fn state(&self) -> State {
        *self.state.borrow()
    }

    pub(crate) fn brokers(&self) -> Vec<BrokerInfo> {
        self.links.lock().brokers.values().cloned().collect()
    }

    pub(crate) fn learn_brokers(&self, brokers: &[BrokerInfo]) {
        let mut links = self.links.lock();
        for broker in brokers {
            links.brokers.insert(broker.id, broker.clone());
        }
    }

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
    async fn to(self: &Arc<Self>, broker: BrokerId) -> Result<Arc<Link>> {
        if let Some(link) = self.usable(Some(broker)) {
            return Ok(link);
        }
        let _one_at_a_time = self.dialling.lock().await;
        if let Some(link) = self.usable(Some(broker)) {
            return Ok(link);
        }
        self.dial_broker(broker).await
    }

    async fn dial_broker(self: &Arc<Self>, broker: BrokerId) -> Result<Arc<Link>> {
        self.refuse_known_identity()?;
        let known = self.links.lock().brokers.get(&broker).cloned();
        let Some(known) = known else {
            let message = format!("the address of broker {broker} is not known");
            return Err(Error::new(ErrorCode::STALE_TOPOLOGY, message));
        };
        let dialled = self.dialer.dial(known.client_address.as_str()).await;
        self.adopt(dialled)
    }

    /// Opens a stream with `broker`, or with any if none is named. A connection whose streams are
    /// used up gets a sibling.
    pub(crate) async fn open(
        self: &Arc<Self>,
        broker: Option<BrokerId>,
        open: &StreamOpen,
        priority: i32,
    ) -> Result<Stream, Rejected> {
        let (link, slot) = self.place(broker).await?;
        let timeout = self.options.request_timeout;
        match tokio::time::timeout(timeout, link.open(slot, open, priority)).await {
            Ok(opened) => opened,
            Err(_) => {
                let message = format!("{} did not answer a new stream in time", link.address);
                Err(Error::new(ErrorCode::TIMEOUT, message).into())
            }
        }
    }

    /// A connection with room for one more stream, and the room.
    pub(crate) async fn place(
        self: &Arc<Self>,
        broker: Option<BrokerId>,
    ) -> Result<(Arc<Link>, tokio::sync::OwnedSemaphorePermit)> {
        let link = match broker {
            Some(broker) => self.to(broker).await?,
            None => self.any().await?,
        };
        if let Some(slot) = link.try_slot() {
            return Ok((link, slot));
        }
        let _one_at_a_time = self.dialling.lock().await;
        if let Some(place) = self.with_room(link.broker) {
            return Ok(place);
        }
        let link = self.dial_broker(link.broker).await?;
        let slot = link.try_slot().ok_or_else(|| link.end_error())?;
        Ok((link, slot))
    }

    fn with_room(
        &self,
        broker: BrokerId,
    ) -> Option<(Arc<Link>, tokio::sync::OwnedSemaphorePermit)> {
        let links = self.links.lock();
        let mut usable = links
            .live
            .iter()
            .filter(|link| link.broker == broker && link.is_usable());
        usable.find_map(|link| Some((Arc::clone(link), link.try_slot()?)))
    }

    fn usable(&self, broker: Option<BrokerId>) -> Option<Arc<Link>> {
        let links = self.links.lock();
        let mut usable = links.live.iter().filter(|link| link.is_usable());
        usable
            .find(|link| broker.is_none_or(|broker| link.broker == broker))
            .cloned()
    }

    /// Tries every known address once, the later ones beside a silent first.
    async fn attempt(self: &Arc<Self>) -> Result<Arc<Link>> {
        let mut addresses = self.addresses().into_iter();
        let mut dials = JoinSet::new();
        let mut last = Error::new(ErrorCode::CONNECT, "no server is known")
            .with_help("set client.servers, such as quorate://host:4747");
        let mut more = true;
        loop {
            if let Some(address) = addresses.next().filter(|_| more) {
                let pool = Arc::clone(self);
                dials.spawn(async move { pool.dialer.dial(&address).await });
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

    /// Where to dial: configured servers, then the other brokers, from a random place on.
    fn addresses(&self) -> Vec<String> {
        let mut all = self.options.servers.clone();
        for broker in self.links.lock().brokers.values() {
            let address = broker.client_address.as_str();
            if !address.is_empty() && !all.iter().any(|known| known == address) {
                all.push(address.to_owned());
            }
        }
        let start = usize::try_from(random()).unwrap_or_default() % all.len().max(1);
        all.rotate_left(start);
        all
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
        self.learn(&link, &dialled.ack);
        self.state.send_replace(State::Connected);
        self.events.publish(Event::Connected {
            address: Arc::clone(&link.address),
            broker: link.broker,
        });
        let pool = Arc::clone(self);
        let served = Arc::clone(&link);
        self.tracker.spawn(async move {
            let error = dialled.serve().await;
            pool.remove(&served, error);
        });
        Ok(link)
    }

    fn learn(&self, link: &Arc<Link>, ack: &HelloAck) {
        self.learn_brokers(&ack.brokers);
        let mut links = self.links.lock();
        links.refused = None;
        links.live.push(Arc::clone(link));
    }

    fn remove(&self, link: &Arc<Link>, error: Error) {
        let left = {
            let mut links = self.links.lock();
            links.live.retain(|live| !Arc::ptr_eq(live, link));
            links.live.len()
        };
        if self.cancel.is_cancelled() {
            return;
        }
        self.remember_refusal(&error);
        if left == 0 && self.state() == State::Connected {
            self.state.send_replace(State::Reconnecting);
        }
        let address = Arc::clone(&link.address);
        self.events.publish(Event::Disconnected { address, error });
        self.lost.notify_one();
    }

    /// Reconnects when the last connection is gone, so that news and state stay current.
    pub(crate) async fn keep_connected(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.lost.notified() => {}
                () = self.cancel.cancelled() => return,
            }
            if let Err(error) = self.any().await {
                tracing::warn!(%error, "not reconnecting");
            }
        }
    }

    fn remember_refusal(&self, error: &Error) {
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

    /// Closes every connection.
    pub(crate) async fn close(&self) {
        self.state.send_replace(State::Closed);
        let links = std::mem::take(&mut self.links.lock().live);
        for link in links {
            link.close("closed by the client");
        }
        self.dialer.close().await;
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
