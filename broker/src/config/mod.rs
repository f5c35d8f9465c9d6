//! The server's settings: file, environment and flags, merged and checked once.
//!
//! Every key stands in one table (`key`): ranges, defaults, the printed configuration and the
//! example file come from it. Knows no other room.

mod error;
mod example;
mod files;
mod key;
mod merge;
mod nearest;
mod peers;
mod print;
mod settings;
mod toml_file;
mod value;

pub use crate::config::error::ConfigError;
pub use crate::config::example::example_toml;
pub use crate::config::files::FileError;
pub use crate::config::files::TlsMaterial;
pub use crate::config::merge::Source;
pub use crate::config::peers::PeerSeed;
pub use crate::config::settings::Config;
pub use crate::config::settings::Limits;
pub use crate::config::settings::Listeners;
pub use crate::config::settings::LogFormat;
pub use crate::config::settings::LogLevel;
pub use crate::config::settings::Logging;
pub use crate::config::settings::Node;
pub use crate::config::settings::Raft;
pub use crate::config::settings::Storage;
pub use crate::config::settings::TlsFiles;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use quorate_protocol::BrokerId;
    use quorate_protocol::ByteSize;

    use super::*;

    const REQUIRED: [(&str, &str); 8] = [
        ("node.id", "3"),
        ("node.cluster", "prod"),
        ("tls.peer_ca_file", "/c/ca.pem"),
        ("tls.client_ca_file", "/c/client-ca.pem"),
        ("tls.cert_file", "/c/cert.pem"),
        ("tls.key_file", "/c/key.pem"),
        ("listeners.client", "127.0.0.1:0"),
        ("listeners.peer", "127.0.0.1:0"),
    ];

    fn pairs(entries: &[(&str, &str)]) -> Vec<(String, String)> {
        let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        entries.iter().map(pair).collect()
    }

    fn with(flags: &[(&str, &str)]) -> Result<Config, Vec<ConfigError>> {
        let flags = [pairs(&REQUIRED), pairs(flags)].concat();
        Config::load(None, [], &flags)
    }

    fn complaints(flags: &[(&str, &str)]) -> Vec<String> {
        let errors = with(flags).unwrap_err();
        errors.iter().map(ToString::to_string).collect()
    }

    fn load_text(text: &str) -> Result<Config, Vec<ConfigError>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quorate.toml");
        fs::write(&path, text).unwrap();
        Config::load(Some(&path), [], &pairs(&REQUIRED))
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let config = with(&[]).unwrap();
        assert_eq!(config.node.id, BrokerId::new(3));
        assert_eq!(config.node.name, "broker-3");
        assert_eq!(config.node.data_dir, Path::new("/var/lib/quorate"));
        assert_eq!(config.storage.segment_bytes, ByteSize::new(256 << 20));
        assert_eq!(config.raft.tick, Duration::from_millis(50));
        assert_eq!(config.raft.election_max, Duration::from_secs(1));
        assert_eq!(config.limits.connections_max, 20_000);
        assert_eq!(config.limits.session_age_max, Duration::from_secs(86_400));
        assert_eq!(config.limits.streams_per_connection_max, 33);
        assert_eq!(config.limits.auto_create_partitions, None);
        assert_eq!(config.logging.level, LogLevel::Info);
        assert_eq!(config.logging.format, LogFormat::Auto);
    }

    #[test]
    fn the_stronger_source_wins_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("quorate.toml");
        fs::write(
            &path,
            "[raft]\ntick_ms = 10\nheartbeat_ms = 40\n\nelection_ms_min = \"600ms\"\n",
        )
        .unwrap();
        let variables = pairs(&[
            ("QUORATE_RAFT__HEARTBEAT_MS", "80"),
            ("QUORATE_RAFT__ELECTION_MS_MIN", "700"),
            ("QUORATE_CONTEXT", "dev"),
            ("QUORATE_CLIENT__SERVERS", "a:1"),
            ("PATH", "/bin"),
        ]);
        let flags = [pairs(&REQUIRED), pairs(&[("raft.election_ms_min", "0.8s")])].concat();
        assert!(Config::load(Some(&path), variables.clone(), &flags).is_err());
        let flags = [
            pairs(&REQUIRED),
            pairs(&[("raft.election_ms_min", "800ms")]),
        ]
        .concat();
        let config = Config::load(Some(&path), variables, &flags).unwrap();
        assert_eq!(config.raft.tick, Duration::from_millis(10));
        assert_eq!(config.raft.heartbeat, Duration::from_millis(80));
        assert_eq!(config.raft.election_min, Duration::from_millis(800));
        let source = |key| config.source(key).unwrap().to_string();
        assert_eq!(source("raft.tick_ms"), format!("file {}:2", path.display()));
        assert_eq!(
            source("raft.heartbeat_ms"),
            "env QUORATE_RAFT__HEARTBEAT_MS"
        );
        assert_eq!(source("raft.election_ms_min"), "flag");
        assert_eq!(source("raft.election_ms_max"), "default");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place_and_the_nearest_one() {
        let errors =
            load_text("[raft]\n\n# a comment\ntick_mss = 5\n[rafts]\nx = 1\n").unwrap_err();
        assert_eq!(errors.len(), 2, "{errors:?}");
        let text = errors[0].to_string();
        assert!(
            text.starts_with("unknown key `raft.tick_mss` (file /"),
            "{text}"
        );
        assert!(text.ends_with("quorate.toml:4)"), "{text}");
        let help = errors[0].help().unwrap();
        assert_eq!(help, "did you mean `raft.tick_ms`?");
        let variables = pairs(&[("QUORATE_RAFT__TICKS", "5")]);
        let errors = Config::load(None, variables, &pairs(&REQUIRED)).unwrap_err();
        let text = errors[0].to_string();
        assert_eq!(text, "unknown key `raft.ticks` (env QUORATE_RAFT__TICKS)");
    }

    #[test]
    fn a_value_out_of_range_is_named_with_its_range() {
        assert_eq!(
            complaints(&[("raft.tick_ms", "2s")]),
            ["`raft.tick_ms` cannot be \"2s\" (flag): it ranges from 5 to 1000"]
        );
        assert_eq!(
            complaints(&[("limits.batch_bytes_max", "16MiB")]),
            [
                "`limits.batch_bytes_max` cannot be \"16MiB\" (flag): it ranges from \"4KiB\" to \"8MiB\""
            ]
        );
        assert_eq!(complaints(&[("node.id", "0")]).len(), 1);
        assert_eq!(complaints(&[("node.id", "65536")]).len(), 1);
    }

    #[test]
    fn a_value_of_another_form_is_named_with_what_is_taken() {
        for (key, value) in [
            ("raft.tick_ms", "soon"),
            ("node.cluster", "Prod"),
            ("node.cluster", "../prod"),
            ("node.cluster", ""),
            ("node.data_dir", ""),
            ("listeners.client", "localhost"),
            ("listeners.client", "localhost:4747"),
            ("listeners.advertise_client", "broker"),
            ("listeners.advertise_client", "broker:0"),
            ("listeners.advertise_client", "bro ker:1"),
            ("logging.level", "loud"),
        ] {
            let found = complaints(&[(key, value)]);
            assert_eq!(found.len(), 1, "{found:?}");
            let expected = format!("`{key}` cannot be \"{value}\" (flag): it takes ");
            assert!(found[0].starts_with(&expected), "{found:?}");
        }
        for text in ["-1", "1.5", "true", "[1]", "1979-05-27", "{ a = 1 }"] {
            let errors = load_text(&format!("[raft]\ntick_ms = {text}\n")).unwrap_err();
            assert!(
                matches!(errors[..], [ConfigError::WrongForm { .. }]),
                "{errors:?}"
            );
        }
    }

    #[test]
    fn keys_that_contradict_each_other_are_refused() {
        for (flags, culprit) in [
            (&[("raft.heartbeat_ms", "120")][..], "raft.heartbeat_ms"),
            (&[("raft.election_ms_min", "299")], "raft.election_ms_min"),
            (&[("raft.election_ms_max", "599")], "raft.election_ms_max"),
            (
                &[("limits.batch_bytes_max", "64KiB")],
                "limits.batch_bytes_max",
            ),
            (
                &[("storage.disk_stop_percent", "20")],
                "storage.disk_stop_percent",
            ),
            (&[("listeners.client", "0.0.0.0:4747")], "listeners.client"),
            (&[("listeners.peer", "[::]:4748")], "listeners.peer"),
        ] {
            let errors = with(flags).unwrap_err();
            assert!(
                matches!(&errors[..], [ConfigError::Conflict { key, .. }] if key == culprit),
                "{errors:?}"
            );
        }
        let wildcard = [
            ("listeners.client", "0.0.0.0:4747"),
            ("listeners.advertise_client", "b1.example.org:4747"),
        ];
        assert!(with(&wildcard).is_ok());
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let errors = Config::load(None, [], &pairs(&[("node.id", "x"), ("a.b", "1")])).unwrap_err();
        let missing = |error: &&ConfigError| matches!(error, ConfigError::Missing { .. });
        assert_eq!(errors.iter().filter(missing).count(), 5, "{errors:?}");
        assert_eq!(errors.len(), 7, "{errors:?}");
        let cluster = errors
            .iter()
            .find(|error| error.to_string().contains("node.cluster"));
        let help = cluster.and_then(ConfigError::help).unwrap();
        assert!(help.contains("QUORATE_NODE__CLUSTER"), "{help}");
    }

    #[test]
    fn a_file_that_is_no_toml_is_named_with_the_line() {
        let errors = load_text("[node]\nid = 1\nname = = 2\n").unwrap_err();
        assert!(
            errors[0].to_string().contains("quorate.toml:3: "),
            "{errors:?}"
        );
        let absent = Config::load(Some(Path::new("/nowhere/q.toml")), [], &pairs(&REQUIRED));
        let text = absent.unwrap_err()[0].to_string();
        assert!(text.starts_with("cannot read /nowhere/q.toml: "), "{text}");
    }

    #[test]
    fn what_is_printed_is_a_configuration_with_the_same_values() {
        let config = with(&[
            ("raft.tick_ms", "20ms"),
            ("limits.session_age_h_max", "90m"),
        ])
        .unwrap();
        let text = config.print();
        assert!(text.contains("[raft]\ntick_ms = 20 # flag\n"), "{text}");
        assert!(text.contains("election_ms_min = 500 # default\n"), "{text}");
        assert!(
            text.contains("session_age_h_max = \"90m\" # flag\n"),
            "{text}"
        );
        let again = load_text(&text).unwrap();
        assert_eq!(again.limits, config.limits);
        assert_eq!(again.node, config.node);
        assert_eq!(again.storage, config.storage);
        assert_eq!(again.raft, config.raft);
    }

    const THREE: &str = "[[peers]]\nid = 3\nname = 'broker-3'\naddr = 'c:4748'\n\
         [[peers]]\nid = 1\nname = 'one'\naddr = 'a:4748'\n\
         [[peers]]\nid = 2\nname = 'two'\naddr = '[::1]:4748'\n";

    #[test]
    fn peers_are_read_in_the_order_of_the_file_and_printed_back() {
        let config = load_text(THREE).unwrap();
        let ids: Vec<_> = config.peers.iter().map(|peer| peer.id.get()).collect();
        assert_eq!(ids, [3, 1, 2]);
        assert_eq!(config.peers[2].name, "two");
        assert_eq!(config.peers[2].address, "[::1]:4748");
        let again = load_text(&config.print()).unwrap();
        assert_eq!(again.peers, config.peers);
        let json = config.print_json();
        assert!(
            json.contains(
                "\"peers\":{\"value\":[{\"id\":3,\"name\":\"broker-3\",\"addr\":\"c:4748\"},"
            ),
            "{json}"
        );
        assert!(with(&[]).unwrap().peers.is_empty());
    }

    #[test]
    fn peers_that_cannot_be_are_refused_with_their_place() {
        for (text, problems) in [
            (
                "[peers]\nid = 1\n",
                &["write [[peers]] with two brackets"][..],
            ),
            ("peers = [1]\n", &["each of peers is a table"]),
            (
                "[[peers]]\nid = 1\n",
                &["`name` is not set", "`addr` is not set"],
            ),
            (
                "[[peers]]\nid = 0\nname = 'One'\naddr = 'a'\n",
                &[
                    "`peers.addr` cannot be",
                    "`peers.id` cannot be 0",
                    "`peers.name` cannot be",
                ],
            ),
            (
                "[[peers]]\nid = 1\nname = 'one'\naddr = 'a:1'\nadr = 'x'\n",
                &["takes id, name and addr, not `adr`"],
            ),
            (
                "[[peers]]\nid = 1\nname = 'one'\naddr = 'a:1'\n\
                 [[peers]]\nid = 1\nname = 'one'\naddr = 'a:1'\n",
                &["have the id 1", "have the name one", "have the addr a:1"],
            ),
            (
                "[[peers]]\nid = 3\nname = 'drei'\naddr = 'a:1'\n",
                &["broker 3 is `drei` here, but its node.name is `broker-3`"],
            ),
            (
                "[[peers]]\nid = 4\nname = 'broker-3'\naddr = 'a:1'\n",
                &["`broker-3` is broker 4 here, but its node.id is 3"],
            ),
        ] {
            let errors = load_text(text).unwrap_err();
            assert_eq!(errors.len(), problems.len(), "{errors:?}");
            for (error, problem) in errors.iter().zip(problems) {
                let told = error.to_string();
                assert!(told.contains(problem), "{told}");
                assert!(told.contains("quorate.toml:"), "{told}");
            }
        }
        let many = |count: u32| {
            let one = |id: u32| format!("[[peers]]\nid = {id}\nname = 'n{id}'\naddr = 'h:{id}'\n");
            (100..100 + count).map(one).collect::<String>()
        };
        assert_eq!(load_text(&many(64)).unwrap().peers.len(), 64);
        let errors = load_text(&many(65)).unwrap_err();
        assert!(errors[0].to_string().contains("at most 64"), "{errors:?}");
    }

    #[test]
    fn json_names_value_and_source() {
        let json = with(&[]).unwrap().print_json();
        assert!(
            json.starts_with("{\"node.id\":{\"value\":3,\"source\":\"flag\"},"),
            "{json}"
        );
        let entry = "\"storage.segment_bytes\":{\"value\":\"256MiB\",\"source\":\"default\"}";
        assert!(json.contains(entry), "{json}");
        assert!(json.ends_with("}}"), "{json}");
    }

    #[test]
    fn the_example_in_the_documentation_is_the_generated_one() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/quorate.toml");
        if std::env::var_os("UPDATE_CONFIG_EXAMPLE").is_some() {
            fs::write(&path, example_toml()).unwrap();
        }
        let committed = fs::read_to_string(&path).unwrap();
        assert!(
            committed == example_toml(),
            "docs/quorate.toml is stale: run with UPDATE_CONFIG_EXAMPLE=1"
        );
    }

    #[test]
    fn the_example_is_accepted_with_its_comments_removed_too() {
        let example = example_toml();
        let advertised = pairs(&[
            ("listeners.advertise_client", "b:1"),
            ("listeners.advertise_peer", "b:2"),
        ]);
        for text in [
            example.clone(),
            example.replace("\n#", "\n").replace("\n ", "\n# "),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("quorate.toml");
            fs::write(&path, text).unwrap();
            let config = Config::load(Some(&path), [], &advertised).unwrap();
            assert_eq!(config.node.cluster, "example");
        }
    }
}
