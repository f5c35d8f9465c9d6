//! The control stream: requests by correlation number, pings, and what the broker tells unasked.
//!
//! Requests run at the same time, each in a task; their replies come back through a bounded queue
//! in the order they are ready.

use std::sync::Arc;

use quorate_protocol::Body;
use quorate_protocol::ErrorCode;
use quorate_protocol::GoAway;
use quorate_protocol::Kind;
use quorate_protocol::Message;
use quorate_protocol::MetadataRequest;
use quorate_protocol::Op;
use quorate_protocol::Ping;
use quorate_protocol::Pong;
use quorate_protocol::Reply;
use quorate_protocol::Request;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::metadata::Topology;
use crate::session::connection::End;
use crate::session::connection::Session;
use crate::session::leaders::News;
use crate::session::requests;
use crate::session::stream::Refusal;
use crate::session::stream::Stop;
use crate::session::stream::Stream;
use crate::session::topology;
use crate::session::topology::Interest;
use crate::transport::Frame;

/// Requests of one connection that are being answered.
const REQUESTS_MAX: usize = 64;

/// The control stream of one connection.
pub(super) struct Control {
    session: Arc<Session>,
    stream: Stream,
    running: usize,
    replies: mpsc::Receiver<Reply>,
    reply: mpsc::Sender<Reply>,
    go_away: watch::Receiver<Option<GoAway>>,
    topology: watch::Receiver<Arc<Topology>>,
    leaders: watch::Receiver<Arc<News>>,
    /// The last change of leaders the client has heard of.
    leaders_seen: u64,
    interest: Interest,
    /// What the client has seen, once it has asked for the topology.
    seen: Option<Arc<Topology>>,
}

enum Event {
    Frame(Option<Frame>),
    Reply(Reply),
    Topology,
    Leaders,
    GoAway(GoAway),
    Over,
}

impl Control {
    /// The stream the greeting was on.
    pub(super) fn new(session: Arc<Session>, stream: Stream) -> Self {
        let (reply, replies) = mpsc::channel(REQUESTS_MAX);
        let go_away = session.go_away();
        let topology = session.service().metadata().watch();
        let leaders = session.service().leader_news();
        Self {
            session,
            stream,
            running: 0,
            replies,
            reply,
            go_away,
            topology,
            leaders,
            leaders_seen: 0,
            interest: Interest::none(),
            seen: None,
        }
    }

    /// Serves the stream; its end is the connection's.
    pub(super) async fn run(mut self) -> End {
        loop {
            match self.step().await {
                Ok(None) => {}
                Ok(Some(end)) => return end,
                Err(Stop::Fault { code, detail }) => return End::Broken { code, detail },
                Err(Stop::Gone | Stop::Reject(_)) => return self.session.departure().await,
            }
        }
    }

    /// Takes one event; the connection's end, if it is that.
    async fn step(&mut self) -> Result<Option<End>, Stop> {
        let subscribed = self.seen.is_some();
        let event = tokio::select! {
            biased;
            Some(go_away) = next(&mut self.go_away) => Event::GoAway(go_away),
            frame = self.stream.receiver.next() => Event::Frame(frame?),
            Some(reply) = self.replies.recv() => Event::Reply(reply),
            Ok(()) = self.topology.changed(), if subscribed => Event::Topology,
            Ok(()) = self.leaders.changed(), if subscribed => Event::Leaders,
            () = self.session.over() => Event::Over,
        };
        match event {
            Event::Frame(Some(frame)) => self.handle_frame(&frame).await?,
            Event::Frame(None) => return Ok(Some(End::Left)),
            Event::Reply(reply) => {
                self.running -= 1;
                self.stream.send(&reply).await?;
            }
            Event::Topology => self.send_topology().await?,
            Event::Leaders => self.send_leaders().await?,
            Event::GoAway(go_away) => self.stream.send(&go_away).await?,
            Event::Over => {
                self.stream.finish().await?;
                return Ok(Some(End::Over(self.session.farewell())));
            }
        }
        Ok(None)
    }

    async fn handle_frame(&mut self, frame: &Frame) -> Result<(), Stop> {
        match frame.header.kind {
            Kind::REQUEST => {
                let request = Request::decode_frame(&frame.header, &frame.body)?;
                self.handle_request(request).await
            }
            Kind::PING => {
                let ping = Ping::decode_frame(&frame.header, &frame.body)?;
                self.stream.send(&Pong { nonce: ping.nonce }).await
            }
            kind => Err(Stop::unexpected(kind, "CONTROL")),
        }
    }

    async fn handle_request(&mut self, request: Request) -> Result<(), Stop> {
        if self.running == REQUESTS_MAX {
            let detail = format!("{REQUESTS_MAX} requests of this connection are being answered");
            let refusal = Refusal::new(ErrorCode::OVERLOADED, detail).retry_after_ms(100);
            return self
                .stream
                .send(&requests::reply(request.correlation, Err(refusal)))
                .await;
        }
        if request.op == Op::METADATA {
            self.note_interest(&request);
        }
        self.running += 1;
        let (session, reply) = (Arc::clone(&self.session), self.reply.clone());
        self.session.spawn(async move {
            let answer = requests::answer(&session, &request).await;
            // The queue has room for every running request; it is closed when the client is gone.
            drop(reply.send(answer).await);
        });
        Ok(())
    }

    /// From now on the client hears of changes to what it asks for.
    fn note_interest(&mut self, request: &Request) {
        let Ok(wanted) = MetadataRequest::from_bytes(request.body.as_bytes()) else {
            return;
        };
        self.interest.add(&wanted);
        if self.seen.is_none() {
            self.leaders_seen = self.leaders.borrow_and_update().number();
        }
        // The reply is made from this snapshot or a later one: nothing is missed in between.
        let topology = &mut self.topology;
        self.seen
            .get_or_insert_with(|| Arc::clone(&topology.borrow_and_update()));
    }

    async fn send_topology(&mut self) -> Result<(), Stop> {
        let now = Arc::clone(&self.topology.borrow_and_update());
        let Some(seen) = self.seen.replace(Arc::clone(&now)) else {
            return Ok(());
        };
        let leaders = self.session.service().metadata().leaders();
        for update in topology::updates(&self.interest, leaders, &seen, &now) {
            self.stream.send(&update).await?;
        }
        Ok(())
    }

    async fn send_leaders(&mut self) -> Result<(), Stop> {
        let news = Arc::clone(&self.leaders.borrow_and_update());
        let before = std::mem::replace(&mut self.leaders_seen, news.number());
        let Some(seen) = self.seen.as_ref() else {
            return Ok(());
        };
        let leaders = self.session.service().metadata().leaders();
        let changed = news.since(before);
        for update in topology::leader_updates(&self.interest, leaders, seen, changed) {
            self.stream.send(&update).await?;
        }
        Ok(())
    }
}

/// The next thing to tell the client, if there will be one. Cancel-safe.
async fn next(go_away: &mut watch::Receiver<Option<GoAway>>) -> Option<GoAway> {
    go_away.changed().await.ok()?;
    go_away.borrow_and_update().clone()
}
