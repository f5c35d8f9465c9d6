//! From an admitted attempt to an authenticated connection.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::Incoming;
use quinn::ServerConfig;
use quorate_protocol::ErrorCode;
use rustls::pki_types::CertificateDer;
use thiserror::Error;

use crate::auth::Certificate;
use crate::auth::CertificateError;
use crate::auth::IdentityError;
use crate::auth::Operation;
use crate::auth::Principal;
use crate::auth::TrustDomain;
use crate::auth::permits;
use crate::clock::Clock;
use crate::transport::admission::Places;
use crate::transport::admission::Refusal;
use crate::transport::connection::Connection;
use crate::transport::connection::Established;
use crate::transport::lost::ConnectionLost;
use crate::transport::lost::close_reason;
use crate::transport::lost::to_varint;
use crate::transport::report::Reporter;
use crate::transport::settings::Timings;

/// Why a client gets no connection.
#[derive(Debug, Error)]
pub(crate) enum HandshakeError {
    #[error("the handshake failed: {0}")]
    Quic(ConnectionLost),
    #[error("the handshake took too long")]
    Timeout,
    #[error("the client presented no certificate")]
    NoCertificate,
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("{0} may not connect to the client port")]
    Role(Principal),
    #[error(transparent)]
    Full(#[from] Refusal),
}

impl HandshakeError {
    /// What the client is told; nothing where the handshake itself has said it.
    fn answer(&self) -> Option<(ErrorCode, String)> {
        let help = "; issue a certificate with `quorate cert issue client NAME --ca DIR`";
        match self {
            Self::Quic(_) | Self::Timeout => None,
            Self::Full(_) => Some((ErrorCode::TOO_MANY_CONNECTIONS, self.to_string())),
            Self::NoCertificate | Self::Certificate(_) | Self::Identity(_) | Self::Role(_) => {
                Some((ErrorCode::IDENTITY_REJECTED, format!("{self}{help}")))
            }
        }
    }
}

/// What every handshake needs.
#[derive(Debug)]
pub(crate) struct Reception {
    pub(crate) cluster: TrustDomain,
    pub(crate) places: Places,
    pub(crate) timings: Timings,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) batch_bytes_max: u32,
    pub(crate) reporter: Reporter,
}

impl Reception {
    /// Completes a handshake and establishes who the client is. Whoever is refused is told why.
    pub(crate) async fn receive(
        &self,
        incoming: Incoming,
        config: Arc<ServerConfig>,
    ) -> Result<Connection, HandshakeError> {
        let lost = |error: quinn::ConnectionError| HandshakeError::Quic(error.into());
        let connecting = incoming.accept_with(config).map_err(lost)?;
        let quinn = tokio::time::timeout(self.timings.handshake, connecting)
            .await
            .map_err(|_| HandshakeError::Timeout)?
            .map_err(lost)?;
        match self.identify(quinn.clone()) {
            Ok(established) => Ok(Connection::new(
                established,
                self.clock.clone(),
                self.timings.clone(),
                self.batch_bytes_max,
            )),
            Err(error) => {
                if let Some((code, text)) = error.answer() {
                    quinn.close(to_varint(code), close_reason(&text));
                }
                Err(error)
            }
        }
    }

    /// Tells the operator about a client that got no connection.
    pub(crate) fn handle_refusal(&self, remote: SocketAddr, error: &HandshakeError) {
        let now = self.clock.monotonic();
        self.reporter.handle_refusal(now, remote, error);
    }

    fn identify(&self, quinn: quinn::Connection) -> Result<Established, HandshakeError> {
        let chain = quinn
            .peer_identity()
            .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
        let leaf = chain.as_deref().and_then(|chain| chain.first());
        let leaf = leaf.ok_or(HandshakeError::NoCertificate)?;
        let certificate = Certificate::parse(leaf)?;
        let principal = Principal::from_certificate(&certificate, &self.cluster)?;
        if !permits(&principal, Operation::Connect) {
            return Err(HandshakeError::Role(principal));
        }
        let address = quinn.remote_address().ip();
        let place = self.places.take(principal.key(), address)?;
        Ok(Established {
            quinn,
            principal,
            not_after: certificate.not_after(),
            place,
        })
    }
}
