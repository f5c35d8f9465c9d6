//! Following a partition's leader: whom to try, when to ask others about it, when to try again.

use std::sync::Arc;

use quorate_protocol::Bounded;
use quorate_protocol::BrokerId;
use quorate_protocol::MetadataRequest;
use quorate_protocol::Op;
use quorate_protocol::Text;
use tokio::time::timeout;

use crate::backoff::random;
use crate::connection::Rejected;
use crate::core::Core;
use crate::core::PATIENCE;
use crate::core::PROBE_LIMIT;
use crate::error::Error;
use crate::error::Result;
use crate::retry::Retry;
use crate::topology::Elsewhere;
use crate::topology::Spot;
use crate::topology::Tried;

impl Core {
    /// Waits before the next attempt with a partition: not at all if somebody leads in a new term,
    /// or if another broker is named and redirects are not too many; never longer than that.
    pub(crate) async fn before_next(
        &self,
        spot: Spot<'_>,
        tried: &Tried,
        error: &Error,
        named: Option<BrokerId>,
        retry: &mut Retry,
    ) {
        let elsewhere = self.topology.redirect(spot, tried, named);
        match elsewhere {
            Elsewhere::Renewed => return,
            Elsewhere::Named if retry.hop(self.clock.monotonic()) => return,
            Elsewhere::Named => {}
            Elsewhere::Nobody => self.topology.doubt(spot.name, tried.seen),
        }
        let wait = retry.wait(random());
        let time = tokio::time::sleep(error.retry_after().unwrap_or(wait));
        let renewed = self.topology.renewed(spot, tried.term);
        tokio::pin!(time, renewed);
        tokio::select! {
            () = &mut time => return,
            () = &mut renewed => return,
            _ = self.topology.moved(spot, tried.leader), if elsewhere == Elsewhere::Nobody => {}
        }
        if !retry.hop(self.clock.monotonic()) {
            tokio::select! {
                () = time => {}
                () = renewed => {}
            }
        }
    }

    /// Waits for `work` that needs `leader` to answer, unless another broker is known to lead: it
    /// is asked about while the answer is late.
    pub(crate) async fn while_led<T>(
        self: &Arc<Self>,
        spot: Spot<'_>,
        leader: BrokerId,
        work: impl Future<Output = Result<T, Rejected>>,
    ) -> Result<T, Rejected> {
        let probing = async {
            loop {
                tokio::time::sleep(PATIENCE).await;
                self.probe(spot.name, leader);
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            now = self.topology.moved(spot, Some(leader)) => Err(Rejected::moved(now)),
            () = probing => Err(Rejected::moved(leader)),
        }
    }

    /// Somebody waits for `broker` on this topic and hears nothing: does it still lead there?
    pub(crate) fn probe(self: &Arc<Self>, name: &str, broker: BrokerId) {
        self.pool.suspect(broker);
        if !self.probing.lock().insert(name.to_owned()) {
            return;
        }
        let (core, name) = (Arc::clone(self), name.to_owned());
        self.tracker.spawn(async move {
            let cancel = core.cancel.clone();
            let asked = timeout(PROBE_LIMIT, core.ask_another(&name, broker));
            // Without an answer the next look asks again.
            let _asked = tokio::select! {
                asked = asked => asked.is_ok(),
                () = cancel.cancelled() => false,
            };
            core.probing.lock().remove(&name);
        });
    }

    async fn ask_another(&self, name: &str, broker: BrokerId) -> Result<()> {
        let Some(link) = self.pool.other_than(broker) else {
            return Ok(());
        };
        let question = MetadataRequest {
            topics: Bounded::clipped([Text::clipped(name)]),
            create: false,
        };
        let reply = link.request(Op::METADATA, &question, PROBE_LIMIT).await?;
        self.learn(name, &reply);
        Ok(())
    }
}
