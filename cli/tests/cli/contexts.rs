//! Contexts: listing, choosing, showing, removing.

use crate::process::Home;
use crate::process::assert_keys;
use crate::process::read;

fn home() -> Home {
    let home = Home::new();
    std::fs::create_dir_all(home.path("config/quorate")).unwrap();
    let text = "current = 'prod'\n\
                [contexts.prod.client]\nservers = ['a:1', 'b:2']\n\
                [contexts.test.client]\nservers = 'c:3'\nconnect_timeout_ms = 100\n";
    std::fs::write(home.path("config/quorate/contexts.toml"), text).unwrap();
    home
}

#[test]
fn contexts_are_listed_with_the_current_one() {
    let home = home();
    let list = home.json(&["ctx", "list"]);
    assert_keys(&list, &["current", "contexts"]);
    assert_eq!(list["current"], "prod");
    assert_eq!(list["contexts"][0]["name"], "prod");
    assert_eq!(list["contexts"][0]["servers"], "a:1,b:2");
    assert_eq!(list["contexts"][1]["current"], false);
}

#[test]
fn no_contexts_is_an_empty_list() {
    let list = Home::new().json(&["ctx", "list"]);
    assert_eq!(list, serde_json::json!({"current": null, "contexts": []}));
}

#[test]
fn another_context_can_be_chosen() {
    let home = home();
    assert_eq!(home.json(&["ctx", "use", "test"])["changed"], true);
    assert_eq!(home.json(&["ctx", "use", "test"])["changed"], false);
    assert!(read(&home.path("config/quorate/contexts.toml")).contains("current = \"test\""));
    let shown = home.json(&["ctx", "show"]);
    assert_eq!(shown["name"], "test");
    assert_eq!(shown["settings"]["client.connect_timeout_ms"], "100");
}

#[test]
fn an_unknown_context_is_answered_with_the_known_ones() {
    let home = home();
    for arguments in [
        &["ctx", "use", "x"][..],
        &["ctx", "rm", "x"],
        &["ctx", "show", "x"],
        &["--context", "x", "topic", "list"],
        &["topic", "list", "--context", "x"],
    ] {
        let ran = home.run(arguments);
        assert_eq!(ran.code, 2);
        assert!(ran.stderr.contains("prod, test"), "{}", ran.stderr);
    }
    let mut command = home.command(&["topic", "list"]);
    let ran = crate::process::Ran::of(command.env("QUORATE_CONTEXT", "y"));
    assert!(ran.stderr.contains("no context `y`"), "{}", ran.stderr);
}

#[test]
fn removing_the_current_context_leaves_none_current() {
    let home = home();
    let removed = home.json(&["ctx", "rm", "prod"]);
    assert_eq!(
        removed,
        serde_json::json!({"name": "prod", "removed": true})
    );
    assert_eq!(
        home.json(&["ctx", "list"])["current"],
        serde_json::Value::Null
    );
}
