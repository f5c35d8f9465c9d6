//! Who a certificate names: `spiffe://CLUSTER/ROLE/NAME`, and nothing else.

use std::fmt;
use std::str::FromStr;

/// The longest identity a broker reads, in bytes.
const IDENTITY_BYTES_MAX: usize = 256;
/// The longest cluster or holder name, in bytes.
const NAME_BYTES_MAX: usize = 128;

/// What the holder of a certificate is to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A member of the cluster; issued by the peer CA.
    Broker,
    /// An application; issued by the client CA.
    Client,
    /// A person or tool that changes the cluster; issued by the client CA.
    Admin,
    /// A gateway that speaks for others; issued by the client CA.
    Gateway,
}

impl Role {
    /// Every role, in the order help texts list them.
    pub const ALL: [Self; 4] = [Self::Broker, Self::Client, Self::Admin, Self::Gateway];

    /// The role as it stands in identities and on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Client => "client",
            Self::Admin => "admin",
            Self::Gateway => "gateway",
        }
    }

    /// The folder below the authority that holds the certificates of this role.
    pub(crate) const fn folder(self) -> &'static str {
        match self {
            Self::Broker => "brokers",
            Self::Client => "clients",
            Self::Admin => "admins",
            Self::Gateway => "gateways",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| NameError::Role(text.escape_default().to_string()))
    }
}

/// Why a name cannot stand in an identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// The role is not one of the four.
    #[error("unknown role `{0}`; the roles are broker, client, admin and gateway")]
    Role(String),
    /// The name has no characters.
    #[error("the {0} name is empty")]
    Empty(&'static str),
    /// The name is longer than 128 bytes.
    #[error("the {0} name has {1} bytes; at most 128 are allowed")]
    TooLong(&'static str, usize),
    /// A character that could be read in two ways, or that a path cannot hold.
    #[error("the {what} name `{name}` may only hold a-z, 0-9, `.`, `_` and `-`")]
    Character {
        /// Which name it is.
        what: &'static str,
        /// The refused name, escaped.
        name: String,
    },
    /// A part that would climb out of, or vanish from, a path.
    #[error("the {what} name `{name}` has an empty part or one made of dots")]
    Segment {
        /// Which name it is.
        what: &'static str,
        /// The refused name, escaped.
        name: String,
    },
    /// The whole identity is longer than brokers read.
    #[error("`{0}` is longer than 256 bytes; shorten the cluster name or the name")]
    IdentityTooLong(String),
}

/// One validated identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    cluster: String,
    role: Role,
    name: String,
}

impl Identity {
    /// Builds the identity of `name` in the role `role` of `cluster`.
    ///
    /// # Errors
    /// When a name breaks the grammar of identities.
    pub fn new(cluster: &str, role: Role, name: &str) -> Result<Self, NameError> {
        check_cluster(cluster)?;
        check_length(role.as_str(), name)?;
        for segment in name.split('/') {
            check_segment(role.as_str(), name, segment)?;
        }
        if role == Role::Broker && name.contains('/') {
            return Err(character("broker", name));
        }
        let identity = Self {
            cluster: cluster.to_owned(),
            role,
            name: name.to_owned(),
        };
        let text = identity.to_string();
        if text.len() > IDENTITY_BYTES_MAX {
            return Err(NameError::IdentityTooLong(text));
        }
        Ok(identity)
    }

    /// Reads `spiffe://CLUSTER/ROLE/NAME`; anything else is no identity.
    #[must_use]
    pub fn parse(uri: &str) -> Option<Self> {
        let (cluster, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
        let (role, name) = path.split_once('/')?;
        Self::new(cluster, role.parse().ok()?, name).ok()
    }

    /// The cluster that issued the identity.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The role.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The name within the role.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}/{}", self.cluster, self.role, self.name)
    }
}

/// Checks a cluster name, which is the trust domain of its certificates.
pub(crate) fn check_cluster(cluster: &str) -> Result<(), NameError> {
    check_length("cluster", cluster)?;
    check_segment("cluster", cluster, cluster)
}

fn check_length(what: &'static str, name: &str) -> Result<(), NameError> {
    match name.len() {
        0 => Err(NameError::Empty(what)),
        length if length > NAME_BYTES_MAX => Err(NameError::TooLong(what, length)),
        _ => Ok(()),
    }
}

fn check_segment(what: &'static str, name: &str, segment: &str) -> Result<(), NameError> {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if !segment.bytes().all(allowed) {
        return Err(character(what, name));
    }
    if segment.contains("..") || segment.bytes().all(|byte| byte == b'.') {
        return Err(NameError::Segment {
            what,
            name: name.escape_default().to_string(),
        });
    }
    Ok(())
}

fn character(what: &'static str, name: &str) -> NameError {
    NameError::Character {
        what,
        name: name.escape_default().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_reads_back_as_it_was_written() {
        let identity = Identity::new("prod-eu", Role::Client, "tenant/app").unwrap();
        assert_eq!(identity.to_string(), "spiffe://prod-eu/client/tenant/app");
        assert_eq!(
            Identity::parse("spiffe://prod-eu/client/tenant/app"),
            Some(identity)
        );
    }

    #[test]
    fn names_that_could_mislead_are_refused() {
        let long = "a".repeat(129);
        for name in [
            "",
            ".",
            "..",
            "a/../b",
            "a//b",
            "/a",
            "a/",
            "A",
            "a b",
            "a%2fb",
            "\u{1b}[1m",
            &long,
        ] {
            assert!(
                Identity::new("c", Role::Client, name).is_err(),
                "accepted {name:?}"
            );
        }
        assert!(Identity::new("c", Role::Broker, "a/b").is_err());
        for cluster in ["", "..", "a/b", "Prod"] {
            assert!(
                Identity::new(cluster, Role::Admin, "a").is_err(),
                "accepted {cluster:?}"
            );
        }
    }

    #[test]
    fn an_identity_longer_than_brokers_read_is_refused() {
        let name = "a".repeat(128);
        let refused = Identity::new(&"c".repeat(128), Role::Client, &name);
        assert!(matches!(refused, Err(NameError::IdentityTooLong(_))));
    }
}
