//! Who may be a peer, and what everybody else is told.

use std::time::Duration;

use quorate_broker::peers::Timings;
use quorate_protocol::ErrorCode;
use quorate_protocol::HelloReject;
use quorate_protocol::PeerHello;
use quorate_protocol::PeerHelloAck;
use quorate_protocol::StorageId;
use quorate_protocol::Text;

use crate::authority::Authority;
use crate::authority::Identity;
use crate::peers::world::Cluster;
use crate::peers::world::Setup;
use crate::peers::world::broker_identity;
use crate::peers::world::hello;
use crate::world::Refusal;
use crate::world::dial_from;
use crate::world::within;

/// What a program with this certificate is told by broker 1.
async fn refusal_of(cluster: &Cluster, identity: Option<&Identity>) -> Refusal {
    let dialling = dial_from("127.0.0.1:0", cluster.address(1), cluster.tls(identity));
    let told = async {
        match dialling.await {
            Ok(client) => client.connection.closed().await,
            Err(error) => error,
        }
    };
    Refusal::from(within(told).await)
}

#[tokio::test]
async fn certificates_of_other_authorities_and_none_are_refused_by_tls() {
    let cluster = Cluster::of(2);
    let _node = cluster.start(1);
    let unknown_authority = Refusal::Alert(48);
    let client = cluster.clients.client("spiffe://prod/client/alice");
    assert_eq!(refusal_of(&cluster, Some(&client)).await, unknown_authority);
    let forged = broker_identity(&cluster.clients, "spiffe://prod/broker/b2");
    assert_eq!(refusal_of(&cluster, Some(&forged)).await, unknown_authority);
    let foreign = broker_identity(&Authority::new(), "spiffe://prod/broker/b2");
    assert_eq!(
        refusal_of(&cluster, Some(&foreign)).await,
        unknown_authority
    );
    assert_eq!(refusal_of(&cluster, None).await, Refusal::Alert(116));
}

#[tokio::test]
async fn only_brokers_of_this_cluster_are_let_in() {
    let cluster = Cluster::of(2);
    let _node = cluster.start(1);
    for uri in [
        "spiffe://prod/client/b2",
        "spiffe://prod/admin/b2",
        "spiffe://test/broker/b2",
        "spiffe://prod/broker/../b2",
    ] {
        let identity = cluster.identity(uri);
        let told = refusal_of(&cluster, Some(&identity)).await;
        let Refusal::Code(ErrorCode::IDENTITY_REJECTED, text) = told else {
            panic!("{uri}: {told:?}");
        };
        assert!(text.contains("quorate cert issue broker"), "{text}");
    }
}

#[tokio::test]
async fn a_program_without_a_fitting_protocol_is_refused() {
    let cluster = Cluster::of(2);
    let _node = cluster.start(1);
    let mut tls = cluster.tls(Some(&cluster.identity("spiffe://prod/broker/b2")));
    tls.alpn_protocols = vec![b"quorate/1".to_vec()];
    let dialled = within(dial_from("127.0.0.1:0", cluster.address(1), tls)).await;
    let Err(error) = dialled else {
        panic!("the client plane is not here");
    };
    assert_eq!(Refusal::from(error), Refusal::Alert(120));
}

#[tokio::test]
async fn a_broker_at_the_address_of_another_is_not_believed() {
    let cluster = Cluster::of(2);
    let node = cluster.start(1);
    let impostor = cluster.identity("spiffe://prod/broker/b3");
    let _other = cluster.start_with(2, Setup::of(2), &impostor);
    let text = node.refusal(2).await;
    assert!(text.contains("there is not broker `b2`"), "{text}");
    assert!(text.contains("spiffe://prod/broker/b3"), "{text}");
}

#[tokio::test]
async fn a_dialled_program_needs_a_certificate_of_the_peer_authority() {
    let cluster = Cluster::of(2);
    let identity = broker_identity(&Authority::new(), "spiffe://prod/broker/b2");
    let server = cluster.server(2, &identity);
    let _node = cluster.start(1);
    let incoming = within(server.accept()).await.unwrap();
    let error = within(incoming.into_future()).await.unwrap_err();
    assert_eq!(Refusal::from(error), Refusal::Alert(48));
}

/// The answer to a greeting that is not accepted, and the close that follows it.
async fn reject(cluster: &Cluster, hello: &PeerHello) -> (ErrorCode, String) {
    let mut raw = cluster.raw(2, 1).await;
    raw.say(hello).await;
    let reject = raw.hear::<HelloReject>().await;
    assert_eq!((reject.min_version, reject.max_version), (1, 1));
    let (code, text) = raw.closed().await;
    assert_eq!(code, reject.code);
    assert!(text.starts_with(reject.text.as_str()));
    (code, text)
}

