//! The public keys of a file or a variable, and how they are read again while the gateway runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use pem::Pem;

use super::algorithm::Algorithms;
use super::key::{Key, UnfitKey};

/// A token is tried with one key after the other, and a forged one costs them all.
const MAX_KEYS: usize = 16;

/// The keys in force. Clones share them: what [`PublicKeys::read_again`] changes, it changes for all.
#[derive(Clone)]
pub struct PublicKeys {
    keys: Arc<ArcSwap<Vec<Key>>>,
    /// Where they were read from, if from a file.
    file: Option<PathBuf>,
    algorithms: Algorithms,
}

/// A key that cannot be used. Never shows the key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The value is not PEM text, and no file of that name can be read.
    #[error("is neither a PEM public key nor a readable file: {0}")]
    Unreadable(std::io::Error),
    /// A private key where public ones belong.
    #[error(
        "holds a private key; it is for those who issue tokens. Give the gateway the public one only: \
         `openssl pkey -in jwt.pem -pubout -out jwt.pub.pem`"
    )]
    Private,
    /// A certificate instead of the key in it.
    #[error("holds a certificate; give the gateway its public key: `openssl x509 -in cert.pem -noout -pubkey`")]
    Certificate,
    /// PEM of something else.
    #[error("holds a block that is no public key; leave -----BEGIN PUBLIC KEY----- blocks only")]
    Other,
    /// A block that is damaged, or has no end.
    #[error("holds a PEM block that cannot be read; each begins with -----BEGIN … and ends with -----END …")]
    Broken,
    /// No PEM at all.
    #[error("holds {}", UnfitKey::Unknown)]
    NoKey,
    /// A key that verifies no token.
    #[error("holds {0}")]
    Unfit(UnfitKey),
    /// More than anybody rotates.
    #[error("holds {0} keys; {MAX_KEYS} are the most")]
    TooMany(usize),
    /// One of several blocks.
    #[error("{error} (block {number} of {count})")]
    Block { number: usize, count: usize, error: Box<KeyError> },
}

/// What reading again has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadAgain {
    /// The keys of the file are in force.
    Done,
    /// The keys are not in a file: they stay until the gateway is restarted.
    NoFile,
}

impl PublicKeys {
    /// `text` is PEM (its line breaks perhaps written as `\n`), or names a file with PEM. Each key must be of use for
    /// one of these algorithms.
    pub fn read(text: &str, algorithms: &Algorithms) -> Result<Self, KeyError> {
        let (keys, file) = if text.contains("-----BEGIN") {
            (parse(&text.replace("\\n", "\n"), algorithms)?, None)
        } else {
            let file = PathBuf::from(text.trim());
            (parse_file(&file, algorithms)?, Some(file))
        };
        Ok(Self { keys: Arc::new(ArcSwap::from_pointee(keys)), file, algorithms: algorithms.clone() })
    }

    /// Reads the file again. If that fails, the keys of before stay in force.
    pub fn read_again(&self) -> Result<ReadAgain, KeyError> {
        let Some(file) = &self.file else { return Ok(ReadAgain::NoFile) };
        self.keys.store(Arc::new(parse_file(file, &self.algorithms)?));
        Ok(ReadAgain::Done)
    }

    /// The beginning of each key's SHA-256, which `openssl pkey -pubin -outform DER | sha256sum` shows too.
    pub fn fingerprints(&self) -> Vec<String> {
        self.keys.load().iter().map(|key| key.name.clone()).collect()
    }

    pub(super) fn current(&self) -> Arc<Vec<Key>> {
        self.keys.load_full()
    }
}

fn parse_file(file: &Path, algorithms: &Algorithms) -> Result<Vec<Key>, KeyError> {
    parse(&std::fs::read_to_string(file).map_err(KeyError::Unreadable)?, algorithms)
}

/// Every key of the text. Nothing in it is passed over but text that stands between the blocks.
fn parse(text: &str, algorithms: &Algorithms) -> Result<Vec<Key>, KeyError> {
    if text.contains("PRIVATE KEY-") {
        return Err(KeyError::Private);
    }
    let blocks = pem::parse_many(text).map_err(|_| KeyError::Broken)?;
    // The parser passes over what does not begin and end as it should.
    if ["-BEGIN", "-END"].iter().any(|mark| text.matches(mark).count() != blocks.len()) {
        return Err(KeyError::Broken);
    }
    let count = blocks.len();
    match count {
        0 => return Err(KeyError::NoKey),
        1..=MAX_KEYS => {}
        _ => return Err(KeyError::TooMany(count)),
    }
    let numbered = |(index, block): (usize, &Pem)| {
        key(block, algorithms).map_err(|error| match count {
            1 => error,
            _ => KeyError::Block { number: index + 1, count, error: Box::new(error) },
        })
    };
    blocks.iter().enumerate().map(numbered).collect()
}

