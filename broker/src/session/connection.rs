//! One client connection after its greeting, until its end.
//!
//! The connection's own task answers the control stream, accepts streams and keeps the deadline;
//! each further stream has a task. A stream that panics ends its connection and nobody else's.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use quorate_protocol::Bounded;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::GoAway;
use quorate_protocol::GoAwayReason;
use quorate_protocol::Message;
use quorate_protocol::ProducerId;
use quorate_protocol::SessionId;
use quorate_protocol::StreamOpen;
use quorate_protocol::StreamType;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Operation;
use crate::auth::PrincipalKey;
use crate::auth::permits;
use crate::session::admin;
use crate::session::control::Control;
use crate::session::credit::Budget;
use crate::session::credit::Lease;
use crate::session::lifetime::Lifetime;
use crate::session::produce;
use crate::session::read;
use crate::session::service::Service;
use crate::session::stream::Refusal;
use crate::session::stream::Stop;
use crate::session::stream::Stream;
use crate::session::subscribe;
use crate::transport::Connection;
use crate::transport::ConnectionLost;

/// Priorities of streams: higher ones are sent first.
const PRODUCE_PRIORITY: i32 = 6;
const SUBSCRIBE_PRIORITY: i32 = 4;
const ADMIN_PRIORITY: i32 = 3;
const READ_PRIORITY: i32 = 2;
/// How long this broker may be behind another one that has given out a producer id.
const HEARSAY_INTERVAL: Duration = Duration::from_millis(10);
const HEARSAY_LOOKS: usize = 100;
/// How much of a client's text is logged.
const LOGGED_CHARACTERS_MAX: usize = 256;
/// How long the last word to a client may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the greeting established.
#[derive(Debug)]
pub(super) struct Established {
    /// The session's name in logs, here and at the client.
    pub(super) id: SessionId,
    /// The largest batch the client takes.
    pub(super) batch_bytes_max: u32,
    /// When the connection ends.
    pub(super) lifetime: Lifetime,
}

/// One established client connection.
pub(super) struct Session {
    service: Arc<Service>,
    connection: Connection,
    established: Established,
    principal: PrincipalKey,
    budget: Arc<Budget>,
    streams: TaskTracker,
    ending: CancellationToken,
    over: CancellationToken,
    go_away: watch::Sender<Option<GoAway>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.established.id)
            .finish_non_exhaustive()
    }
}

/// Why a connection is over.
#[derive(Debug)]
pub(super) enum End {
    /// It is gone already.
    Lost(ConnectionLost),
    /// The client closed its control stream.
    Left,
    /// The client broke a rule where that ends the connection.
    Broken {
        /// Which.
        code: ErrorCode,
        /// For people.
        detail: String,
    },
    /// Its time was over, or the broker's.
    Over(Refusal),
}

impl Session {
    /// A connection whose greeting succeeded.
    pub(super) fn new(
        service: Arc<Service>,
        connection: Connection,
        established: Established,
    ) -> Arc<Self> {
        Arc::new(Self {
            principal: connection.principal().key(),
            budget: Budget::new(service.limits().connection_credit_bytes.get()),
            service,
            connection,
            established,
            streams: TaskTracker::new(),
            ending: CancellationToken::new(),
            over: CancellationToken::new(),
            go_away: watch::Sender::new(None),
        })
    }

    /// Serves the connection until it is gone.
    pub(super) async fn run(self: Arc<Self>, stream: Stream) {
        let _guard = PanicGuard(&self);
        let control = Control::new(Arc::clone(&self), stream);
        let end = tokio::select! {
            lost = self.accept_streams() => End::Lost(lost),
            end = control.run() => end,
            () = self.live() => End::Over(self.farewell()),
        };
        self.close(end);
        self.ending.cancel();
        self.streams.close();
        self.streams.wait().await;
    }

