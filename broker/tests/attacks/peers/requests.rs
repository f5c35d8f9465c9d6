//! Requests are answered, refused or given up, and say which.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quorate_broker::peers::Answers;
use quorate_broker::peers::Boxed;
use quorate_broker::peers::PeerError;
use quorate_broker::peers::Peers;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::Op;
use tokio::sync::Notify;

use crate::peers::world::Cluster;
use crate::peers::world::Node;
use crate::peers::world::PATIENCE;
use crate::peers::world::noise;
use crate::world::within;

/// Echoes; does not answer `PEER_STATUS`, refuses `PEER_TRANSFER`.
#[derive(Debug, Default)]
struct Echo {
    asked: Arc<Notify>,
}

impl Answers for Echo {
    fn answer(&self, from: BrokerId, op: Op, body: Bytes) -> Boxed<Result<Bytes, PeerError>> {
        self.asked.notify_one();
        Box::pin(async move {
            match op {
                Op::PEER_STATUS => std::future::pending().await,
                Op::PEER_TRANSFER => Err(PeerError {
                    code: ErrorCode::NOT_LEADER,
                    detail: format!("broker {from} asked the wrong one"),
                    sent: false,
                }),
                _ => Ok(body),
            }
        })
    }
}

async fn pair(cluster: &Cluster) -> (Node, Node, Arc<Notify>) {
    let (one, two) = (cluster.start(1), cluster.start(2));
    let echo = Echo::default();
    let asked = echo.asked.clone();
    two.peers.answer_with(Arc::new(echo));
    one.wait_until_up(2).await;
    (one, two, asked)
}

#[tokio::test]
async fn a_request_is_answered_with_what_the_peer_says() {
    let cluster = Cluster::of(2);
    let (one, two, _) = pair(&cluster).await;
    for len in [0, 1, 60_000] {
        let body = noise(1, len);
        let answer = one
            .peers
            .request(two.id, Op::PEER_FORWARD, body.clone(), PATIENCE);
        assert_eq!(within(answer).await, Ok(body));
    }
    let refused = one
        .peers
        .request(two.id, Op::PEER_TRANSFER, Bytes::new(), PATIENCE);
    let error = within(refused).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::NOT_LEADER);
    assert_eq!(error.detail, "broker 1 asked the wrong one");
}

#[tokio::test]
async fn a_request_without_an_answer_ends_with_its_deadline() {
    let cluster = Cluster::of(2);
    let (one, two, _) = pair(&cluster).await;
    let soon = Duration::from_millis(100);
    let asked = one
        .peers
        .request(two.id, Op::PEER_STATUS, Bytes::new(), soon);
    let error = within(asked).await.unwrap_err();
    assert_eq!((error.code, error.sent), (ErrorCode::TIMEOUT, true));
    // The stream goes on.
    let answer = one
        .peers
        .request(two.id, Op::PEER_FORWARD, noise(2, 9), PATIENCE);
    assert_eq!(within(answer).await, Ok(noise(2, 9)));
}

#[tokio::test]
async fn what_never_left_is_known_to_have_had_no_effect() {
    let cluster = Cluster::of(2);
    let (one, two, _) = pair(&cluster).await;
    let ask = |to: u16, body| {
        let asked = one
            .peers
            .request(BrokerId::new(to), Op::PEER_FORWARD, body, PATIENCE);
        async { within(asked).await.unwrap_err() }
    };
    let error = ask(9, Bytes::new()).await;
    assert_eq!((error.code, error.sent), (ErrorCode::NOT_MEMBER, false));
    let error = ask(2, noise(1, 70_000)).await;
    assert_eq!(
        (error.code, error.sent),
        (ErrorCode::INVALID_ARGUMENT, false)
    );
    two.end().await;
    one.wait_for(2, |state| state.state != quorate_broker::peers::Reach::Up)
        .await;
    let error = ask(2, Bytes::new()).await;
    assert_eq!((error.code, error.sent), (ErrorCode::OVERLOADED, false));
}

#[tokio::test]
async fn a_lost_connection_ends_the_requests_on_it() {
    let cluster = Cluster::of(2);
    let (one, two, asked) = pair(&cluster).await;
    let request = one
        .peers
        .request(two.id, Op::PEER_STATUS, Bytes::new(), PATIENCE);
    within(asked.notified()).await;
    two.end().await;
    let error = within(request).await.unwrap_err();
    assert_eq!((error.code, error.sent), (ErrorCode::TIMEOUT, true));
    assert!(error.detail.contains("was lost"), "{}", error.detail);
}

#[tokio::test]
async fn a_peer_that_asks_too_much_at_once_is_told_so() {
    let cluster = Cluster::of(2);
    let (one, two, _) = pair(&cluster).await;
    let hanging: Vec<_> = (0..64)
        .map(|_| {
            one.peers
                .request(two.id, Op::PEER_STATUS, Bytes::new(), PATIENCE)
        })
        .collect();
    let late = one
        .peers
        .request(two.id, Op::PEER_FORWARD, Bytes::new(), PATIENCE);
    let error = within(late).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::OVERLOADED);
    drop(hanging);
}

/// Answers, and holds the peers that bring the questions.
#[derive(Debug)]
struct Tied(Peers);

impl Answers for Tied {
    fn answer(&self, _: BrokerId, _: Op, body: Bytes) -> Boxed<Result<Bytes, PeerError>> {
        let known = self.0.states().borrow().len();
        Box::pin(async move { Ok(body.slice(..known.min(body.len()))) })
    }
}

#[tokio::test]
async fn whoever_answers_may_hold_the_peers_and_the_broker_still_ends() {
    let cluster = Cluster::of(1);
    let one = cluster.start(1);
    one.peers.answer_with(Arc::new(Tied(one.peers.clone())));
    one.end().await;
}
