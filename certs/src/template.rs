//! What goes into each certificate: names, usages, lifetimes. Touches no file.

use std::net::IpAddr;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DistinguishedName;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::KeyUsagePurpose;
use rcgen::SanType;
use rcgen::SerialNumber;

use crate::identity::Identity;
use crate::identity::Role;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long a certificate authority lives.
pub const CA_LIFETIME: Duration = Duration::from_secs(5 * 365 * 24 * 3600);
/// Certificates start this much in the past, for clocks that are behind.
const BACKDATED: Duration = Duration::from_secs(5 * 60);
/// Marks authorities that are made for one machine and must not leave it.
pub(crate) const DEVELOPMENT_UNIT: &str = "development";

/// One of the two authorities of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plane {
    Peer,
    Client,
}

impl Plane {
    /// The authority that issues certificates of `role`.
    pub(crate) const fn of(role: Role) -> Self {
        match role {
            Role::Broker => Self::Peer,
            Role::Client | Role::Admin | Role::Gateway => Self::Client,
        }
    }

    /// The common name that tells the two authorities apart.
    pub(crate) const fn common_name(self) -> &'static str {
        match self {
            Self::Peer => "peer CA",
            Self::Client => "client CA",
        }
    }

    /// The first part of the authority's file names.
    pub(crate) const fn file_stem(self) -> &'static str {
        match self {
            Self::Peer => "peer-ca",
            Self::Client => "client-ca",
        }
    }
}

/// How long a certificate of `role` lives unless asked otherwise.
pub(crate) fn default_lifetime(role: Role) -> Duration {
    match role {
        Role::Broker => DAY * 30,
        Role::Client | Role::Admin | Role::Gateway => DAY * 7,
    }
}

/// From when to when a certificate is valid, in whole seconds as certificates count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Validity {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

impl Validity {
    /// A validity of `lifetime` from `now`, back-dated for clocks that are behind; `None` beyond
    /// the end of the calendar.
    pub(crate) fn starting(now: SystemTime, lifetime: Duration) -> Option<Self> {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = UNIX_EPOCH + Duration::from_secs(seconds);
        let not_after = now.checked_add(Duration::from_secs(lifetime.as_secs()))?;
        let year_9999 = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        let not_before = now.checked_sub(BACKDATED)?;
        (not_after <= year_9999).then_some(Self {
            not_before,
            not_after,
        })
    }
}

/// The parameters of a certificate authority.
pub(crate) fn authority(
    plane: Plane,
    cluster: &str,
    development: bool,
    validity: Validity,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = base(validity);
    params
        .distinguished_name
        .push(DnType::OrganizationName, cluster);
    if development {
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, DEVELOPMENT_UNIT);
    }
    params
        .distinguished_name
        .push(DnType::CommonName, plane.common_name());
    params.subject_alt_names = vec![SanType::URI(format!("spiffe://{cluster}").try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// The parameters of a leaf with exactly one identity.
pub(crate) fn leaf(
    identity: &Identity,
    hosts: &[Host],
    validity: Validity,
    serial: &[u8; 16],
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = base(validity);
    params
        .distinguished_name
        .push(DnType::OrganizationName, identity.cluster());
    params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
    for host in hosts {
        params.subject_alt_names.push(match host {
            Host::Name(name) => SanType::DnsName(name.as_str().try_into()?),
            Host::Address(address) => SanType::IpAddress(*address),
        });
    }
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = match identity.role() {
        Role::Broker => {
            vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ]
        }
        Role::Client | Role::Admin | Role::Gateway => vec![ExtendedKeyUsagePurpose::ClientAuth],
    };
    params.serial_number = Some(SerialNumber::from_slice(serial));
    Ok(params)
}

fn base(validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = validity.not_before.into();
    params.not_after = validity.not_after.into();
    params.distinguished_name = DistinguishedName::new();
    params
}

/// A place where a broker is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    Name(String),
    Address(IpAddr),
}

impl Host {
    /// Reads a host name or an address; `None` if it is neither.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'))
            .unwrap_or(text);
        if let Ok(address) = bare.parse() {
            return Some(Self::Address(address));
        }
        let letters = |label: &str| {
            label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        let label_ok = |label: &str| {
            (1..=63).contains(&label.len())
                && letters(label)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let numeric = text
            .rsplit('.')
            .next()
            .is_some_and(|last| last.parse::<u64>().is_ok());
        let ok = text.len() <= 253 && text.split('.').all(label_ok) && !numeric;
        ok.then(|| Self::Name(text.to_ascii_lowercase()))
    }
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(address) => address.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        assert_eq!(
            Host::parse("Broker-1.example"),
            Some(Host::Name("broker-1.example".to_owned()))
        );
        assert_eq!(
            Host::parse("10.0.0.1"),
            Some(Host::Address([10, 0, 0, 1].into()))
        );
        assert_eq!(Host::parse("[::1]"), Host::parse("::1"));
        for text in [
            "",
            "a:4747",
            "-a",
            "a..b",
            "10.0.0.256",
            "*.example",
            "a b",
            "a/b",
        ] {
            assert_eq!(Host::parse(text), None, "accepted {text:?}");
        }
    }

    #[test]
    fn a_validity_is_back_dated_and_ends_with_the_calendar() {
        let now = UNIX_EPOCH + Duration::from_millis(1_800_000_000_700);
        let validity = Validity::starting(now, DAY).unwrap();
        assert_eq!(
            validity.not_before,
            UNIX_EPOCH + Duration::from_secs(1_799_999_700)
        );
        assert_eq!(
            validity.not_after,
            UNIX_EPOCH + Duration::from_secs(1_800_086_400)
        );
        assert!(Validity::starting(now, Duration::MAX).is_none());
    }
}
