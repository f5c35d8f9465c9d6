//! The connections of one client: made when needed, replaced when lost, without end.
//!
//! Invariant: one dial at a time to each broker, and none waits for another's; after a refusal of
//! class 05 nobody dials again until the identity files change.

mod dialling;
mod keeper;

pub(crate) use keeper::Keeper;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use quorate_protocol::BrokerId;
use quorate_protocol::BrokerInfo;
use quorate_protocol::ErrorCode;
use quorate_protocol::StreamOpen;
use tokio::sync::Notify;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backoff::Backoff;
use crate::config::ClientOptions;
use crate::connection::Dialer;
use crate::connection::Link;
use crate::connection::Rejected;
use crate::connection::Stream;
use crate::error::Error;
use crate::error::Result;
use crate::event::Event;
use crate::event::EventBus;

/// A client that produces or follows keeps connections with this many brokers, if there are.
const BROKERS_KEPT: usize = 2;

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
    /// Producers and subscriptions.
    users: AtomicUsize,
    /// The keeper has something to look at.
    wake: Notify,
}

#[derive(Debug, Default)]
struct Links {
    live: Vec<Arc<Link>>,
    brokers: BTreeMap<BrokerId, BrokerInfo>,
    /// One dial at a time to each.
    dials: BTreeMap<BrokerId, Arc<tokio::sync::Mutex<()>>>,
    /// Addresses that failed last: tried after the others.
    failed: BTreeSet<String>,
    /// Where a broker that goes away sends its clients, best first.
    preferred: Vec<BrokerId>,
    /// The identity that was refused, and how.
    refused: Option<(u64, Error)>,
}

impl Links {
    fn usable(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.live.iter().filter(|link| link.is_usable())
    }

    /// The brokers with a connection that nothing speaks against.
    fn sound(&self) -> BTreeSet<BrokerId> {
        let sound = self.usable().filter(|link| !link.is_suspect());
        sound.map(|link| link.broker).collect()
    }

    /// Whether there is a broker without a connection.
    fn has_unconnected(&self) -> bool {
        self.unconnected().next().is_some()
    }

    fn unconnected(&self) -> impl Iterator<Item = BrokerId> {
        let connected = |id: &BrokerId| self.usable().any(|link| link.broker == *id);
        let unconnected = move |id: &BrokerId| !connected(id);
        self.brokers.keys().copied().filter(unconnected)
    }
}

/// Somebody who needs more than one broker; until dropped.
#[derive(Debug)]
pub(crate) struct User {
    pool: Arc<Pool>,
}

impl Drop for User {
    fn drop(&mut self) {
        self.pool.users.fetch_sub(1, Ordering::Relaxed);
    }
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
            users: AtomicUsize::new(0),
            wake: Notify::new(),
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

    /// Notes a producer or subscription: while there are any, two brokers are kept connected.
    pub(crate) fn enter(self: &Arc<Self>) -> User {
        self.users.fetch_add(1, Ordering::Relaxed);
        self.wake.notify_one();
        User {
            pool: Arc::clone(self),
        }
    }

    /// The keeper looks whether connections or topics are missing somewhere.
    pub(crate) fn wake_keeper(&self) {
        self.wake.notify_one();
    }

    /// Somebody waits for this broker in vain: others are asked first until it is heard again.
    pub(crate) fn suspect(&self, broker: BrokerId) {
        for link in self.links.lock().live.iter() {
            if link.broker == broker {
                link.suspect();
            }
        }
        self.wake.notify_one();
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
    ) -> Result<(Arc<Link>, OwnedSemaphorePermit)> {
        let link = match broker {
            Some(broker) => self.to(broker).await?,
            None => self.any().await?,
        };
        if let Some(slot) = link.try_slot() {
            return Ok((link, slot));
        }
        let dial = self.dial_lock(link.broker);
        let _one_at_a_time = dial.lock().await;
        if let Some(place) = self.with_room(link.broker) {
            return Ok(place);
        }
        let link = self.dial_broker(link.broker).await?;
        let slot = link.try_slot().ok_or_else(|| link.end_error())?;
        Ok((link, slot))
    }

    fn with_room(&self, broker: BrokerId) -> Option<(Arc<Link>, OwnedSemaphorePermit)> {
        let links = self.links.lock();
        let mut usable = links.usable().filter(|link| link.broker == broker);
        usable.find_map(|link| Some((Arc::clone(link), link.try_slot()?)))
    }

    fn usable(&self, broker: Option<BrokerId>) -> Option<Arc<Link>> {
        let links = self.links.lock();
        let fits = |link: &&Arc<Link>| broker.is_none_or(|broker| link.broker == broker);
        let sound = links
            .usable()
            .filter(|link| !link.is_suspect())
            .find(fits)
            .cloned();
        sound.or_else(|| links.usable().find(fits).cloned())
    }

    /// A connection with another broker than this one, if there is one now.
    pub(crate) fn other_than(&self, broker: BrokerId) -> Option<Arc<Link>> {
        let links = self.links.lock();
        let mut others = links
            .usable()
            .filter(|link| link.broker != broker && !link.is_suspect());
        others.next().cloned()
    }

    /// Takes a connection out that has ended.
    fn remove(&self, link: &Arc<Link>, error: Error) {
        let left = {
            let mut links = self.links.lock();
            links.live.retain(|live| !Arc::ptr_eq(live, link));
            links.failed.insert(link.address.to_string());
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
        self.wake.notify_one();
    }

    /// A broker goes away: whoever it names is dialled first.
    fn goes_away(&self, link: &Link) {
        self.links.lock().preferred = link.successors();
        self.wake.notify_one();
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