    fn close(&self, end: End) {
        let session = self.established.id;
        match end {
            End::Lost(lost) => {
                let reason = printable(&lost.to_string());
                tracing::info!(%session, reason, "client disconnected");
            }
            End::Left => {
                self.connection.close(ErrorCode::OK, "");
                let reason = "it closed its control stream";
                tracing::info!(%session, reason, "client disconnected");
            }
            End::Broken { code, detail } => {
                self.connection.close(code, &detail);
                tracing::warn!(%session, %code, detail, "client disconnected: it broke a rule");
            }
            End::Over(Refusal { code, detail, .. }) => {
                // A broker that shuts down in good order is no error.
                let close = if code == ErrorCode::DRAINING {
                    ErrorCode::OK
                } else {
                    code
                };
                self.connection.close(close, &detail);
                tracing::info!(%session, reason = detail, "client disconnected");
            }
        }
    }

    /// Accepts streams until the connection is lost.
    async fn accept_streams(self: &Arc<Self>) -> ConnectionLost {
        loop {
            match self.connection.accept_stream().await {
                Ok((sender, receiver)) => {
                    let stream = Stream { sender, receiver };
                    self.streams.spawn(Arc::clone(self).serve_stream(stream));
                }
                Err(lost) => return lost,
            }
        }
    }

    /// Keeps the session's deadline and the broker's: tells the client, lets its streams finish,
    /// then has the control stream say goodbye.
    async fn live(&self) {
        let Lifetime { notice_after, .. } = self.established.lifetime;
        let deadline = tokio::select! {
            deadline = self.service.drained() => {
                self.tell_to_go(GoAwayReason::DRAINING, deadline);
                deadline
            }
            () = tokio::time::sleep(notice_after) => {
                let notice = self.established.lifetime.notice();
                self.tell_to_go(GoAwayReason::SESSION_DEADLINE, notice);
                tokio::time::sleep(notice).await;
                FAREWELL
            }
        };
        self.ending.cancel();
        self.streams.close();
        // What is not finished by then is cut off with the connection.
        drop(tokio::time::timeout(deadline, self.streams.wait()).await);
        self.over.cancel();
        tokio::time::sleep(FAREWELL).await;
    }

