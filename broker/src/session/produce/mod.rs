//! PRODUCE: batches come in, acks go out in the same order.
//!
//! Frames are read while earlier batches are still on their way to the disk. At most
//! [`IN_FLIGHT_MAX`] batches and the stream's credit bound what one producer may have here.

mod account;
mod in_flight;
mod ledger;

use std::future::poll_fn;
use std::sync::Arc;

use bytes::BytesMut;
use quorate_protocol::AckLevel;
use quorate_protocol::Bounded;
use quorate_protocol::DraftBatch;
use quorate_protocol::ErrorClass;
use quorate_protocol::ErrorCode;
use quorate_protocol::Kind;
use quorate_protocol::Message;
use quorate_protocol::Nack;
use quorate_protocol::PUBLISH_HEADER_LEN;
use quorate_protocol::ProduceParams;
use quorate_protocol::PublishHeader;
use quorate_protocol::Rewind;
use quorate_protocol::Sequence;
use quorate_protocol::StreamAccept;
use quorate_protocol::StreamOpen;
use quorate_protocol::Text;

use crate::auth::Operation;
use crate::partition::AppendError;
use crate::partition::Partition;
use crate::partition::PartitionStatus;
use crate::replication::Role;
use crate::session::connection::Session;
use crate::session::credit::Lease;
use crate::session::deadline::Alarm;
use crate::session::deadline::limited;
use crate::session::open;
use crate::session::produce::account::Account;
use crate::session::produce::account::Moved;
use crate::session::produce::in_flight::Terms;
use crate::session::produce::in_flight::failed;
use crate::session::produce::ledger::Span;
use crate::session::stream::Refusal;
use crate::session::stream::Stop;
use crate::session::stream::Stream;
use crate::transport::Frame;

/// Batches of one stream whose outcome is open. As many are remembered for duplicates.
const IN_FLIGHT_MAX: usize = 16;

/// Serves one PRODUCE stream until either side ends it.
pub(super) async fn serve(
    session: &Arc<Session>,
    opened: &StreamOpen,
    stream: &mut Stream,
) -> Result<(), Stop> {
    let (partition, params, lease) = accept(session, opened).await?;
    let account = Account::new(lease, partition.spec().committed_level());
    let PartitionStatus {
        log_start,
        high_watermark,
        ..
    } = partition.describe();
    let credit = account.window();
    let accept = StreamAccept {
        start: high_watermark,
        log_start,
        high_watermark,
        credit,
    };
    stream.send(&accept).await?;
    let producing = Producing {
        session: Arc::clone(session),
        stream,
        partition,
        params,
        account,
        alarm: Alarm::default(),
        next: Sequence::ZERO,
        phase: Phase::Open,
    };
    producing.run().await
}

/// Checks everything that can refuse the stream.
async fn accept(
    session: &Arc<Session>,
    opened: &StreamOpen,
) -> Result<(Partition, ProduceParams, Lease), Stop> {
    let params: ProduceParams = open::params(opened)?;
    let partition = open::target(session, opened, Operation::Publish)?;
    session.check_owner(params.producer).await?;
    open::await_leader(session, &partition, opened.deadline_ms).await?;
    let lease = session.lease().ok_or_else(|| {
        let detail = "the broker has no memory left for another producer stream";
        Refusal::new(ErrorCode::OVERLOADED, detail).retry_after_ms(1000)
    })?;
    Ok((partition, params, lease))
}

/// One open PRODUCE stream.
struct Producing<'a> {
    session: Arc<Session>,
    stream: &'a mut Stream,
    partition: Partition,
    params: ProduceParams,
    account: Account,
    alarm: Alarm,
    /// The sequence after the last batch; stands for batches too broken to tell theirs.
    next: Sequence,
    phase: Phase,
}

/// What is done with frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Batches are appended.
    Open,
    /// After a Nack: batches are thrown away until the producer rewinds.
    Discarding,
    /// The producer has finished; what is in flight is settled.
    Finishing,
    /// The broker ends the stream; what is in flight is settled.
    Ending,
}

enum Event {
    Moved(Moved),
    Frame(Option<Frame>),
    Overdue,
    Ending,
}

