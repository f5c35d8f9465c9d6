//! Connections that must not come about, and what is said about them.

use std::net::UdpSocket;
use std::time::Duration;

use quorate::Client;
use quorate::ErrorKind;
use quorate::State;

use crate::world::Site;
use crate::world::within;

#[tokio::test]
async fn silence_over_udp_names_the_port() {
    let site = Site::new();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let builder = site
        .builder(address)
        .connect_timeout(Duration::from_millis(300));
    let error = within(builder.into_future()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    let help = error.help().unwrap();
    assert!(
        help.contains("UDP") && help.contains(&address.port().to_string()),
        "{help}"
    );
}

#[tokio::test]
async fn a_client_of_another_cluster_is_refused_for_good() {
    let site = Site::new();
    let broker = site.start().await;
    let other = Site::named("other");
    let stranger = &other.certificates.admin;
    let ours = &site.certificates.admin;
    // The stranger trusts our brokers, so that only they can refuse.
    let builder = Client::builder()
        .servers(&broker.client_address().to_string())
        .ca_file(&ours.ca_file)
        .cert_file(&ours.cert_file)
        .key_file(stranger.key_file.as_ref().unwrap());
    let error = within(builder.into_future()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IdentityFiles);
    let builder = Client::builder()
        .servers(&broker.client_address().to_string())
        .ca_file(&ours.ca_file)
        .cert_file(&stranger.cert_file)
        .key_file(stranger.key_file.as_ref().unwrap());
    let error = within(builder.into_future()).await.unwrap_err();
    // Its own trust domain is the other cluster's: it does not accept our broker either.
    assert_eq!(error.kind(), ErrorKind::Tls);
    assert!(error.to_string().contains("other"), "{error}");
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_refused_with_a_remedy() {
    let site = Site::new();
    let broker = site.start().await;
    // Another authority for a cluster of the same name.
    let other = Site::named("test");
    let forged = &other.certificates.admin;
    let builder = Client::builder()
        .servers(&broker.client_address().to_string())
        .ca_file(&site.certificates.admin.ca_file)
        .cert_file(&forged.cert_file)
        .key_file(forged.key_file.as_ref().unwrap());
    let error = within(builder.into_future()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IdentityRejected, "{error}");
    assert!(!error.is_retryable());
    assert!(error.help().unwrap().contains("quorate cert issue"));
}

#[tokio::test]
async fn a_broker_of_an_unknown_authority_is_not_accepted() {
    let site = Site::new();
    let broker = site.start().await;
    let other = Site::named("test");
    let error = within(other.builder(broker.client_address()).into_future())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
}

#[tokio::test]
async fn wrong_options_and_missing_files_are_named() {
    let error = within(
        Client::builder()
            .set("producer.lingr_us", "1")
            .into_future(),
    )
    .await;
    assert!(
        error
            .unwrap_err()
            .help()
            .unwrap()
            .contains("producer.linger_us")
    );
    let site = Site::new();
    let builder = site.builder("127.0.0.1:1".parse().unwrap());
    let missing = site.dir().join("nowhere.pem");
    let error = within(builder.cert_file(&missing).into_future())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IdentityFiles);
    assert!(error.to_string().contains("nowhere.pem"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_key_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let site = Site::new();
    let key = site.certificates.admin.key_file.clone().unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = within(site.builder("127.0.0.1:1".parse().unwrap()).into_future()).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::IdentityFiles);
    assert!(error.help().unwrap().contains("chmod 600"));
}

#[tokio::test]
async fn a_closed_client_says_so() {
    let site = Site::new();
    let broker = site.start().await;
    let client = site.client(broker.client_address()).await;
    assert_eq!(client.state(), State::Connected);
    within(client.close(Duration::from_secs(5))).await.unwrap();
    assert_eq!(client.state(), State::Closed);
    let error = within(client.publish("orders", "x").into_future())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}
