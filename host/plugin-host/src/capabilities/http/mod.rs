//! `http`: requests to the hosts that the operator lists, and to no others.

mod hosts;

use std::collections::HashSet;
use std::error::Error as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arcyou_platform::tls::install_crypto;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Method, Url, redirect};
use serde::{Deserialize, Serialize};

use self::hosts::{ListedHost, deserialize_hosts, listing};
use super::wait_time::WaitTime;
use crate::bindings::host::http::{Error, Header, Host, Request, Response};
use crate::bounded::Bounded;
use crate::text::sanitize;

/// Bytes of an error's text.
const REASON_BYTES: usize = 256;
/// Headers that control the connection. Only the gateway sets them.
const RESERVED_HEADERS: [&str; 8] =
    ["connection", "content-length", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

/// The table `[plugin.http]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HttpLimits {
    /// An address in a private network is reachable only if it is listed here itself.
    #[serde(deserialize_with = "deserialize_hosts")]
    hosts: Vec<ListedHost>,
    /// Limit for one request, including its response.
    #[serde(default = "HttpLimits::timeout_ms")]
    timeout_ms: Bounded<1, 30_000>,
    /// Limit for the body of a response.
    #[serde(default = "HttpLimits::response_bytes")]
    response_bytes: Bounded<0, { 4 << 20 }>,
    /// Requests that one call of a hook may send.
    #[serde(default = "HttpLimits::calls")]
    calls: Bounded<1, 100>,
}

impl HttpLimits {
    const fn timeout_ms() -> Bounded<1, 30_000> {
        Bounded::new(500)
    }

    const fn response_bytes() -> Bounded<0, { 4 << 20 }> {
        Bounded::new(64 << 10)
    }

    const fn calls() -> Bounded<1, 100> {
        Bounded::new(2)
    }
}

impl Default for HttpLimits {
    fn default() -> Self {
        let (timeout_ms, response_bytes, calls) = (Self::timeout_ms(), Self::response_bytes(), Self::calls());
        Self { hosts: Vec::new(), timeout_ms, response_bytes, calls }
    }
}

/// A client that reaches listed hosts only. Cheap to clone; the clones share connections.
#[derive(Clone)]
pub(super) struct HttpClient(Client);

impl HttpClient {
    pub(super) fn new(limits: &HttpLimits) -> Result<Self, String> {
        install_crypto();
        let addresses = limits.hosts.iter().filter_map(ListedHost::address).collect();
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            // A proxy would resolve names itself and bypass the check of addresses.
            .no_proxy()
            .http1_only()
            .dns_resolver(Arc::new(PublicOnlyResolver(addresses)))
            .build();
        client.map(Self).map_err(|error| format!("http cannot be granted: {}", root_cause(&error)))
    }
}

/// Resolves names, and drops addresses in private networks unless they are listed themselves.
struct PublicOnlyResolver(HashSet<IpAddr>);

/// All addresses of a name are in private networks.
#[derive(Debug, thiserror::Error)]
#[error("the name resolves to a private network; list the address itself to allow it")]
struct PrivateNetwork;

impl Resolve for PublicOnlyResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let listed = self.0.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let is_allowed = |address: &SocketAddr| is_public(address.ip()) || listed.contains(&address.ip());
            let allowed: Vec<SocketAddr> = found.into_iter().filter(is_allowed).collect();
            if allowed.is_empty() { Err(PrivateNetwork.into()) } else { Ok(Box::new(allowed.into_iter()) as Addrs) }
        })
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => {
            let first = address.segments()[0];
            match (address.to_ipv4_mapped(), &address.segments()) {
                (Some(mapped), _) => is_public_v4(mapped),
                // NAT64: the last 32 bits are an IPv4 address.
                (None, [0x64, 0xff9b, .., high, low]) => {
                    is_public_v4(Ipv4Addr::from((u32::from(*high) << 16) | u32::from(*low)))
                }
                // Only 2000::/3 is global unicast. Within it, 2001::/32 (Teredo), 2001:db8::/32 (documentation) and
                // 2002::/16 (6to4) are not public hosts.
                _ => first & 0xe000 == 0x2000 && !matches!(address.segments(), [0x2001, 0 | 0xdb8, ..] | [0x2002, ..]),
            }
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let shared = matches!(address.octets(), [100, 64..=127, ..]);
    let special = matches!(address.octets(), [0, ..] | [192, 0, 0, _] | [198, 18 | 19, ..] | [240..=255, ..]);
    !(shared
        || special
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation())
}

