//! A set of public keys as issuers publish it (RFC 7517). Pure.

use std::collections::HashMap;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::algorithm::{self, Algorithms};
use super::key::{Key, UnfitKey};

/// Keys that are kept of a set. Large providers have ten.
const MAX_KEYS: usize = 64;
/// A key's id is repeated in the log.
const MAX_KID_BYTES: usize = 512;

/// The keys of a set that may verify tokens.
#[derive(Default)]
pub(super) struct JwkKeys {
    /// By `kid`. An issuer may use one for keys of several kinds.
    by_kid: HashMap<String, Vec<Key>>,
    without_kid: Vec<Key>,
    /// What was passed over, for operators.
    pub(super) passed_over: Vec<String>,
}

/// A set that changes nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum JwksError {
    /// Not even JSON, or something else's.
    #[error("it is no set of keys: {0}")]
    NotASet(String),
    /// More keys than any issuer has.
    #[error("it has more than {MAX_KEYS} keys that could be used")]
    TooMany,
    /// There is none that could verify a token.
    #[error("it has no key for {allowed}{}", passed(.passed_over))]
    NoKey { allowed: String, passed_over: Vec<String> },
}

fn passed(over: &[String]) -> String {
    if over.is_empty() { String::new() } else { format!("; passed over: {}", over.join("; ")) }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

impl JwkKeys {
    /// Reads a set. What it has for other purposes, or in a form that is not known here, is passed over, as the RFC
    /// asks.
    pub(super) fn parse(text: &[u8], allowed: &Algorithms) -> Result<Self, JwksError> {
        let set: Set = serde_json::from_slice(text).map_err(|error| JwksError::NotASet(error.to_string()))?;
        let mut keys = Self::default();
        let mut count = 0;
        for value in set.keys {
            match read(&value, allowed) {
                Ok((kid, key)) => {
                    count += 1;
                    match kid {
                        Some(kid) => keys.by_kid.entry(kid).or_default().push(key),
                        None => keys.without_kid.push(key),
                    }
                }
                Err(PassedOver::OfNoUse) => {}
                Err(PassedOver::Because(reason)) => keys.passed_over.push(reason),
            }
            if count > MAX_KEYS {
                return Err(JwksError::TooMany);
            }
        }
        if count == 0 {
            return Err(JwksError::NoKey { allowed: allowed.to_string(), passed_over: keys.passed_over });
        }
        Ok(keys)
    }

    /// The keys that a token may be signed with: those of its `kid`, or any if it has none. None: there is no such
    /// `kid`.
    pub(super) fn of<'a>(&'a self, kid: Option<&str>) -> Option<Vec<&'a Key>> {
        match kid {
            Some(kid) => self.by_kid.get(kid).map(|keys| keys.iter().collect()),
            None => Some(self.by_kid.values().flatten().chain(&self.without_kid).collect()),
        }
    }

    /// The names of all keys, in order.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.by_kid.values().flatten().chain(&self.without_kid).map(|key| key.name.clone()).collect();
        names.sort();
        names
    }
}

enum PassedOver {
    /// It is for something else: nothing unusual.
    OfNoUse,
    Because(String),
}

fn read(value: &Value, allowed: &Algorithms) -> Result<(Option<String>, Key), PassedOver> {
    let because = |what: &str| {
        let kid: String = value.get("kid").and_then(Value::as_str).unwrap_or("without kid").chars().take(64).collect();
        PassedOver::Because(format!("key {kid:?} {what}"))
    };
    // Whoever reads the set could sign.
    if ["d", "k"].iter().any(|private| value.get(private).is_some()) {
        return Err(because("is published with its private part: whoever reads it could sign"));
    }
    let jwk = Jwk::deserialize(value).map_err(|_| because("cannot be read"))?;
    let common = &jwk.common;
    let is_for_signatures = common.public_key_use.as_ref().is_none_or(|to| *to == PublicKeyUse::Signature)
        && common.key_operations.as_ref().is_none_or(|operations| operations.contains(&KeyOperations::Verify));
    if !is_for_signatures || !is_known(&jwk.algorithm) {
        return Err(PassedOver::OfNoUse);
    }
    let only = match common.key_algorithm {
        None => None,
        Some(named) => Some(algorithm_of(named, allowed).ok_or(PassedOver::OfNoUse)?),
    };
    if common.key_id.as_ref().is_some_and(|kid| kid.len() > MAX_KID_BYTES) {
        return Err(because("has an endless kid"));
    }
    let decoding = DecodingKey::from_jwk(&jwk).map_err(|_| because("is damaged"))?;
    let key = Key::of_set(decoding, only, common.key_id.as_deref(), allowed).map_err(|unfit| match unfit {
        UnfitKey::NotAllowed { .. } => PassedOver::OfNoUse,
        UnfitKey::Unknown => because("is damaged"),
        UnfitKey::Size => because("does not have 2,048 to 8,192 bits"),
    })?;
    Ok((jwk.common.key_id, key))
}

