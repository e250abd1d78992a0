//! Whose tokens are believed: the variables of one issuer, or a file that lists several.

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arcyou_platform::env::Reader;

use super::issuers::{self, ANY, Namespace};
use crate::auth::remote::RemoteKeys;
use crate::auth::subject::{UserClaim, UserIds};
use crate::auth::{
    Algorithms, Authenticator, DEFAULT_MAX_SESSION, DEVELOPMENT_KEY, Issuer, IssuerRules, JwksUrl, PublicKeys,
};

/// Why a deployment does not start with the key of development, and what to do.
const BELIEVES_EVERYBODY: &str = "is dev-placeholder, which believes everybody, and other machines can reach this \
    gateway. Make a key pair and set JWT_PUBLIC_KEY to jwt.pub.pem; who issues tokens gets jwt.pem:
  openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out jwt.pem
  openssl pkey -in jwt.pem -pubout -out jwt.pub.pem
To try things out on this machine alone, set BIND_ADDR=127.0.0.1 (and ADMIN_ADDR to a loopback address). To believe \
    everybody all the same, set ALLOW_INSECURE_AUTH=1";

/// The variables of one issuer, as they were set.
struct Single {
    issuer: Option<String>,
    audience: Option<String>,
    key: Option<String>,
    jwks_url: Option<String>,
    algorithms: Option<Algorithms>,
    user_claim: Option<UserClaim>,
    namespace: Option<Namespace>,
}

/// Reads everything about tokens. `bind` and `admin` are where the gateway listens: one that believes everybody is for
/// its own machine, unless it `may_believe` them elsewhere. `plain_http`: whether keys may come by it from anywhere.
pub(super) fn authenticator(
    reader: &mut Reader<'_>,
    may_believe: bool,
    plain_http: bool,
    bind: Option<IpAddr>,
    admin: SocketAddr,
) -> Option<Authenticator> {
    let max_session = reader.within("MAX_SESSION_SECONDS", DEFAULT_MAX_SESSION.as_secs(), 1..=365 * 24 * 3600);
    let refresh = Duration::from_secs(reader.within("JWT_JWKS_REFRESH_SECONDS", 300, 10..=86_400));
    let file: Option<PathBuf> = reader.optional("JWT_ISSUERS");
    let jwks_url: Option<String> = reader.optional("JWT_JWKS_URL");
    let single = Single {
        issuer: claim(reader, "JWT_ISSUER"),
        audience: claim(reader, "JWT_AUDIENCE"),
        key: match (&file, &jwks_url) {
            (None, None) => reader.required("JWT_PUBLIC_KEY", KEY),
            _ => reader.optional("JWT_PUBLIC_KEY"),
        },
        jwks_url,
        algorithms: reader.optional("JWT_ALGORITHMS"),
        user_claim: reader.optional("JWT_USER_CLAIM"),
        namespace: reader.optional("USER_ID_NAMESPACE"),
    };
    let keys = |reader: &mut Reader<'_>, name: &str, url: &str, algorithms: &Algorithms| {
        let url = accepted(reader, name, JwksUrl::parse(url, plain_http))?;
        Some(Arc::new(RemoteKeys::new(url, algorithms.clone(), refresh)))
    };
    let authenticator = match file {
        Some(file) => {
            single.reject_beside_file(reader);
            let listed = issuers::read(&file, plain_http, refresh);
            accepted(reader, "JWT_ISSUERS", listed).map(Authenticator::of)
        }
        None => single.authenticator(reader, keys),
    };
    if matches!(authenticator, Some(Authenticator::Development)) && !may_believe && !on_loopback(bind, admin) {
        reader.reject("JWT_PUBLIC_KEY", BELIEVES_EVERYBODY);
    }
    authenticator.map(|authenticator| authenticator.with_max_session(Duration::from_secs(max_session)))
}

/// What `JWT_PUBLIC_KEY` is.
const KEY: &str = "the RS256 public key as PEM text or a file, or dev-placeholder for development; or set JWT_JWKS_URL to \
    where the issuer publishes its keys, or JWT_ISSUERS to a file that lists several issuers";

