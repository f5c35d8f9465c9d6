//! Why a connection ended, as an error a person can act on.
//!
//! In TLS 1.3 a client's handshake succeeds before its certificate is judged, so a refusal
//! arrives as the connection's close reason; errors of streams hide it.

use quinn::ConnectionError;
use quinn_proto::TransportErrorCode;
use quorate_protocol::ErrorCode;
use quorate_protocol::Outcome;

use crate::error::Error;

const ALERT_BAD_CERTIFICATE: u64 = 42;
const ALERT_UNSUPPORTED_CERTIFICATE: u64 = 43;
const ALERT_CERTIFICATE_REVOKED: u64 = 44;
const ALERT_CERTIFICATE_EXPIRED: u64 = 45;
const ALERT_CERTIFICATE_UNKNOWN: u64 = 46;
const ALERT_UNKNOWN_CA: u64 = 48;
const ALERT_ACCESS_DENIED: u64 = 49;
const ALERT_CERTIFICATE_REQUIRED: u64 = 116;
const ALERT_NO_APPLICATION_PROTOCOL: u64 = 120;

/// QUIC carries TLS alerts as these codes plus the alert.
const CRYPTO_ERRORS: std::ops::Range<u64> = 0x100..0x200;

/// The error behind the end of a connection with `address`.
pub(super) fn refusal(address: &str, reason: &ConnectionError) -> Error {
    match reason {
        ConnectionError::ConnectionClosed(close) => {
            by_broker(address, u64::from(close.error_code), &close.reason)
        }
        ConnectionError::ApplicationClosed(close) => {
            let code = u16::try_from(close.error_code.into_inner()).unwrap_or(u16::MAX);
            closed_with(address, ErrorCode::new(code), &close.reason)
        }
        ConnectionError::TransportError(error) => by_us(address, error),
        ConnectionError::TimedOut => silence(address, "the connection fell silent for 30 s"),
        ConnectionError::LocallyClosed => lost(address, "this client gave it up"),
        ConnectionError::VersionMismatch => {
            let message = format!("{address} speaks another version of QUIC");
            Error::new(ErrorCode::UNSUPPORTED_VERSION, message)
        }
        ConnectionError::Reset => lost(address, "the broker restarted or forgot the connection"),
        ConnectionError::CidsExhausted => lost(address, "no connection ids are left"),
    }
}

/// Nothing was heard: the typical look of blocked UDP.
pub(super) fn silence(address: &str, what: &str) -> Error {
    let port = address.rsplit(':').next().unwrap_or(address);
    Error::new(ErrorCode::CONNECT, format!("{address}: {what}")).with_help(format!(
        "check that a broker listens on UDP port {port} of that host and that no firewall blocks \
         UDP"
    ))
}

fn lost(address: &str, why: &str) -> Error {
    Error::new(
        ErrorCode::CONNECT,
        format!("the connection with {address} was lost: {why}"),
    )
}

/// The broker closed with an application code.
fn closed_with(address: &str, code: ErrorCode, reason: &[u8]) -> Error {
    let reason = String::from_utf8_lossy(reason);
    let reason: String = reason
        .chars()
        .filter(|c| !c.is_control())
        .take(256)
        .collect();
    if code == ErrorCode::OK {
        return lost(address, "the broker closed it");
    }
    let why = if reason.is_empty() {
        code.name()
    } else {
        &reason
    };
    Error::new(code, format!("{address} closed the connection: {why}"))
        .with_outcome(Outcome::Unknown)
}