    fn tell_to_go(&self, reason: GoAwayReason, deadline: Duration) {
        let deadline_ms = u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX);
        self.go_away.send_replace(Some(GoAway {
            reason,
            deadline_ms,
            prefer: Bounded::clipped(self.successors()),
        }));
    }

    /// Where the client is to go; clients spread over the other brokers.
    fn successors(&self) -> Vec<BrokerId> {
        let mut others = self.service.successors();
        let turn = usize::try_from(self.established.id.get() & 0xffff).unwrap_or_default();
        let start = turn % others.len().max(1);
        others.rotate_left(start);
        others
    }

    async fn serve_stream(self: Arc<Self>, mut stream: Stream) {
        let _guard = PanicGuard(&self);
        let session = self.established.id;
        match self.dispatch(&mut stream).await {
            Ok(()) | Err(Stop::Gone) => {}
            Err(Stop::Reject(refusal)) => {
                tracing::debug!(%session, code = %refusal.code, detail = refusal.detail, "stream refused");
                // The client may be gone before it hears of it.
                drop(stream.reject(*refusal).await);
            }
            Err(Stop::Fault { code, detail }) => {
                tracing::debug!(%session, %code, detail, "stream broken off");
                stream.abort(code);
            }
        }
    }

    async fn dispatch(self: &Arc<Self>, stream: &mut Stream) -> Result<(), Stop> {
        let Some(frame) = stream.receiver.next().await? else {
            return Ok(());
        };
        let open = StreamOpen::decode_frame(&frame.header, &frame.body)?;
        if self.ending.is_cancelled() {
            return Err(self.farewell().into());
        }
        match open.stream {
            StreamType::PRODUCE => {
                stream.sender.set_priority(PRODUCE_PRIORITY);
                produce::serve(self, &open, stream).await
            }
            StreamType::SUBSCRIBE => {
                stream.sender.set_priority(SUBSCRIBE_PRIORITY);
                subscribe::serve(self, &open, stream).await
            }
            StreamType::READ => {
                stream.sender.set_priority(READ_PRIORITY);
                read::serve(self, &open, stream).await
            }
            StreamType::ADMIN => {
                stream.sender.set_priority(ADMIN_PRIORITY);
                admin::serve(self, stream).await
            }
            other => {
                let detail = format!("stream type {other:?} is not known");
                Err(Refusal::new(ErrorCode::INVALID_ARGUMENT, detail).into())
            }
        }
    }

    /// Runs something for the client, no longer than its streams.
    pub(super) fn spawn(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let session = Arc::clone(self);
        self.streams.spawn(async move {
            let _guard = PanicGuard(&session);
            work.await;
        });
    }

    /// What this connection shares with all others.
    pub(super) fn service(&self) -> &Arc<Service> {
        &self.service
    }

    /// The session's name in logs.
    pub(super) fn id(&self) -> SessionId {
        self.established.id
    }

    /// Who the client is.
    pub(super) fn principal(&self) -> PrincipalKey {
        self.principal
    }

    /// Changes when the client is to move elsewhere.
    pub(super) fn go_away(&self) -> watch::Receiver<Option<GoAway>> {
        self.go_away.subscribe()
    }

    /// How a client went whose control stream broke: with its connection, or just so.
    pub(super) async fn departure(&self) -> End {
        match tokio::time::timeout(Duration::ZERO, self.connection.closed()).await {
            Ok(lost) => End::Lost(lost),
            Err(_) => End::Left,
        }
    }

    /// Resolves when streams are to finish what they have begun.
    pub(super) async fn ending(&self) {
        self.ending.cancelled().await;
    }

    /// Resolves when all streams are finished and only the control stream is left.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Why streams are ending.
    pub(super) fn farewell(&self) -> Refusal {
        if self.service.is_draining() {
            Refusal::new(ErrorCode::DRAINING, "the broker is shutting down")
        } else {
            Refusal::new(
                ErrorCode::SESSION_EXPIRED,
                "the session has reached its greatest age",
            )
        }
    }

    /// Time since a fixed point.
    pub(super) fn monotonic(&self) -> Duration {
        self.service.clock().monotonic()
    }

    /// A window for one more producer stream; `None` when the broker's memory is promised.
    pub(super) fn lease(&self) -> Option<Lease> {
        let window_max = self.service.limits().producer_credit_bytes.get();
        Lease::open(&self.budget, self.service.memory(), window_max)
    }

    /// How much to read at once for a client that takes `bytes`.
    pub(super) fn page_bytes(&self, bytes: u64) -> usize {
        let bytes = bytes.min(u64::from(self.established.batch_bytes_max));
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// Whether the client may do this.
    pub(super) fn check_permission(&self, operation: Operation) -> Result<(), Refusal> {
        if permits(self.connection.principal(), operation) {
            return Ok(());
        }
        let detail = format!(
            "{} may not do this: {operation:?}",
            self.connection.principal()
        );
        Err(Refusal::new(ErrorCode::AUTHORIZATION_FAILED, detail))
    }

    /// Whether a producer id was given to this client's principal. An id that nobody here has heard
    /// of may have been given out by another broker a moment ago.
    pub(super) async fn check_owner(&self, producer: ProducerId) -> Result<(), Refusal> {
        let mut owner = self.service.owner_of(producer);
        for _ in 0..HEARSAY_LOOKS {
            if owner.is_some() {
                break;
            }
            tokio::time::sleep(HEARSAY_INTERVAL).await;
            owner = self.service.owner_of(producer);
        }
        if owner == Some(self.principal) {
            return Ok(());
        }
        let detail = format!("producer {producer} was not given to this principal");
        Err(Refusal::new(ErrorCode::AUTHORIZATION_FAILED, detail))
    }
}

/// Text that may come from a client, fit for the log.
pub(super) fn printable(text: &str) -> String {
    text.escape_debug().take(LOGGED_CHARACTERS_MAX).collect()
}

/// Ends the connection when one of its tasks panics.
struct PanicGuard<'a>(&'a Session);

impl Drop for PanicGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let session = self.0.established.id;
            tracing::error!(%session, "a task of this connection panicked; the connection ends");
            self.0
                .connection
                .close(ErrorCode::INTERNAL, "internal error, logged at the broker");
        }
    }
}
