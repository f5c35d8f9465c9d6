//! `dev`: a cluster that comes, survives, and goes without a trace.

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::process::Pid;
use rustix::process::PidfdFlags;
use rustix::process::Signal;
use serde_json::Value;

use crate::process::Home;
use crate::process::Ran;
use crate::process::Told;
use crate::process::assert_keys;
use crate::process::kill;
use crate::process::read;

const DEV: [&str; 6] = ["dev", "--nodes", "1", "--base-port", "0", "--json"];

fn pid(broker: &Value) -> i32 {
    i32::try_from(broker["pid"].as_i64().unwrap()).unwrap()
}

/// Waits until a process that is not our child is gone.
fn wait_until_gone(pid: i32) {
    let process = Pid::from_raw(pid).unwrap();
    let Ok(handle) = rustix::process::pidfd_open(process, PidfdFlags::NONBLOCK) else {
        return;
    };
    let patience = Timespec {
        tv_sec: 40,
        tv_nsec: 0,
    };
    let mut events = [PollFd::new(&handle, PollFlags::IN)];
    let gone = rustix::event::poll(&mut events, Some(&patience)).unwrap();
    assert_eq!(gone, 1, "the broker outlived its parent");
}

#[test]
fn the_ready_event_says_everything_and_nothing_stays() {
    let home = Home::new();
    let mut dev = Told::start(&mut home.command(&DEV));
    let ready = dev.event("ready");
    let expected = [
        "event",
        "context",
        "cluster",
        "brokers",
        "ca_file",
        "cert_file",
        "key_file",
        "gateway_token",
        "dashboard_url",
        "ready_ms",
    ];
    assert_keys(&ready, &expected);
    let broker = &ready["brokers"][0];
    assert_keys(
        broker,
        &["id", "name", "pid", "client", "peer", "gateway", "data_dir"],
    );
    assert_eq!(home.json(&["ctx", "list"])["current"], "dev");
    assert_eq!(home.temporary_files(), 1);
    assert_eq!(home.json(&["doctor"])["ok"], true);
    assert_eq!(dev.end(Signal::INT), Some(0));
    assert_eq!(home.temporary_files(), 0);
    assert_eq!(
        home.json(&["ctx", "list"])["contexts"],
        serde_json::json!([])
    );
    wait_until_gone(pid(broker));
}

#[test]
fn a_cluster_beside_another_gives_its_context_back() {
    let home = Home::new();
    let kept = [
        "dev",
        "--nodes",
        "1",
        "--base-port",
        "0",
        "--data",
        "kept",
        "--json",
    ];
    let mut first = Told::start(&mut home.command(&kept));
    first.event("ready");
    let before = home.json(&["ctx", "show"]);
    let second = home.run(&["dev", "--nodes", "1", "--base-port", "0", "--", "true"]);
    assert_eq!(second.code, 0, "{}", second.stderr);
    assert_eq!(home.json(&["ctx", "show"]), before);
    home.json(&["topic", "list"]);
}

#[test]
fn stopping_is_announced() {
    let home = Home::new();
    let mut dev = Told::start(&mut home.command(&DEV));
    dev.event("ready");
    kill(dev.pid(), Signal::TERM);
    dev.event("stopping");
    assert_eq!(dev.wait(), Some(0));
}

#[test]
fn a_killed_broker_comes_back_with_its_records() {
    let home = Home::new();
    let mut dev = Told::start(&mut home.command(&[&DEV[..], &["--respawn", "10ms"]].concat()));
    let ready = dev.event("ready");
    assert_eq!(home.run(&["pub", "orders", "before"]).code, 0);
    kill(pid(&ready["brokers"][0]), Signal::KILL);
    let exit = dev.event("broker_exit");
    assert_eq!((&exit["code"], &exit["signal"]), (&Value::Null, &9.into()));
    let start = dev.event("broker_start");
    assert_ne!(start["pid"], ready["brokers"][0]["pid"]);
    assert_eq!(home.json(&["pub", "orders", "after"])["offset"], 1);
    let ran = home.run(&["sub", "orders", "--from", "earliest", "--count", "2"]);
    assert_eq!(ran.stdout, "before\nafter\n");
    assert_eq!(dev.end(Signal::TERM), Some(0));
}

