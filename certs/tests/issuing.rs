//! Issued certificates verify as brokers verify them, and wrong requests are refused by name.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use quorate_certs::Authority;
use quorate_certs::BrokerRequest;
use quorate_certs::InitRequest;
use quorate_certs::Initialised;
use quorate_certs::IssueError;
use quorate_certs::IssueRequest;
use quorate_certs::Issued;
use quorate_certs::KeyFileError;
use quorate_certs::LoadError;
use quorate_certs::Role;
use quorate_certs::init;
use quorate_certs::inspect;
use quorate_certs::key_matches;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;
use webpki::EndEntityCert;
use webpki::KeyUsage;

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 24 * 3600;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn cluster(out: &Path) -> Initialised {
    let hosts = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    init(&InitRequest {
        cluster: "prod".to_owned(),
        out: out.to_owned(),
        brokers: vec![BrokerRequest {
            name: "broker-1".to_owned(),
            hosts,
        }],
        development: false,
        now: at(NOW),
    })
    .unwrap()
}

fn request(role: Role, name: &str) -> IssueRequest {
    let sans = if role == Role::Broker {
        vec!["b.example".to_owned()]
    } else {
        Vec::new()
    };
    IssueRequest {
        role,
        name: name.to_owned(),
        sans,
        ttl: None,
        csr: None,
        out: None,
        now: at(NOW),
    }
}

fn verify(ca: &Path, leaf: &Path, usage: KeyUsage, seconds: u64) -> Result<(), webpki::Error> {
    let ca = CertificateDer::from_pem_file(ca).unwrap();
    let leaf = CertificateDer::from_pem_file(leaf).unwrap();
    let anchor = webpki::anchor_from_trusted_cert(&ca).unwrap();
    let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let leaf = EndEntityCert::try_from(&leaf).unwrap();
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &[anchor],
        &[],
        time,
        usage,
        None,
        None,
    )
    .map(|_| ())
}

fn server() -> KeyUsage {
    KeyUsage::server_auth()
}

fn client() -> KeyUsage {
    KeyUsage::required(&[43, 6, 1, 5, 5, 7, 3, 2])
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_broker_verifies_as_server_and_client_against_the_peer_ca_only() {
    let dir = tempfile::tempdir().unwrap();
    let made = cluster(dir.path());
    let broker = &made.brokers[0];
    verify(&made.peer_ca, &broker.cert_file, server(), NOW).unwrap();
    verify(&made.peer_ca, &broker.cert_file, client(), NOW).unwrap();
    assert!(verify(&made.client_ca, &broker.cert_file, server(), NOW).is_err());
    let der = CertificateDer::from_pem_file(&broker.cert_file).unwrap();
    let leaf = EndEntityCert::try_from(&der).unwrap();
    for name in ["localhost", "127.0.0.1", "::1"] {
        let name = ServerName::try_from(name).unwrap();
        leaf.verify_is_valid_for_subject_name(&name).unwrap();
    }
    assert_eq!(
        leaf.valid_uri_names().collect::<Vec<_>>(),
        ["spiffe://prod/broker/broker-1"]
    );
}

#[test]
fn an_admin_verifies_as_client_against_the_client_ca_only() {
    let dir = tempfile::tempdir().unwrap();
    let made = cluster(dir.path());
    verify(&made.client_ca, &made.admin.cert_file, client(), NOW).unwrap();
    assert!(verify(&made.client_ca, &made.admin.cert_file, server(), NOW).is_err());
    assert!(verify(&made.peer_ca, &made.admin.cert_file, client(), NOW).is_err());
    assert_eq!(made.admin.identity, "spiffe://prod/admin/admin");
}

#[test]
fn lifetimes_are_five_years_thirty_days_and_seven_days_back_dated() {
    let dir = tempfile::tempdir().unwrap();
    let made = cluster(dir.path());
    assert_eq!(
        inspect(&made.peer_ca).unwrap().not_after,
        at(NOW + 5 * 365 * DAY)
    );
    assert_eq!(made.brokers[0].not_after, at(NOW + 30 * DAY));
    assert_eq!(made.admin.not_after, at(NOW + 7 * DAY));
    let admin = &made.admin.cert_file;
    verify(&made.client_ca, admin, client(), NOW - 290).unwrap();
    assert!(verify(&made.client_ca, admin, client(), NOW - 310).is_err());
    assert!(verify(&made.client_ca, admin, client(), NOW + 7 * DAY + 1).is_err());
}

#[test]
fn the_layout_is_complete_and_keys_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let made = cluster(dir.path());
    let broker = dir.path().join("brokers/broker-1");
    let admin = dir.path().join("admins/admin");
    for key in [
        dir.path().join("peer-ca.key"),
        dir.path().join("client-ca.key"),
        broker.join("key.pem"),
        admin.join("key.pem"),
    ] {
        assert_eq!(mode(&key), 0o600, "{}", key.display());
    }
    let same = |left: PathBuf, right: &Path| {
        assert_eq!(
            fs::read(&left).unwrap(),
            fs::read(right).unwrap(),
            "{}",
            left.display()
        );
    };
    same(broker.join("ca.pem"), &made.peer_ca);
    same(broker.join("client-ca.pem"), &made.client_ca);
    same(admin.join("ca.pem"), &made.peer_ca);
    assert!(!admin.join("client-ca.pem").exists());
    assert!(key_matches(&broker.join("cert.pem"), &broker.join("key.pem")).unwrap());
    assert!(!key_matches(&broker.join("cert.pem"), &admin.join("key.pem")).unwrap());
}