/// The client and the limits of one plugin.
#[derive(Clone)]
pub(super) struct HttpResource {
    pub(super) client: HttpClient,
    pub(super) limits: HttpLimits,
}

/// One instance's access to other hosts.
pub(crate) struct HttpAccess {
    /// None if the capability is not granted. The plugin cannot even import it then.
    resource: Option<HttpResource>,
    calls_left: u32,
    /// Whether no hook has been called yet. An instance must not wait while it is configured.
    configuring: bool,
    pub(super) waited: WaitTime,
}

impl HttpAccess {
    pub(super) fn new(resource: Option<HttpResource>) -> Self {
        Self { resource, calls_left: 0, configuring: true, waited: WaitTime::default() }
    }

    pub(super) fn reset(&mut self) {
        self.configuring = false;
        self.waited = WaitTime::default();
        self.calls_left = self.resource.as_ref().map_or(0, |resource| resource.limits.calls.get());
    }
}

impl HttpResource {
    async fn send(&self, request: Request) -> Result<Response, Error> {
        let request = self.check(request)?;
        let timeout = Duration::from_millis(u64::from(self.limits.timeout_ms.get()));
        let exchange = exchange(&self.client.0, request, self.limits.response_bytes.get() as usize);
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(Error::Timeout))
    }

    /// Checks a request against the rules and the listed hosts.
    fn check(&self, request: Request) -> Result<reqwest::Request, Error> {
        let invalid = |what: &str| Error::Invalid(what.to_owned());
        let url = Url::parse(&request.url).map_err(|error| Error::Invalid(format!("url: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("url: neither http: nor https:"));
        }
        if !self.limits.hosts.iter().any(|listed| listed.allows(&url)) {
            return Err(self.refusal(&url));
        }
        let method = Method::from_bytes(request.method.as_bytes()).ok().filter(|method| *method != Method::CONNECT);
        let mut checked = reqwest::Request::new(method.ok_or_else(|| invalid("method"))?, url);
        let mut headers = HeaderMap::new();
        for Header { name, value } in request.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid("a header's name"))?;
            if RESERVED_HEADERS.contains(&name.as_str()) {
                return Err(Error::Invalid(format!("the header {name} is the gateway's to set")));
            }
            headers.append(name, HeaderValue::from_str(&value).map_err(|_| invalid("a header's value"))?);
        }
        *checked.headers_mut() = headers;
        if !request.body.is_empty() {
            *checked.body_mut() = Some(request.body.into());
        }
        Ok(checked)
    }

    /// Why this URL is not reached, and what would have to be listed.
    fn refusal(&self, url: &Url) -> Error {
        let wanted = listing(url);
        let wanted = sanitize(&wanted, REASON_BYTES);
        let is_secure = self.limits.hosts.iter().any(|listed| listed.is_secure_host_of(url));
        Error::NotAllowed(match is_secure {
            true => format!("the host is listed for https; to allow plain http, list \"{wanted}\" in hosts"),
            false => format!("{wanted} is not among the plugin's hosts"),
        })
    }
}

