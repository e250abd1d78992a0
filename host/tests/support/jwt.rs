//! Keys and tokens.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::Value;

/// An issuer of tokens.
pub struct Issuer {
    private: EncodingKey,
    /// What the gateway is given.
    pub public: String,
}

impl Issuer {
    pub fn new() -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let private = EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes()).unwrap();
        Self { private, public: pem("PUBLIC KEY", public.as_ref()) }
    }

    pub fn sign(&self, claims: &Value) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::RS256), claims, &self.private).unwrap()
    }

    /// A token of whatever this is.
    pub fn sign_bytes(&self, claims: &[u8]) -> String {
        let [header, claims] = [br#"{"alg":"RS256"}"#, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        let message = format!("{header}.{claims}");
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.private, Algorithm::RS256).unwrap();
        format!("{message}.{signature}")
    }

    /// The classic confusion: HS256 with the public key as the secret.
    pub fn sign_hs256(&self, claims: &Value) -> String {
        let secret = EncodingKey::from_secret(self.public.as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &secret).unwrap()
    }
}

/// A token that nobody signed.
pub fn unsigned(claims: &Value) -> String {
    let part = |text: String| BASE64_URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.", part(r#"{"alg":"none"}"#.to_owned()), part(claims.to_string()))
}

/// Seconds since the epoch.
pub fn now() -> f64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64()
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
}
