//! The hosts that an operator lists for a plugin.

use std::net::IpAddr;

use reqwest::Url;
use serde::{Deserialize, Deserializer, Serialize, de};

/// At least one host.
pub(super) fn deserialize_hosts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<ListedHost>, D::Error> {
    let hosts = Vec::<ListedHost>::deserialize(deserializer)?;
    if hosts.is_empty() { Err(de::Error::custom("it must list at least one host")) } else { Ok(hosts) }
}

/// What a plugin may reach: one scheme, one host and one port. `example.com` and `example.com:8443` mean `https`; plain
/// `http`, which anybody on the way can read and change, is reachable only if it is written: `http://example.com`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct ListedHost(Url);

impl ListedHost {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, host) = text.strip_prefix("http://").map_or(("https", text), |host| ("http", host));
        if host.contains(['/', '*', '@', '?', '#', '\\']) {
            return None;
        }
        Url::parse(&format!("{scheme}://{host}/")).ok().map(Self)
    }

    pub(super) fn allows(&self, url: &Url) -> bool {
        self.0.origin() == url.origin()
    }

    /// Whether plain `http` to this URL would be allowed if this host were listed for it.
    pub(super) fn is_secure_host_of(&self, url: &Url) -> bool {
        self.0.scheme() == "https" && url.scheme() == "http" && self.0.host_str() == url.host_str()
    }

    /// If the host is an IP address.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.0.host_str()?.trim_matches(['[', ']']).parse().ok()
    }
}

/// How `hosts` would list the host of a URL.
pub(super) fn listing(url: &Url) -> String {
    let scheme = if url.scheme() == "https" { "" } else { "http://" };
    let host = url.host_str().unwrap_or_default();
    // The port is None if it is the scheme's default.
    url.port().map_or_else(|| format!("{scheme}{host}"), |port| format!("{scheme}{host}:{port}"))
}

impl From<ListedHost> for String {
    fn from(host: ListedHost) -> Self {
        listing(&host.0)
    }
}

impl TryFrom<String> for ListedHost {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| {
            format!(
                "{text:?} is not a host: write \"example.com\" or \"example.com:8443\" for https, and \
                 \"http://example.com\" or \"http://example.com:8080\" for plain http, without a path or *"
            )
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn listed(host: &str) -> ListedHost {
        ListedHost::parse(host).unwrap()
    }

    #[test]
    fn hosts_are_normalised_as_in_urls() {
        for (written, normalized) in [
            ("Moderation.Example.com", "moderation.example.com"),
            ("example.com:80", "example.com:80"),
            ("example.com:443", "example.com"),
            ("[::1]:8080", "[::1]:8080"),
            ("http://Example.com:80", "http://example.com"),
            ("http://127.1:9", "http://127.0.0.1:9"),
        ] {
            assert_eq!(String::from(listed(written)), normalized);
            assert_eq!(listed(normalized), listed(written));
        }
        for bad in [
            "https://example.com",
            "HTTP://example.com",
            "http://http://example.com",
            "http://",
            "*.example.com",
            "example.com/path",
            "http://example.com/",
            "user@example.com",
            "",
        ] {
            assert!(ListedHost::parse(bad).is_none(), "{bad}");
        }
    }
}
