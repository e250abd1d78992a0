//! From a token to the user it speaks for.
//!
//! An [`Authenticator`] knows one or several issuers (`issuer`), finds that of a token and holds the token against it.
//! The decision is pure: the clock is an argument, and keys are what they are at that moment. They are read from PEM
//! text ([`keys`]), or fetched by a task of their own ([`remote`], which asks by `fetch` and reads by `jwks`); `key`
//! says what a key may verify, `algorithm` what is allowed at all. [`subject`] says which user a token names.

mod algorithm;
mod fetch;
mod issued;
mod issuer;
mod jwks;
mod key;
pub mod keys;
pub mod remote;
pub mod subject;

use std::time::Duration;

use arcyou_protocol::{ErrorCode, Failure};
use tokio::time::Instant;
use uuid::Uuid;

use self::issuer::{Refusal, claimed_issuer, other_issuer};
use self::remote::Awaited;

pub use self::algorithm::{Algorithms, AlgorithmsError};
pub use self::fetch::{JwksUrl, JwksUrlError};
pub use self::issued::Issued;
pub use self::issuer::{Issuer, IssuerRules, KeySource};
pub use self::keys::{KeyError, PublicKeys, ReadAgain};

/// The value of `JWT_PUBLIC_KEY` with which a token is a user's UUID, unverified.
pub const DEVELOPMENT_KEY: &str = "dev-placeholder";

/// How long a token speaks for its user at most, however late its `exp` is. A user who was shut out elsewhere, and whom
/// nobody disconnects here, stays in until then.
pub const DEFAULT_MAX_SESSION: Duration = Duration::from_secs(24 * 3600);

/// How long a token waits for its issuer's newer keys: a little longer than a request for them may take.
const WAIT_FOR_KEYS: Duration = Duration::from_secs(6);

/// Who a socket speaks for, and until when.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    pub user: Uuid,
    /// The user's id as the token has it, if it is another.
    pub subject: Option<String>,
    pub issued: Issued,
    /// When the right ends, in seconds since the epoch; none in development.
    pub expires_at: Option<f64>,
}

/// Why a subject is no user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoUser {
    /// No issuer has this name; or none was named, and there are several.
    UnknownIssuer,
    /// The issuer's tokens could not name a user so.
    Unfit,
}

/// Turns tokens into identities.
pub enum Authenticator {
    /// A token is a user's UUID, and everybody is believed.
    Development,
    /// A token is a JWT that one of the issuers has signed.
    Verified(Box<Verifier>),
}

/// Whose tokens are believed.
pub struct Verifier {
    issuers: Vec<Issuer>,
    max_session: Duration,
}

impl Authenticator {
    /// The simplest: `key` is [`DEVELOPMENT_KEY`], PEM text of one RSA key or several (its line breaks perhaps written
    /// as `\n`), or a file with PEM text.
    pub fn new(key: &str, issuer: Option<&str>, audience: Option<&str>) -> Result<Self, KeyError> {
        if key.trim() == DEVELOPMENT_KEY {
            return Ok(Self::Development);
        }
        let rules = IssuerRules {
            issuer: issuer.map(str::to_owned),
            audience: audience.map(str::to_owned).into_iter().collect(),
            ..IssuerRules::default()
        };
        let keys = PublicKeys::read(key, &rules.algorithms)?;
        Ok(Self::of(vec![Issuer::new(rules, Some(keys), None)]))
    }

    /// Believes these issuers. A token is the first one's whose `iss` it has.
    pub fn of(issuers: Vec<Issuer>) -> Self {
        Self::Verified(Box::new(Verifier { issuers, max_session: DEFAULT_MAX_SESSION }))
    }

    /// The same with another limit than [`DEFAULT_MAX_SESSION`].
    pub fn with_max_session(mut self, max_session: Duration) -> Self {
        if let Self::Verified(verifier) = &mut self {
            verifier.max_session = max_session;
        }
        self
    }