/// The broker closed with a QUIC or TLS code.
fn by_broker(address: &str, code: u64, reason: &[u8]) -> Error {
    if !CRYPTO_ERRORS.contains(&code) {
        let busy = code == u64::from(TransportErrorCode::CONNECTION_REFUSED);
        let why = String::from_utf8_lossy(reason);
        return match busy {
            true => Error::new(
                ErrorCode::TOO_MANY_CONNECTIONS,
                format!("{address} accepts no more connections now"),
            ),
            false => lost(address, &format!("transport error {code:#x} {why}")),
        };
    }
    let (code, cause, help) = match code - CRYPTO_ERRORS.start {
        ALERT_CERTIFICATE_EXPIRED => (
            ErrorCode::CERTIFICATE_EXPIRED,
            "this client's certificate has expired",
            "issue a new one: quorate cert issue client NAME --ca DIR",
        ),
        ALERT_CERTIFICATE_REVOKED => (
            ErrorCode::REVOKED,
            "this client's certificate was revoked",
            "ask the cluster's operator for a new identity",
        ),
        ALERT_UNKNOWN_CA => (
            ErrorCode::IDENTITY_REJECTED,
            "this client's certificate comes from an authority the broker does not know",
            "use a certificate of this cluster's client CA: quorate cert issue client NAME --ca DIR",
        ),
        ALERT_CERTIFICATE_REQUIRED => (
            ErrorCode::IDENTITY_REJECTED,
            "this client sent no certificate",
            "set client.cert_file and client.key_file",
        ),
        ALERT_BAD_CERTIFICATE
        | ALERT_UNSUPPORTED_CERTIFICATE
        | ALERT_CERTIFICATE_UNKNOWN
        | ALERT_ACCESS_DENIED => (
            ErrorCode::IDENTITY_REJECTED,
            "this client's certificate is not acceptable",
            "it needs exactly one URI name spiffe://CLUSTER/client/NAME and client usage",
        ),
        ALERT_NO_APPLICATION_PROTOCOL => (
            ErrorCode::UNSUPPORTED_VERSION,
            "nothing there speaks quorate/1",
            "check the address and port: clients connect to the client listener, default 4747",
        ),
        _ => (
            ErrorCode::IDENTITY_REJECTED,
            "the TLS handshake was refused",
            "check the identity files of both sides: quorate doctor",
        ),
    };
    Error::new(code, format!("{address} refused the connection: {cause}")).with_help(help)
}

/// This side did not accept the broker.
fn by_us(address: &str, error: &quinn_proto::TransportError) -> Error {
    if CRYPTO_ERRORS.contains(&u64::from(error.code)) {
        let why = unaccepted(&error.reason);
        let message = format!("the certificate of {address} was not accepted: {why}");
        return Error::new(ErrorCode::TLS, message)
            .with_help("client.ca_file must hold the cluster's peer CA and the address must be one the certificate names");
    }
    lost(address, &error.to_string())
}

/// What the TLS engine says, in words for people where it has none.
fn unaccepted(reason: &str) -> &str {
    let reason = reason.strip_prefix("unexpected error: ").unwrap_or(reason);
    match reason.strip_prefix("invalid peer certificate: ") {
        Some("UnknownIssuer") => "an authority issued it that client.ca_file does not hold",
        Some("BadSignature") => "its signature is not of an authority in client.ca_file",
        Some(other) => other,
        None => reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(alert: u8) -> Error {
        by_broker("b:4747", u64::from(TransportErrorCode::crypto(alert)), b"")
    }

    #[test]
    fn tls_alerts_become_final_codes_with_a_remedy() {
        let expected = [
            (45, ErrorCode::CERTIFICATE_EXPIRED),
            (44, ErrorCode::REVOKED),
            (48, ErrorCode::IDENTITY_REJECTED),
            (42, ErrorCode::IDENTITY_REJECTED),
            (43, ErrorCode::IDENTITY_REJECTED),
            (116, ErrorCode::IDENTITY_REJECTED),
            (120, ErrorCode::UNSUPPORTED_VERSION),
        ];
        for (number, code) in expected {
            let error = alert(number);
            assert_eq!(error.code(), code, "alert {number}");
            assert!(!error.is_retryable(), "alert {number}");
            assert!(error.help().is_some(), "alert {number}");
        }
    }

    #[test]
    fn what_the_tls_engine_says_is_put_into_words() {
        let unknown = unaccepted("invalid peer certificate: UnknownIssuer");
        assert!(unknown.contains("client.ca_file"), "{unknown}");
        assert_eq!(unaccepted("unexpected error: it is late"), "it is late");
    }

    #[test]
    fn silence_names_the_port_and_udp() {
        let error = refusal("b:4747", &ConnectionError::TimedOut);
        assert_eq!(error.code(), ErrorCode::CONNECT);
        let help = error.help().unwrap();
        assert!(help.contains("4747") && help.contains("UDP"), "{help}");
    }

    #[test]
    fn a_brokers_own_close_code_is_kept_and_its_text_is_cleaned() {
        let error = closed_with("b:4747", ErrorCode::DRAINING, b"going\x1b[31m down");
        assert_eq!(error.code(), ErrorCode::DRAINING);
        assert!(!error.to_string().contains('\u{1b}'));
    }
}
