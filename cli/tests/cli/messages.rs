//! `pub`, `sub`, `read` and `doctor` against a real broker over mutual TLS.

use rustix::process::Signal;
use serde_json::Value;

use crate::process::Home;
use crate::process::Ran;
use crate::process::Told;
use crate::process::assert_keys;
use crate::process::kill;

const RECEIPT: [&str; 7] = [
    "topic",
    "partition",
    "offset",
    "term",
    "timestamp",
    "level",
    "duplicate",
];
const RECORD: [&str; 9] = [
    "topic",
    "partition",
    "offset",
    "timestamp",
    "key",
    "headers",
    "id",
    "value",
    "broker",
];

fn cluster(home: &Home) -> Told {
    let mut dev =
        Told::start(&mut home.command(&["dev", "--nodes", "1", "--base-port", "0", "--json"]));
    dev.event("ready");
    dev
}

fn assert_timestamp(value: &Value) {
    let text = value.as_str().unwrap();
    let (_, fraction) = text.split_once('.').unwrap();
    assert!(
        text.len() == 27 && fraction.len() == 7 && text.ends_with('Z'),
        "{text}"
    );
}

#[test]
fn a_published_message_comes_back_whole() {
    let home = Home::new();
    let _dev = cluster(&home);
    let id = "00112233-4455-6677-8899-aabbccddeeff";
    let arguments = ["pub", "orders", "héllo", "--key", "k1", "--id", id];
    let headers = ["--header", "a=1", "--header", "b=2", "--header", "a=3"];
    let receipt = home.json(&[&arguments[..], &headers].concat());
    assert_keys(&receipt, &RECEIPT);
    assert_timestamp(&receipt["timestamp"]);
    assert_eq!(receipt["topic"], "orders");
    assert_eq!(
        (&receipt["partition"], &receipt["offset"]),
        (&0.into(), &0.into())
    );
    assert_eq!(
        (&receipt["level"], &receipt["duplicate"]),
        (&"quorum".into(), &false.into())
    );

    let record = home.json(&["sub", "orders", "--from", "earliest", "--count", "1"]);
    assert_keys(&record, &RECORD);
    assert_eq!(record["timestamp"], receipt["timestamp"]);
    assert_eq!(
        (&record["key"], &record["value"]),
        (&"k1".into(), &"héllo".into())
    );
    assert_eq!(
        (&record["id"], &record["broker"]),
        (&id.into(), &"broker-1".into())
    );
    assert_eq!(
        record["headers"],
        serde_json::json!({"a": ["1", "3"], "b": "2"})
    );
}

#[test]
fn the_same_id_is_stored_once() {
    let home = Home::new();
    let _dev = cluster(&home);
    let id = ["--id", "00000000-0000-4000-8000-000000000001"];
    let first = home.json(&[&["pub", "orders", "x"][..], &id].concat());
    let second = home.json(&[&["pub", "orders", "x"][..], &id].concat());
    assert_eq!(
        (&first["duplicate"], &second["duplicate"]),
        (&false.into(), &true.into())
    );
    assert_eq!(first["offset"], second["offset"]);
    let many = ["pub", "orders", "--sequence", "--count", "3", "--json"];
    for duplicate in [false, true] {
        let ran = home.run(&[&many[..], &id].concat());
        let receipts = ran.objects();
        assert_eq!(receipts.len(), 3, "{}", ran.stderr);
        assert!(
            receipts
                .iter()
                .all(|receipt| receipt["duplicate"] == duplicate),
            "{receipts:?}"
        );
    }
    assert_eq!(home.json(&["read", "orders"])["tail"], 4);
}

