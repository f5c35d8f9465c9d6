//! Judging a broker's certificate: the ordinary checks, and that it is a broker of our cluster.

use std::sync::Arc;

use rustls::CertificateError;
use rustls::DigitallySignedStruct;
use rustls::SignatureScheme;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::ServerName;
use rustls_pki_types::UnixTime;

use crate::connection::identity::spiffe_name;

/// Chain, validity and name as usual; then `spiffe://<our cluster>/broker/*`.
#[derive(Debug)]
pub(super) struct BrokerVerifier {
    webpki: Arc<WebPkiServerVerifier>,
    trust_domain: String,
}

impl BrokerVerifier {
    pub(super) fn new(webpki: Arc<WebPkiServerVerifier>, trust_domain: String) -> Self {
        Self {
            webpki,
            trust_domain,
        }
    }

    fn check_role(&self, leaf: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let refused = |why: String| rustls::Error::General(format!("broker certificate: {why}"));
        let name = spiffe_name(leaf).map_err(refused)?;
        if name.trust_domain != self.trust_domain {
            let (theirs, ours) = (&name.trust_domain, &self.trust_domain);
            return Err(refused(format!(
                "it belongs to cluster `{theirs}`, we to `{ours}`"
            )));
        }
        if name.role != "broker" {
            return Err(refused(format!(
                "`{}` is a {}, no broker",
                name.name, name.role
            )));
        }
        Ok(())
    }
}

impl ServerCertVerifier for BrokerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.webpki.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )?;
        self.check_role(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(CertificateError::BadSignature.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}
