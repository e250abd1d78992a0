//! Who may ask the admin address. One check for every route; it reads the request's head and nothing else.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri};

use crate::env::Reader;

/// What monitors read. It needs no token, also where the address is reachable from other machines.
const WITHOUT_TOKEN: [&str; 2] = ["/ready", "/metrics"];
/// Shorter ones can be guessed.
const MIN_TOKEN_CHARS: usize = 16;
const SEC_FETCH_SITE: &str = "sec-fetch-site";
const BEARER: &[u8] = b"Bearer ";

/// Where a program listens for operators, and whom it answers there.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// `ADMIN_ADDR`
    pub address: SocketAddr,
    pub access: AdminAccess,
}

/// Whom the admin address answers.
#[derive(Debug, Clone, Default)]
pub struct AdminAccess {
    /// `ADMIN_HOSTS`
    pub hosts: AdminHosts,
    /// `ADMIN_TOKEN`
    pub token: Option<AdminToken>,
}

impl AdminConfig {
    /// Reads `ADMIN_ADDR`, `ADMIN_HOSTS` and `ADMIN_TOKEN`.
    pub fn read(env: &mut Reader<'_>, default: SocketAddr) -> Self {
        let what = "an IP address and a port, such as 127.0.0.1:9090 (0.0.0.0:9090 is every address of this machine)";
        let address = env.expecting("ADMIN_ADDR", what).unwrap_or(default);
        let hosts = env.or("ADMIN_HOSTS", AdminHosts::default());
        Self { address, access: AdminAccess { hosts, token: env.optional("ADMIN_TOKEN") } }
    }
}

/// Names under which the admin address may be asked, besides `localhost` and IP addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminHosts(Vec<String>);

/// An entry of `ADMIN_HOSTS` that is no name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a host name; write whole names, without scheme and port, separated by commas")]
pub struct NoHostName(String);

impl FromStr for AdminHosts {
    type Err = NoHostName;

    fn from_str(text: &str) -> Result<Self, NoHostName> {
        let names = text.split(',').map(|entry| {
            let name = entry.trim();
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            match name.split('.').all(|label| !label.is_empty()) && name.bytes().all(is_name) {
                true => Ok(name.to_owned()),
                false => Err(NoHostName(name.to_owned())),
            }
        });
        names.collect::<Result<_, _>>().map(Self)
    }
}

impl AdminHosts {
    /// An IP address or `localhost` cannot be rebound; any other name must be known.
    fn admits(&self, authority: &Authority) -> bool {
        let host = authority.host();
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        literal.parse::<IpAddr>().is_ok()
            || host.eq_ignore_ascii_case("localhost")
            || self.0.iter().any(|name| name.eq_ignore_ascii_case(host))
    }
}

/// The secret of operators and of the commands that ask the admin address for them.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

/// A text that cannot be an [`AdminToken`]. Never shows it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a token has at least {MIN_TOKEN_CHARS} characters, all of them letters, digits or punctuation of ASCII; \
     `openssl rand -hex 24` makes one"
)]
pub struct WeakToken;

impl FromStr for AdminToken {
    type Err = WeakToken;

    fn from_str(text: &str) -> Result<Self, WeakToken> {
        let usable = text.len() >= MIN_TOKEN_CHARS && text.bytes().all(|byte| byte.is_ascii_graphic());
        if usable { Ok(Self(text.to_owned())) } else { Err(WeakToken) }
    }
}

impl std::fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminToken")
    }
}

impl AdminToken {
    /// What a client sends as `Authorization`.
    pub fn authorization(&self) -> String {
        format!("Bearer {}", self.0)
    }

