//! From a token to the user it speaks for. Pure: the clock is an argument. `keys` reads what tokens are verified with.

mod keys;

use std::time::Duration;

use arcyou_protocol::{ErrorCode, Failure};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, Validation};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use uuid::Uuid;

pub use self::keys::{KeyError, PublicKeys, ReadAgain};

/// The value of `JWT_PUBLIC_KEY` with which a token is a user's UUID, unverified.
pub const DEVELOPMENT_KEY: &str = "dev-placeholder";

/// How far another machine's clock may be from ours, in seconds: a token is good from so long before its `nbf` until so
/// long after its `exp`.
const CLOCK_SKEW_SECONDS: f64 = 10.0;

/// How long a token speaks for its user at most, however late its `exp` is. Nobody can take a token back: a user who
/// was shut out stays in until the token ends.
pub const DEFAULT_MAX_SESSION: Duration = Duration::from_secs(24 * 3600);

/// Who a socket speaks for, and until when.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Identity {
    pub user: Uuid,
    /// When the right ends, in seconds since the epoch; none in development.
    pub expires_at: Option<f64>,
}

/// Turns tokens into identities.
pub enum Authenticator {
    /// A token is a user's UUID, and everybody is believed.
    Development,
    /// A token is a JWT signed with RS256.
    Rs256(Box<Verifier>),
}

/// What a JWT is verified against.
pub struct Verifier {
    keys: PublicKeys,
    validation: Validation,
    max_session: Duration,
}

impl Authenticator {
    /// `key` is [`DEVELOPMENT_KEY`], PEM text of one key or several (its line breaks perhaps written as `\n`), or a file
    /// with PEM text.
    pub fn new(key: &str, issuer: Option<&str>, audience: Option<&str>) -> Result<Self, KeyError> {
        if key.trim() == DEVELOPMENT_KEY {
            return Ok(Self::Development);
        }
        let keys = PublicKeys::read(key)?;
        // What concerns time is checked here, with our own clock; a claim that is asked for must be there.
        let mut validation = Validation::new(Algorithm::RS256);
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        match issuer {
            Some(issuer) => {
                validation.set_issuer(&[issuer]);
                validation.required_spec_claims.insert("iss".to_owned());
            }
            None => validation.iss = None,
        }
        match audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                validation.required_spec_claims.insert("aud".to_owned());
            }
            None => validation.validate_aud = false,
        }
        Ok(Self::Rs256(Box::new(Verifier { keys, validation, max_session: DEFAULT_MAX_SESSION })))
    }

    /// The same with another limit than [`DEFAULT_MAX_SESSION`].
    pub fn with_max_session(mut self, max_session: Duration) -> Self {
        if let Self::Rs256(verifier) = &mut self {
            verifier.max_session = max_session;
        }
        self
    }

    /// What tokens are verified with; none in development.
    pub fn keys(&self) -> Option<&PublicKeys> {
        match self {
            Self::Development => None,
            Self::Rs256(verifier) => Some(&verifier.keys),
        }
    }

    /// The identity behind a token, at `now` seconds since the epoch.
    pub fn identify(&self, token: &str, now: f64) -> Result<Identity, Failure> {
        match self {
            Self::Development => match Uuid::try_parse(token) {
                Ok(user) => Ok(Identity { user, expires_at: None }),
                Err(_) => Err(Failure::new(ErrorCode::TokenMalformed, "in development the token is the user's UUID")),
            },
            Self::Rs256(verifier) => verifier.identify(token, now),
        }
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Development => "Development",
            Self::Rs256(_) => "Rs256",
        })
    }
}

