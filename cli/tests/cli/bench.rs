//! `bench` against a real broker.

use crate::process::Home;
use crate::process::Told;

const SHORT: [&str; 7] = [
    "bench",
    "pub",
    "--duration",
    "100ms",
    "--warmup",
    "10ms",
    "--json",
];

#[test]
fn figures_are_shown_whatever_becomes_of_the_file_and_the_comparison() {
    let home = Home::new();
    let mut dev =
        Told::start(&mut home.command(&["dev", "--nodes", "1", "--base-port", "0", "--json"]));
    dev.event("ready");

    let first = home.run(&[&SHORT[..], &["--rate", "100", "--out", "first.json"]].concat());
    assert_eq!(first.code, 0, "{}", first.stderr);
    let text = crate::process::read(&home.path("first.json"));
    let saved: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(first.objects(), [saved]);

    let unlike = ["--rate", "50", "--compare", "first.json"];
    let nowhere = ["--rate", "100", "--out", "no/such/place.json"];
    for arguments in [unlike, nowhere] {
        let ran = home.run(&[&SHORT[..], &arguments].concat());
        assert_eq!((ran.code, &ran.error()["code"]), (2, &"QRT-0408".into()));
        assert_eq!(ran.objects()[0]["results"]["lost"], 0);
    }
}
