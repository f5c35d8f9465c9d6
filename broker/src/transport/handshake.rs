//! From an admitted attempt to an authenticated connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::Incoming;
use quinn::ServerConfig;
use quorate_protocol::ErrorCode;
use rustls::pki_types::CertificateDer;
use thiserror::Error;

use crate::auth::Certificate;
use crate::auth::CertificateError;
use crate::auth::IdentityError;
use crate::auth::Principal;
use crate::auth::TrustDomain;
use crate::clock::Clock;
use crate::transport::admission::Places;
use crate::transport::admission::Refusal;
use crate::transport::connection::Established;
use crate::transport::lost::ConnectionLost;
use crate::transport::lost::close_reason;
use crate::transport::lost::to_varint;
use crate::transport::plane::Plane;
use crate::transport::report::Reporter;
use crate::transport::settings::Timings;

/// Why nobody gets a connection.
#[derive(Debug, Error)]
pub(crate) enum HandshakeError {
    #[error("the handshake failed: {0}")]
    Quic(ConnectionLost),
    #[error("the handshake took too long")]
    Timeout,
    #[error("the other side presented no certificate")]
    NoCertificate,
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("{} may not connect to the {} port", .0, .1.visitor())]
    Role(Principal, Plane),
    #[error(transparent)]
    Full(#[from] Refusal),
}

impl HandshakeError {
    /// What the other side is told; nothing where the handshake itself has said it.
    pub(crate) fn answer(&self, plane: Plane) -> Option<(ErrorCode, String)> {
        let help = plane.remedy();
        match self {
            Self::Quic(_) | Self::Timeout => None,
            Self::Full(_) => Some((ErrorCode::TOO_MANY_CONNECTIONS, self.to_string())),
            Self::NoCertificate | Self::Certificate(_) | Self::Identity(_) | Self::Role(..) => {
                Some((ErrorCode::IDENTITY_REJECTED, format!("{self}; {help}")))
            }
        }
    }
}

/// What every handshake needs.
#[derive(Debug)]
pub(crate) struct Reception {
    pub(crate) plane: Plane,
    pub(crate) cluster: TrustDomain,
    pub(crate) places: Places,
    pub(crate) timings: Timings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) reporter: Reporter,
}

impl Reception {
    /// Completes a handshake and establishes who the other side is. Whoever is refused is told why.
    pub(crate) async fn receive(
        &self,
        incoming: Incoming,
        config: Arc<ServerConfig>,
    ) -> Result<Established, HandshakeError> {
        let lost = |error: quinn::ConnectionError| HandshakeError::Quic(error.into());
        let connecting = incoming.accept_with(config).map_err(lost)?;
        let quinn = tokio::time::timeout(self.timings.handshake, connecting)
            .await
            .map_err(|_| HandshakeError::Timeout)?
            .map_err(lost)?;
        match self.identify(quinn.clone()) {
            Ok(established) => Ok(established),
            Err(error) => {
                if let Some((code, text)) = error.answer(self.plane) {
                    quinn.close(to_varint(code), close_reason(&text));
                }
                Err(error)
            }
        }
    }

    /// Tells the operator about somebody who got no connection.
    pub(crate) fn handle_refusal(&self, remote: SocketAddr, error: &HandshakeError) {
        let now = self.clock.monotonic();
        self.reporter
            .handle_refusal(now, self.plane, (remote, error));
    }

    fn identify(&self, quinn: quinn::Connection) -> Result<Established, HandshakeError> {
        let (principal, not_after) = identity_of(&quinn, &self.cluster)?;
        if !self.plane.admits(&principal) {
            return Err(HandshakeError::Role(principal, self.plane));
        }
        let address = quinn.remote_address().ip();
        let place = self.places.take(principal.key(), address)?;
        Ok(Established {
            quinn,
            principal,
            not_after,
            place: Some(place),
        })
    }
}

/// Who stands behind a connection whose chain was verified, and until when.
pub(crate) fn identity_of(
    quinn: &quinn::Connection,
    cluster: &TrustDomain,
) -> Result<(Principal, Duration), HandshakeError> {
    let chain = quinn
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    let leaf = chain.as_deref().and_then(|chain| chain.first());
    let leaf = leaf.ok_or(HandshakeError::NoCertificate)?;
    let certificate = Certificate::parse(leaf)?;
    let principal = Principal::from_certificate(&certificate, cluster)?;
    Ok((principal, certificate.not_after()))
}
