//! Usage, help, codes and completions, without any broker.

use crate::process::Home;
use crate::process::assert_keys;

#[test]
fn help_and_version_are_results() {
    let home = Home::new();
    for arguments in [
        &["--help"][..],
        &["pub", "--help"],
        &["help", "topic", "create"],
    ] {
        let ran = home.run(arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{arguments:?}");
        assert!(ran.stdout.contains("Usage: quorate"), "{}", ran.stdout);
    }
    let version = home.run(&["--version"]);
    assert_eq!(
        version.stdout,
        format!("quorate {}\n", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn wrong_usage_exits_2_in_the_form_asked_for() {
    let home = Home::new();
    for arguments in [
        &["pub"][..],
        &["pub", "orders", "x", "--no-such-flag"],
        &["pub", "orders", "x", "--file", "f"],
        &["sub", "orders", "--timeout", "soon"],
        &["cert", "issue", "king", "arthur", "--ca", "x"],
        &["dev", "--nodes", "4"],
        &["explain", "QRT-FFFF"],
        &["frobnicate"],
    ] {
        let ran = home.run(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.stderr);
        assert!(
            ran.stderr.starts_with("error[QRT-0408]: "),
            "{}",
            ran.stderr
        );
        let ran = home.run(&[arguments, &["--json"]].concat());
        assert_eq!(ran.code, 2, "{arguments:?}");
        assert_eq!(ran.error()["code"], "QRT-0408");
    }
}

#[test]
fn no_command_shows_how_to_give_one() {
    let home = Home::new();
    for arguments in [&[][..], &["topic"]] {
        let ran = home.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
        assert!(ran.stderr.contains("Usage: quorate"), "{}", ran.stderr);
        assert!(!ran.stderr.contains("error["), "{}", ran.stderr);
    }
}

#[test]
fn a_file_that_is_not_there_is_a_wrong_argument() {
    let home = Home::new();
    let servers = "127.0.0.1:1";
    for file in ["nothing-here", "."] {
        let arguments = [
            "pub",
            "orders",
            "--servers",
            servers,
            "--file",
            file,
            "--json",
        ];
        let ran = home.run(&arguments);
        let error = ran.error();
        assert_eq!((ran.code, &error["code"]), (2, &"QRT-0408".into()));
        assert_eq!(error["retryable"], false);
    }
}

#[test]
fn a_message_is_needed() {
    let home = Home::new();
    let ran = home.run(&["pub", "orders"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("--stdin-lines"), "{}", ran.stderr);
}

#[test]
fn without_a_broker_the_next_command_is_named() {
    let home = Home::new();
    for arguments in [
        &["pub", "orders", "x"][..],
        &["sub", "orders"],
        &["topic", "list"],
    ] {
        let ran = home.run(arguments);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains("quorate dev"), "{}", ran.stderr);
    }
}

#[test]
fn an_unknown_setting_is_refused_with_its_source() {
    let home = Home::new();
    let ran = home.run(&[
        "topic",
        "list",
        "--servers",
        "a:1",
        "--set",
        "producer.linger_ms=1",
    ]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("producer.linger_ms"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("from the command line"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("producer.linger_us"), "{}", ran.stderr);
    let mut command = home.command(&["topic", "list", "--servers", "a:1"]);
    let ran = crate::process::Ran::of(command.env("QUORATE_CLIENT__SERVER", "x"));
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("QUORATE_CLIENT__SERVER"),
        "{}",
        ran.stderr
    );
}

#[test]
fn every_code_is_explained() {
    let home = Home::new();
    let explained = home.json(&["explain", "QRT-0201"]);
    let expected = [
        "code",
        "kind",
        "title",
        "cause",
        "fix",
        "retryable",
        "outcome",
    ];
    assert_keys(&explained, &expected);
    assert_eq!(explained["kind"], "NotLeader");
    assert_eq!(explained["retryable"], true);
    assert_eq!(explained["outcome"], "not_applied");
    for same in ["0201", "qrt-0201", "notleader"] {
        assert_eq!(home.json(&["explain", same]), explained);
    }
    for info in quorate::ErrorCode::ALL {
        let ran = home.run(&["explain", &info.code.to_string()]);
        assert_eq!(ran.code, 0);
        assert!(ran.stdout.contains(info.name), "{}", ran.stdout);
    }
}

#[test]
fn each_shell_gets_a_script() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let ran = home.run(&["completions", shell]);
        assert_eq!(ran.code, 0);
        assert!(
            ran.stdout.contains("quorate") && ran.stdout.contains("stdin-lines"),
            "{shell}"
        );
    }
}

#[test]
fn a_reader_that_leaves_ends_the_command_quietly() {
    let home = Home::new();
    let mut command = home.command(&["completions", "bash"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ran = crate::process::Ran::from(command.stdout(writer).output().unwrap());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}
