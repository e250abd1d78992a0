//! TLS for both connections.

use std::sync::{Arc, Once};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Installs the process's default cryptography, which the Redis client and others look up. Safe to call again, and
/// after someone else installed one.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that there is one already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

/// The certificates that this machine trusts could not be read.
#[derive(Debug, thiserror::Error)]
#[error("no trusted certificates were found on this machine (SSL_CERT_FILE or SSL_CERT_DIR may name some): {0}")]
pub struct NoRoots(String);

/// Encrypted, and the certificate must be for this host and signed by someone whom this machine trusts.
pub(crate) fn verifying() -> Result<MakeRustlsConnect, NoRoots> {
    install_crypto();
    let (connect, _unreadable) = MakeRustlsConnect::with_native_certs().map_err(|errors| {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        NoRoots(if errors.is_empty() { "none installed".to_owned() } else { errors.join(", ") })
    })?;
    Ok(connect)
}

/// Encrypted, whoever the server is.
pub(crate) fn trusting() -> MakeRustlsConnect {
    install_crypto();
    let mut config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let provider = Arc::clone(config.crypto_provider());
    config.dangerous().set_certificate_verifier(Arc::new(AnyCertificate(provider)));
    MakeRustlsConnect::new(config)
}

/// Accepts every certificate, but still demands that the server holds its key.
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
