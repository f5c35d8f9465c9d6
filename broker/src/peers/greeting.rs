//! The greeting between brokers: who is there, and whether the two may work together. No I/O.

use quorate_protocol::Bounded;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::HelloReject;
use quorate_protocol::HybridTime;
use quorate_protocol::Kind;
use quorate_protocol::PROTOCOL_VERSION;
use quorate_protocol::PeerHello;
use quorate_protocol::PeerHelloAck;
use quorate_protocol::PeerPurpose;
use quorate_protocol::Text;

use crate::peers::seen::Refusal;
use crate::peers::seen::Shown;
use crate::peers::settings::Config;

/// Optional behaviour this broker offers to others; none yet.
const FEATURES: u64 = 0;
/// The cluster-wide formats this build reads and writes.
const FEATURE_LEVEL: u16 = 1;
/// The newest form of each frame kind brokers exchange.
const KINDS: [(Kind, u16); 13] = [
    (Kind::PEER_HELLO, 1),
    (Kind::PEER_HELLO_ACK, 1),
    (Kind::HELLO_REJECT, 1),
    (Kind::REQUEST, 1),
    (Kind::REPLY, 1),
    (Kind::LANE_OPEN, 1),
    (Kind::ENVELOPE, 1),
    (Kind::SNAPSHOT_OPEN, 1),
    (Kind::SNAPSHOT_MANIFEST, 1),
    (Kind::SNAPSHOT_RESUME, 1),
    (Kind::SNAPSHOT_CHUNK, 1),
    (Kind::SNAPSHOT_DONE, 1),
    (Kind::PING, 1),
];

/// What this broker says to the one it dialled.
pub(crate) fn hello(
    config: &Config,
    expects: BrokerId,
    purpose: PeerPurpose,
    now: HybridTime,
) -> PeerHello {
    PeerHello {
        min_version: PROTOCOL_VERSION,
        max_version: PROTOCOL_VERSION,
        features: FEATURES,
        kinds: Bounded::clipped(KINDS),
        cluster: Text::clipped(&config.cluster),
        broker: config.me,
        storage: config.storage,
        incarnation: config.incarnation,
        starts: config.starts,
        expects,
        purpose,
        feature_level_min: FEATURE_LEVEL,
        feature_level_max: FEATURE_LEVEL,
        now,
    }
}

/// Whether the two fit together at all, whoever the other one is.
pub(crate) fn check(config: &Config, hello: &PeerHello) -> Result<(), Refusal> {
    let (oldest, newest) = (hello.min_version, hello.max_version);
    if !(oldest..=newest).contains(&PROTOCOL_VERSION) {
        let text = format!(
            "broker {} speaks protocol version {PROTOCOL_VERSION}, broker {} {oldest} to {newest}",
            config.me, hello.broker
        );
        return refuse(ErrorCode::UNSUPPORTED_VERSION, text);
    }
    if hello.cluster.as_str() != config.cluster {
        let foreign = hello.cluster.as_str().escape_debug();
        let text = format!(
            "this is cluster `{}`, broker {} belongs to `{foreign}`",
            config.cluster, hello.broker
        );
        return refuse(ErrorCode::WRONG_CLUSTER, text);
    }
    if hello.expects != config.me {
        let text = format!("this is broker {}, not broker {}", config.me, hello.expects);
        return refuse(ErrorCode::NOT_MEMBER, text);
    }
    if ![PeerPurpose::RAFT, PeerPurpose::SNAPSHOT].contains(&hello.purpose) {
        let text = format!("a connection for {:?} is not known here", hello.purpose);
        return refuse(ErrorCode::UNSUPPORTED_VERSION, text);
    }
    check_level(hello.feature_level_min, hello.feature_level_max)
}

/// Whether the dialled broker is the one that was meant, and can work with this one.
pub(crate) fn check_ack(meant: BrokerId, ack: &PeerHelloAck) -> Result<(), Refusal> {
    if ack.broker != meant {
        let text = format!("broker {} answers instead of broker {meant}", ack.broker);
        return refuse(ErrorCode::NOT_MEMBER, text);
    }
    if ack.version != PROTOCOL_VERSION {
        let text = format!("broker {meant} chose protocol version {}", ack.version);
        return refuse(ErrorCode::UNSUPPORTED_VERSION, text);
    }
    check_level(ack.feature_level_min, ack.feature_level_max)
}