#[test]
fn a_stream_outlives_its_broker_without_loss_or_duplicate() {
    const COUNT: u64 = 3000;
    let home = Home::new();
    let mut dev = Told::start(&mut home.command(&[&DEV[..], &["--respawn", "10ms"]].concat()));
    let ready = dev.event("ready");
    let count = COUNT.to_string();
    let publish = [
        "pub",
        "orders",
        "--sequence",
        "--rate",
        "4000",
        "--json",
        "--count",
        &count,
    ];
    let mut publisher = Told::start(&mut home.command(&publish));
    for offset in 0..COUNT {
        assert_eq!(publisher.next()["offset"], offset);
        if offset == COUNT / 3 {
            kill(pid(&ready["brokers"][0]), Signal::KILL);
        }
    }
    assert_eq!(publisher.wait(), Some(0));
    let ran = home.run(&["sub", "orders", "--from", "earliest", "--until", "tail"]);
    let expected: Vec<_> = (1..=COUNT).map(|n| n.to_string()).collect();
    assert_eq!(ran.stdout.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn without_respawn_the_cluster_ends_with_its_last_broker() {
    let home = Home::new();
    let mut dev = Told::start(&mut home.command(&[&DEV[..], &["--respawn", "0"]].concat()));
    let ready = dev.event("ready");
    kill(pid(&ready["brokers"][0]), Signal::KILL);
    dev.event("broker_exit");
    assert_eq!(dev.wait(), Some(1));
    assert_eq!(home.temporary_files(), 0);
}

#[test]
fn the_broker_dies_with_its_parent() {
    let home = Home::new();
    let mut dev = Told::start(&mut home.command(&DEV));
    let ready = dev.event("ready");
    dev.end(Signal::KILL);
    wait_until_gone(pid(&ready["brokers"][0]));
}

#[test]
fn kept_data_is_taken_up_with_the_same_certificates() {
    let home = Home::new();
    let arguments = [&DEV[..], &["--data", "kept", "--context", "mine"]].concat();
    let mut dev = Told::start(&mut home.command(&arguments));
    let first = dev.event("ready");
    assert_eq!(first["context"], "mine");
    assert_eq!(home.run(&["pub", "orders", "kept"]).code, 0);
    assert_eq!(dev.end(Signal::TERM), Some(0));
    assert_eq!(home.json(&["ctx", "list"])["current"], "mine");
    let certificate = read(first["cert_file"].as_str().unwrap().as_ref());

    let mut dev = Told::start(&mut home.command(&arguments));
    let second = dev.event("ready");
    assert_eq!(second["cert_file"], first["cert_file"]);
    assert_eq!(
        read(second["cert_file"].as_str().unwrap().as_ref()),
        certificate
    );
    assert_eq!(
        home.json(&["read", "orders"])["records"][0]["value"],
        "kept"
    );
    assert_eq!(dev.end(Signal::TERM), Some(0));
    assert!(home.path("kept/broker-1/data").exists());
}

#[test]
fn a_command_runs_in_the_cluster_and_its_status_is_the_result() {
    let home = Home::new();
    let quorate = env!("CARGO_BIN_EXE_quorate");
    let script = format!("{quorate} pub orders \"$QUORATE_CONTEXT\" --json; exit 7");
    let arguments = [
        "dev",
        "--nodes",
        "1",
        "--base-port",
        "0",
        "--context",
        "try",
        "--",
        "sh",
        "-c",
        &script,
    ];
    let ran = home.run(&arguments);
    assert_eq!(ran.code, 7, "{}", ran.stderr);
    assert_eq!(ran.objects()[0]["offset"], 0);
    assert_eq!(home.temporary_files(), 0);
    let ran = home.run(&[
        "dev",
        "--nodes",
        "1",
        "--base-port",
        "0",
        "--",
        "no-such-program",
    ]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("no-such-program"), "{}", ran.stderr);
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_starts() {
    let home = Home::new();
    std::fs::create_dir(home.path("full")).unwrap();
    std::fs::write(home.path("full/thesis.txt"), "mine").unwrap();
    for arguments in [
        &["--nodes", "2"][..],
        &["--data", "full"],
        &["--base-port", "65535"],
        &["--nodes", "5", "--base-port", "65500"],
        &["--context", "a b"],
    ] {
        let ran = home.run(&[&["dev"], arguments].concat());
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.stderr);
        assert_eq!(home.temporary_files(), 0, "{arguments:?}");
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let home = Home::new();
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let ran = Ran::of(&mut home.command(&["dev", "--base-port", &port]));
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains(&port), "{}", ran.stderr);
    assert_eq!(home.temporary_files(), 0);
}
