//! What unit tests of tokens share, and tokens of one issuer with RSA keys.

mod issuers;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

use super::*;

pub(crate) const USER: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
pub(crate) const NOW: f64 = 1_000_000.0;

pub(crate) struct Key {
    private: EncodingKey,
    pub(crate) public: String,
}

pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
}

pub(crate) fn key() -> Key {
    let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
    let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
    Key {
        private: EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes()).unwrap(),
        public: pem("PUBLIC KEY", public.as_ref()),
    }
}

pub(crate) fn sign(key: &Key, claims: &Value) -> String {
    jsonwebtoken::encode(&jsonwebtoken::Header::new(Algorithm::RS256), claims, &key.private).unwrap()
}

/// A key for this algorithm.
pub(crate) fn key_for(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::ES256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            EncodingKey::from_ec_der(pair.to_pkcs8v1().unwrap().as_ref())
        }
        Algorithm::EdDSA => {
            EncodingKey::from_ed_der(Ed25519KeyPair::generate().unwrap().to_pkcs8v1().unwrap().as_ref())
        }
        _ => key().private,
    }
}

/// Its public half, as a set has it.
pub(crate) fn public_jwk(key: &EncodingKey, algorithm: Algorithm) -> Value {
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(key, algorithm).unwrap()).unwrap();
    jwk.as_object_mut().unwrap().remove("alg");
    jwk
}

/// The public half of a new key.
pub(crate) fn jwk(algorithm: Algorithm) -> Value {
    public_jwk(&key_for(algorithm), algorithm)
}

fn code(result: Result<Identity, Failure>) -> ErrorCode {
    result.unwrap_err().code
}

#[test]
fn a_development_token_is_the_user() {
    let development = Authenticator::new(DEVELOPMENT_KEY, None, None).unwrap();
    assert_eq!(development.identify(USER, NOW).unwrap().user.to_string(), USER);
    assert_eq!(code(development.identify("somebody", NOW)), ErrorCode::TokenMalformed);
}

#[test]
fn a_valid_token_names_its_user_by_sub_or_user_id() {
    let key = key();
    for public in [key.public.clone(), key.public.replace('\n', "\\n")] {
        let authenticator = Authenticator::new(&public, None, None).unwrap();
        for name in ["sub", "userId"] {
            let token = sign(&key, &json!({ name: USER, "exp": NOW + 5.5, "aud": "anyone", "iss": "anyone" }));
            let identity = authenticator.identify(&token, NOW).unwrap();
            assert_eq!((identity.user.to_string().as_str(), identity.expires_at), (USER, Some(NOW + 15.5)));
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &key.public).unwrap();
    assert!(Authenticator::new(file.path().to_str().unwrap(), None, None).is_ok());
}

#[test]
fn each_attack_is_refused_with_its_own_code() {
    let key = key();
    let authenticator = Authenticator::new(&key.public, Some("us"), Some("chat")).unwrap();
    let good = json!({ "sub": USER, "exp": NOW + 60.0, "iss": "us", "aud": ["chat", "mail"] });
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        code(authenticator.identify(&sign(&key, &claims), NOW))
    };
    assert!(authenticator.identify(&sign(&key, &good), NOW).is_ok());
    assert_eq!(with("exp", json!(NOW - 10.0)), ErrorCode::TokenExpired);
    assert_eq!(with("exp", Value::Null), ErrorCode::TokenClaims);
    assert_eq!(with("exp", json!("tomorrow")), ErrorCode::TokenClaims);
    assert_eq!(with("nbf", json!(NOW + 3600.0)), ErrorCode::TokenNotYetValid);
    assert_eq!(with("iss", json!("them")), ErrorCode::TokenIssuer);
    assert_eq!(with("iss", Value::Null), ErrorCode::TokenIssuer);
    assert_eq!(with("aud", json!("mail")), ErrorCode::TokenAudience);
    assert_eq!(with("aud", Value::Null), ErrorCode::TokenAudience);
    assert_eq!(with("sub", json!("admin")), ErrorCode::TokenClaims);

    let identify = |token: &str| code(authenticator.identify(token, NOW));
    assert_eq!(identify(&sign(&self::key(), &good)), ErrorCode::TokenSignature);
    let hmac = EncodingKey::from_secret(key.public.as_bytes());
    let confused = jsonwebtoken::encode(&jsonwebtoken::Header::new(Algorithm::HS256), &good, &hmac).unwrap();
    assert_eq!(identify(&confused), ErrorCode::TokenAlgorithm);
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!("{}.{}.", part(&json!({"alg": "none"})), part(&good));
    assert_eq!(identify(&unsigned), ErrorCode::TokenAlgorithm);
    let mut forged = good.clone();
    forged["sub"] = json!("00000000-0000-0000-0000-000000000000");
    let token = sign(&key, &good);
    let (header, signature) = (token.split('.').next().unwrap(), token.rsplit('.').next().unwrap());
    assert_eq!(identify(&format!("{header}.{}.{signature}", part(&forged))), ErrorCode::TokenSignature);
    for garbage in ["", ".", "..", "a.b.c", USER, "\u{0}"] {
        assert_eq!(identify(garbage), ErrorCode::TokenMalformed, "{garbage:?}");
    }
}