/// This broker lets the other one in.
pub(crate) fn ack(config: &Config, hello: &PeerHello, now: HybridTime) -> PeerHelloAck {
    let common = KINDS.iter().filter_map(|(kind, own)| {
        let (_, theirs) = hello.kinds.iter().find(|(theirs, _)| theirs == kind)?;
        Some((*kind, *theirs.min(own)))
    });
    PeerHelloAck {
        version: PROTOCOL_VERSION,
        features: hello.features & FEATURES,
        kinds: Bounded::clipped(common),
        broker: config.me,
        storage: config.storage,
        incarnation: config.incarnation,
        feature_level_min: FEATURE_LEVEL,
        feature_level_max: FEATURE_LEVEL,
        now,
    }
}

/// A refusal in the layout that every version of the protocol can read.
pub(crate) fn reject(refusal: &Refusal) -> HelloReject {
    HelloReject {
        code: refusal.code,
        min_version: PROTOCOL_VERSION,
        max_version: PROTOCOL_VERSION,
        retry_after_ms: 0,
        text: Text::clipped(&refusal.text),
    }
}

/// What a greeting shows of its sender's process.
pub(crate) const fn shown(hello: &PeerHello) -> Shown {
    Shown {
        storage: hello.storage,
        incarnation: hello.incarnation,
        starts: Some(hello.starts),
    }
}

/// What an answer shows of its sender's process.
pub(crate) const fn shown_by_ack(ack: &PeerHelloAck) -> Shown {
    Shown {
        storage: ack.storage,
        incarnation: ack.incarnation,
        starts: None,
    }
}

fn check_level(oldest: u16, newest: u16) -> Result<(), Refusal> {
    if (oldest..=newest).contains(&FEATURE_LEVEL) {
        return Ok(());
    }
    let text = format!("feature level {FEATURE_LEVEL} is not within {oldest} to {newest}");
    refuse(ErrorCode::UNSUPPORTED_VERSION, text)
}

const fn refuse(code: ErrorCode, text: String) -> Result<(), Refusal> {
    Err(Refusal { code, text })
}

#[cfg(test)]
mod tests {
    use quorate_protocol::StorageId;

    use super::*;
    use crate::peers::settings::Timings;

    fn config(me: u16, cluster: &str) -> Config {
        Config {
            cluster: cluster.to_owned(),
            me: BrokerId::new(me),
            name: format!("b{me}"),
            storage: StorageId::new(u128::from(me)),
            incarnation: 1,
            starts: 1,
            members: Vec::new(),
            timings: Timings::default(),
        }
    }

    fn greeting(cluster: &str, expects: u16) -> PeerHello {
        let expects = BrokerId::new(expects);
        hello(
            &config(2, cluster),
            expects,
            PeerPurpose::RAFT,
            HybridTime::new(0),
        )
    }

    fn code(hello: &PeerHello) -> Option<ErrorCode> {
        check(&config(1, "prod"), hello)
            .err()
            .map(|refusal| refusal.code)
    }

    #[test]
    fn what_does_not_fit_is_refused_with_its_code() {
        assert_eq!(code(&greeting("prod", 1)), None);
        assert_eq!(code(&greeting("test", 1)), Some(ErrorCode::WRONG_CLUSTER));
        assert_eq!(code(&greeting("prod", 3)), Some(ErrorCode::NOT_MEMBER));
        let good = greeting("prod", 1);
        for other in [
            PeerHello {
                min_version: 2,
                max_version: 9,
                ..good.clone()
            },
            PeerHello {
                feature_level_min: 2,
                feature_level_max: 9,
                ..good.clone()
            },
            PeerHello {
                purpose: PeerPurpose::new(99),
                ..good
            },
        ] {
            assert_eq!(code(&other), Some(ErrorCode::UNSUPPORTED_VERSION));
        }
    }

    #[test]
    fn an_answer_of_somebody_else_is_refused() {
        let good = ack(&config(1, "prod"), &greeting("prod", 1), HybridTime::new(0));
        assert_eq!(check_ack(BrokerId::new(1), &good), Ok(()));
        let refusal = check_ack(BrokerId::new(3), &good).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::NOT_MEMBER);
        let newer = PeerHelloAck { version: 2, ..good };
        let refusal = check_ack(BrokerId::new(1), &newer).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::UNSUPPORTED_VERSION);
    }

    #[test]
    fn only_common_kinds_are_agreed_on() {
        let mut hello = greeting("prod", 1);
        hello.kinds = Bounded::clipped([(Kind::ENVELOPE, 7), (Kind::GREASE, 1)]);
        let ack = ack(&config(1, "prod"), &hello, HybridTime::new(0));
        assert_eq!(ack.kinds.into_vec(), [(Kind::ENVELOPE, 1)]);
    }
}
