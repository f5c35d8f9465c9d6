//! Keeps a client's connections as its handles need them: at least one, two brokers while it
//! produces or follows, and each told which topics it wants to hear of.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_protocol::Bounded;
use quorate_protocol::MetadataReply;
use quorate_protocol::MetadataRequest;
use quorate_protocol::Op;
use quorate_protocol::Text;

use crate::backoff::Backoff;
use crate::backoff::random;
use crate::connection::Link;
use crate::pool::BROKERS_KEPT;
use crate::pool::Pool;
use crate::topology::Topology;

/// A client that is closed sooner never needs a second broker.
const SETTLE: Duration = Duration::from_millis(100);
/// Topics in one question.
const NAMES_MAX: usize = 1024;

/// The task that looks after a client's connections.
#[derive(Debug)]
pub(crate) struct Keeper {
    pool: Arc<Pool>,
    topology: Arc<Topology>,
    /// Another broker is being dialled, or was in vain a moment ago.
    seeking: Arc<AtomicBool>,
}

impl Keeper {
    pub(crate) fn new(pool: &Arc<Pool>, topology: &Arc<Topology>) -> Self {
        Self {
            pool: Arc::clone(pool),
            topology: Arc::clone(topology),
            seeking: Arc::default(),
        }
    }

    /// Runs until the client is closed.
    pub(crate) async fn run(self) {
        let cancel = self.pool.cancel.clone();
        tokio::select! {
            () = self.keep() => {}
            () = cancel.cancelled() => {}
        }
    }

    async fn keep(&self) {
        let options = &self.pool.options;
        let mut backoff = Backoff::new(options.reconnect_min, options.reconnect_max);
        loop {
            self.pool.wake.notified().await;
            // With a connection, news and state stay current.
            if let Err(error) = self.pool.any().await {
                tracing::warn!(%error, "not reconnecting");
                continue;
            }
            self.tell_topics();
            if !self.wants_another() {
                backoff.reset();
            } else if !self.seeking.swap(true, Ordering::Relaxed) {
                let after = match backoff.attempts() {
                    0 => SETTLE,
                    _ => backoff.next(random()),
                };
                let _counted = backoff.next(0);
                let seeking = Arc::clone(&self.seeking);
                self.pool
                    .tracker
                    .spawn(seek(Arc::clone(&self.pool), seeking, after));
            }
        }
    }

    /// Whether too few brokers are connected for what the client does.
    fn wants_another(&self) -> bool {
        let used = self.pool.users.load(Ordering::Relaxed) > 0;
        let links = self.pool.links.lock();
        let wanted = links.brokers.len().min(BROKERS_KEPT);
        used && links.sound().len() < wanted && links.has_unconnected()
    }

    /// Asks each broker for the topics it does not yet know this client to use: from then on it
    /// tells when they change.
    fn tell_topics(&self) {
        let names = self.topology.names();
        let live = self.pool.links.lock().live.clone();
        for link in live {
            let untold = link.untold(&names);
            for names in untold.chunks(NAMES_MAX) {
                let asking = ask(
                    Arc::clone(&self.pool),
                    Arc::clone(&self.topology),
                    Arc::clone(&link),
                    names.to_vec(),
                );
                self.pool.tracker.spawn(asking);
            }
        }
    }
}

/// Makes a connection with one more broker, after a while.
async fn seek(pool: Arc<Pool>, seeking: Arc<AtomicBool>, after: Duration) {
    let cancel = pool.cancel.clone();
    let sought = async {
        tokio::time::sleep(after).await;
        pool.another().await
    };
    tokio::select! {
        sought = sought => if let Err(error) = sought {
            tracing::debug!(%error, "no connection with another broker");
        },
        () = cancel.cancelled() => return,
    }
    seeking.store(false, Ordering::Relaxed);
    pool.wake_keeper();
}

async fn ask(pool: Arc<Pool>, topology: Arc<Topology>, link: Arc<Link>, names: Vec<String>) {
    let question = MetadataRequest {
        topics: Bounded::clipped(names.iter().map(|name| Text::clipped(name))),
        create: false,
    };
    let timeout = pool.options.request_timeout;
    let asked = link.request::<MetadataReply>(Op::METADATA, &question, timeout);
    match asked.await {
        Ok(reply) => {
            pool.learn_brokers(&reply.brokers);
            topology.learn(&reply);
        }
        Err(error) => {
            tracing::debug!(%error, "a broker was not told of topics");
            link.forget_told(&names);
        }
    }
}