/// The JWT crate takes the point of any curve for one of those that it knows.
fn is_known(parameters: &AlgorithmParameters) -> bool {
    match parameters {
        AlgorithmParameters::RSA(_) => true,
        AlgorithmParameters::EllipticCurve(key) => matches!(key.curve, EllipticCurve::P256 | EllipticCurve::P384),
        AlgorithmParameters::OctetKeyPair(key) => key.curve == EllipticCurve::Ed25519,
        _ => false,
    }
}

fn algorithm_of(named: jsonwebtoken::jwk::KeyAlgorithm, allowed: &Algorithms) -> Option<Algorithm> {
    algorithm::named(&named.to_string()).filter(|algorithm| allowed.allow(*algorithm))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::tests::jwk;

    fn parse(keys: &Value, algorithms: &str) -> Result<JwkKeys, JwksError> {
        JwkKeys::parse(json!({ "keys": keys }).to_string().as_bytes(), &algorithms.parse().unwrap())
    }

    fn with(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    #[test]
    fn keys_are_found_by_kid_and_used_for_their_own_algorithms_alone() {
        let rsa = |kid: &str| with(jwk(Algorithm::RS256), "kid", json!(kid));
        let set = json!([
            rsa("a"),
            with(rsa("b"), "alg", json!("PS256")),
            with(jwk(Algorithm::ES256), "kid", json!("a")),
            jwk(Algorithm::EdDSA),
        ]);
        let keys = parse(&set, "RS256,PS256,ES256,EdDSA").unwrap();
        let algorithms = |kid| {
            let keys = keys.of(kid)?;
            Some(keys.iter().flat_map(|key| key.algorithms.clone()).collect::<Vec<_>>())
        };
        assert_eq!(algorithms(Some("a")), Some(vec![Algorithm::RS256, Algorithm::PS256, Algorithm::ES256]));
        assert_eq!(algorithms(Some("b")), Some(vec![Algorithm::PS256]));
        assert_eq!(algorithms(Some("c")), None);
        assert_eq!(algorithms(None).unwrap().len(), 5);
        // What is not allowed is as good as not there.
        let keys = parse(&set, "RS256").unwrap();
        assert_eq!((keys.names(), keys.of(Some("b")).is_none()), (vec!["a".to_owned()], true));
    }

    #[test]
    fn what_may_not_verify_is_passed_over_and_said_if_it_is_a_fault() {
        let good = with(jwk(Algorithm::RS256), "kid", json!("good"));
        let odd = |name: &str, value: Value| with(with(good.clone(), "kid", json!("odd")), name, value);
        for (key, said) in [
            (odd("use", json!("enc")), None),
            (odd("key_ops", json!(["encrypt"])), None),
            (odd("alg", json!("RSA-OAEP")), None),
            (odd("alg", json!("HS256")), None),
            (odd("alg", json!("RS384")), None),
            (odd("kty", json!("AKP")), None),
            (with(jwk(Algorithm::ES256), "crv", json!("secp256k1")), None),
            (odd("d", json!("AQ")), Some("private part")),
            (json!({ "kty": "oct", "kid": "odd", "k": "c2VjcmV0", "alg": "HS256" }), Some("private part")),
            (odd("n", json!("AQAB")), Some("\"odd\"")),
            (odd("n", json!("not base64!")), Some("damaged")),
            (odd("n", json!(7)), None),
            (json!(7), Some("cannot be read")),
            (odd("kid", json!("x".repeat(1000))), Some("endless")),
        ] {
            let keys = parse(&json!([key, good]), "RS256").unwrap_or_else(|error| panic!("{key}: {error}"));
            assert_eq!(keys.names(), ["good"], "{key}");
            match said {
                Some(said) => assert!(keys.passed_over.join(";").contains(said), "{key}: {:?}", keys.passed_over),
                None => assert!(keys.passed_over.len() <= 1, "{key}: {:?}", keys.passed_over),
            }
            let alone = parse(&json!([key]), "RS256").err().unwrap();
            assert!(alone.to_string().starts_with("it has no key for RS256"), "{alone}");
        }
        assert!(parse(&json!([with(good.clone(), "alg", json!("RS256")), good]), "RS256").is_ok());
    }

    #[test]
    fn what_is_no_set_is_refused() {
        let allowed = Algorithms::default();
        for text in ["", "null", "[]", "{}", r#"{"keys":7}"#, "<html>", r#"{"keys":[]"#] {
            assert!(matches!(JwkKeys::parse(text.as_bytes(), &allowed), Err(JwksError::NotASet(_))), "{text}");
        }
        assert!(matches!(JwkKeys::parse(br#"{"keys":[]}"#, &allowed), Err(JwksError::NoKey { .. })));
        let many = vec![jwk(Algorithm::RS256); 65];
        assert_eq!(parse(&json!(many), "RS256").err(), Some(JwksError::TooMany));
    }
}