impl Producing<'_> {
    async fn run(mut self) -> Result<(), Stop> {
        loop {
            if self.account.in_flight.is_empty() && self.conclude().await? {
                return self.stream.finish().await;
            }
            match self.event().await? {
                Event::Moved(Moved::Settled) => self.send_acks().await?,
                Event::Moved(Moved::Entered) => {}
                Event::Frame(Some(frame)) => self.handle_frame(frame).await?,
                Event::Frame(None) => self.phase = Phase::Finishing,
                Event::Overdue => self.handle_overdue().await?,
                Event::Ending => self.phase = Phase::Ending,
            }
        }
    }

    /// Waits for whatever comes first; outcomes go before new work.
    async fn event(&mut self) -> Result<Event, Stop> {
        let reads = self.reads();
        let lives = self.phase != Phase::Ending;
        let Self {
            session,
            stream,
            account,
            alarm,
            ..
        } = self;
        let event = tokio::select! {
            biased;
            moved = poll_fn(|context| account.poll(context)) => Event::Moved(moved),
            () = session.ending(), if lives => Event::Ending,
            frame = stream.receiver.next(), if reads => Event::Frame(frame?),
            () = alarm.ring() => Event::Overdue,
        };
        Ok(event)
    }

    fn reads(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Discarding)
            && !self.account.ledger.has_failed()
            && self.account.in_flight.may_enter()
            && self.account.in_flight.len() < IN_FLIGHT_MAX
    }

    /// With nothing in flight: tells of a failure, and whether the stream is over.
    async fn conclude(&mut self) -> Result<bool, Stop> {
        if let Some(nack) = self.account.ledger.take_nack() {
            let nack = self.redirect(nack);
            self.stream.send(&nack).await?;
            if ends_stream(nack.code) {
                return Ok(true);
            }
            self.send_acks().await?;
            if self.phase == Phase::Open {
                self.phase = Phase::Discarding;
            }
        }
        match self.phase {
            Phase::Open | Phase::Discarding => Ok(false),
            Phase::Finishing => Ok(true),
            Phase::Ending => {
                self.stream.send(&self.farewell()).await?;
                Ok(true)
            }
        }
    }

    /// Once another broker leads, batches without an outcome are its business: the stream ends, and
    /// the producer learns there.
    fn redirect(&self, nack: Nack) -> Nack {
        let lost = matches!(
            nack.code,
            ErrorCode::AMBIGUOUS_COMMIT | ErrorCode::NOT_LEADER | ErrorCode::LEADER_UNKNOWN
        );
        if !lost || self.partition.leadership().borrow().role == Role::Leader {
            return nack;
        }
        let leader = open::leader_elsewhere(&self.session, &self.partition);
        Nack {
            code: match leader {
                Some(_) => ErrorCode::NOT_LEADER,
                None => ErrorCode::LEADER_UNKNOWN,
            },
            leader,
            retry_after_ms: 0,
            ..nack
        }
    }

    fn farewell(&self) -> Nack {
        let refusal = self.session.farewell();
        Nack {
            from_sequence: self.next,
            unproposed_sequence: self.next,
            code: refusal.code,
            detail: Text::clipped(&refusal.detail),
            leader: open::leader_elsewhere(&self.session, &self.partition),
            retry_after_ms: refusal.retry_after_ms,
            duplicates: Bounded::empty(),
        }
    }

    async fn send_acks(&mut self) -> Result<(), Stop> {
        match self.account.take_acks() {
            Some(acks) => self.stream.send(&acks).await,
            None => Ok(()),
        }
    }

    async fn handle_frame(&mut self, frame: Frame) -> Result<(), Stop> {
        match frame.header.kind {
            Kind::PUBLISH => self.handle_publish(frame.body).await,
            Kind::REWIND => {
                let rewind = Rewind::decode_frame(&frame.header, &frame.body)?;
                self.next = rewind.sequence;
                self.phase = Phase::Open;
                Ok(())
            }
            kind => Err(Stop::unexpected(kind, "PRODUCE")),
        }
    }

    async fn handle_publish(&mut self, mut body: BytesMut) -> Result<(), Stop> {
        let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
        if self.account.receive(bytes).is_err() {
            let detail = "more was published than the stream's credit allowed";
            return Err(Stop::fault(ErrorCode::CREDIT_EXCEEDED, detail));
        }
        if self.phase == Phase::Discarding {
            return self.discard(bytes).await;
        }
        let header = PublishHeader::parse(&body)?;
        let batch = body.split_off(PUBLISH_HEADER_LEN);
        self.enter(&header, batch, bytes);
        Ok(())
    }

    async fn discard(&mut self, bytes: u64) -> Result<(), Stop> {
        self.account.discard(bytes);
        if self.account.owes_credit() {
            self.send_acks().await?;
        }
        Ok(())
    }

    /// Sends a batch on its way to the partition. From here its bytes are not copied again.
    fn enter(&mut self, header: &PublishHeader, batch: BytesMut, bytes: u64) {
        let now = self.session.monotonic();
        let deadline = now.saturating_add(limited(header.deadline_ms));
        self.alarm.arm(now, deadline);
        let draft = self.check(header.level, batch);
        let span = draft.as_ref().map_or_else(
            |_| Span {
                base: self.next,
                count: 0,
            },
            |draft| Span {
                base: draft.base_sequence(),
                count: draft.record_count(),
            },
        );
        let terms = Terms {
            span,
            level: header.level,
            bytes,
            deadline,
        };
        self.next = span.end();
        match draft {
            Ok(draft) => {
                let (partition, expect) = (self.partition.clone(), header.expect_offset);
                let early = header.level <= AckLevel::LEADER;
                let append = async move { partition.append(draft, expect, early).await };
                self.account.in_flight.enter(terms, Box::pin(append));
            }
            Err(error) => self.account.in_flight.fail(terms, error),
        }
    }

    /// What can be said about a batch without its partition.
    fn check(&self, level: AckLevel, batch: BytesMut) -> Result<DraftBatch, AppendError> {
        let draft =
            DraftBatch::parse(batch).map_err(|error| failed(error.code(), &error.to_string()))?;
        let params = &self.params;
        let own = draft.producer_id() == params.producer && draft.producer_epoch() == params.epoch;
        if !own || level > AckLevel::QUORUM {
            let detail = "the batch's producer or ack level is not one of this stream";
            return Err(failed(ErrorCode::INVALID_ARGUMENT, detail));
        }
        if self.session.service().refuses_publishing() {
            return Err(failed(ErrorCode::DISK_FULL, "the broker's disk is full"));
        }
        Ok(draft)
    }

    async fn handle_overdue(&mut self) -> Result<(), Stop> {
        let now = self.session.monotonic();
        if self.account.expire(now) {
            self.send_acks().await?;
        }
        if let Some(deadline) = self.account.in_flight.deadline() {
            self.alarm.arm(now, deadline);
        }
        Ok(())
    }
}

/// Whether the producer has to open another stream, perhaps elsewhere.
fn ends_stream(code: ErrorCode) -> bool {
    let class = code.class();
    let ends = matches!(
        class,
        ErrorClass::Reroute | ErrorClass::Auth | ErrorClass::Fenced
    );
    ends && code != ErrorCode::PARTIAL_DUPLICATE
}
