//! `serve`: configuration, its errors, and one broker by hand.

use rustix::process::Signal;

use crate::process::Home;
use crate::process::Told;
use crate::process::assert_keys;

/// A home with certificates and a configuration; listeners are on free ports.
pub(crate) fn home() -> Home {
    let home = Home::new();
    let arguments = [
        "cert",
        "init",
        "--cluster",
        "try",
        "--out",
        "ca",
        "--broker",
        "broker-7=127.0.0.1",
    ];
    home.json(&arguments);
    let leaf = home.text_path("ca/brokers/broker-7");
    let config = format!(
        "[node]\nid = 7\ncluster = 'try'\ndata_dir = '{}'\n\
         [listeners]\nclient = '127.0.0.1:0'\npeer = '127.0.0.1:0'\n\
         [tls]\npeer_ca_file = '{leaf}/ca.pem'\nclient_ca_file = '{leaf}/client-ca.pem'\n\
         cert_file = '{leaf}/cert.pem'\nkey_file = '{leaf}/key.pem'\n",
        home.text_path("data")
    );
    std::fs::write(home.path("quorate.toml"), config).unwrap();
    home
}

#[test]
fn a_good_configuration_passes_the_check_and_is_printed_with_sources() {
    let home = home();
    assert_eq!(
        home.json(&["serve", "--config", "quorate.toml", "--check"])["ok"],
        true
    );
    let printed = home.run(&["serve", "--config", "quorate.toml", "--print-config"]);
    assert_eq!(printed.code, 0);
    assert!(
        printed.stdout.contains("tick_ms = 50 # default"),
        "{}",
        printed.stdout
    );
    assert!(
        printed.stdout.contains("quorate.toml:2"),
        "{}",
        printed.stdout
    );
    let set = [
        "server",
        "--config",
        "quorate.toml",
        "--print-config",
        "--set",
        "raft.tick_ms=25",
    ];
    let printed = home.json(&set);
    assert_eq!(
        printed["raft.tick_ms"],
        serde_json::json!({"value": 25, "source": "flag"})
    );
}

#[test]
fn configuration_errors_exit_2_and_name_the_place() {
    let home = home();
    let ran = home.run(&[
        "serve",
        "--config",
        "quorate.toml",
        "--check",
        "--set",
        "raft.tick_mss=5",
    ]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr
            .starts_with("error[QRT-0408]: unknown key `raft.tick_mss`"),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("help: did you mean `raft.tick_ms`?"),
        "{}",
        ran.stderr
    );
    assert_eq!(home.run(&["serve", "--config", "missing.toml"]).code, 2);
    let set = ["--set", "tls.key_file=/nowhere/key.pem"];
    let ran = home.run(&[&["serve", "--config", "quorate.toml", "--check"][..], &set].concat());
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("/nowhere/key.pem"), "{}", ran.stderr);
}

#[test]
fn a_certificate_that_is_not_this_brokers_fails_the_check_and_leaves_no_data() {
    let home = home();
    let (cluster, name) = ("node.cluster=other", "node.name=broker-8");
    let admin = home.path("ca/admins/admin");
    let (certificate, key) = (admin.join("cert.pem"), admin.join("key.pem"));
    let client = format!("tls.cert_file={}", certificate.display());
    let foreign_key = format!("tls.key_file={}", key.display());
    for set in [cluster, name, &client, &foreign_key] {
        for mode in ["--check", "--init"] {
            let ran = home.run(&[
                "serve",
                "--config",
                "quorate.toml",
                mode,
                "--set",
                set,
                "--json",
            ]);
            let error = ran.error();
            assert_eq!((ran.code, &error["code"]), (2, &"QRT-0803".into()), "{set}");
        }
    }
    assert!(!home.path("data").exists());
}

#[test]
fn a_port_in_use_is_no_fault_of_the_program() {
    let home = home();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let set = format!("listeners.client={}", taken.local_addr().unwrap());
    let ran = home.run(&["serve", "--config", "quorate.toml", "--init", "--set", &set]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("listeners.client"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("Report"), "{}", ran.stderr);
}

#[test]
fn an_empty_data_directory_needs_init() {
    let home = home();
    let ran = home.run(&["serve", "--config", "quorate.toml", "--json"]);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("--init"), "{}", ran.stderr);
}

#[test]
fn a_broker_serves_until_it_is_told_to_stop_and_again_from_its_data() {
    let home = home();
    for arguments in [&["--init"][..], &[]] {
        let serve = [
            &["serve", "--config", "quorate.toml", "--json"][..],
            arguments,
        ]
        .concat();
        let mut broker = Told::start(&mut home.command(&serve));
        let ready = broker.event("ready");
        let expected = [
            "event", "id", "name", "client", "peer", "gateway", "version",
        ];
        assert_keys(&ready, &expected);
        assert_eq!(
            (&ready["id"], &ready["name"]),
            (&7.into(), &"broker-7".into())
        );
        let servers = ready["client"].as_str().unwrap();
        let admin = home.text_path("ca/admins/admin");
        let file = |name: &str| format!("{admin}/{name}.pem");
        let (ca, cert, key) = (file("ca"), file("cert"), file("key"));
        let target = [
            "--servers",
            servers,
            "--ca",
            &ca,
            "--cert",
            &cert,
            "--key",
            &key,
        ];
        let list = home.json(&[&["topic", "list"][..], &target].concat());
        assert_eq!(list["topics"], serde_json::json!([]));
        assert_eq!(broker.end(Signal::TERM), Some(0));
    }
}

#[test]
fn development_authorities_stay_on_loopback() {
    let home = Home::new();
    let dev = [
        "dev",
        "--nodes",
        "1",
        "--base-port",
        "0",
        "--json",
        "--data",
        "dev",
    ];
    let mut cluster = Told::start(&mut home.command(&dev));
    cluster.event("ready");
    assert_eq!(cluster.end(Signal::INT), Some(0));
    let config = home.text_path("dev/broker-1/quorate.toml");
    let set = [
        "--set",
        "listeners.client=0.0.0.0:0",
        "--set",
        "listeners.advertise_client=h:1",
    ];
    let ran = home.run(&[&["serve", "--config", &config, "--check"][..], &set].concat());
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("development authority"),
        "{}",
        ran.stderr
    );
}