    /// The keys of each issuer; none in development.
    pub fn key_sources(&self) -> Vec<KeySource> {
        match self {
            Self::Development => Vec::new(),
            Self::Verified(verifier) => verifier.issuers.iter().map(Issuer::keys).collect(),
        }
    }

    /// The user that an issuer's `subject` is: of the only issuer, or of the one whose tokens have this `iss`. In
    /// development there is one issuer, whatever it is called.
    pub fn user_id(&self, iss: Option<&str>, subject: &str) -> Result<Uuid, NoUser> {
        let Self::Verified(verifier) = self else { return Uuid::try_parse(subject).map_err(|_| NoUser::Unfit) };
        let issuer = match (iss, verifier.issuers.as_slice()) {
            (None, [only]) => only,
            (iss, issuers) => issuers.iter().find(|issuer| issuer.is(iss)).ok_or(NoUser::UnknownIssuer)?,
        };
        subject::user_id(issuer.rules().user_ids, subject).ok_or(NoUser::Unfit)
    }

    /// The identity behind a token, at `now` seconds since the epoch, with the keys that are there.
    pub fn identify(&self, token: &str, now: f64) -> Result<Identity, Failure> {
        self.look(token, now).map_err(|refusal| match refusal {
            Refusal::Final(failure) => failure,
            Refusal::UnknownKey(unknown) => unknown.failure,
        })
    }

    /// The same, which waits for a moment if the token's issuer may have newer keys. `clock` tells the seconds since
    /// the epoch.
    pub async fn authenticate(&self, token: &str, clock: impl Fn() -> f64) -> Result<Identity, Failure> {
        let until = Instant::now() + WAIT_FOR_KEYS;
        let mut newest = None;
        loop {
            let (mut failure, keys, seen) = match self.look(token, clock()) {
                Ok(identity) => return Ok(identity),
                Err(Refusal::Final(failure)) => return Err(failure),
                Err(Refusal::UnknownKey(unknown)) => (unknown.failure, unknown.keys, unknown.seen),
            };
            match newest {
                Some(Awaited::Fresh) => return Err(failure),
                Some(Awaited::NotYet(wait)) => {
                    if failure.code != ErrorCode::TokenSignature {
                        failure.retry_after_ms = Some(wait.as_millis().max(1) as u64);
                    }
                    return Err(failure);
                }
                // Whatever comes of it, the token is looked at again: its key may have come meanwhile.
                Some(Awaited::Earlier) | None => newest = Some(keys.newer(seen, until).await),
            }
        }
    }

    fn look(&self, token: &str, now: f64) -> Result<Identity, Refusal> {
        match self {
            Self::Development => match Uuid::try_parse(token) {
                Ok(user) => Ok(Identity { user, subject: None, issued: Issued::Never, expires_at: None }),
                Err(_) => {
                    let text = "in development the token is the user's UUID";
                    Err(Failure::new(ErrorCode::TokenMalformed, text).into())
                }
            },
            Self::Verified(verifier) => verifier.look(token, now),
        }
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Development => "Development",
            Self::Verified(_) => "Verified",
        })
    }
}

impl Verifier {
    fn look(&self, token: &str, now: f64) -> Result<Identity, Refusal> {
        let verified = self.issuer_of(token)?.verify(token, now)?;
        let issuer::Verified { user, subject, issued, expires_at } = verified;
        let expires_at = Some(expires_at.min(now + self.max_session.as_secs_f64()));
        Ok(Identity { user, subject, issued, expires_at })
    }

    /// The issuer that the token claims to be of: only that one's keys can prove it.
    fn issuer_of(&self, token: &str) -> Result<&Issuer, Refusal> {
        match self.issuers.as_slice() {
            [only] => Ok(only),
            issuers => {
                let malformed = || Failure::new(ErrorCode::TokenMalformed, "the token is not a JWT");
                let iss = claimed_issuer(token).ok_or_else(malformed)?;
                Ok(issuers.iter().find(|issuer| issuer.is(iss.as_deref())).ok_or_else(other_issuer)?)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests;
