//! One issuer of tokens: what its tokens must say, and with which keys they are verified. Pure but for what the keys
//! are at the moment.

use std::sync::Arc;

use arcyou_protocol::{ErrorCode, Failure};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::algorithm::{self, Algorithms};
use super::issued::Issued;
use super::keys::PublicKeys;
use super::remote::RemoteKeys;
use super::subject::{self, NoSubject, UserClaim, UserIds};

/// How far another machine's clock may be from ours, in seconds: a token is good from so long before its `nbf` until so
/// long after its `exp`.
const CLOCK_SKEW_SECONDS: f64 = 10.0;

/// What is to be known of an issuer.
#[derive(Clone, Default)]
pub struct IssuerRules {
    /// What `iss` must be; none: anything.
    pub issuer: Option<String>,
    /// One of which `aud` must contain; empty: anything.
    pub audience: Vec<String>,
    /// How its tokens may be signed.
    pub algorithms: Algorithms,
    /// Which claim names the user.
    pub user_claim: UserClaim,
    /// How that becomes a user.
    pub user_ids: UserIds,
    /// Whether it is one of a list, for what operators are told.
    pub is_listed: bool,
}

/// An issuer whose tokens are believed.
pub struct Issuer {
    rules: IssuerRules,
    /// One for each algorithm: a token is held against that of its own.
    validations: Vec<(Algorithm, Validation)>,
    local: Option<PublicKeys>,
    remote: Option<Arc<RemoteKeys>>,
}

/// The keys of one issuer, for whoever keeps them fresh.
#[derive(Clone)]
pub struct KeySource {
    /// The issuer, if it has a name.
    pub issuer: Option<String>,
    /// Whether it is one of a list.
    pub is_listed: bool,
    /// Keys of a file or a variable.
    pub local: Option<PublicKeys>,
    /// Keys by their address.
    pub remote: Option<Arc<RemoteKeys>>,
}

/// What a token says that its issuer has signed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verified {
    pub(super) user: Uuid,
    pub(super) subject: Option<String>,
    pub(super) issued: Issued,
    pub(super) expires_at: f64,
}

/// Why a token is refused.
pub(super) enum Refusal {
    Final(Failure),
    UnknownKey(Box<UnknownKey>),
}

/// A token's issuer may have a newer key.
pub(super) struct UnknownKey {
    /// What the client is told if not.
    pub(super) failure: Failure,
    pub(super) keys: Arc<RemoteKeys>,
    /// After so many attempts to fetch them the key was not there.
    pub(super) seen: u64,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Whether the token asks for extensions that its reader must know.
    #[serde(default, rename = "crit", deserialize_with = "is_there")]
    has_crit: bool,
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// Those that are read here by their names are refused if they occur twice.
#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
    nbf: Option<f64>,
    #[serde(default)]
    iat: Value,
    #[serde(default)]
    sub: Value,
    #[serde(default, rename = "userId")]
    user_id: Value,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// What an unverified token says of its issuer.
#[derive(Deserialize)]
struct Claimed {
    #[serde(default)]
    iss: Value,
}

/// Which issuer a token claims to be of; none if it cannot be read.
pub(super) fn claimed_issuer(token: &str) -> Option<Option<String>> {
    let claimed: Claimed = part(token, 1)?;
    Some(claimed.iss.as_str().map(str::to_owned))
}

/// A part of a token, which is JSON in base64.
fn part<T: for<'de> Deserialize<'de>>(token: &str, index: usize) -> Option<T> {
    let json = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(index)?).ok()?;
    serde_json::from_slice(&json).ok()
}

impl Issuer {
    /// An issuer with these keys; it needs some of either kind.
    pub fn new(mut rules: IssuerRules, local: Option<PublicKeys>, remote: Option<Arc<RemoteKeys>>) -> Self {
        // Where any text can be a user, one claim must say which.
        if rules.user_claim == UserClaim::SubOrUserId && rules.user_ids.namespace().is_some() {
            rules.user_claim = UserClaim::Named("sub".to_owned());
        }
        let validation = |algorithm| (algorithm, validation(algorithm, &rules));
        let validations = rules.algorithms.iter().map(validation).collect();
        Self { validations, local, remote, rules }
    }