    /// Takes as long for every token of the right length.
    fn is_sent_in(&self, headers: &HeaderMap) -> bool {
        let Some(value) = single(headers, &AUTHORIZATION) else { return false };
        let Some((scheme, token)) = value.split_at_checked(BEARER.len()) else { return false };
        scheme.eq_ignore_ascii_case(BEARER) && verify_slices_are_equal(token, self.0.as_bytes()).is_ok()
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A name that somebody made lead here, as in DNS rebinding, or one that the operator has not listed.
    Host,
    /// A browser sent it for a page.
    WebPage,
    /// Other machines may reach the address, and nothing tells operators from them.
    TokenNotSet,
    Token,
}

impl Refusal {
    pub(super) const ALL: [Self; 4] = [Self::Host, Self::WebPage, Self::TokenNotSet, Self::Token];

    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::WebPage | Self::TokenNotSet => StatusCode::FORBIDDEN,
            Self::Token => StatusCode::UNAUTHORIZED,
        }
    }

    /// The label of the metric.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::WebPage => "web_page",
            Self::TokenNotSet => "token_not_set",
            Self::Token => "token",
        }
    }

    /// What to do about it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Host => {
                "this address answers to IP addresses, to localhost and to the names in ADMIN_HOSTS; ask it by one of \
                 them, or add this Host to ADMIN_HOSTS"
            }
            Self::WebPage => "this address is not for web pages; ask it with curl or another program",
            Self::TokenNotSet => {
                "other machines can reach this address, so that all but /ready and /metrics needs a token: set \
                 ADMIN_TOKEN, or set ADMIN_ADDR to a loopback address"
            }
            Self::Token => "send the header Authorization: Bearer with the value of ADMIN_TOKEN",
        }
    }
}

/// Checks each request.
#[derive(Debug, Clone)]
pub(super) struct Guard {
    access: AdminAccess,
    /// Whether this machine alone can reach the listener.
    is_loopback: bool,
}

impl Guard {
    pub(super) fn new(access: AdminAccess, listens_on: SocketAddr) -> Self {
        Self { access, is_loopback: listens_on.ip().to_canonical().is_loopback() }
    }

    pub(super) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
        if !asked_host(uri, headers).is_some_and(|host| self.access.hosts.admits(&host)) {
            return Err(Refusal::Host);
        }
        if is_from_a_page(headers) {
            return Err(Refusal::WebPage);
        }
        if WITHOUT_TOKEN.contains(&uri.path()) {
            return Ok(());
        }
        match &self.access.token {
            Some(token) if token.is_sent_in(headers) => Ok(()),
            Some(_) => Err(Refusal::Token),
            None if self.is_loopback => Ok(()),
            None => Err(Refusal::TokenNotSet),
        }
    }
}

/// The request's own authority, where it has one, counts before `Host`.
fn asked_host(uri: &Uri, headers: &HeaderMap) -> Option<Authority> {
    let authority = match uri.authority() {
        Some(authority) => authority.clone(),
        None => Authority::try_from(single(headers, &HOST)?).ok()?,
    };
    Some(authority).filter(|authority| !authority.as_str().contains('@'))
}

/// Browsers name the page in `Origin`, on every request that changes something. `Sec-Fetch-Site` also betrays those
/// that only read; `none` is what a person typed, and `same-origin` what such a page of ours asks for.
fn is_from_a_page(headers: &HeaderMap) -> bool {
    let by_a_person = |site: &[u8]| matches!(site, b"none" | b"same-origin");
    headers.contains_key(ORIGIN) || headers.get_all(SEC_FETCH_SITE).iter().any(|site| !by_a_person(site.as_bytes()))
}

