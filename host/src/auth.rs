//! From a token to the user it speaks for. Pure: the clock is an argument.

use std::path::Path;
use std::time::Duration;

use arcyou_protocol::{ErrorCode, Failure};
use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::{PublicEncryptingKey, PublicKey};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

/// The value of `JWT_PUBLIC_KEY` with which a token is a user's UUID, unverified.
pub const DEVELOPMENT_KEY: &str = "dev-placeholder";

/// How far another machine's clock may be behind ours: `nbf` is honoured with this much patience, in seconds.
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
    key: DecodingKey,
    validation: Validation,
    max_session: Duration,
}

/// A key that cannot be used. Never shows the key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The value is not PEM text, and no file of that name can be read.
    #[error("is neither a PEM public key nor a readable file: {0}")]
    Unreadable(std::io::Error),
    /// A private key where a public one belongs.
    #[error("holds a private key; give the gateway the public one only")]
    Private,
    /// PEM, but no RSA public key.
    #[error("holds no RSA public key in PEM form (-----BEGIN PUBLIC KEY-----)")]
    NotRsa,
    /// Short ones can be factored.
    #[error(
        "holds an RSA key that does not have 2,048 to 8,192 bits; make another with \
         `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out jwt.pem` and give the gateway its public \
         half, `openssl pkey -in jwt.pem -pubout -out jwt.pub.pem`"
    )]
    Size,
}

impl Authenticator {
    /// `key` is [`DEVELOPMENT_KEY`], PEM text (its line breaks perhaps written as `\n`), or a file with PEM text.
    pub fn new(key: &str, issuer: Option<&str>, audience: Option<&str>) -> Result<Self, KeyError> {
        if key.trim() == DEVELOPMENT_KEY {
            return Ok(Self::Development);
        }
        let pem = if key.contains("-----BEGIN") {
            key.replace("\\n", "\n")
        } else {
            std::fs::read_to_string(Path::new(key.trim())).map_err(KeyError::Unreadable)?
        };
        if pem.contains("PRIVATE KEY-----") {
            return Err(KeyError::Private);
        }
        let key = rsa_key(pem.trim())?;
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
        Ok(Self::Rs256(Box::new(Verifier { key, validation, max_session: DEFAULT_MAX_SESSION })))
    }

    /// The same with another limit than [`DEFAULT_MAX_SESSION`].
    pub fn with_max_session(mut self, max_session: Duration) -> Self {
        if let Self::Rs256(verifier) = &mut self {
            verifier.max_session = max_session;
        }
        self
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

/// A key that is long enough. The JWT crate would take a short one and then refuse every signature.
fn rsa_key(pem: &str) -> Result<DecodingKey, KeyError> {
    let key = DecodingKey::from_rsa_pem(pem.as_bytes()).map_err(|_| KeyError::NotRsa)?;
    let der = key.try_get_as_bytes().map_err(|_| KeyError::NotRsa)?;
    let der = PublicKey::from_der(der).map_err(|_| KeyError::NotRsa)?.as_der().map_err(|_| KeyError::NotRsa)?;
    PublicEncryptingKey::from_der(der.as_ref()).map_err(|_| KeyError::Size)?;
    Ok(key)
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
    sub: Option<String>,
    #[serde(rename = "userId")]
    user_id: Option<String>,
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
        let claims: Claims =
            jsonwebtoken::decode(token, &self.key, &self.validation).map_err(|error| refusal(error.kind()))?.claims;
        let user = claims.user()?;
        let Some(expires_at) = claims.exp.filter(|exp| exp.is_finite()) else {
            return Err(Failure::new(ErrorCode::TokenClaims, "the token must have an exp, in seconds since 1970"));
        };
        if expires_at <= now {
            return Err(Failure::new(ErrorCode::TokenExpired, "the token has expired; get a fresh one"));
        }
        if claims.nbf.is_some_and(|nbf| nbf > now + CLOCK_SKEW_SECONDS) {
            return Err(Failure::new(ErrorCode::TokenNotYetValid, "the token is not valid yet"));
        }
        Ok(Identity { user, expires_at: Some(expires_at.min(now + self.max_session.as_secs_f64())) })
    }
}

impl Claims {
    /// Whoever reads `sub` and whoever reads `userId` must see the same user.
    fn user(&self) -> Result<Uuid, Failure> {
        let refused = |text: &'static str| Failure::new(ErrorCode::TokenClaims, text);
        let users = [&self.sub, &self.user_id].map(|user| user.as_deref().map(|user| Uuid::try_parse(user).ok()));
        let user = match users {
            [Some(sub), Some(user_id)] if sub != user_id => {
                return Err(refused("the token's sub and userId name different users; leave one out"));
            }
            [Some(user), _] | [None, Some(user)] => user,
            [None, None] => None,
        };
        user.ok_or_else(|| refused("the token must name its user, a UUID, in sub or userId"))
    }
}

fn refusal(kind: &jsonwebtoken::errors::ErrorKind) -> Failure {
    use jsonwebtoken::errors::ErrorKind as Kind;
    let issuer =
        || Failure::new(ErrorCode::TokenIssuer, "the token comes from another issuer than this gateway trusts");
    let audience = || Failure::new(ErrorCode::TokenAudience, "the token is meant for another audience");
    match kind {
        Kind::InvalidSignature => Failure::new(ErrorCode::TokenSignature, "the token's signature is not valid"),
        Kind::InvalidIssuer => issuer(),
        Kind::InvalidAudience => audience(),
        Kind::MissingRequiredClaim(claim) if claim == "iss" => issuer(),
        Kind::MissingRequiredClaim(_) => audience(),
        Kind::InvalidAlgorithm => Failure::new(ErrorCode::TokenAlgorithm, "the token must be signed with RS256"),
        Kind::Json(_) => Failure::new(ErrorCode::TokenClaims, "the token's claims are not of the types they should be"),
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
    use serde_json::{Value, json};

    use super::*;

    const USER: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
    const NOW: f64 = 1_000_000.0;

    struct Key {
        private: EncodingKey,
        public: String,
    }

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64_STANDARD.encode(der))
    }