    /// Its keys.
    pub fn keys(&self) -> KeySource {
        let IssuerRules { issuer, is_listed, .. } = &self.rules;
        let (local, remote) = (self.local.clone(), self.remote.clone());
        KeySource { issuer: issuer.clone(), is_listed: *is_listed, local, remote }
    }

    pub(super) fn rules(&self) -> &IssuerRules {
        &self.rules
    }

    /// Whether a token that says this may be its.
    pub(super) fn is(&self, iss: Option<&str>) -> bool {
        self.rules.issuer.as_deref().is_none_or(|issuer| iss == Some(issuer))
    }

    /// What a token says, if it is valid at `now`.
    pub(super) fn verify(&self, token: &str, now: f64) -> Result<Verified, Refusal> {
        // The algorithm is read here, since the JWT crate does not know `none` and would call the token malformed.
        let Some(Header { alg, kid, has_crit }) = part(token, 0) else {
            return Err(Failure::new(ErrorCode::TokenMalformed, "the token is not a JWT").into());
        };
        let allowed = algorithm::named(&alg);
        let Some((algorithm, validation)) = self.validations.iter().find(|(one, _)| Some(*one) == allowed) else {
            return Err(self.wrong_algorithm().into());
        };
        if has_crit {
            let text = "the token has crit: this gateway knows no extension";
            return Err(Failure::new(ErrorCode::TokenMalformed, text).into());
        }
        let claims = self.claims(token, *algorithm, validation, kid.as_deref())?;
        Ok(self.judge(claims, now)?)
    }

    /// The claims, if one of the keys has signed them.
    fn claims(
        &self,
        token: &str,
        algorithm: Algorithm,
        validation: &Validation,
        kid: Option<&str>,
    ) -> Result<Claims, Refusal> {
        let local = self.local.as_ref().map(PublicKeys::current).unwrap_or_default();
        let mut refused = Error::from(ErrorKind::InvalidSignature);
        let decode = |key: &DecodingKey| jsonwebtoken::decode::<Claims>(token, key, validation);
        let remote = self.remote.as_ref().map(|remote| (remote, remote.attempts_done(), remote.current()));
        let fetched = remote.as_ref().and_then(|(.., keys)| keys.as_deref());
        let named = fetched.and_then(|keys| keys.of(kid));
        let candidates = named.iter().flatten().copied().chain(local.iter()).filter(|key| key.fits(algorithm));
        // Only the last key's refusal is told: any other than that of the signature says that this key has signed.
        for key in candidates {
            match decode(&key.decoding) {
                Ok(verified) => return Ok(verified.claims),
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => refused = error,
                Err(error) => return Err(self.refusal(error.kind()).into()),
            }
        }
        let failure = self.refusal(refused.kind());
        let Some((remote, seen, fetched)) = &remote else { return Err(failure.into()) };
        // What shows without any key is no reason to ask for others.
        match claimed_issuer(token) {
            Some(iss) if token.split('.').count() == 3 => {
                if !self.is(iss.as_deref()) {
                    return Err(other_issuer().into());
                }
            }
            _ => return Err(self.refusal(&ErrorKind::InvalidToken).into()),
        }
        let newer =
            |failure| Refusal::UnknownKey(Box::new(UnknownKey { failure, keys: Arc::clone(remote), seen: *seen }));
        Err(match named {
            None if fetched.is_none() => newer(not_fetched()),
            None => newer(no_such_key()),
            // Without a `kid` nobody can tell a newer key from a forgery.
            Some(_) if kid.is_none() => newer(failure),
            Some(keys) if !keys.iter().any(|key| key.fits(algorithm)) => {
                let text = "the issuer's key of this kid is for another algorithm than the token's";
                Failure::new(ErrorCode::TokenAlgorithm, text).into()
            }
            Some(_) => failure.into(),
        })
    }

