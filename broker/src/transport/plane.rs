//! The two planes: who may connect to which, and what tells them apart on the wire.

use crate::auth::Operation;
use crate::auth::Principal;
use crate::auth::Role;
use crate::auth::permits;

/// What an endpoint is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plane {
    /// Applications and administrators.
    Client,
    /// The other brokers of the cluster.
    Peer,
}

impl Plane {
    /// The application protocol.
    pub(crate) const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Client => b"quorate/1",
            Self::Peer => b"quorate-peer/1",
        }
    }

    /// Whether this principal may connect.
    pub(crate) fn admits(self, principal: &Principal) -> bool {
        match self {
            Self::Client => permits(principal, Operation::Connect),
            Self::Peer => principal.role() == Role::Broker,
        }
    }

    /// Who connects here.
    pub(crate) const fn visitor(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
        }
    }

    /// What to do about a certificate that is not accepted here.
    pub(crate) const fn remedy(self) -> &'static str {
        match self {
            Self::Client => "issue a certificate with `quorate cert issue client NAME --ca DIR`",
            Self::Peer => "issue a certificate with `quorate cert issue broker NAME --ca DIR`",
        }
    }
}