#[test]
fn a_session_ends_in_time_however_late_its_token_does() {
    let key = key();
    let end = |authenticator: &Authenticator, exp: Value| {
        let token = sign(&key, &json!({ "sub": USER, "exp": exp }));
        authenticator.identify(&token, NOW).map(|identity| identity.expires_at.unwrap() - NOW)
    };
    let default = Authenticator::new(&key.public, None, None).unwrap();
    assert_eq!(end(&default, json!(NOW + 86_389.0)), Ok(86_399.0));
    for late in [json!(NOW + 86_391.0), json!(4_102_444_800_u64), json!(u64::MAX), json!(1e300), json!(f64::MAX)] {
        assert_eq!(end(&default, late.clone()), Ok(86_400.0), "{late}");
    }
    let strict = Authenticator::new(&key.public, None, None).unwrap().with_max_session(Duration::from_secs(60));
    assert_eq!(end(&strict, json!(NOW + 3600.0)), Ok(60.0));
    assert_eq!(end(&strict, json!(NOW + 30.0)), Ok(40.0));
    assert_eq!(end(&default, json!(-1e300)).unwrap_err().code, ErrorCode::TokenExpired);
    // More than a number can be in JSON's usual reading.
    let header = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#);
    let claims = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"{USER}","exp":1e400}}"#));
    let message = format!("{header}.{claims}");
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key.private, Algorithm::RS256).unwrap();
    let infinite = default.identify(&format!("{message}.{signature}"), NOW);
    assert!(matches!(code(infinite), ErrorCode::TokenClaims | ErrorCode::TokenMalformed));
}

#[test]
fn the_claim_that_is_a_uuid_wins_over_another_services_own_id() {
    let key = key();
    let authenticator = Authenticator::new(&key.public, None, None).unwrap();
    let user = |sub: &Value, user_id: &Value| {
        let token = sign(&key, &json!({ "sub": sub, "userId": user_id, "exp": NOW + 60.0 }));
        authenticator.identify(&token, NOW).map(|identity| identity.user.to_string())
    };
    for own in [json!("auth0|507f1f77"), json!("admin"), json!(""), json!(42), Value::Null] {
        assert_eq!(user(&own, &json!(USER)), Ok(USER.to_owned()), "{own}");
        assert_eq!(user(&json!(USER), &own), Ok(USER.to_owned()), "{own}");
        assert_eq!(user(&own, &json!("7")).unwrap_err().code, ErrorCode::TokenClaims, "{own}");
    }
}

#[test]
fn a_clock_may_be_ten_seconds_off_in_either_direction() {
    let key = key();
    let authenticator = Authenticator::new(&key.public, None, None).unwrap();
    let end = |exp: f64, nbf: f64| {
        let token = sign(&key, &json!({ "sub": USER, "exp": exp, "nbf": nbf }));
        authenticator.identify(&token, NOW).map(|identity| identity.expires_at.unwrap() - NOW)
    };
    assert_eq!(end(NOW - 9.5, NOW - 60.0), Ok(0.5));
    assert_eq!(end(NOW - 10.0, NOW - 60.0).unwrap_err().code, ErrorCode::TokenExpired);
    assert_eq!(end(NOW + 60.0, NOW + 10.0), Ok(70.0));
    assert_eq!(end(NOW + 60.0, NOW + 10.5).unwrap_err().code, ErrorCode::TokenNotYetValid);
}

#[test]
fn a_token_of_two_users_or_with_unknown_extensions_is_refused() {
    let key = key();
    let authenticator = Authenticator::new(&key.public, None, None).unwrap();
    let two = |sub: Value, user_id: Value| {
        let token = sign(&key, &json!({ "sub": sub, "userId": user_id, "exp": NOW + 60.0 }));
        authenticator.identify(&token, NOW)
    };
    assert!(two(json!(USER), json!(USER.to_uppercase())).is_ok());
    assert!(two(json!(USER), Value::Null).is_ok() && two(Value::Null, json!(USER)).is_ok());
    let other = json!("00000000-0000-0000-0000-000000000000");
    for refused in [two(json!(USER), other.clone()), two(other.clone(), json!(USER))] {
        let failure = refused.unwrap_err();
        assert_eq!(failure.code, ErrorCode::TokenClaims);
        assert!(failure.text.contains("different users"), "{failure:?}");
    }
    for crit in [r#"["b64"]"#, r#"["exp"]"#, "[]", "null", "7"] {
        let header = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"RS256","crit":{crit},"b64":false}}"#));
        let claims = BASE64_URL_SAFE_NO_PAD.encode(json!({ "sub": USER, "exp": NOW + 60.0 }).to_string());
        let message = format!("{header}.{claims}");
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key.private, Algorithm::RS256).unwrap();
        let failure = authenticator.identify(&format!("{message}.{signature}"), NOW).unwrap_err();
        assert_eq!(failure.code, ErrorCode::TokenMalformed, "{crit}");
    }
}