    fn judge(&self, mut claims: Claims, now: f64) -> Result<Verified, Failure> {
        claims.others.insert("sub".to_owned(), claims.sub);
        claims.others.insert("userId".to_owned(), claims.user_id);
        let (user, subject) = subject::find(&self.rules.user_claim, self.rules.user_ids, &claims.others)
            .map_err(|why| self.no_subject(&why))?;
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
        // One from the future would outlive every disconnection until then.
        let iat = claims.iat.as_f64().filter(|iat| *iat <= now + CLOCK_SKEW_SECONDS);
        Ok(Verified { user, subject, issued: iat.map_or(Issued::Unknown, Issued::At), expires_at })
    }

    fn no_subject(&self, why: &NoSubject) -> Failure {
        let claim = match &self.rules.user_claim {
            UserClaim::SubOrUserId => "sub or userId",
            UserClaim::Named(claim) | UserClaim::Pointer(claim) => claim,
        };
        let text = match why {
            NoSubject::Two => "the token's sub and userId name different users; leave one out".to_owned(),
            NoSubject::Neither => match self.rules.user_ids {
                UserIds::Uuids { others_are_mapped: true } => {
                    "the token must name its user in sub or userId: a UUID, and none of version 5, which other issuers \
                     have"
                }
                _ => "the token must name its user, a UUID, in sub or userId",
            }
            .to_owned(),
            NoSubject::Missing => format!("the token must name its user in {claim}, as text or a whole number"),
            NoSubject::Unfit => match self.rules.user_ids {
                UserIds::Uuids { .. } => format!("the token's {claim} must be a UUID that this issuer may give"),
                UserIds::Mapped(_) | UserIds::Own(_) => format!("the token's {claim} must have 1 to 1,024 bytes"),
            },
        };
        Failure::new(ErrorCode::TokenClaims, text)
    }

    fn wrong_algorithm(&self) -> Failure {
        let text = format!("the token must be signed with {}", self.rules.algorithms);
        Failure::new(ErrorCode::TokenAlgorithm, text)
    }

    fn refusal(&self, kind: &ErrorKind) -> Failure {
        let audience = || Failure::new(ErrorCode::TokenAudience, "the token is meant for another audience");
        match kind {
            ErrorKind::InvalidSignature => {
                Failure::new(ErrorCode::TokenSignature, "the token's signature is not valid")
            }
            ErrorKind::InvalidIssuer => other_issuer(),
            ErrorKind::InvalidAudience => audience(),
            ErrorKind::MissingRequiredClaim(claim) if claim == "iss" => other_issuer(),
            ErrorKind::MissingRequiredClaim(_) => audience(),
            ErrorKind::InvalidAlgorithm => self.wrong_algorithm(),
            ErrorKind::Json(error) if error.to_string().starts_with("duplicate field") => {
                Failure::new(ErrorCode::TokenClaims, "a claim of the token is there twice")
            }
            ErrorKind::Json(_) => {
                Failure::new(ErrorCode::TokenClaims, "the token's claims are not of the types they should be")
            }
            _ => Failure::new(ErrorCode::TokenMalformed, "the token is not a JWT"),
        }
    }
}

/// What concerns time is checked here, with our own clock; a claim that is asked for must be there.
fn validation(algorithm: Algorithm, rules: &IssuerRules) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.validate_exp = false;
    validation.required_spec_claims.clear();
    match &rules.issuer {
        Some(issuer) => {
            validation.set_issuer(&[issuer]);
            validation.required_spec_claims.insert("iss".to_owned());
        }
        None => validation.iss = None,
    }
    if rules.audience.is_empty() {
        validation.validate_aud = false;
    } else {
        validation.set_audience(&rules.audience);
        validation.required_spec_claims.insert("aud".to_owned());
    }
    validation
}

pub(super) fn other_issuer() -> Failure {
    Failure::new(ErrorCode::TokenIssuer, "the token comes from another issuer than this gateway trusts")
}

fn not_fetched() -> Failure {
    Failure::new(ErrorCode::KeysUnavailable, "the issuer's keys could not be fetched yet; try again")
}

fn no_such_key() -> Failure {
    Failure::new(ErrorCode::TokenKeyUnknown, "the issuer has no key of the token's kid")
}