/// Sends a request, and reads a response of at most `max_bytes`.
async fn exchange(client: &Client, request: reqwest::Request, max_bytes: usize) -> Result<Response, Error> {
    let mut response = client.execute(request).await.map_err(|error| request_error(&error))?;
    if response.content_length().is_some_and(|length| length > max_bytes as u64) {
        return Err(Error::TooLarge);
    }
    let status = response.status().as_u16();
    let text = |(name, value): (&HeaderName, &HeaderValue)| {
        Some(Header { name: name.as_str().to_owned(), value: value.to_str().ok()?.to_owned() })
    };
    let headers: Vec<Header> = response.headers().iter().filter_map(text).collect();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| request_error(&error))? {
        if body.len() + chunk.len() > max_bytes {
            return Err(Error::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response { status, headers, body })
}

fn request_error(error: &reqwest::Error) -> Error {
    let reason = root_cause(error);
    if reason.contains("private network") { Error::NotAllowed(reason) } else { Error::Unavailable(reason) }
}

/// The innermost cause. The outer ones name the URL, which may hold secrets.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause = error.source();
    while let Some(deeper) = cause.and_then(|cause| cause.source()) {
        cause = Some(deeper);
    }
    let text = cause.map_or_else(|| "no connection".to_owned(), ToString::to_string);
    sanitize(&text, REASON_BYTES).into_owned()
}

impl Host for HttpAccess {
    async fn send(&mut self, request: Request) -> Result<Response, Error> {
        if self.configuring {
            return Err(Error::Unavailable("the plugin is being configured".to_owned()));
        }
        let Some(resource) = &self.resource else { return Err(Error::NotAllowed("not granted".to_owned())) };
        self.calls_left = self.calls_left.checked_sub(1).ok_or(Error::Quota)?;
        self.waited.measure(resource.send(request)).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn resource(hosts: &[&str]) -> HttpResource {
        let limits = HttpLimits {
            hosts: hosts.iter().map(|host| (*host).to_owned().try_into().unwrap()).collect(),
            ..HttpLimits::default()
        };
        HttpResource { client: HttpClient::new(&limits).unwrap(), limits }
    }

    fn check(resource: &HttpResource, url: &str, header: &str) -> Result<(), Error> {
        let headers = vec![Header { name: header.to_owned(), value: "x".to_owned() }];
        resource.check(Request { method: "POST".to_owned(), url: url.to_owned(), headers, body: vec![1] }).map(|_| ())
    }

    #[test]
    fn a_request_goes_to_a_listed_host_and_port_or_nowhere() {
        let resource =
            resource(&["api.example", "api.example:8443", "http://local.example:8080", "http://127.0.0.1:9"]);
        for url in [
            "https://api.example/x",
            "https://API.example:443/",
            "https://api.example:8443/",
            "http://local.example:8080/",
            "http://127.1:9/",
        ] {
            check(&resource, url, "x-key").unwrap();
        }
        for url in [
            "https://api.example:8444/",
            "http://local.example/",
            "https://local.example:8080/",
            "https://api.example@evil.example/",
            "http://127.0.0.2:9/",
        ] {
            let refusal = check(&resource, url, "x-key");
            assert!(matches!(&refusal, Err(Error::NotAllowed(why)) if why.contains("not among")), "{url}: {refusal:?}");
        }
        for (url, header) in [("ftp://api.example/", "x"), ("/x", "x"), ("https://api.example/", "Host")] {
            assert!(matches!(check(&resource, url, header), Err(Error::Invalid(_))), "{url}");
        }
    }

    #[test]
    fn plain_http_is_refused_unless_it_is_listed_and_the_error_says_what_to_write() {
        let resource = resource(&["api.example", "api.example:8443"]);
        for (url, write) in [
            ("http://api.example/", "\"http://api.example\""),
            ("http://api.example:80/", "\"http://api.example\""),
            ("http://api.example:443/", "\"http://api.example:443\""),
            ("http://api.example:8443/", "\"http://api.example:8443\""),
        ] {
            let Err(Error::NotAllowed(why)) = check(&resource, url, "x") else { panic!("{url} is allowed") };
            assert!(why.contains("listed for https;") && why.contains(write), "{url}: {why}");
        }
    }

    #[test]
    fn private_networks_are_recognised() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "::1",
            "::ffff:10.0.0.1",
            "fe80::1",
            "fd00::1",
            "64:ff9b::a00:1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }
}
