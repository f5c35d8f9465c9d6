//! `cluster` and `demo`: three brokers as people see them.

use rustix::process::Signal;
use serde_json::Value;

use crate::broker;
use crate::process::Home;
use crate::process::Told;
use crate::process::assert_keys;
use crate::process::kill;

const DEV: [&str; 6] = ["dev", "--nodes", "3", "--base-port", "0", "--json"];

/// Asks until the answer is as wanted; what is asked for waits for itself in between.
fn until(home: &Home, arguments: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
    let look = |_| {
        let ran = home.run(&[arguments, &["--json"]].concat());
        let answer = ran.objects().into_iter().next();
        answer.filter(|answer| wanted(answer))
    };
    let answer = (0..400).find_map(look);
    answer.expect("it becomes what was wanted")
}

fn pid(broker: &Value) -> i32 {
    i32::try_from(broker["pid"].as_i64().unwrap()).unwrap()
}

#[test]
fn a_data_directory_is_made_once_and_started_without_init() {
    let home = broker::home();
    let init = ["cluster", "init", "--config", "quorate.toml"];
    let made = home.json(&init);
    assert_keys(&made, &["cluster", "id", "name", "data_dir", "brokers"]);
    assert_eq!(made["brokers"], serde_json::json!([7]));
    let again = home.run(&init);
    assert_eq!(again.code, 2, "{}", again.stderr);
    assert!(
        again.stderr.contains("nothing was changed"),
        "{}",
        again.stderr
    );
    let serve = ["serve", "--config", "quorate.toml", "--json"];
    let mut broker = Told::start(&mut home.command(&serve));
    broker.event("ready");
    assert_eq!(broker.end(Signal::TERM), Some(0));
}

#[test]
fn a_broker_that_is_not_listed_is_not_made_an_initial_member() {
    let home = broker::home();
    let path = home.path("quorate.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    let peers = "[[peers]]\nid = 1\nname = 'broker-1'\naddr = '127.0.0.1:1'\n";
    std::fs::write(&path, config + peers).unwrap();
    let ran = home.run(&["cluster", "init", "--config", "quorate.toml"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("[[peers]]"), "{}", ran.stderr);
    assert!(!home.path("data").exists());
}

/// Every partition is led and complete. A disk of the machine that is nearly full is an alarm too.
fn whole(status: &Value) -> bool {
    let partitions = status["partition_list"].as_array().unwrap();
    let in_sync = |one: &Value| one["in_sync"].as_array().unwrap().len() == 3;
    status["health"] != "down" && partitions.iter().all(in_sync)
}

#[test]
fn the_status_of_three_brokers_says_everything() {
    let home = Home::new();
    let mut dev = Told::start(&mut home.command(&DEV));
    dev.event("ready");
    home.json(&["topic", "create", "orders"]);
    let status = until(&home, &["cluster", "status"], whole);
    assert_keys(
        &status,
        &[
            "cluster",
            "feature_level",
            "health",
            "brokers",
            "metadata",
            "partitions",
            "alarms",
            "partition_list",
        ],
    );
    assert_keys(
        &status["brokers"][0],
        &[
            "id",
            "name",
            "state",
            "client",
            "peer",
            "version",
            "leaders",
            "replicas",
            "clock_offset_us",
            "clock_error_us",
            "disk_free_bytes",
            "cert_not_after",
            "uptime_s",
        ],
    );
    assert_keys(
        &status["partitions"],
        &["total", "leaderless", "under_replicated"],
    );
    assert_keys(
        &status["partition_list"][0],
        &[
            "topic",
            "partition",
            "leader",
            "term",
            "replicas",
            "in_sync",
            "lags",
            "high_watermark",
        ],
    );
    assert_eq!(home.json(&["doctor"])["ok"], true);
    let shown = home.run(&["cluster", "status"]);
    assert!(shown.stdout.contains("broker-3"), "{}", shown.stdout);
    assert!(shown.stdout.contains("orders/0"), "{}", shown.stdout);
}

#[test]
fn three_brokers_survive_the_kill_of_a_leader() {
    let home = Home::new();
    let mut dev = Told::start(&mut home.command(&[&DEV[..], &["--respawn", "1s"]].concat()));
    let ready = dev.event("ready");
    assert_eq!(ready["brokers"].as_array().unwrap().len(), 3);
    home.json(&["topic", "create", "orders"]);
    assert_eq!(home.run(&["pub", "orders", "before"]).code, 0);
    let status = until(&home, &["cluster", "status"], whole);
    let leader = status["partition_list"][0]["leader"].as_u64().unwrap();
    let mut brokers = ready["brokers"].as_array().unwrap().iter();
    let victim = brokers.find(|broker| broker["id"] == leader).unwrap();
    kill(pid(victim), Signal::KILL);
    assert_eq!(dev.event("broker_exit")["id"], leader);
    assert_eq!(home.json(&["pub", "orders", "after"])["offset"], 1);
    let ran = home.run(&["sub", "orders", "--from", "earliest", "--count", "2"]);
    assert_eq!(ran.stdout, "before\nafter\n");
    let (mut changed, mut started) = (false, false);
    while !(changed && started) {
        let event = dev.next();
        changed |= event["event"] == "leader_change";
        started |= event["event"] == "broker_start";
    }
    until(&home, &["cluster", "status"], whole);
}

#[test]
fn a_broker_is_named_by_number_or_name_and_a_drained_one_leads_nothing() {
    let home = Home::new();
    let mut dev = Told::start(&mut home.command(&DEV));
    dev.event("ready");
    home.json(&["topic", "create", "orders", "--partitions", "3"]);
    let drain = home.json(&["cluster", "drain", "broker-2", "--dry-run"]);
    assert_keys(&drain, &["ok", "changed", "detail"]);
    assert_eq!(drain["changed"], false);
    assert_eq!(
        home.json(&["cluster", "drain", "broker-2"])["changed"],
        true
    );
    until(&home, &["cluster", "status"], |status| {
        let partitions = status["partition_list"].as_array().unwrap();
        let elsewhere = |one: &Value| one["leader"].as_u64().is_some_and(|id| id != 2);
        partitions.len() == 3 && partitions.iter().all(elsewhere)
    });
    assert_eq!(home.json(&["cluster", "undrain", "2"])["changed"], true);
    let nobody = home.run(&["cluster", "drain", "broker-9"]);
    assert_eq!(nobody.code, 2);
    assert!(nobody.stderr.contains("broker-3"), "{}", nobody.stderr);
    let unsafe_removal = home.run(&["cluster", "remove", "3", "-y"]);
    assert_eq!(unsafe_removal.code, 1, "{}", unsafe_removal.stderr);
}

#[test]
fn the_demonstration_loses_nothing() {
    let home = Home::new();
    let rate = ["demo", "--json", "--rate", "2000"];
    let work = ["demo", "--json", "--work", "50ms..150ms"];
    for arguments in [rate, work] {
        let ran = home.run(&arguments);
        assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
        let told = ran.objects();
        let steps: Vec<_> = told.iter().filter_map(|one| one["name"].as_str()).collect();
        let expected = [
            "cluster", "topic", "traffic", "kill", "failover", "restart", "rejoin", "return", "end",
        ];
        assert_eq!(steps, expected);
        let result = told.last().unwrap();
        assert_eq!(result["ok"], true);
        for none in ["lost", "duplicates", "reordered"] {
            assert_eq!(result[none], 0, "{result}");
        }
        assert!(result["acked"].as_u64().unwrap() > 50, "{result}");
        assert_eq!(home.temporary_files(), 0);
    }
}