#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
    nbf: Option<f64>,
    #[serde(default)]
    sub: Value,
    #[serde(default, rename = "userId")]
    user_id: Value,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Whether the token asks for extensions that its reader must know.
    #[serde(default, rename = "crit", deserialize_with = "is_there")]
    has_crit: bool,
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl Verifier {
    fn identify(&self, token: &str, now: f64) -> Result<Identity, Failure> {
        // The algorithm is read here, since the JWT crate does not know `none` and would call the token malformed.
        let header = token.split('.').next().and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
        let Some(Ok(Header { alg, has_crit })) = header.map(|json| serde_json::from_slice(&json)) else {
            return Err(Failure::new(ErrorCode::TokenMalformed, "the token is not a JWT"));
        };
        if alg != "RS256" {
            return Err(Failure::new(ErrorCode::TokenAlgorithm, "the token must be signed with RS256"));
        }
        if has_crit {
            return Err(Failure::new(ErrorCode::TokenMalformed, "the token has crit: this gateway knows no extension"));
        }
        let claims = self.verified(token).map_err(|error| refusal(error.kind()))?;
        let user = claims.user()?;
        let Some(expires_at) = claims.exp.filter(|exp| exp.is_finite()) else {
            return Err(Failure::new(ErrorCode::TokenClaims, "the token must have an exp, in seconds since 1970"));
        };
        let expires_at = expires_at + CLOCK_SKEW_SECONDS;
        if expires_at <= now {
            return Err(Failure::new(ErrorCode::TokenExpired, "the token has expired; get a fresh one"));
        }
        if claims.nbf.is_some_and(|nbf| nbf > now + CLOCK_SKEW_SECONDS) {
            return Err(Failure::new(ErrorCode::TokenNotYetValid, "the token is not valid yet"));
        }
        Ok(Identity { user, expires_at: Some(expires_at.min(now + self.max_session.as_secs_f64())) })
    }

    /// The claims, if one of the keys has signed them. Only the last key's refusal is told: any other than that of the
    /// signature says that this key has signed.
    fn verified(&self, token: &str) -> Result<Claims, Error> {
        let mut refused = Error::from(ErrorKind::InvalidSignature);
        for key in self.keys.current().iter() {
            match jsonwebtoken::decode(token, &key.decoding, &self.validation) {
                Ok(verified) => return Ok(verified.claims),
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }
}

impl Claims {
    /// The UUID in `sub` or `userId`. Another service's own id may stand in the other one; two users may not.
    fn user(&self) -> Result<Uuid, Failure> {
        let refused = |text: &'static str| Failure::new(ErrorCode::TokenClaims, text);
        let user = |claim: &Value| claim.as_str().and_then(|user| Uuid::try_parse(user).ok());
        match (user(&self.sub), user(&self.user_id)) {
            (Some(sub), Some(user_id)) if sub != user_id => {
                Err(refused("the token's sub and userId name different users; leave one out"))
            }
            (Some(user), _) | (None, Some(user)) => Ok(user),
            (None, None) => Err(refused("the token must name its user, a UUID, in sub or userId")),
        }
    }
}

fn refusal(kind: &ErrorKind) -> Failure {
    let issuer =
        || Failure::new(ErrorCode::TokenIssuer, "the token comes from another issuer than this gateway trusts");
    let audience = || Failure::new(ErrorCode::TokenAudience, "the token is meant for another audience");
    match kind {
        ErrorKind::InvalidSignature => Failure::new(ErrorCode::TokenSignature, "the token's signature is not valid"),
        ErrorKind::InvalidIssuer => issuer(),
        ErrorKind::InvalidAudience => audience(),
        ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => issuer(),
        ErrorKind::MissingRequiredClaim(_) => audience(),
        ErrorKind::InvalidAlgorithm => Failure::new(ErrorCode::TokenAlgorithm, "the token must be signed with RS256"),
        ErrorKind::Json(_) => {
            Failure::new(ErrorCode::TokenClaims, "the token's claims are not of the types they should be")
        }
        _ => Failure::new(ErrorCode::TokenMalformed, "the token is not a JWT"),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use aws_lc_rs::signature::KeyPair as _;
    use base64::prelude::BASE64_STANDARD;
    use jsonwebtoken::EncodingKey;
    use serde_json::json;

    use super::*;

    pub(super) const USER: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
    pub(super) const NOW: f64 = 1_000_000.0;

    pub(super) struct Key {
        private: EncodingKey,
        pub(super) public: String,
    }

    pub(super) fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
    }

    pub(super) fn key() -> Key {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        Key {
            private: EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes()).unwrap(),
            public: pem("PUBLIC KEY", public.as_ref()),
        }
    }

    pub(super) fn sign(key: &Key, claims: &Value) -> String {
        jsonwebtoken::encode(&jsonwebtoken::Header::new(Algorithm::RS256), claims, &key.private).unwrap()
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
}
