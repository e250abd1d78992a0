//! One request for an issuer's keys: what it may cost, and where it may lead.

use std::error::Error as _;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use arcyou_platform::tls::install_crypto;
use reqwest::header::ACCEPT;
use reqwest::{Client, Response, redirect};
use tokio::time::timeout;
use url::{Host, Url};

/// A large provider's keys with their certificates have 30 KiB.
const MAX_BYTES: usize = 256 * 1024;
/// For the whole request, redirects included.
const WITHIN: Duration = Duration::from_secs(5);
/// More than any provider has.
const MAX_REDIRECTS: usize = 3;

/// Where an issuer's keys are. Shown without what may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksUrl(Url);

/// An address from which no keys are fetched.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum JwksUrlError {
    #[error("must be an address such as https://login.example.com/.well-known/jwks.json")]
    NoUrl,
    #[error("must not hold a user, a password or a fragment: keys are public")]
    Adorned,
    #[error(
        "must begin with https://: whoever can change plain http on its way could make tokens for everybody. (Plain http \
         is possible on this machine, as in http://127.0.0.1:8081/jwks)"
    )]
    PlainHttp,
}

impl JwksUrl {
    /// `plain_http`: whether it may be used beyond this machine, which only development may.
    pub fn parse(text: &str, plain_http: bool) -> Result<Self, JwksUrlError> {
        let url = Url::parse(text).map_err(|_| JwksUrlError::NoUrl)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(JwksUrlError::NoUrl);
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err(JwksUrlError::Adorned);
        }
        if url.scheme() == "http" && !plain_http && !is_loopback(&url) {
            return Err(JwksUrlError::PlainHttp);
        }
        Ok(Self(url))
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.0.origin().ascii_serialization(), self.0.path())
    }
}

impl fmt::Debug for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).to_canonical().is_loopback(),
        None => false,
    }
}

/// Why no keys came. For operators: without what an issuer may hide in its address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no request can be made: {0}")]
    NoClient(String),
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("it answers {0}")]
    Status(u16),
    #[error("its answer has more than {MAX_BYTES} bytes")]
    TooLarge,
    #[error("it does not answer within {} seconds", WITHIN.as_secs())]
    TimedOut,
}

/// Asks for keys. Connects directly, whatever proxy the environment names.
pub(super) struct Fetcher {
    client: Client,
    url: Url,
}

impl Fetcher {
    pub(super) fn new(JwksUrl(url): &JwksUrl) -> Result<Self, FetchError> {
        install_crypto();
        let began_plainly = url.scheme() == "http";
        // Where the way begins with https, no part of it is plain.
        let follow = move |attempt: redirect::Attempt<'_>| match attempt.url().scheme() {
            _ if attempt.previous().len() > MAX_REDIRECTS => attempt.error("it redirects too often"),
            "https" => attempt.follow(),
            "http" if began_plainly && is_loopback(attempt.url()) => attempt.follow(),
            _ => attempt.error("it redirects to plain http"),
        };
        let client = Client::builder().redirect(redirect::Policy::custom(follow)).no_proxy().build();
        let client = client.map_err(|error| FetchError::NoClient(root_cause(&error)))?;
        Ok(Self { client, url: url.clone() })
    }

    /// The answer's body.
    pub(super) async fn fetch(&self) -> Result<Vec<u8>, FetchError> {
        timeout(WITHIN, self.exchange()).await.unwrap_or(Err(FetchError::TimedOut))
    }

    async fn exchange(&self) -> Result<Vec<u8>, FetchError> {
        let unreachable = |error: reqwest::Error| FetchError::Unreachable(root_cause(&error));
        let request = self.client.get(self.url.clone()).header(ACCEPT, "application/jwk-set+json, application/json");
        let response = request.send().await.map_err(unreachable)?;
        match response.status() {
            status if status.is_success() => read(response).await,
            status => Err(FetchError::Status(status.as_u16())),
        }
    }
}

async fn read(mut response: Response) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| FetchError::Unreachable(root_cause(&error)))? {
        if body.len() + chunk.len() > MAX_BYTES {
            return Err(FetchError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The innermost cause: the outer ones name the whole address.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(|cause| cause.source()) {
        cause = Some(deeper);
    }
    cause.map_or_else(|| "no connection".to_owned(), ToString::to_string)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for url in ["https://a.example/jwks?p=1", "http://127.0.0.1:8081/", "http://[::1]/", "http://localhost/jwks"] {
            assert!(JwksUrl::parse(url, false).is_ok(), "{url}");
        }
        for url in ["http://a.example/", "http://10.0.0.1/", "http://localhost.example/", "http://0.0.0.0/"] {
            assert_eq!(JwksUrl::parse(url, false), Err(JwksUrlError::PlainHttp), "{url}");
            assert!(JwksUrl::parse(url, true).is_ok(), "{url}");
        }
        for url in ["", "a.example/jwks", "file:///etc/passwd", "ftp://a.example/", "data:,x"] {
            assert_eq!(JwksUrl::parse(url, true), Err(JwksUrlError::NoUrl), "{url}");
        }
        for url in ["https://user@a.example/", "https://:p@a.example/", "https://a.example/#x"] {
            assert_eq!(JwksUrl::parse(url, true), Err(JwksUrlError::Adorned), "{url}");
        }
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let url = JwksUrl::parse("https://a.example:8443/jwks?key=hunter2", false).unwrap();
        assert_eq!(format!("{url} {url:?}"), "https://a.example:8443/jwks https://a.example:8443/jwks");
    }
}