#[test]
fn each_line_of_a_file_is_a_message_with_a_receipt_in_order() {
    let home = Home::new();
    let _dev = cluster(&home);
    let lines: Vec<_> = (0..5000).map(|n| format!("line {n}")).collect();
    std::fs::write(home.path("lines"), lines.join("\n")).unwrap();
    let ran = home.run(&["pub", "orders", "--file", "lines", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let offsets: Vec<_> = ran
        .objects()
        .iter()
        .map(|r| r["offset"].as_u64().unwrap())
        .collect();
    assert_eq!(offsets, (0..5000).collect::<Vec<_>>());
    let read = home.run(&["sub", "orders", "--from", "earliest", "--until", "tail"]);
    assert_eq!((read.code, read.stdout), (0, lines.join("\n") + "\n"));
}

#[test]
fn standard_input_is_published_line_by_line() {
    let home = Home::new();
    let _dev = cluster(&home);
    let ran = home.run_with_input(&["pub", "orders", "--stdin-lines", "--json"], "a\n\nc\n");
    assert_eq!((ran.code, ran.objects().len()), (0, 3), "{}", ran.stderr);
    let page = home.json(&["read", "orders"]);
    let values: Vec<_> = (0..3)
        .map(|at| page["records"][at]["value"].clone())
        .collect();
    assert_eq!(values, ["a", "", "c"]);
}

#[test]
fn pages_follow_their_cursor() {
    let home = Home::new();
    let _dev = cluster(&home);
    assert_eq!(
        home.run(&["pub", "orders", "--sequence", "--count", "5"])
            .code,
        0
    );
    let first = home.json(&["read", "orders", "--limit", "3"]);
    assert_keys(&first, &["records", "next", "tail"]);
    assert_keys(&first["records"][0], &RECORD);
    assert_eq!(
        (first["records"].as_array().unwrap().len(), &first["tail"]),
        (3, &5.into())
    );
    let cursor = first["next"].as_str().unwrap();
    let second = home.json(&["read", "orders", "--limit", "3", "--cursor", cursor]);
    assert_eq!(second["records"][0]["value"], "4");
    assert_eq!(second["records"].as_array().unwrap().len(), 2);
    assert_eq!(second["next"], Value::Null);
    let last = home.json(&["read", "orders", "--from", "last:2"]);
    assert_eq!(last["records"][0]["value"], "4");
    let none = home.json(&[
        "read", "orders", "--from", "offset:2", "--until", "offset:2",
    ]);
    assert_eq!(none["records"], serde_json::json!([]));
}

#[test]
fn bytes_that_are_no_text_are_base64() {
    let home = Home::new();
    let _dev = cluster(&home);
    std::fs::write(home.path("bytes"), [0xff, 0xfe, 0xfd]).unwrap();
    assert_eq!(home.run(&["pub", "orders", "--file", "bytes"]).code, 0);
    let record = home.json(&["sub", "orders", "--from", "earliest", "--count", "1"]);
    assert_eq!(record["value_base64"], "//79");
    assert!(record.get("value").is_none());
}

#[test]
fn people_read_where_it_went() {
    let home = Home::new();
    let _dev = cluster(&home);
    let ran = home.run(&["pub", "orders", "hello"]);
    assert!(ran.stdout.starts_with("orders/0@0 term "), "{}", ran.stdout);
    assert!(
        ran.stdout.contains(" quorum ") && ran.stdout.ends_with(" ms\n"),
        "{}",
        ran.stdout
    );
    let ran = home.run(&[
        "sub",
        "orders",
        "--from",
        "earliest",
        "--count",
        "1",
        "--show-source",
    ]);
    assert_eq!(ran.stdout, "[broker-1] hello\n");
}

#[test]
fn a_subscription_ends_by_count_timeout_or_signal() {
    let home = Home::new();
    let _dev = cluster(&home);
    assert_eq!(
        home.run(&["pub", "orders", "--sequence", "--count", "3"])
            .code,
        0
    );
    let ran = home.run(&["sub", "orders", "--from", "earliest", "--count", "2"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (0, "1\n2\n"));
    let sub = ["sub", "orders", "--from", "earliest", "--timeout", "300ms"];
    assert_eq!(home.run(&sub).code, 0);
    let ran = home.run(&[&sub[..], &["--count", "9", "--json"]].concat());
    assert_eq!((ran.code, ran.objects().len()), (124, 3));
    assert_eq!(ran.error()["code"], "QRT-0809");
    let mut command = home.command(&["sub", "orders", "--from", "earliest", "--json"]);
    let mut sub = Told::start(&mut command);
    assert_eq!(sub.next()["value"], "1");
    assert_eq!(sub.end(Signal::INT), Some(0));
}

#[test]
fn several_topics_and_live_records_arrive() {
    let home = Home::new();
    let _dev = cluster(&home);
    assert_eq!(home.run(&["pub", "a", "1"]).code, 0);
    assert_eq!(home.run(&["pub", "b", "2"]).code, 0);
    let arguments = [
        "sub", "a", "b", "--from", "earliest", "--count", "3", "--json",
    ];
    let mut sub = Told::start(&mut home.command(&arguments));
    let mut topics = vec![sub.next()["topic"].clone(), sub.next()["topic"].clone()];
    topics.sort_by_key(ToString::to_string);
    assert_eq!(topics, ["a", "b"]);
    assert_eq!(home.run(&["pub", "b", "live"]).code, 0);
    assert_eq!(sub.next()["value"], "live");
    assert_eq!(sub.wait(), Some(0));
}

#[test]
fn an_endless_stream_stops_at_a_signal_with_its_receipts() {
    let home = Home::new();
    let _dev = cluster(&home);
    let arguments = [
        "pub",
        "orders",
        "--sequence",
        "--count",
        "0",
        "--rate",
        "200",
        "--json",
    ];
    let mut stream = Told::start(&mut home.command(&arguments));
    for offset in 0..5 {
        assert_eq!(stream.next()["offset"], offset);
    }
    assert_eq!(stream.end(Signal::INT), Some(130));
}

#[test]
fn a_publisher_whose_receipts_nobody_reads_stops_and_says_so() {
    let home = Home::new();
    let _dev = cluster(&home);
    let endless = [
        "pub",
        "orders",
        "--sequence",
        "--count",
        "0",
        "--rate",
        "500",
    ];
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = Ran::from(home.command(&endless).stdout(writer).output().unwrap());
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("QRT-0806"), "{}", ran.stderr);
}

#[test]
fn an_interrupted_command_exits_130() {
    let home = Home::new();
    let _dev = cluster(&home);
    for signal in [Signal::INT, Signal::TERM] {
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let list = ["topic", "list", "--servers", &address];
        let mut command = Told::start(&mut home.command(&list));
        // Its first datagram proves that it listens for signals.
        silent.recv_from(&mut [0; 2048]).unwrap();
        assert_eq!(command.end(signal), Some(130));
    }
}

#[test]
fn a_message_nobody_takes_is_reported_with_its_index() {
    let home = Home::new();
    let _dev = cluster(&home);
    let created = [
        "topic",
        "create",
        "small",
        "--set",
        "topic.record_bytes_max=1KiB",
    ];
    assert_eq!(home.run(&created).code, 0);
    let large = "x".repeat(4096);
    let input = format!("one\n{large}\nthree\n");
    let ran = home.run_with_input(&["pub", "small", "--stdin-lines", "--json"], &input);
    assert_eq!((ran.code, ran.objects().len()), (3, 2), "{}", ran.stderr);
    assert_eq!(
        (&ran.error()["index"], &ran.error()["code"]),
        (&1.into(), &"QRT-0409".into())
    );
    let ran = home.run_with_input(&["pub", "small", "--stdin-lines"], &large);
    assert_eq!(ran.code, 1, "{}", ran.stderr);
}

#[test]
fn acknowledgements_are_as_asked() {
    let home = Home::new();
    let _dev = cluster(&home);
    let none = home.json(&["pub", "orders", "x", "--ack", "none"]);
    assert_eq!(
        (&none["level"], &none["offset"]),
        (&"none".into(), &Value::Null)
    );
    let leader = home.json(&["pub", "orders", "x", "--ack", "leader"]);
    assert_eq!(leader["level"], "leader");
    assert_eq!(home.run(&["pub", "orders", "x", "--ack", "all"]).code, 2);
}

#[test]
fn a_silent_server_is_a_connection_error() {
    let home = Home::new();
    let mut dev = cluster(&home);
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let limit = [
        "--servers",
        &address,
        "--set",
        "client.connect_timeout_ms=200",
    ];
    let ran = home.run(&[&["pub", "orders", "x", "--json"][..], &limit].concat());
    assert_eq!((ran.code, &ran.error()["code"]), (1, &"QRT-0801".into()));
    let report = home.run(&["doctor", "--json", "--servers", &address]);
    assert_eq!(report.code, 1);
    let checks = report.objects()[0]["checks"].clone();
    assert_keys(&checks[0], &["name", "status", "detail", "help"]);
    let failed = checks
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["status"] == "fail")
        .unwrap();
    assert_eq!(failed["name"], format!("server {address}"));
    let nowhere = home.run(&["doctor", "--json", "--servers", ""]);
    assert_eq!(nowhere.objects()[0]["ok"], false);
    kill(dev.pid(), Signal::TERM);
    assert_eq!(dev.wait(), Some(0));
    assert_eq!(Ran::of(&mut home.command(&["doctor"])).code, 1);
}
