//! `topic create|list|describe|delete` against a real broker.

use crate::process::Home;
use crate::process::Told;
use crate::process::assert_keys;

const LISTED: [&str; 9] = [
    "name",
    "partitions",
    "replicas",
    "storage",
    "flush",
    "ack",
    "records",
    "bytes",
    "subscribers",
];

fn cluster(home: &Home) -> Told {
    let mut dev =
        Told::start(&mut home.command(&["dev", "--nodes", "1", "--base-port", "0", "--json"]));
    dev.event("ready");
    dev
}

const PARTITION: [&str; 9] = [
    "partition",
    "leader",
    "preferred",
    "term",
    "replicas",
    "in_sync",
    "start_offset",
    "high_watermark",
    "bytes",
];

#[test]
fn a_topic_is_created_once() {
    let home = Home::new();
    let _dev = cluster(&home);
    let create = ["topic", "create", "orders", "--partitions", "2"];
    let created = home.json(&create);
    assert_keys(
        &created,
        &["topic", "id", "partitions", "replicas", "created"],
    );
    assert_eq!(
        (&created["partitions"], &created["created"]),
        (&2.into(), &true.into())
    );
    assert_eq!(created["id"].as_str().unwrap().len(), 36);
    let ran = home.run(&[&create[..], &["--json"]].concat());
    assert_eq!((ran.code, &ran.error()["code"]), (1, &"QRT-040C".into()));
    let again = home.json(&[&create[..], &["--if-not-exists"]].concat());
    assert_eq!(
        (&again["created"], &again["id"]),
        (&false.into(), &created["id"])
    );
}

#[test]
fn a_topic_is_listed_and_described_with_its_records() {
    let home = Home::new();
    let _dev = cluster(&home);
    let retention = ["--retention-time", "1h", "--retention-bytes", "1MiB"];
    let create = [
        &["topic", "create", "orders", "--partitions", "2"][..],
        &retention,
    ]
    .concat();
    let created = home.json(&create);
    for partition in ["0", "1", "1"] {
        assert_eq!(
            home.run(&["pub", "orders", "x", "--partition", partition])
                .code,
            0
        );
    }
    let listed = home.json(&["topic", "list"])["topics"][0].clone();
    assert_keys(&listed, &LISTED);
    assert_eq!(
        (&listed["name"], &listed["records"]),
        (&"orders".into(), &3.into())
    );
    assert_eq!(
        (&listed["storage"], &listed["flush"]),
        (&"file".into(), &"batch".into())
    );

    let described = home.json(&["topic", "describe", "orders"]);
    assert_eq!(described["retention_time_ms"], 3_600_000);
    assert_eq!(described["retention_bytes"], 1_048_576);
    assert_eq!(described["id"], created["id"]);
    let partition = &described["partition_list"][1];
    assert_keys(partition, &PARTITION);
    assert_eq!(
        (&partition["leader"], &partition["high_watermark"]),
        (&1.into(), &2.into())
    );
}

#[test]
fn a_deleted_topic_is_gone() {
    let home = Home::new();
    let _dev = cluster(&home);
    assert_eq!(home.run(&["topic", "create", "orders"]).code, 0);
    let dry = home.json(&["topic", "delete", "orders", "--dry-run"]);
    assert_eq!(
        dry,
        serde_json::json!({"topic": "orders", "deleted": false})
    );
    let deleted = home.json(&["topic", "delete", "orders", "-y"]);
    assert_eq!(
        deleted,
        serde_json::json!({"topic": "orders", "deleted": true})
    );
    assert_eq!(
        home.json(&["topic", "list"]),
        serde_json::json!({"topics": []})
    );
    let ran = home.run(&["topic", "delete", "orders", "--json"]);
    assert_eq!((ran.code, &ran.error()["code"]), (1, &"QRT-040A".into()));
}

#[test]
fn a_dry_run_creates_nothing() {
    let home = Home::new();
    let _dev = cluster(&home);
    let planned = home.json(&["topic", "create", "orders", "--dry-run"]);
    assert_eq!(
        (&planned["id"], &planned["created"]),
        (&serde_json::Value::Null, &false.into())
    );
    assert_eq!(
        home.json(&["topic", "list"]),
        serde_json::json!({"topics": []})
    );
}

#[test]
fn what_this_broker_cannot_do_is_refused_clearly() {
    let home = Home::new();
    let _dev = cluster(&home);
    for arguments in [
        &["--replicas", "3"][..],
        &["--partitions", "0"],
        &["--storage", "tape"],
    ] {
        let ran = home.run(&[&["topic", "create", "orders", "--json"], arguments].concat());
        assert!(
            ran.code == 1 || ran.code == 2,
            "{arguments:?}: {}",
            ran.stdout
        );
        assert_ne!(ran.error()["message"], "", "{arguments:?}");
    }
    for name in ["__quorate", "a/b", ""] {
        assert_eq!(home.run(&["topic", "create", name]).code, 2, "{name:?}");
    }
    assert_eq!(
        home.json(&["topic", "list"]),
        serde_json::json!({"topics": []})
    );
}

#[test]
fn a_missing_topic_is_named() {
    let home = Home::new();
    let _dev = cluster(&home);
    for arguments in [&["topic", "describe", "nope"][..], &["read", "nope"]] {
        let ran = home.run(&[arguments, &["--json"]].concat());
        assert_eq!(
            (ran.code, &ran.error()["code"]),
            (1, &"QRT-040A".into()),
            "{}",
            ran.stderr
        );
        assert!(ran.error()["message"].as_str().unwrap().contains("nope"));
    }
}
