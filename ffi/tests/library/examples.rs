//! The examples do what they say, against a real broker.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use crate::compilers::Language;
use crate::compilers::compiler;
use crate::place;
use crate::place::run;
use crate::world::World;

pub(crate) fn example(name: &str, dir: &tempfile::TempDir) -> PathBuf {
    let file = place::workspace().join("ffi/examples").join(name);
    let language = match name.ends_with(".c") {
        true => Language::C,
        false => Language::Cpp,
    };
    compiler(language).build(&file, &[], dir.path())
}

#[test]
fn what_publish_sends_subscribe_prints() {
    let world = World::new();
    let dir = place::scratch();
    let (publish, subscribe) = (example("publish.c", &dir), example("subscribe.c", &dir));
    let told = run(world.command(&publish).args(["orders", "1000"]));
    assert_eq!(
        told,
        "count 1000 acked 1000 duplicates 0 failed 0 unknown 0 wrong 0 abandoned 0\n"
    );
    let printed = run(world.command(&subscribe).arg("orders"));
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 1000);
    assert_eq!(lines[0], "orders/0@0 [key-0] origin=publish.c 0");
    assert_eq!(lines[999], "orders/0@999 [key-9] origin=publish.c 999");
    let printed = run(world
        .command(&subscribe)
        .args(["orders", "offset:995", "3"]));
    assert_eq!(printed.lines().count(), 3);
    assert!(printed.starts_with("orders/0@995 "));
}

/// Runs a program with this input; what it printed.
fn feed(world: &World, program: &std::path::Path, topic: &str, input: &str) -> String {
    let mut command = world.command(program);
    command.arg(topic).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {told}", program.display());
    told + &String::from_utf8_lossy(&output.stdout)
}

#[test]
fn pipe_publishes_each_line() {
    let world = World::new();
    let dir = place::scratch();
    let input: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    let told = feed(
        &world,
        &example("pipe.c", &dir),
        "lines",
        &(input.clone() + "the end"),
    );
    assert_eq!(told, "20001 lines, all acknowledged\n");
    let printed = run(world.command(&example("subscribe.c", &dir)).arg("lines"));
    let texts: String = printed
        .lines()
        .map(|line| format!("{}\n", line.split_once(' ').unwrap().1))
        .collect();
    assert_eq!(texts, input + "the end\n");
}

#[test]
fn epoll_gets_receipts_and_records_in_one_loop() {
    let world = World::new();
    let dir = place::scratch();
    let input: String = (0..500).map(|n| format!("line {n}\n")).collect();
    let told = feed(&world, &example("epoll.c", &dir), "loop", &input);
    assert!(
        told.starts_with("sent 500 acked 500 received 500\n"),
        "{told}"
    );
    assert_eq!(told.matches("acked ").count(), 501);
    assert!(told.contains("received line 499\n"));
}

#[test]
fn cost_tells_what_a_send_costs() {
    let world = World::new();
    let dir = place::scratch();
    let told = run(world
        .command(&example("cost.c", &dir))
        .args(["costs", "20000"]));
    assert!(told.starts_with("20000 messages of 100 bytes: "), "{told}");
}

#[test]
fn the_first_program_of_the_manual_runs() {
    let world = World::new();
    let dir = place::scratch();
    let manual = std::fs::read_to_string(place::workspace().join("docs/C.md")).unwrap();
    let (_, program) = manual.split_once("```c\n").unwrap();
    let (program, _) = program.split_once("```").unwrap();
    let file = dir.path().join("first.c");
    std::fs::write(&file, program).unwrap();
    let built = compiler(Language::C).build(&file, &[], dir.path());
    assert_eq!(run(&mut world.command(&built)), "orders/0@0\n");
}
