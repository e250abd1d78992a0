//! Authorities that are trusted: the machine's, or those of a file.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// No certificate that this machine trusts could be read.
#[derive(Debug, thiserror::Error)]
#[error("no trusted certificates were found on this machine (SSL_CERT_FILE or SSL_CERT_DIR may name some): {0}")]
pub struct NoTrustedRoots(String);

/// A file that holds no certificates of authorities. The message does not name it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootsFileError {
    #[error("the file cannot be read ({0})")]
    Unreadable(std::io::Error),
    #[error("the file holds no PEM certificate of an authority (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    #[error("the file holds a certificate that cannot be read")]
    Malformed,
}

/// The authorities that this machine trusts, or that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
pub(super) fn of_machine() -> Result<RootCertStore, NoTrustedRoots> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // One that cannot be parsed, such as an old one of a distribution, does not make the others useless.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let errors: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(NoTrustedRoots(if errors.is_empty() { "none installed".to_owned() } else { errors.join(", ") }));
    }
    Ok(roots)
}

/// The authorities of a PEM file, every one of which must be readable.
pub(crate) fn of_file(path: &Path) -> Result<RootCertStore, RootsFileError> {
    let text = std::fs::read(path).map_err(RootsFileError::Unreadable)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|_| RootsFileError::Malformed)?;
        roots.add(certificate).map_err(|_| RootsFileError::Malformed)?;
    }
    if roots.is_empty() { Err(RootsFileError::NoCertificate) } else { Ok(roots) }
}
