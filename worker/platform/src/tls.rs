//! TLS for the connections to PostgreSQL and Redis.

use std::sync::{Arc, Once};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Installs the process-wide cryptography provider of rustls, which the Redis client and other libraries use. Does
/// nothing if one is installed already.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that one is installed already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

/// No certificate that this machine trusts could be read.
#[derive(Debug, thiserror::Error)]
#[error("no trusted certificates were found on this machine (SSL_CERT_FILE or SSL_CERT_DIR may name some): {0}")]
pub struct NoTrustedRoots(String);

/// Connects with TLS. The certificate must be for this host and signed by an authority that this machine trusts.
pub(crate) fn verifying_connector() -> Result<MakeRustlsConnect, NoTrustedRoots> {
    install_crypto();
    let (connect, _unreadable) = MakeRustlsConnect::with_native_certs().map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        NoTrustedRoots(if errors.is_empty() { "none installed".to_owned() } else { errors.join(", ") })
    })?;
    Ok(connect)
}

/// Connects with TLS and accepts every certificate: encrypted, but without proof of who the server is.
pub(crate) fn unverified_connector() -> MakeRustlsConnect {
    install_crypto();
    let mut config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let provider = Arc::clone(config.crypto_provider());
    config.dangerous().set_certificate_verifier(Arc::new(AnyCertificate(provider)));
    MakeRustlsConnect::new(config)
}

/// Accepts every certificate. The server must still prove that it holds the certificate's key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
