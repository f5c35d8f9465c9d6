//! Certificates that must not get a connection, and what their holders are told.

use std::sync::Arc;
use std::time::Duration;

use quorate_broker::auth::Principal;
use quorate_broker::auth::Role;
use quorate_broker::auth::TrustDomain;
use quorate_broker::clock::Clock;
use quorate_broker::clock::SystemClock;
use quorate_broker::config::TlsFiles;
use quorate_protocol::ErrorCode;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use tokio_util::task::TaskTracker;

use crate::authority::Authority;
use crate::authority::Leaf;
use crate::world::Refusal;
use crate::world::Setup;
use crate::world::World;
use crate::world::broker_certificate;
use crate::world::dial_from;
use crate::world::listen;
use crate::world::material;

const CERTIFICATE_REQUIRED: Refusal = Refusal::Alert(116);
const UNKNOWN_CA: Refusal = Refusal::Alert(48);
const CERTIFICATE_EXPIRED: Refusal = Refusal::Alert(45);
const UNSUPPORTED_CERTIFICATE: Refusal = Refusal::Alert(43);

async fn refusal_of_names(uris: &[&str]) -> String {
    let world = World::start();
    let identity = world.client_authority.issue(Leaf::named(uris));
    match world.refusal(Some(&identity)).await {
        Refusal::Code(ErrorCode::IDENTITY_REJECTED, text) => text,
        other => panic!("{uris:?}: {other:?}"),
    }
}

#[tokio::test]
async fn a_good_certificate_becomes_its_principal() {
    let world = World::start();
    let (_client, server) = world.connect().await;
    assert_eq!(server.principal().to_string(), "spiffe://prod/client/alice");
    assert_eq!(server.principal().role(), Role::Client);
    assert!(server.remote().ip().is_loopback());
    assert_eq!(server.certificate_not_after().as_secs(), 4_102_444_800);
}

#[tokio::test]
async fn no_certificate_is_refused() {
    let world = World::start();
    assert_eq!(world.refusal(None).await, CERTIFICATE_REQUIRED);
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let world = World::start();
    let stranger = Authority::new().client("spiffe://prod/client/alice");
    assert_eq!(world.refusal(Some(&stranger)).await, UNKNOWN_CA);
}

#[tokio::test]
async fn a_certificate_of_the_peer_authority_is_refused_on_the_client_port() {
    let world = World::start();
    let peer = world.peer_authority.client("spiffe://prod/client/alice");
    assert_eq!(world.refusal(Some(&peer)).await, UNKNOWN_CA);
    let broker = broker_certificate(&world.peer_authority);
    assert_eq!(world.refusal(Some(&broker)).await, UNKNOWN_CA);
}

#[tokio::test]
async fn a_certificate_out_of_its_validity_is_refused() {
    let world = World::start();
    for validity in [[(2020, 1, 1), (2020, 2, 1)], [(2090, 1, 1), (2100, 1, 1)]] {
        let identity = world.client_authority.issue(Leaf {
            validity,
            ..Leaf::named(&["spiffe://prod/client/alice"])
        });
        let refusal = world.refusal(Some(&identity)).await;
        assert_eq!(refusal, CERTIFICATE_EXPIRED, "{validity:?}");
    }
}

#[tokio::test]
async fn validity_is_judged_by_the_injected_clock() {
    let world = World::with(Setup {
        clock_shift_days: 60 * 365,
        ..Setup::default()
    });
    let identity = world.client_authority.issue(Leaf {
        validity: [(2080, 1, 1), (2099, 1, 1)],
        ..Leaf::named(&["spiffe://prod/client/alice"])
    });
    assert!(world.dial(world.tls(Some(&identity))).await.is_ok());
    assert!(world.listener.accept().await.is_some());
}

#[tokio::test]
async fn a_certificate_must_say_that_it_is_for_clients() {
    let world = World::start();
    for usages in [
        vec![],
        vec![ExtendedKeyUsagePurpose::ServerAuth],
        vec![ExtendedKeyUsagePurpose::Any],
    ] {
        let identity = world.client_authority.issue(Leaf {
            usages: usages.clone(),
            ..Leaf::named(&["spiffe://prod/client/alice"])
        });
        let refusal = world.refusal(Some(&identity)).await;
        assert_eq!(refusal, UNSUPPORTED_CERTIFICATE, "{usages:?}");
    }
}

#[tokio::test]
async fn none_or_two_uri_names_are_refused_with_the_reason() {
    let text = refusal_of_names(&[]).await;
    assert!(text.contains("exactly one URI name"), "{text}");
    assert!(text.contains("it carries 0"), "{text}");
    assert!(text.contains("quorate cert issue client"), "{text}");
    let text = refusal_of_names(&["spiffe://prod/client/a", "spiffe://prod/admin/b"]).await;
    assert!(text.contains("it carries 2"), "{text}");
    let text = refusal_of_names(&["spiffe://prod/client/a", "no uri"]).await;
    assert!(text.contains("it carries 2"), "{text}");
}

#[tokio::test]
async fn names_that_could_be_read_in_two_ways_are_refused() {
    for uri in [
        "spiffe://prod/client/..",
        "spiffe://prod/client/../admin/root",
        "spiffe://prod/client/a%2fb",
        "spiffe://prod/client/a/",
        "spiffe://prod//a",
        "spiffe://prod/superuser/a",
    ] {
        let text = refusal_of_names(&[uri]).await;
        assert!(text.contains("is not accepted"), "{text}");
    }
}

