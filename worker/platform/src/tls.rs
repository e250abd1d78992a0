//! TLS for the connections to PostgreSQL and Redis.

mod roots;
mod verifiers;

use std::sync::{Arc, Once};

use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::verifiers::Nameless;

pub use self::roots::NoTrustedRoots;
pub(crate) use self::roots::{RootsFileError, of_file as roots_of_file};

/// Installs the process-wide cryptography provider of rustls, which the Redis client and other libraries use. Does
/// nothing if one is installed already.
pub fn install_crypto() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // An error means that one is installed already.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

/// What a server's certificate must prove.
#[derive(Debug, Clone, Default)]
pub(crate) enum Verification {
    /// Nothing: encrypted, but without proof of who the server is.
    #[default]
    Nothing,
    /// An authority has signed it.
    Signer(Authorities),
    /// An authority has signed it, and for this host.
    SignerAndName(Authorities),
}

/// Which authorities are trusted.
#[derive(Debug, Clone)]
pub(crate) enum Authorities {
    /// Those that this machine trusts.
    Machine,
    /// These.
    Listed(Arc<RootCertStore>),
}

impl Authorities {
    fn roots(&self) -> Result<RootCertStore, NoTrustedRoots> {
        match self {
            Self::Machine => roots::of_machine(),
            Self::Listed(roots) => Ok(RootCertStore::clone(roots)),
        }
    }
}

/// Connects with TLS to servers whose certificates prove this much.
pub(crate) fn connector(verification: &Verification) -> Result<MakeRustlsConnect, NoTrustedRoots> {
    install_crypto();
    let roots = match verification {
        Verification::Nothing => RootCertStore::empty(),
        Verification::Signer(authorities) | Verification::SignerAndName(authorities) => authorities.roots()?,
    };
    let mut config = ClientConfig::builder().with_root_certificates(roots.clone()).with_no_client_auth();
    let provider = Arc::clone(config.crypto_provider());
    let nameless = match verification {
        Verification::Nothing => Some(Nameless::anybody(provider)),
        Verification::Signer(_) => Some(Nameless::signed_by(roots, provider)),
        Verification::SignerAndName(_) => None,
    };
    if let Some(verifier) = nameless {
        config.dangerous().set_certificate_verifier(Arc::new(verifier));
    }
    Ok(MakeRustlsConnect::new(config))
}