fn key(block: &Pem, algorithms: &Algorithms) -> Result<Key, KeyError> {
    match block.tag() {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => Key::from_pem(block, algorithms).map_err(KeyError::Unfit),
        "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => Err(KeyError::Certificate),
        _ => Err(KeyError::Other),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arcyou_protocol::ErrorCode;
    use serde_json::json;

    use crate::auth::tests::{NOW, USER, key, pem, sign};
    use crate::auth::{Authenticator, KeyError, PublicKeys, ReadAgain};

    /// The public half of a pair of 1,024 bits, whose private half was thrown away.
    const SHORT_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDoaFLwQBLyS4x2BRft37ZzfkrVVb5nwsDJqFTQeXs33u0aUGCCP+AM/p+S\
        OBhKQ1j/WYzT4S2ev41DdxuMTEB1B+GhzFbRs2iALA17/MD0eUfgOVZAAkaFA7BUR4nQzSfHsfdTOOr+DGhwL2LcxNa3xuWH\
        75QFbi4HR+G0L4w8lQIDAQAB\n\
        -----END PUBLIC KEY-----";

    fn keys(authenticator: &Authenticator) -> PublicKeys {
        authenticator.key_sources().remove(0).local.unwrap()
    }

    fn explain(key: &str) -> String {
        Authenticator::new(key, None, None).unwrap_err().to_string()
    }

    #[test]
    fn unusable_keys_are_explained() {
        assert!(explain("/no/such/file").contains("neither a PEM public key nor a readable file"));
        let private = explain("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----");
        assert!(private.contains("private key") && private.contains("-pubout"), "{private}");
        assert!(explain("-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----").contains("no RSA public key"));
        let text = explain(SHORT_KEY);
        assert!(text.contains("2,048") && text.matches("openssl").count() == 2, "{text}");
    }

    #[test]
    fn nothing_beside_a_key_is_passed_over() {
        let good = key().public;
        for (beside, reason) in [
            (pem("PRIVATE KEY", b"hunter2"), "private key"),
            (pem("RSA PRIVATE KEY", b"hunter2"), "private key"),
            (pem("ENCRYPTED PRIVATE KEY", b"hunter2"), "private key"),
            (pem("CERTIFICATE", b"x"), "`openssl x509 -in cert.pem -noout -pubkey` (block 2 of 2)"),
            (pem("EC PARAMETERS", b"x"), "no public key"),
            (pem("PUBLIC KEY", b"x"), "no RSA public key"),
            (SHORT_KEY.to_owned(), "2,048"),
            (good.replace("-----END PUBLIC KEY-----", ""), "cannot be read"),
            (good.replace("-----BEGIN", "----BEGIN"), "cannot be read"),
            (good.replace('M', "?"), "cannot be read"),
        ] {
            for text in [format!("{good}{beside}"), format!("{good}{beside}").replace('\n', "\\n")] {
                let told = explain(&text);
                assert!(told.contains(reason) && !told.contains("hunter2"), "{beside}: {told}");
            }
        }
        assert!(matches!(Authenticator::new(&good.repeat(17), None, None), Err(KeyError::TooMany(17))));
        // As `openssl pkey -text` writes it.
        assert!(Authenticator::new(&format!("Public-Key: (2048 bit)\n{good}the end"), None, None).is_ok());
    }

    #[test]
    fn every_key_of_several_verifies_and_no_other() {
        let (old, new, stranger) = (key(), key(), key());
        let claims = json!({ "sub": USER, "exp": NOW + 60.0 });
        for text in [format!("{}{}", old.public, new.public), format!("{}\n# next\n{}", new.public, old.public)] {
            let authenticator = Authenticator::new(&text, None, None).unwrap();
            for key in [&old, &new] {
                assert!(authenticator.identify(&sign(key, &claims), NOW).is_ok());
                let late = sign(key, &json!({ "sub": USER, "exp": NOW - 60.0 }));
                assert_eq!(authenticator.identify(&late, NOW).unwrap_err().code, ErrorCode::TokenExpired);
            }
            let refused = authenticator.identify(&sign(&stranger, &claims), NOW);
            assert_eq!(refused.unwrap_err().code, ErrorCode::TokenSignature);
            let fingerprints = keys(&authenticator).fingerprints();
            assert!(fingerprints.len() == 2 && fingerprints[0] != fingerprints[1], "{fingerprints:?}");
        }
    }

    #[test]
    fn a_file_is_read_again_and_a_bad_one_changes_nothing() {
        let (old, new) = (key(), key());
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str| std::fs::write(file.path(), text).unwrap();
        write(&old.public);
        let authenticator = Authenticator::new(file.path().to_str().unwrap(), None, None).unwrap();
        let keys = keys(&authenticator);
        let claims = json!({ "sub": USER, "exp": NOW + 60.0 });
        let admits = |key| authenticator.identify(&sign(key, &claims), NOW).is_ok();
        for bad in ["", "nonsense", &format!("{}{}", new.public, pem("CERTIFICATE", b"x"))] {
            write(bad);
            assert!(keys.read_again().is_err(), "{bad:?}");
            assert!(admits(&old) && !admits(&new));
        }
        write(&format!("{}{}", old.public, new.public));
        assert_eq!(keys.read_again().unwrap(), ReadAgain::Done);
        assert!(admits(&old) && admits(&new));
        write(&new.public);
        assert_eq!(keys.read_again().unwrap(), ReadAgain::Done);
        assert!(!admits(&old) && admits(&new));
        let text = Authenticator::new(&old.public, None, None).unwrap();
        assert_eq!(self::keys(&text).read_again().unwrap(), ReadAgain::NoFile);
    }
}
