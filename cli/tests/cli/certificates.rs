//! `cert init`, `cert issue`, `cert show`.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::process::Home;
use crate::process::assert_keys;

const ISSUED: [&str; 9] = [
    "identity",
    "dir",
    "ca_file",
    "cert_file",
    "key_file",
    "serial",
    "not_before",
    "not_after",
    "sans",
];

fn init(home: &Home) -> Value {
    let arguments = [
        "cert",
        "init",
        "--cluster",
        "prod",
        "--out",
        "ca",
        "--broker",
        "b1=b1.example,10.0.0.1",
    ];
    home.json(&arguments)
}

#[test]
fn init_makes_what_it_says() {
    let home = Home::new();
    let made = init(&home);
    assert_keys(
        &made,
        &["cluster", "dir", "peer_ca", "client_ca", "brokers", "admin"],
    );
    let broker = &made["brokers"][0];
    assert_keys(broker, &ISSUED);
    assert_eq!(broker["identity"], "spiffe://prod/broker/b1");
    assert_eq!(
        broker["sans"],
        serde_json::json!(["b1.example", "10.0.0.1"])
    );
    assert_eq!(made["admin"]["identity"], "spiffe://prod/admin/admin");
    let until = made["admin"]["not_after"].as_str().unwrap();
    assert!(until.ends_with(".000000Z"), "{until}");
    for file in ["ca_file", "cert_file", "key_file"] {
        assert!(home.path(broker[file].as_str().unwrap()).exists());
    }
    let key = home.path(broker["key_file"].as_str().unwrap());
    assert_eq!(
        std::fs::metadata(key).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[test]
fn a_second_init_is_refused() {
    let home = Home::new();
    init(&home);
    let ran = home.run(&["cert", "init", "--cluster", "prod", "--out", "ca"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("ca/peer-ca.pem"), "{}", ran.stderr);
}

#[test]
fn issued_certificates_can_be_shown() {
    let home = Home::new();
    init(&home);
    let arguments = [
        "cert",
        "issue",
        "client",
        "shop/till-7",
        "--ca",
        "ca",
        "--ttl",
        "2h",
    ];
    let issued = home.json(&arguments);
    assert_keys(&issued, &ISSUED);
    assert_eq!(issued["dir"], "ca/clients/shop/till-7");
    let shown = home.json(&["cert", "show", issued["cert_file"].as_str().unwrap()]);
    assert_eq!(shown["identity"], "spiffe://prod/client/shop/till-7");
    assert_eq!(shown["serial"], issued["serial"]);
    assert_eq!(shown["not_after"], issued["not_after"]);
    assert_eq!(shown["expired"], false);
    assert_eq!(shown["usages"], serde_json::json!(["client"]));
    let authority = home.json(&["cert", "show", "ca/peer-ca.pem"]);
    assert_eq!(
        (&authority["identity"], &authority["authority"]),
        (&Value::Null, &Value::Bool(true))
    );
}

#[test]
fn wrong_combinations_are_refused() {
    let home = Home::new();
    init(&home);
    for (arguments, part) in [
        (&["broker", "b2"][..], "--san"),
        (&["client", "c", "--san", "c.example"], "drop --san"),
        (&["client", "Bad Name"], "a-z, 0-9"),
        (&["admin", "admin"], "exists already"),
        (&["client", "c", "--ttl", "3650d"], "client CA"),
        (
            &["client", "c", "--csr", "ca/peer-ca.pem"],
            "CERTIFICATE REQUEST",
        ),
    ] {
        let ran = home.run(&[&["cert", "issue"], arguments, &["--ca", "ca"]].concat());
        assert_eq!(ran.code, 2, "{arguments:?}");
        assert!(ran.stderr.contains(part), "{arguments:?}: {}", ran.stderr);
    }
    let ran = home.run(&["cert", "issue", "client", "c", "--ca", "elsewhere"]);
    assert!(ran.stderr.contains("quorate cert init"), "{}", ran.stderr);
    let ran = home.run(&["cert", "show", "ca/peer-ca.key"]);
    assert_eq!(ran.code, 2);
}