#[test]
fn a_second_init_names_the_files_it_leaves_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let made = cluster(dir.path());
    let before = fs::read(&made.peer_ca).unwrap();
    let again = init(&InitRequest {
        cluster: "prod".to_owned(),
        out: dir.path().to_owned(),
        brokers: Vec::new(),
        development: false,
        now: at(NOW),
    });
    let text = again.unwrap_err().to_string();
    assert!(
        text.contains("peer-ca.key") && text.contains("client-ca.pem"),
        "{text}"
    );
    assert_eq!(fs::read(&made.peer_ca).unwrap(), before);
}

#[test]
fn duplicate_brokers_and_bad_names_write_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("ca");
    let broker = |name: &str| BrokerRequest {
        name: name.to_owned(),
        hosts: vec!["h".to_owned()],
    };
    for (cluster, brokers) in [
        ("prod", vec![broker("a"), broker("a")]),
        ("prod", vec![broker("../a")]),
        (
            "prod",
            vec![BrokerRequest {
                name: "a".to_owned(),
                hosts: Vec::new(),
            }],
        ),
        ("Prod", vec![]),
    ] {
        let cluster = cluster.to_owned();
        let request = InitRequest {
            cluster,
            out: out.clone(),
            brokers,
            development: false,
            now: at(NOW),
        };
        assert!(init(&request).is_err());
        assert!(!out.exists());
    }
}

#[test]
fn each_role_is_issued_by_its_authority_into_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let made = cluster(dir.path());
    let authority = Authority::load(dir.path()).unwrap();
    for (role, name, ca, folder) in [
        (Role::Broker, "broker-2", &made.peer_ca, "brokers/broker-2"),
        (
            Role::Client,
            "tenant/app",
            &made.client_ca,
            "clients/tenant/app",
        ),
        (Role::Admin, "ann", &made.client_ca, "admins/ann"),
        (Role::Gateway, "edge", &made.client_ca, "gateways/edge"),
    ] {
        let issued = authority.issue(&request(role, name)).unwrap();
        assert_eq!(issued.dir, dir.path().join(folder));
        verify(ca, &issued.cert_file, client(), NOW).unwrap();
        let report = inspect(&issued.cert_file).unwrap();
        assert_eq!(
            report.identity.unwrap().to_string(),
            format!("spiffe://prod/{role}/{name}")
        );
        assert_eq!(report.serial, issued.serial);
        assert_eq!(report.not_after, issued.not_after);
        assert_eq!(report.sans, issued.sans);
    }
}