#[tokio::test]
async fn greetings_that_do_not_fit_are_answered_with_their_code() {
    let cluster = Cluster::of(3);
    let _node = cluster.start(1);
    let good = hello(2, 1);
    let cases = [
        (
            ErrorCode::WRONG_CLUSTER,
            PeerHello {
                cluster: Text::clipped("test"),
                ..good.clone()
            },
        ),
        (
            ErrorCode::UNSUPPORTED_VERSION,
            PeerHello {
                min_version: 7,
                max_version: 9,
                ..good.clone()
            },
        ),
        (ErrorCode::NOT_MEMBER, hello(2, 3)),
        // The certificate says broker 2.
        (ErrorCode::NOT_MEMBER, hello(3, 1)),
        (ErrorCode::NOT_MEMBER, hello(9, 1)),
    ];
    for (code, hello) in cases {
        assert_eq!(reject(&cluster, &hello).await.0, code, "{hello:?}");
    }
    cluster.raw_greeted(2, 1).await;
}

#[tokio::test]
async fn a_broker_that_is_no_member_is_refused_and_shows_it() {
    let cluster = Cluster::of(3);
    let members = Some(cluster.members(&[1, 2]));
    let _node = cluster.start_as(
        1,
        Setup {
            members,
            ..Setup::of(1)
        },
    );
    let stranger = cluster.start(3);
    let text = stranger.refusal(1).await;
    assert!(text.contains("is no member of cluster `prod`"), "{text}");
    let foreign = Setup {
        cluster: "test",
        ..Setup::of(2)
    };
    let foreign = cluster.start_as(2, foreign);
    let text = foreign.refusal(1).await;
    assert!(
        text.contains("the certificate is of cluster \"prod\""),
        "{text}"
    );
}

#[tokio::test]
async fn of_two_processes_with_one_id_the_older_is_fenced_for_good() {
    let cluster = Cluster::of(2);
    let _node = cluster.start(1);
    let older = cluster.raw_greeted(2, 1).await;
    let mut newer = cluster.raw(2, 1).await;
    newer
        .say(&PeerHello {
            incarnation: 7,
            ..hello(2, 1)
        })
        .await;
    newer.hear::<PeerHelloAck>().await;
    let (code, _) = older.closed().await;
    assert_eq!(code, ErrorCode::INCARNATION_FENCED);
    let (code, text) = reject(&cluster, &hello(2, 1)).await;
    assert_eq!(code, ErrorCode::INCARNATION_FENCED);
    assert!(text.contains("a newer process is broker 2"), "{text}");
    assert!(newer.client.connection.close_reason().is_none());
}

#[tokio::test]
async fn a_second_process_fences_the_first_which_says_so() {
    let cluster = Cluster::of(2);
    let _node = cluster.start(1);
    let first = cluster.start(2);
    first.wait_until_up(1).await;
    let members = Some(cluster.members(&[1]));
    let twin = Cluster {
        peers: cluster.peers,
        clients: cluster.clients,
        ..Cluster::of(2)
    };
    let second = Setup {
        incarnation: 7,
        starts: 2,
        members,
        ..Setup::of(2)
    };
    let second = twin.start_as(2, second);
    second.wait_until_up(1).await;
    let text = first.refusal(1).await;
    assert!(
        text.contains(&ErrorCode::INCARNATION_FENCED.to_string()),
        "{text}"
    );
}

#[tokio::test]
async fn an_older_start_than_seen_is_refused() {
    let cluster = Cluster::of(2);
    let _node = cluster.start(1);
    let mut raw = cluster.raw(2, 1).await;
    raw.say(&PeerHello {
        starts: 5,
        ..hello(2, 1)
    })
    .await;
    raw.hear::<PeerHelloAck>().await;
    let old = PeerHello {
        starts: 4,
        incarnation: 8,
        ..hello(2, 1)
    };
    let (code, text) = reject(&cluster, &old).await;
    assert_eq!(code, ErrorCode::INCARNATION_FENCED);
    assert!(text.contains("copy of its data folder"), "{text}");
}

#[tokio::test]
async fn a_member_with_an_unknown_data_folder_is_told_how_to_replace_it() {
    let cluster = Cluster::of(2);
    let mut members = cluster.members(&[1, 2]);
    members[1].storage = Some(StorageId::new(77));
    let members = Some(members);
    let node = cluster.start_as(
        1,
        Setup {
            members,
            ..Setup::of(1)
        },
    );
    let (code, text) = reject(&cluster, &hello(2, 1)).await;
    assert_eq!(code, ErrorCode::NOT_MEMBER);
    assert!(text.contains("quorate cluster replace 2"), "{text}");
    let emptied = cluster.start(2);
    let told = emptied.refusal(1).await;
    assert!(told.contains("quorate cluster replace 2"), "{told}");
    // This side refuses it as well.
    let own = node.refusal(2).await;
    assert!(own.contains("quorate cluster replace 2"), "{own}");
    // Once the record is cleared, the next folder is believed.
    node.peers.set_members(cluster.members(&[1, 2]));
    emptied.wait_until_up(1).await;
    node.wait_until_up(2).await;
}

#[tokio::test]
async fn whoever_does_not_greet_in_time_is_disconnected() {
    let cluster = Cluster::of(2);
    let timings = Timings {
        greeting: Duration::from_millis(50),
        ..Timings::default()
    };
    let _node = cluster.start_as(
        1,
        Setup {
            timings,
            ..Setup::of(1)
        },
    );
    let mut raw = cluster.raw(2, 1).await;
    raw.send.write_all(&[1]).await.unwrap();
    assert_eq!(raw.closed().await.0, ErrorCode::FRAME_TIMEOUT);
}
