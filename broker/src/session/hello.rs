//! Hello: agrees on version, features and frame kinds before anything else may be said.

use quorate_protocol::Bounded;
use quorate_protocol::ErrorCode;
use quorate_protocol::Hello;
use quorate_protocol::HelloReject;
use quorate_protocol::Kind;
use quorate_protocol::PROTOCOL_VERSION;
use quorate_protocol::Text;

/// Optional behaviour this broker offers; none yet.
const FEATURES: u64 = 0;
/// The smallest batch limit a client may have.
const BATCH_BYTES_MIN: u32 = 64 * 1024;
/// The newest form of each frame kind this broker knows.
const KINDS: [(Kind, u16); 22] = [
    (Kind::HELLO, 1),
    (Kind::HELLO_ACK, 1),
    (Kind::HELLO_REJECT, 1),
    (Kind::REQUEST, 1),
    (Kind::REPLY, 1),
    (Kind::PING, 1),
    (Kind::PONG, 1),
    (Kind::TOPOLOGY_UPDATE, 1),
    (Kind::GO_AWAY, 1),
    (Kind::STREAM_OPEN, 1),
    (Kind::STREAM_ACCEPT, 1),
    (Kind::STREAM_REJECT, 1),
    (Kind::PUBLISH, 1),
    (Kind::ACKS, 1),
    (Kind::NACK, 1),
    (Kind::REWIND, 1),
    (Kind::CREDIT, 1),
    (Kind::RECORDS, 1),
    (Kind::PROGRESS, 1),
    (Kind::GAP, 1),
    (Kind::END, 1),
    (Kind::READ_END, 1),
];

/// What both ends will use from here on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    /// Protocol version.
    pub(super) version: u16,
    /// Features both ends have.
    pub(super) features: u64,
    /// Frame kinds both ends have, in the older of their two forms.
    pub(super) kinds: Bounded<(Kind, u16), 128>,
    /// The largest batch either end may send.
    pub(super) batch_bytes_max: u32,
}

/// What this broker brings to the negotiation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Own<'a> {
    /// Name of this broker's cluster.
    pub(super) cluster: &'a str,
    /// The largest batch this broker takes.
    pub(super) batch_bytes_max: u32,
}

/// Agrees with a client, or says why not.
pub(super) fn negotiate(hello: &Hello, own: Own<'_>) -> Result<Agreed, HelloReject> {
    let (oldest, newest) = (hello.min_version, hello.max_version);
    if !(oldest..=newest).contains(&PROTOCOL_VERSION) {
        let text = format!(
            "this broker speaks protocol version {PROTOCOL_VERSION}, the client {oldest} to {newest}"
        );
        return Err(reject(ErrorCode::UNSUPPORTED_VERSION, &text));
    }
    if let Some(wanted) = hello
        .cluster
        .as_ref()
        .filter(|name| name.as_str() != own.cluster)
    {
        let wanted = wanted.as_str().escape_debug();
        let text = format!(
            "this is cluster `{}`, the client asks for `{wanted}`",
            own.cluster
        );
        return Err(reject(ErrorCode::WRONG_CLUSTER, &text));
    }
    if hello.max_frame < BATCH_BYTES_MIN {
        let text = format!("max_frame must be at least {BATCH_BYTES_MIN}");
        return Err(reject(ErrorCode::INVALID_ARGUMENT, &text));
    }
    let common = KINDS.iter().filter_map(|(kind, own)| {
        let (_, peer) = hello.kinds.iter().find(|(peer, _)| peer == kind)?;
        Some((*kind, *peer.min(own)))
    });
    Ok(Agreed {
        version: PROTOCOL_VERSION,
        features: hello.features & FEATURES,
        kinds: Bounded::clipped(common),
        batch_bytes_max: hello.max_frame.min(own.batch_bytes_max),
    })
}

/// A refusal in the layout that every version of the protocol can read.
pub(super) fn reject(code: ErrorCode, text: &str) -> HelloReject {
    HelloReject {
        code,
        min_version: PROTOCOL_VERSION,
        max_version: PROTOCOL_VERSION,
        retry_after_ms: 0,
        text: Text::clipped(text),
    }
}

#[cfg(test)]
mod tests {
    use quorate_protocol::InstanceId;

    use super::*;

    const OWN: Own<'_> = Own {
        cluster: "prod",
        batch_bytes_max: 1 << 20,
    };

    fn hello() -> Hello {
        Hello {
            min_version: 1,
            max_version: 1,
            features: u64::MAX,
            sdk: Text::clipped("test"),
            client_name: Text::clipped("test"),
            instance_id: InstanceId::new(1),
            cluster: None,
            max_frame: 1 << 21,
            kinds: Bounded::clipped([(Kind::PUBLISH, 3), (Kind::GREASE, 1), (Kind::ACKS, 1)]),
        }
    }

    fn refusal(hello: &Hello) -> ErrorCode {
        negotiate(hello, OWN).expect_err("a refusal").code
    }

    #[test]
    fn the_older_form_of_each_common_kind_is_used() {
        let agreed = negotiate(&hello(), OWN).expect("agreement");
        assert_eq!(agreed.kinds.to_vec(), [(Kind::PUBLISH, 1), (Kind::ACKS, 1)]);
        assert_eq!(agreed.features, 0);
        assert_eq!(agreed.batch_bytes_max, 1 << 20);
    }

    #[test]
    fn a_future_or_empty_version_range_is_refused_with_ours() {
        for (min_version, max_version) in [(2, 9), (0, 0), (2, 1)] {
            let hello = Hello {
                min_version,
                max_version,
                ..hello()
            };
            assert_eq!(refusal(&hello), ErrorCode::UNSUPPORTED_VERSION);
        }
        let newer = Hello {
            min_version: 1,
            max_version: 9,
            ..hello()
        };
        assert!(negotiate(&newer, OWN).is_ok());
    }

    #[test]
    fn another_cluster_is_refused_by_name() {
        let hello = Hello {
            cluster: Some(Text::clipped("te\u{1b}st")),
            ..hello()
        };
        let refusal = negotiate(&hello, OWN).expect_err("a refusal");
        assert_eq!(refusal.code, ErrorCode::WRONG_CLUSTER);
        assert!(!refusal.text.as_str().contains('\u{1b}'));
    }

    #[test]
    fn a_tiny_frame_limit_is_refused() {
        assert_eq!(
            refusal(&Hello {
                max_frame: 10,
                ..hello()
            }),
            ErrorCode::INVALID_ARGUMENT
        );
    }
}