impl Single {
    fn reject_beside_file(&self, reader: &mut Reader<'_>) {
        for (name, is_set) in [
            ("JWT_ISSUER", self.issuer.is_some()),
            ("JWT_AUDIENCE", self.audience.is_some()),
            ("JWT_PUBLIC_KEY", self.key.is_some()),
            ("JWT_JWKS_URL", self.jwks_url.is_some()),
            ("JWT_ALGORITHMS", self.algorithms.is_some()),
            ("JWT_USER_CLAIM", self.user_claim.is_some()),
            ("USER_ID_NAMESPACE", self.namespace.is_some()),
        ] {
            if is_set {
                reader.reject(name, "is set beside JWT_ISSUERS; say it in that file, for the issuer that it concerns");
            }
        }
    }

    fn authenticator(
        self,
        reader: &mut Reader<'_>,
        remote: impl Fn(&mut Reader<'_>, &str, &str, &Algorithms) -> Option<Arc<RemoteKeys>>,
    ) -> Option<Authenticator> {
        let Self { issuer, audience, key, jwks_url, algorithms, user_claim, namespace } = self;
        if key.as_deref() == Some(DEVELOPMENT_KEY) {
            if jwks_url.is_some() {
                reader.reject(
                    "JWT_PUBLIC_KEY",
                    "is dev-placeholder, which believes everybody, beside JWT_JWKS_URL; unset one",
                );
            }
            let idle = [
                ("JWT_ISSUER", issuer.is_some()),
                ("JWT_AUDIENCE", audience.is_some()),
                ("JWT_ALGORITHMS", algorithms.is_some_and(|algorithms| algorithms != Algorithms::default())),
                ("JWT_USER_CLAIM", user_claim.is_some()),
                ("USER_ID_NAMESPACE", namespace.is_some()),
            ];
            let idle: Vec<&str> = idle.into_iter().filter_map(|(name, is_set)| is_set.then_some(name)).collect();
            let verb = if idle.len() == 1 { "does" } else { "do" };
            if !idle.is_empty() {
                reader.note(format!("{} {verb} nothing while JWT_PUBLIC_KEY is dev-placeholder", idle.join(", ")));
            }
            return Some(Authenticator::Development);
        }
        if jwks_url.is_some() {
            // A provider signs for other applications too, with the same keys.
            demand(reader, "JWT_ISSUER", issuer.as_ref(), "the token's iss");
            demand(reader, "JWT_AUDIENCE", audience.as_ref(), "its aud: this application's name at the issuer");
        }
        let named = |value: Option<String>| value.filter(|value| value != ANY);
        let rules = IssuerRules {
            issuer: named(issuer),
            audience: named(audience).into_iter().collect(),
            algorithms: algorithms.unwrap_or_default(),
            user_claim: user_claim.unwrap_or_default(),
            user_ids: namespace.map_or_else(UserIds::default, |Namespace(namespace)| UserIds::Mapped(namespace)),
            is_listed: false,
        };
        let local = match key {
            Some(key) => Some(accepted(reader, "JWT_PUBLIC_KEY", PublicKeys::read(&key, &rules.algorithms))?),
            None => None,
        };
        let remote = match jwks_url {
            Some(url) => Some(remote(reader, "JWT_JWKS_URL", &url, &rules.algorithms)?),
            None => None,
        };
        // Without either, a variable that is required was not set.
        (local.is_some() || remote.is_some()).then(|| Authenticator::of(vec![Issuer::new(rules, local, remote)]))
    }
}

fn demand(reader: &mut Reader<'_>, name: &str, value: Option<&String>, what: &str) {
    if value.is_none() {
        let text = format!(
            "is not set beside JWT_JWKS_URL; set it to {what}, since whose keys these are may sign tokens for others too \
             (or to {ANY}, if tokens that they sign are for this gateway alone)"
        );
        reader.reject(name, text);
    }
}

fn accepted<T, E: Display>(reader: &mut Reader<'_>, name: &str, value: Result<T, E>) -> Option<T> {
    value.map_err(|error| reader.reject(name, error)).ok()
}

/// What a claim must be. One address is one value: a list, or a space in it, would never be equal to a token's.
fn claim(reader: &mut Reader<'_>, name: &str) -> Option<String> {
    let value: String = reader.optional(name)?;
    if value.matches("://").count() > 1 || (value.contains("://") && value.contains(char::is_whitespace)) {
        reader.reject(name, "holds more than one address; a token's claim is compared with the whole value");
    }
    Some(value)
}

/// Whether this machine alone can reach the gateway.
fn on_loopback(bind: Option<IpAddr>, admin: SocketAddr) -> bool {
    let is_loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
    bind.is_some_and(is_loopback) && is_loopback(admin.ip())
}
