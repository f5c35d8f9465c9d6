//! C programs that use the library in every way it allows, and in many it does not; the same under
//! AddressSanitizer and under Valgrind.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use tempfile::TempDir;

use crate::compilers::Language;
use crate::compilers::compiler;
use crate::place;
use crate::place::run;
use crate::world::World;

const SANITIZED: [&str; 2] = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"];

fn program(name: &str, options: &[&str], dir: &TempDir) -> PathBuf {
    let folder = place::workspace().join("ffi/tests/library/programs");
    compiler(Language::C).build(&folder.join(format!("{name}.c")), options, dir.path())
}

/// Builds a program and runs it beside a broker; what it printed.
fn passes(name: &str, options: &[&str]) -> String {
    let (world, dir) = (World::new(), place::scratch());
    run(&mut world.command(&program(name, options, &dir)))
}

#[test]
fn each_function_does_what_the_header_says() {
    passes("everything", &[]);
}

#[test]
fn each_misuse_is_an_error_and_nothing_else() {
    passes("misuse", &[]);
}

#[test]
fn a_callback_hears_of_each_message_once_on_one_thread() {
    passes("callback", &[]);
}

#[test]
fn many_threads_share_a_producer_and_closing_ends_their_calls() {
    passes("threads", &[]);
}

#[test]
fn a_forked_child_is_told_so_and_the_parent_goes_on() {
    passes("forking", &[]);
}

#[test]
fn log_lines_go_where_they_were_asked_for() {
    passes("logging", &[]);
}

#[test]
fn sending_takes_memory_per_batch_and_not_per_message() {
    let told = passes("allocations", &[]);
    assert!(told.contains(" allocations for 200000 messages"), "{told}");
}

#[test]
fn without_a_broker_memory_is_bounded_and_every_message_is_accounted_for() {
    let (mut world, dir) = (World::new(), place::scratch());
    let mut command = world.command(&program("full", &[], &dir));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(told.next().unwrap().unwrap(), "ready");
    world.stop();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let told = told.next();
    assert!(child.wait().unwrap().success(), "{told:?}");
}

#[test]
fn the_programs_are_clean_under_address_sanitizer() {
    let dir = place::scratch();
    let world = World::new();
    for name in [
        "misuse",
        "callback",
        "threads",
        "forking",
        "logging",
        "everything",
    ] {
        // Each wants its topics to itself.
        let own = World::new();
        let world = if name == "everything" { &own } else { &world };
        let mut command = world.command(&program(name, &SANITIZED, &dir));
        run(command.env("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0"));
    }
}

#[test]
fn the_programs_are_clean_under_valgrind() {
    if !place::has_for("the programs under Valgrind", "valgrind") {
        return;
    }
    let dir = place::scratch();
    for name in ["everything", "misuse", "callback"] {
        let world = World::new();
        let built = program(name, &[], &dir);
        let mut command = world.command("valgrind".as_ref());
        command.args(["--quiet", "--error-exitcode=99", "--leak-check=full"]);
        // What stays until the end of the process is found through pointers into it.
        command.args(["--show-leak-kinds=definite,indirect"]);
        command.arg("--errors-for-leak-kinds=definite,indirect");
        command.arg("--fair-sched=yes").arg(built);
        run(&mut command);
    }
}

/// The functions of the header are what the library exports; nothing else, and not by accident.
#[test]
fn the_library_exports_the_header_and_nothing_else() {
    let library = place::library().shared.join("libquorate.so.0");
    let symbols = run(Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(&library));
    let mut exported: Vec<_> = symbols
        .lines()
        .filter_map(|line| line.rsplit(' ').next())
        .collect();
    exported.sort_unstable();
    let header = std::fs::read_to_string(crate::header::path()).unwrap();
    let declared = crate::header::declarations(&header);
    let mut declared: Vec<_> = declared.into_iter().map(|(_, name)| name).collect();
    declared.sort_unstable();
    assert_eq!(exported, declared);
}

#[test]
fn the_library_has_a_name_for_the_loader_and_stays_loaded() {
    let library = place::library().shared.join("libquorate.so.0");
    let dynamic = run(Command::new("readelf").arg("-d").arg(&library));
    assert!(dynamic.contains("soname: [libquorate.so.0]"), "{dynamic}");
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
}
