//! One public key: of which kind it is, and what it may verify. A key is used for algorithms of its own kind alone, and
//! for none that is not allowed, so that no token can choose how a key is read.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{PublicEncryptingKey, PublicKey, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, VerificationAlgorithm,
};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use pem::Pem;

use super::algorithm::{self, Algorithms};

/// How much of a fingerprint is shown: enough to tell a few keys apart.
const SHOWN_BYTES: usize = 8;

/// A key that tokens may be signed for.
pub(super) struct Key {
    pub(super) decoding: DecodingKey,
    /// What it may verify; never empty.
    pub(super) algorithms: Vec<Algorithm>,
    /// How people tell it from others: its fingerprint, or the id that its issuer gave it.
    pub(super) name: String,
}

/// Why a key verifies nothing. Completes "holds …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnfitKey {
    /// It is of no kind that is known here, or damaged.
    #[error("no RSA public key (nor one of P-256, P-384 or Ed25519) in PEM form (-----BEGIN PUBLIC KEY-----)")]
    Unknown,
    /// Short ones can be factored.
    #[error(
        "an RSA key that does not have 2,048 to 8,192 bits; make another with \
         `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out jwt.pem` and give the gateway its public \
         half, `openssl pkey -in jwt.pem -pubout -out jwt.pub.pem`"
    )]
    Size,
    /// No algorithm that it is for is allowed.
    #[error("a key that is for {fits} alone; allowed are {allowed} (JWT_ALGORITHMS)")]
    NotAllowed { fits: String, allowed: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Kind {
    fn algorithms(self) -> &'static [Algorithm] {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        match self {
            Self::Rsa => &[RS256, RS384, RS512, PS256, PS384, PS512],
            Self::P256 => &[ES256],
            Self::P384 => &[ES384],
            Self::Ed25519 => &[EdDSA],
        }
    }
}

impl Key {
    /// The key of a PEM block that says that it holds a public one.
    pub(super) fn from_pem(block: &Pem, allowed: &Algorithms) -> Result<Self, UnfitKey> {
        let text = pem::encode(block);
        let decoding = DecodingKey::from_rsa_pem(text.as_bytes())
            .or_else(|_| DecodingKey::from_ec_pem(text.as_bytes()))
            .or_else(|_| DecodingKey::from_ed_pem(text.as_bytes()))
            .map_err(|_| UnfitKey::Unknown)?;
        let (kind, der) = examine(&decoding)?;
        // That of a file is shown as `openssl pkey -outform DER` writes it; only RSA has another form besides.
        let der = if kind == Kind::Rsa { der } else { block.contents().to_vec() };
        Self::new(decoding, kind, None, fingerprint(&der), allowed)
    }

    /// A key of a set, which is for one algorithm alone if the set says so.
    pub(super) fn of_set(
        decoding: DecodingKey,
        only: Option<Algorithm>,
        kid: Option<&str>,
        allowed: &Algorithms,
    ) -> Result<Self, UnfitKey> {
        let (kind, der) = examine(&decoding)?;
        Self::new(decoding, kind, only, kid.map_or_else(|| fingerprint(&der), str::to_owned), allowed)
    }

    fn new(
        decoding: DecodingKey,
        kind: Kind,
        only: Option<Algorithm>,
        name: String,
        allowed: &Algorithms,
    ) -> Result<Self, UnfitKey> {
        let fits = |algorithm: &Algorithm| only.is_none_or(|only| only == *algorithm);
        let fitting: Vec<Algorithm> = kind.algorithms().iter().copied().filter(fits).collect();
        let algorithms: Vec<Algorithm> = fitting.iter().copied().filter(|one| allowed.allow(*one)).collect();
        if algorithms.is_empty() {
            let names = if fitting.is_empty() { kind.algorithms() } else { &fitting };
            let fits = names.iter().map(|one| algorithm::name(*one)).collect::<Vec<_>>().join(", ");
            return Err(UnfitKey::NotAllowed { fits, allowed: allowed.to_string() });
        }
        Ok(Self { decoding, algorithms, name })
    }

    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }
}

/// The kind of a key that is long enough and whole, and bytes that tell it from others. The JWT crate takes any key and
/// would then refuse every signature.
fn examine(key: &DecodingKey) -> Result<(Kind, Vec<u8>), UnfitKey> {
    use jsonwebtoken::AlgorithmFamily::{Ec, Ed, Hmac, Rsa};
    let unknown = |_| UnfitKey::Unknown;
    match (key.family(), key.kind()) {
        (Rsa, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            let n: &[u8] = n.iter().position(|byte| *byte != 0).and_then(|first| n.get(first..)).unwrap_or_default();
            let components = PublicKeyComponents { n, e: e.as_slice() };
            let der = components.as_der().map_err(|_| UnfitKey::Unknown)?;
            let sized: Result<PublicEncryptingKey, _> = components.try_into();
            sized.map_err(|_| UnfitKey::Size)?;
            Ok((Kind::Rsa, der.as_ref().to_vec()))
        }
        (Rsa, DecodingKeyKind::SecretOrDer(der)) => {
            let der = PublicKey::from_der(der).map_err(|_| UnfitKey::Unknown)?.as_der().map_err(unknown)?;
            PublicEncryptingKey::from_der(der.as_ref()).map_err(|_| UnfitKey::Size)?;
            Ok((Kind::Rsa, der.as_ref().to_vec()))
        }
        (Ec, DecodingKeyKind::SecretOrDer(point)) => {
            let (kind, curve): (_, &'static dyn VerificationAlgorithm) = match point.len() {
                65 => (Kind::P256, &ECDSA_P256_SHA256_FIXED),
                97 => (Kind::P384, &ECDSA_P384_SHA384_FIXED),
                _ => return Err(UnfitKey::Unknown),
            };
            ParsedPublicKey::new(curve, point).map_err(|_| UnfitKey::Unknown)?;
            Ok((kind, point.clone()))
        }
        (Ed, DecodingKeyKind::SecretOrDer(point)) => {
            ParsedPublicKey::new(&ED25519, point).map_err(|_| UnfitKey::Unknown)?;
            Ok((Kind::Ed25519, point.clone()))
        }
        (Hmac, _) | (Ec | Ed, DecodingKeyKind::RsaModulusExponent { .. }) => Err(UnfitKey::Unknown),
    }
}

fn fingerprint(der: &[u8]) -> String {
    digest(&SHA256, der).as_ref().iter().take(SHOWN_BYTES).map(|byte| format!("{byte:02x}")).collect()
}