#[test]
fn wrong_requests_are_refused_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    cluster(dir.path());
    let authority = Authority::load(dir.path()).unwrap();
    let refused = |change: &dyn Fn(&mut IssueRequest), role: Role| {
        let mut asked = request(role, "x");
        change(&mut asked);
        let error = authority.issue(&asked).unwrap_err();
        let folder = dir.path().join("clients");
        assert!(!folder.exists());
        error
    };
    let sans = |asked: &mut IssueRequest| asked.sans = vec!["h".to_owned()];
    assert!(matches!(
        refused(&sans, Role::Client),
        IssueError::HostsNotAllowed(Role::Client)
    ));
    let none = |asked: &mut IssueRequest| asked.sans.clear();
    assert!(matches!(
        refused(&none, Role::Broker),
        IssueError::NoHost(_)
    ));
    let port = |asked: &mut IssueRequest| asked.sans = vec!["h:1".to_owned()];
    assert!(matches!(refused(&port, Role::Broker), IssueError::Host(_)));
    let name = |asked: &mut IssueRequest| asked.name = "../up".to_owned();
    assert!(matches!(refused(&name, Role::Client), IssueError::Name(_)));
    let zero = |asked: &mut IssueRequest| asked.ttl = Some(Duration::ZERO);
    assert!(matches!(
        refused(&zero, Role::Client),
        IssueError::LifetimeTooShort
    ));
    for ttl in [Duration::from_secs(5 * 365 * DAY + 1), Duration::MAX] {
        let long = |asked: &mut IssueRequest| asked.ttl = Some(ttl);
        assert!(matches!(
            refused(&long, Role::Client),
            IssueError::BeyondAuthority { .. }
        ));
    }
}

#[test]
fn a_broker_needs_the_peer_key_even_where_the_client_key_is() {
    let dir = tempfile::tempdir().unwrap();
    cluster(dir.path());
    fs::remove_file(dir.path().join("peer-ca.key")).unwrap();
    let authority = Authority::load(dir.path()).unwrap();
    let error = authority.issue(&request(Role::Broker, "b")).unwrap_err();
    assert!(error.to_string().contains("peer CA only"), "{error}");
    assert!(error.to_string().contains("peer-ca.key"), "{error}");
    authority.issue(&request(Role::Client, "c")).unwrap();
}

#[test]
fn a_key_that_others_read_or_that_belongs_elsewhere_does_not_sign() {
    let dir = tempfile::tempdir().unwrap();
    cluster(dir.path());
    let authority = Authority::load(dir.path()).unwrap();
    let (peer, client) = (
        dir.path().join("peer-ca.key"),
        dir.path().join("client-ca.key"),
    );
    fs::set_permissions(&client, fs::Permissions::from_mode(0o644)).unwrap();
    let error = authority.issue(&request(Role::Client, "c")).unwrap_err();
    let readable = |source: &KeyFileError| matches!(source, KeyFileError::ReadableByOthers { .. });
    assert!(matches!(&error, IssueError::AuthorityKey { source, .. } if readable(source)));
    fs::remove_file(&client).unwrap();
    fs::copy(&peer, &client).unwrap();
    let error = authority.issue(&request(Role::Client, "c")).unwrap_err();
    assert!(matches!(error, IssueError::KeyMismatch { .. }), "{error}");
}

#[test]
fn swapped_missing_or_foreign_authorities_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let made = cluster(dir.path());
    fs::copy(&made.client_ca, &made.peer_ca).unwrap();
    let error = Authority::load(dir.path()).unwrap_err();
    assert!(
        matches!(error, LoadError::NotThisAuthority { .. }),
        "{error}"
    );
    fs::copy(&made.brokers[0].cert_file, &made.peer_ca).unwrap();
    assert!(matches!(
        Authority::load(dir.path()),
        Err(LoadError::NotThisAuthority { .. })
    ));
    fs::remove_file(&made.peer_ca).unwrap();
    assert!(matches!(
        Authority::load(dir.path()),
        Err(LoadError::Missing(_))
    ));
    let other = tempfile::tempdir().unwrap();
    let foreign = init(&InitRequest {
        cluster: "other".to_owned(),
        out: other.path().to_owned(),
        brokers: Vec::new(),
        development: true,
        now: at(NOW),
    });
    fs::copy(&foreign.unwrap().peer_ca, &made.peer_ca).unwrap();
    assert!(matches!(
        Authority::load(dir.path()),
        Err(LoadError::TwoClusters { .. })
    ));
}

