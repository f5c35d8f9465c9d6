//! The task behind one partition of a producer: finds the leader, keeps a PRODUCE stream, and
//! opens another until everything is answered.

use std::sync::Arc;

use quorate_protocol::Body;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorClass;
use quorate_protocol::ErrorCode;
use quorate_protocol::InitProducer;
use quorate_protocol::ProduceParams;
use quorate_protocol::StreamOpen;
use quorate_protocol::StreamType;

use crate::connection::PRIORITY_PRODUCE;
use crate::connection::Rejected;
use crate::connection::Stream;
use crate::connection::milliseconds;
use crate::core::Core;
use crate::error::Error;
use crate::error::Result;
use crate::event::Event;
use crate::level::AckLevel;
use crate::producer::lane::Lane;
use crate::producer::pump::Stall;
use crate::producer::pump::pump;
use crate::producer::pump::while_expiring;
use crate::retry::Retry;
use crate::topology::Tried;

/// Serves a lane until its producer is closed and everything is answered.
pub(super) async fn run(lane: Arc<Lane>) {
    let cancel = lane.common.cancel.clone();
    tokio::select! {
        () = serve(&lane) => {}
        () = cancel.cancelled() => {
            let whole = lane.common.core.cancel.is_cancelled();
            let error = Error::closed(if whole { "client" } else { "producer" });
            lane.close(error.clone());
            lane.fail_all(&error);
        }
    }
}

/// Whether a lane needs another identity.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Renew {
    /// It does not.
    #[default]
    No,
    /// What was in flight is given up.
    GivingUp,
    /// What is in flight is sent under it.
    Keeping,
}

/// One attempt to serve a lane.
#[derive(Debug, Default)]
struct Attempt {
    /// Under the old identity a sequence would be missing.
    renew: Renew,
    tried: Tried,
}

async fn serve(lane: &Arc<Lane>) {
    let core = &lane.common.core;
    let _user = core.pool.enter();
    let mut retry = Retry::new(core.options.client.reconnect_max);
    let mut attempt = Attempt::default();
    while wait_for_work(lane).await {
        let ended = match open(lane, &mut attempt).await {
            Ok(stream) => {
                let (since, before) = (core.clock.monotonic(), lane.answers());
                let ended = pump(lane, stream).await;
                let lasted = core.clock.monotonic().saturating_sub(since);
                retry.ended(lane.answers() != before, lasted);
                match ended {
                    Ok(()) => return,
                    Err(ended) => ended,
                }
            }
            Err(rejected) => rejected,
        };
        let error = ended.error.at(&lane.place);
        match error.code().class() {
            // What a leader had receipted and not replicated was lost with it, as level `leader`
            // allows; the sequence goes on without it.
            ErrorClass::Fenced if attempt.tried.leader.is_some() && lost_receipts(lane, &error) => {
                attempt.renew = Renew::Keeping;
                pause(lane, &error, ended.leader, &attempt, &mut retry).await;
            }
            ErrorClass::Fenced => {
                lane.close(error.clone());
                lane.fail_all(&error);
                return;
            }
            _ if is_final(&error) => {
                core.topology.forget(&lane.place.topic);
                lane.fail_all(&error);
                attempt.renew = Renew::GivingUp;
            }
            _ => {
                if lane.common.level == AckLevel::None {
                    // Nothing is sent twice, so nothing in flight has another chance.
                    lane.fail_in_flight(&error);
                    attempt.renew = Renew::GivingUp;
                }
                pause(lane, &error, ended.leader, &attempt, &mut retry).await;
            }
        }
    }
}

/// Whether trying again is pointless.
fn is_final(error: &Error) -> bool {
    let code = error.code();
    !code.is_retryable()
        && matches!(
            code.class(),
            ErrorClass::Fault | ErrorClass::Auth | ErrorClass::Data
        )
        || matches!(
            code,
            ErrorCode::IDENTITY_FILES | ErrorCode::CLOSED | ErrorCode::TLS
        )
}

/// Waits until there is something to send; false when nothing will come.
async fn wait_for_work(lane: &Lane) -> bool {
    loop {
        let woken = lane.wake.notified();
        if lane.has_work() {
            return true;
        }
        if lane.is_closed() {
            return false;
        }
        woken.await;
    }
}

/// Waits before the next attempt, while what is too old expires.
async fn pause(
    lane: &Lane,
    error: &Error,
    named: Option<BrokerId>,
    attempt: &Attempt,
    retry: &mut Retry,
) {
    let core = &lane.common.core;
    if error.code().class() == ErrorClass::Throttled {
        core.events.publish(Event::Throttled {
            topic: Arc::clone(&lane.place.topic),
            partition: lane.place.partition,
            error: error.clone(),
        });
    }
    let waiting = core.before_next(lane.spot(), &attempt.tried, error, named, retry);
    while_expiring(lane, &mut Stall::default(), waiting).await;
}

/// Opens a stream with the partition's leader.
async fn open(lane: &Lane, attempt: &mut Attempt) -> Result<Stream, Rejected> {
    let opening = async {
        let core = &lane.common.core;
        attempt.tried = Tried::default();
        start_over(lane, core, attempt.renew).await?;
        attempt.renew = Renew::No;
        let topic = core.topic(&lane.place.topic, false).await?;
        if topic.id != lane.common.topic_id {
            let message = "the topic was deleted and created again; open a new producer";
            return Err(Error::new(ErrorCode::UNKNOWN_PRODUCER, message).into());
        }
        attempt.tried = core.topology.attempt(lane.spot());
        let Some(leader) = attempt.tried.leader else {
            return Err(Error::new(ErrorCode::LEADER_UNKNOWN, "it has no leader now").into());
        };
        let open = stream_open(lane, core);
        let opening = core.pool.open(Some(leader), &open, PRIORITY_PRODUCE);
        let opened = core.while_led(lane.spot(), leader, opening).await;
        opened.map_err(Rejected::unless_behind)
    };
    while_expiring(lane, &mut Stall::default(), opening).await
}

/// Whether records were receipted that the log does not have: nothing later can be in it then.
fn lost_receipts(lane: &Lane, error: &Error) -> bool {
    let gap = matches!(
        error.code(),
        ErrorCode::OUT_OF_ORDER_SEQUENCE | ErrorCode::UNKNOWN_PRODUCER
    );
    gap && lane.common.level == AckLevel::Leader && lane.answers() > 0
}

/// Takes a new identity: under the old one a sequence would be missing.
async fn start_over(lane: &Lane, core: &Core, renew: Renew) -> Result<()> {
    if renew == Renew::No || lane.window.lock().is_fresh() {
        return Ok(());
    }
    let question = InitProducer {
        name: lane.common.name.clone(),
        resume: None,
    };
    let granted = core.init_producer(&question).await?;
    if renew == Renew::Keeping {
        return lane.window.lock().renew(granted);
    }
    let given_up = lane.window.lock().start_over(granted);
    for sent in given_up {
        lane.common.room.give(sent.cost);
    }
    Ok(())
}

fn stream_open(lane: &Lane, core: &Core) -> StreamOpen {
    let window = lane.window.lock();
    let params = ProduceParams {
        producer: window.producer(),
        epoch: window.epoch(),
    };
    StreamOpen {
        stream: StreamType::PRODUCE,
        topic: lane.common.topic_id,
        partition: lane.place.partition,
        topology_epoch: core.topology.epoch(),
        deadline_ms: milliseconds(core.options.client.request_timeout),
        on_behalf_of: None,
        params: params.to_blob().unwrap_or_default(),
    }
}
