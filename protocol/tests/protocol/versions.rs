//! Old and new programs understand each other as far as they can.

use quorate_protocol::DecodeError;
use quorate_protocol::ErrorCode;
use quorate_protocol::Flags;
use quorate_protocol::FrameHeader;
use quorate_protocol::Kind;
use quorate_protocol::Message;
use quorate_protocol::Ping;
use quorate_protocol::Pong;

fn header(kind: Kind, flags: Flags, version: u16) -> FrameHeader {
    FrameHeader {
        body_len: 3,
        kind,
        flags,
        version,
    }
}

#[test]
fn a_known_version_has_no_byte_too_many() {
    let header = header(Kind::PING, Flags::NONE, 1);
    assert_eq!(Ping::decode_frame(&header, &[7]), Ok(Ping { nonce: 7 }));
    let refused = Ping::decode_frame(&header, &[7, 8]).unwrap_err();
    assert_eq!(
        refused,
        DecodeError::Trailing {
            kind: Kind::PING,
            count: 1
        }
    );
    assert_eq!(refused.code(), ErrorCode::MALFORMED);
}

#[test]
fn fields_of_a_newer_version_are_ignored_unless_critical() {
    let newer = header(Kind::PING, Flags::NONE, 2);
    assert_eq!(
        Ping::decode_frame(&newer, &[7, 8, 9]),
        Ok(Ping { nonce: 7 })
    );
    let critical = header(Kind::PING, Flags::CRITICAL, 2);
    let refused = Ping::decode_frame(&critical, &[7, 8, 9]).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::UNSUPPORTED_VERSION);
}

#[test]
fn version_zero_does_not_exist() {
    let header = header(Kind::PING, Flags::NONE, 0);
    let refused = Ping::decode_frame(&header, &[7]).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::UNSUPPORTED_VERSION);
}

#[test]
fn a_frame_of_another_kind_is_a_violation() {
    let header = header(Kind::PING, Flags::CRITICAL, 1);
    let refused = Pong::decode_frame(&header, &[7]).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::PROTOCOL_VIOLATION);
}

#[test]
fn grease_is_no_known_kind() {
    assert_eq!(Kind::GREASE.get(), 0x7f);
    assert_eq!(Kind::GREASE.name(), None);
}