    fn key() -> Key {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let private: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        Key {
            private: EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes()).unwrap(),
            public: pem("PUBLIC KEY", public.as_ref()),
        }
    }

    fn sign(key: &Key, claims: &Value) -> String {
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
                assert_eq!((identity.user.to_string().as_str(), identity.expires_at), (USER, Some(NOW + 5.5)));
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
        assert_eq!(with("exp", json!(NOW - 1.0)), ErrorCode::TokenExpired);
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
        assert_eq!(end(&default, json!(NOW + 86_399.0)), Ok(86_399.0));
        for late in [json!(NOW + 86_401.0), json!(4_102_444_800_u64), json!(u64::MAX), json!(1e300), json!(f64::MAX)] {
            assert_eq!(end(&default, late.clone()), Ok(86_400.0), "{late}");
        }
        let strict = Authenticator::new(&key.public, None, None).unwrap().with_max_session(Duration::from_secs(60));
        assert_eq!(end(&strict, json!(NOW + 3600.0)), Ok(60.0));
        assert_eq!(end(&strict, json!(NOW + 30.0)), Ok(30.0));
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
    fn a_token_of_two_users_or_with_unknown_extensions_is_refused() {
        let key = key();
        let authenticator = Authenticator::new(&key.public, None, None).unwrap();
        let two = |sub: Value, user_id: Value| {
            let token = sign(&key, &json!({ "sub": sub, "userId": user_id, "exp": NOW + 60.0 }));
            authenticator.identify(&token, NOW)
        };
        assert!(two(json!(USER), json!(USER.to_uppercase())).is_ok());
        assert!(two(json!(USER), Value::Null).is_ok() && two(Value::Null, json!(USER)).is_ok());
        for other in ["00000000-0000-0000-0000-000000000000", "admin", ""] {
            for refused in [two(json!(USER), json!(other)), two(json!(other), json!(USER))] {
                let failure = refused.unwrap_err();
                assert_eq!(failure.code, ErrorCode::TokenClaims);
                assert!(failure.text.contains("different users"), "{failure:?}");
            }
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

    /// The public half of a pair of 1,024 bits, whose private half was thrown away.
    const SHORT_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
        MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDoaFLwQBLyS4x2BRft37ZzfkrVVb5nwsDJqFTQeXs33u0aUGCCP+AM/p+S\
        OBhKQ1j/WYzT4S2ev41DdxuMTEB1B+GhzFbRs2iALA17/MD0eUfgOVZAAkaFA7BUR4nQzSfHsfdTOOr+DGhwL2LcxNa3xuWH\
        75QFbi4HR+G0L4w8lQIDAQAB\n\
        -----END PUBLIC KEY-----";

    #[test]
    fn unusable_keys_are_explained() {
        let explain = |key: &str| Authenticator::new(key, None, None).unwrap_err().to_string();
        assert!(explain("/no/such/file").contains("neither a PEM public key nor a readable file"));
        assert!(explain("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----").contains("private key"));
        assert!(explain("-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----").contains("no RSA public key"));
        let text = explain(SHORT_KEY);
        assert!(text.contains("2,048") && text.matches("openssl").count() == 2, "{text}");
    }
}