/// A header's value, if it is there once.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    values.next().is_none().then(|| value.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::http::Request;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn guard(listens_on: &str, hosts: &str, token: Option<&str>) -> Guard {
        let hosts = if hosts.is_empty() { AdminHosts::default() } else { hosts.parse().unwrap() };
        let token = token.map(|token| token.parse().unwrap());
        Guard::new(AdminAccess { hosts, token }, listens_on.parse().unwrap())
    }

    fn ask(guard: &Guard, uri: &str, headers: &[(&str, &str)]) -> Result<(), Refusal> {
        let request = headers.iter().fold(Request::get(uri), |request, (name, value)| request.header(*name, *value));
        let (parts, ()) = request.body(()).unwrap().into_parts();
        guard.check(&parts.uri, &parts.headers)
    }

    #[test]
    fn only_names_that_cannot_be_rebound_are_answered() {
        let guard = guard("127.0.0.1:9090", "gateway, Ops.Example", None);
        for host in ["127.0.0.1", "127.0.0.1:9090", "[::1]:9090", "10.1.2.3", "LOCALHOST:1", "gateway", "ops.example:9"]
        {
            assert_eq!(ask(&guard, "/held", &[("host", host)]), Ok(()), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil@127.0.0.1", "", "2130706433"]
        {
            assert_eq!(ask(&guard, "/held", &[("host", host)]), Err(Refusal::Host), "{host}");
            assert_eq!(ask(&guard, "/ready", &[("host", host)]), Err(Refusal::Host), "{host}");
        }
        assert_eq!(ask(&guard, "/held", &[]), Err(Refusal::Host));
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(ask(&guard, "/held", &twice), Err(Refusal::Host));
        let rebound = ask(&guard, "http://evil.example/held", &[("host", "localhost")]);
        assert_eq!(rebound, Err(Refusal::Host));
    }

    #[test]
    fn a_page_is_refused_and_a_person_is_not() {
        let guard = guard("127.0.0.1:9090", "", None);
        let ask = |header| ask(&guard, "/metrics", &[("host", "localhost"), header]);
        for header in [("origin", "null"), ("origin", "http://localhost:9090"), ("sec-fetch-site", "cross-site")] {
            assert_eq!(ask(header), Err(Refusal::WebPage), "{header:?}");
        }
        assert_eq!(ask(("sec-fetch-site", "same-site")), Err(Refusal::WebPage));
        assert_eq!(ask(("sec-fetch-site", "none")), Ok(()));
        assert_eq!(ask(("sec-fetch-site", "same-origin")), Ok(()));
    }

    #[test]
    fn with_a_token_only_monitors_need_none() {
        let guard = guard("0.0.0.0:9090", "", Some(TOKEN));
        let with = |path, value: &str| ask(&guard, path, &[("host", "10.0.0.7"), ("authorization", value)]);
        for path in ["/held", "/held/7/release", "/plugins", "/nothing", "/ready/", "//ready", "/metrics/../held"] {
            assert_eq!(ask(&guard, path, &[("host", "10.0.0.7")]), Err(Refusal::Token), "{path}");
            assert_eq!(with(path, &format!("Bearer {TOKEN}")), Ok(()), "{path}");
        }
        assert_eq!(with("/held", &format!("bearer {TOKEN}")), Ok(()));
        for wrong in [TOKEN, "Bearer", "Bearer ", "Bearer 0123456789abcdeg", "Bearer 0123456789abcdef0", "Basic x"] {
            assert_eq!(with("/held", wrong), Err(Refusal::Token), "{wrong}");
        }
        assert_eq!(ask(&guard, "/ready", &[("host", "10.0.0.7")]), Ok(()));
        assert_eq!(ask(&guard, "/metrics", &[("host", "10.0.0.7")]), Ok(()));
    }

    #[test]
    fn without_a_token_other_machines_see_what_monitors_see() {
        for address in ["0.0.0.0:9090", "[::]:9090", "10.0.0.7:9090"] {
            let guard = guard(address, "", None);
            assert_eq!(ask(&guard, "/held", &[("host", "10.0.0.7")]), Err(Refusal::TokenNotSet), "{address}");
            assert_eq!(ask(&guard, "/ready", &[("host", "10.0.0.7")]), Ok(()), "{address}");
        }
        for address in ["127.0.0.1:9090", "127.9.9.9:9090", "[::1]:9090", "[::ffff:127.0.0.1]:9090"] {
            assert_eq!(ask(&guard(address, "", None), "/held", &[("host", "localhost")]), Ok(()), "{address}");
        }
    }

    #[test]
    fn weak_tokens_and_bad_names_are_explained_and_no_token_is_shown() {
        for weak in ["short", "fifteen-letters", "sixteen letters!", "sixteen-letterß"] {
            assert!(weak.parse::<AdminToken>().unwrap_err().to_string().contains("openssl rand"), "{weak}");
        }
        assert!(!format!("{:?}", TOKEN.parse::<AdminToken>().unwrap()).contains(TOKEN));
        for bad in ["http://gateway", "gateway:9090", "a,,b", "*", "a b", "*.internal", "a..b", "gateway.", "."] {
            assert!(bad.parse::<AdminHosts>().is_err(), "{bad}");
        }
    }
}