fn csr(kind: &'static rcgen::SignatureAlgorithm) -> (String, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate_for(kind).unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    let forged = "spiffe://prod/admin/root".try_into().unwrap();
    params.subject_alt_names.push(rcgen::SanType::URI(forged));
    params.insert_extended_key_usage(rcgen::ExtendedKeyUsagePurpose::ServerAuth);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    (params.serialize_request(&key).unwrap().pem().unwrap(), key)
}

fn issue_csr(authority: &Authority, csr: &str) -> Result<Issued, IssueError> {
    let mut asked = request(Role::Client, "c");
    asked.csr = Some(csr.to_owned());
    authority.issue(&asked)
}

#[test]
fn a_csr_contributes_its_key_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let made = cluster(dir.path());
    let authority = Authority::load(dir.path()).unwrap();
    let (request, key) = csr(&rcgen::PKCS_ECDSA_P256_SHA256);
    let issued = issue_csr(&authority, &request).unwrap();
    assert_eq!(issued.key_file, None);
    assert!(!issued.dir.join("key.pem").exists());
    let report = inspect(&issued.cert_file).unwrap();
    assert_eq!(report.uris, ["spiffe://prod/client/c"]);
    assert_eq!((report.sans.len(), report.authority), (0, false));
    assert_eq!(report.usages, ["client"]);
    verify(&made.client_ca, &issued.cert_file, client(), NOW).unwrap();
    let key_file = issued.dir.join("mine.pem");
    fs::write(&key_file, key.serialize_pem()).unwrap();
    fs::set_permissions(&key_file, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(key_matches(&issued.cert_file, &key_file).unwrap());
}

#[test]
fn a_csr_that_is_forged_of_another_kind_or_no_csr_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    cluster(dir.path());
    let authority = Authority::load(dir.path()).unwrap();
    let refused = |csr: &str| {
        let error = issue_csr(&authority, csr).unwrap_err();
        assert!(matches!(error, IssueError::Csr(_)), "{error}");
    };
    refused(&csr(&rcgen::PKCS_ED25519).0);
    refused("hello");
    let (pem, _) = csr(&rcgen::PKCS_ECDSA_P256_SHA256);
    let mut lines: Vec<_> = pem.lines().map(str::to_owned).collect();
    let other = if lines[2].starts_with('x') { "y" } else { "x" };
    lines[2].replace_range(0..1, other);
    refused(&lines.join("\n"));
}

#[test]
fn serials_differ_even_for_the_same_key() {
    let dir = tempfile::tempdir().unwrap();
    cluster(dir.path());
    let authority = Authority::load(dir.path()).unwrap();
    let (pem, _) = csr(&rcgen::PKCS_ECDSA_P256_SHA256);
    let first = issue_csr(&authority, &pem).unwrap();
    assert!(matches!(
        issue_csr(&authority, &pem),
        Err(IssueError::Write(_))
    ));
    let mut again = request(Role::Client, "c");
    again.csr = Some(pem);
    again.out = Some(dir.path().join("renewed"));
    let second = authority.issue(&again).unwrap();
    assert_ne!(first.serial, second.serial);
    assert_eq!(second.dir, dir.path().join("renewed"));
}

#[test]
fn development_authorities_are_marked() {
    let dir = tempfile::tempdir().unwrap();
    let made = cluster(&dir.path().join("real"));
    assert!(!inspect(&made.peer_ca).unwrap().development);
    let made = init(&InitRequest {
        cluster: "dev".to_owned(),
        out: dir.path().join("dev"),
        brokers: Vec::new(),
        development: true,
        now: at(NOW),
    });
    assert!(inspect(&made.unwrap().peer_ca).unwrap().development);
}