#[tokio::test]
async fn a_huge_name_is_refused() {
    let uri = format!("spiffe://prod/client/{}", "a".repeat(10_000));
    let text = refusal_of_names(&[&uri]).await;
    assert!(text.contains("longer than 256 bytes"), "{text}");
}

#[tokio::test]
async fn another_cluster_and_a_brokers_role_are_refused() {
    let text = refusal_of_names(&["spiffe://test/client/a"]).await;
    assert!(text.contains("of cluster \"test\""), "{text}");
    let text = refusal_of_names(&["spiffe://prod/broker/one"]).await;
    assert!(
        text.contains("may not connect to the client port"),
        "{text}"
    );
}

#[tokio::test]
async fn admins_and_gateways_connect() {
    let world = World::start();
    for (uri, role) in [
        ("spiffe://prod/admin/root", Role::Admin),
        ("spiffe://prod/gateway/web", Role::Gateway),
    ] {
        let identity = world.client_authority.client(uri);
        let _client = world.dial(world.tls(Some(&identity))).await.unwrap();
        let server = world.listener.accept().await.unwrap();
        assert_eq!(server.principal().role(), role);
    }
}

#[tokio::test]
async fn a_broker_does_not_start_with_a_certificate_that_clients_would_refuse() {
    let (peer, client) = (Authority::new(), Authority::new());
    let good = broker_certificate(&peer);
    let both = || {
        vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ]
    };
    let expired = peer.issue(Leaf {
        validity: [(2020, 1, 1), (2020, 2, 1)],
        usages: both(),
        ..Leaf::named(&["spiffe://prod/broker/one"])
    });
    let foreign = peer.issue(Leaf {
        usages: both(),
        ..Leaf::named(&["spiffe://test/broker/one"])
    });
    let no_broker = peer.issue(Leaf {
        usages: both(),
        ..Leaf::named(&["spiffe://prod/client/one"])
    });
    let of_client_authority = broker_certificate(&client);
    let no_server = peer.client("spiffe://prod/broker/one");
    let mut mismatch = material(&peer, &client, &good);
    mismatch.key = expired.key.serialize_pem().into_bytes();
    let mut empty = material(&peer, &client, &good);
    empty.client_ca = b"nothing here".to_vec();
    for (material, complaint) in [
        (material(&peer, &client, &expired), "expired"),
        (material(&peer, &client, &foreign), "cluster"),
        (material(&peer, &client, &no_broker), "not a broker"),
        (
            material(&peer, &client, &of_client_authority),
            "UnknownIssuer",
        ),
        (material(&peer, &client, &no_server), "tls.cert_file"),
        (mismatch, "tls.key_file"),
        (empty, "tls.client_ca_file"),
    ] {
        let refused = listen(Setup::default(), material, &TaskTracker::new());
        let text = refused.unwrap_err().to_string();
        assert!(text.contains(complaint), "{complaint}: {text}");
    }
}

#[tokio::test]
async fn the_certificates_we_issue_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let issued = quorate_certs::init(&quorate_certs::InitRequest {
        cluster: "prod".to_owned(),
        out: folder.path().join("certs"),
        brokers: vec![quorate_certs::BrokerRequest {
            name: "one".to_owned(),
            hosts: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        }],
        development: true,
        now: std::time::UNIX_EPOCH + Duration::from_micros(SystemClock::new().now_micros()),
    })
    .unwrap();
    let broker = &issued.brokers[0];
    let material = TlsFiles {
        peer_ca_file: broker.ca_file.clone(),
        client_ca_file: broker.client_ca_file.clone().unwrap(),
        cert_file: broker.cert_file.clone(),
        key_file: broker.key_file.clone().unwrap(),
    }
    .read()
    .unwrap();
    let listener = listen(Setup::default(), material, &TaskTracker::new()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&issued.admin.ca_file).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = CertificateDer::pem_file_iter(&issued.admin.cert_file).unwrap();
    let key = PrivateKeyDer::from_pem_file(issued.admin.key_file.as_ref().unwrap()).unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap();
    tls.alpn_protocols = vec![b"quorate/1".to_vec()];
    let _client = dial_from("127.0.0.1:0", listener.local_addr(), tls)
        .await
        .unwrap();
    let server = listener.accept().await.unwrap();
    assert_eq!(server.principal().to_string(), issued.admin.identity);
}

#[test]
fn names_we_issue_are_names_we_accept() {
    let domain = TrustDomain::parse("prod").unwrap();
    let long = "a".repeat(128);
    for name in [
        "a",
        "till-7",
        "tenant/app",
        "a/b/c",
        "x_1.y",
        "-",
        "a.b",
        &long,
    ] {
        let issued = quorate_certs::Identity::new("prod", quorate_certs::Role::Client, name);
        let uri = issued.unwrap().to_string();
        assert_eq!(Principal::parse(&uri, &domain).unwrap().to_string(), uri);
    }
    for name in [
        "", ".", "...", "a..b", "a//b", "/a", "a/", "A", "a%2f", "a b",
    ] {
        let issued = quorate_certs::Identity::new("prod", quorate_certs::Role::Client, name);
        assert!(issued.is_err(), "{name:?}");
        let uri = format!("spiffe://prod/client/{name}");
        assert!(Principal::parse(&uri, &domain).is_err(), "{name:?}");
    }
}
