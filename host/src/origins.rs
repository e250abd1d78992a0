//! Which pages a browser may connect from.

use std::str::FromStr;

use url::{Host, Url};

/// The pages that may connect. Clients other than browsers send no origin and are not concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Origins {
    /// Every page.
    #[default]
    Any,
    /// These.
    Listed(Vec<Pattern>),
}

/// One entry of the list, as browsers spell origins: in small letters, the host in ASCII, without the usual port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    /// Scheme, host and perhaps port.
    Exact(String),
    /// Every host below a domain, but not the domain itself. As in a page's content security policy, one label or more
    /// may stand in front.
    Below {
        /// `https://`
        scheme: String,
        /// `.example.com`, perhaps with a port.
        domain: String,
    },
}

impl Origins {
    /// Whether a handshake with this `Origin` header may go on.
    pub fn admit(&self, origin: Option<&[u8]>) -> bool {
        match (self, origin) {
            (Self::Any, _) | (_, None) => true,
            (Self::Listed(list), Some(origin)) => {
                let origin = origin.to_ascii_lowercase();
                std::str::from_utf8(&origin).is_ok_and(|origin| list.iter().any(|known| known.admits(origin)))
            }
        }
    }
}

impl Pattern {
    fn admits(&self, origin: &str) -> bool {
        match self {
            Self::Exact(known) => known == origin,
            Self::Below { scheme, domain } => {
                let labels = origin.strip_prefix(scheme.as_str()).and_then(|host| host.strip_suffix(domain.as_str()));
                labels.is_some_and(|labels| labels.split('.').all(is_label))
            }
        }
    }
}

fn is_label(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// An entry that no browser would send.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoOrigin {
    /// Two commas without anything between them, or one at the end.
    #[error("has an empty entry; leave out the comma")]
    Empty,
    /// Every page, and some of them.
    #[error("has * beside other entries; write * alone to admit every page, or leave it out")]
    AnyAmongOthers,
    /// What pages without an origin send.
    #[error("has null, which any page can make a browser send; write * to admit every page")]
    Null,
    /// A name alone.
    #[error("has {0:?} without a scheme; write {1}")]
    NoScheme(String, String),
    /// The address of a socket, where that of the page belongs.
    #[error("has {0:?}; a browser sends the page's own address, so write {1}")]
    SocketScheme(String, String),
    /// More than scheme, host and port.
    #[error("has {0:?}, which is more than an origin; write {1}")]
    MoreThanOrigin(String, String),
    /// A name and a password. They are not shown.
    #[error("has an entry with a user name, which browsers never send; write {0}")]
    UserName(String),
    /// An asterisk that no page will match.
    #[error("has {0:?}; a * may stand for all that is in front of a domain, as in https://*.example.com")]
    Asterisk(String),
    /// Anything else.
    #[error(
        "has {0:?}, which is not an origin; write scheme and host, as in https://chat.example.com, and a comma \
             between two"
    )]
    Malformed(String),
}

impl FromStr for Origins {
    type Err = NoOrigin;

    /// Origins separated by commas; `*` is every page.
    fn from_str(text: &str) -> Result<Self, NoOrigin> {
        if text.trim() == "*" {
            return Ok(Self::Any);
        }
        text.split(',').map(|entry| entry.trim().parse()).collect::<Result<_, _>>().map(Self::Listed)
    }
}

impl FromStr for Pattern {
    type Err = NoOrigin;

    fn from_str(entry: &str) -> Result<Self, NoOrigin> {
        match entry {
            "" => return Err(NoOrigin::Empty),
            "*" => return Err(NoOrigin::AnyAmongOthers),
            _ if entry.eq_ignore_ascii_case("null") => return Err(NoOrigin::Null),
            // The parser below leaves out line breaks and tabs.
            _ if entry.contains(|c: char| c.is_whitespace() || c.is_control()) => {
                return Err(NoOrigin::Malformed(entry.to_owned()));
            }
            _ => {}
        }
        // A label that stands for the asterisk, since the asterisk itself counts as part of a name.
        let named = entry.replacen("://*.", "://below.", 1);
        if named.contains('*') {
            return Err(NoOrigin::Asterisk(entry.to_owned()));
        }
        let origin = origin(&named).map_err(|fault| fault.about(entry))?;
        if named == entry {
            return Ok(Self::Exact(origin));
        }
        match origin.split_once("://below.") {
            // Below `.com` there are strangers.
            Some((scheme, domain)) if domain.contains('.') || domain.split(':').next() == Some("localhost") => {
                Ok(Self::Below { scheme: format!("{scheme}://"), domain: format!(".{domain}") })
            }
            _ => Err(NoOrigin::Asterisk(entry.to_owned())),
        }
    }
}

/// What is wrong with an entry, and perhaps the origin that was meant.
enum Fault {
    Malformed,
    NoScheme(String),
    SocketScheme(String),
    MoreThanOrigin(String),
    UserName(String),
}

impl Fault {
    fn about(self, entry: &str) -> NoOrigin {
        let (entry, meant) = (entry.to_owned(), |origin: String| origin.replacen("://below.", "://*.", 1));
        match self {
            Self::Malformed => NoOrigin::Malformed(entry),
            Self::NoScheme(origin) => NoOrigin::NoScheme(entry, meant(origin)),
            Self::SocketScheme(origin) => NoOrigin::SocketScheme(entry, meant(origin)),
            Self::MoreThanOrigin(origin) => NoOrigin::MoreThanOrigin(entry, meant(origin)),
            Self::UserName(origin) => NoOrigin::UserName(meant(origin)),
        }
    }
}

/// The origin as a browser spells it.
fn origin(entry: &str) -> Result<String, Fault> {
    if !entry.contains("://") {
        let meant = format!("https://{entry}");
        return Err(origin(&meant).map_or(Fault::Malformed, |_| Fault::NoScheme(meant)));
    }
    let url = Url::parse(entry).map_err(|_| Fault::Malformed)?;
    let Some(host) = url.host().filter(|host| *host != Host::Domain("")) else { return Err(Fault::Malformed) };
    if matches!(&host, Host::Domain(name) if !name.trim_end_matches('.').split('.').all(is_label)) {
        return Err(Fault::Malformed);
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    // Apps that carry their pages with them have schemes of their own, such as capacitor://localhost.
    let spelled = |scheme: &str| format!("{scheme}://{host}{port}").to_ascii_lowercase();
    let origin = spelled(url.scheme());
    match url.scheme() {
        "ws" => return Err(Fault::SocketScheme(spelled("http"))),
        "wss" => return Err(Fault::SocketScheme(spelled("https"))),
        _ if !url.username().is_empty() || url.password().is_some() => return Err(Fault::UserName(origin)),
        _ => {}
    }
    let is_bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if is_bare { Ok(origin) } else { Err(Fault::MoreThanOrigin(origin)) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn admits(list: &str, origin: &str) -> bool {
        list.parse::<Origins>().unwrap().admit(Some(origin.as_bytes()))
    }

    #[test]
    fn only_listed_pages_may_connect() {
        let origins: Origins = "https://a.example, http://localhost:3000/".parse().unwrap();
        assert!(origins.admit(Some(b"https://a.example")) && origins.admit(Some(b"http://LOCALHOST:3000")));
        assert!(!origins.admit(Some(b"https://b.example")) && !origins.admit(Some(b"null")));
        assert!(origins.admit(None));
        assert!("*".parse::<Origins>().unwrap().admit(Some(b"null")));
    }

    #[test]
    fn an_entry_is_spelled_as_browsers_spell_it() {
        for (entry, sent) in [
            ("https://a.example:443", "https://a.example"),
            ("http://a.example:80/", "http://a.example"),
            ("https://a.example:8443", "https://a.example:8443"),
            ("HTTPS://Chat.Example.COM", "https://chat.example.com"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("https://채팅.example:8443/", "https://xn--ou6bo7j.example:8443"),
            ("http://[::1]:3000", "http://[::1]:3000"),
            ("http://[0:0:0:0:0:0:0:1]:3000", "http://[::1]:3000"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("chrome-extension://Abcdef", "chrome-extension://abcdef"),
        ] {
            assert!(admits(entry, sent), "{entry}: {:?}", entry.parse::<Origins>());
        }
        assert!(!admits("https://a.example:443", "http://a.example"));
        assert!(!admits("https://a.example:8443", "https://a.example"));
    }

    #[test]
    fn an_asterisk_stands_for_all_that_is_in_front_of_a_domain() {
        let list = "https://*.Example.com, https://*.example.org:8443, http://*.localhost:3000";
        for sent in ["https://a.example.com", "https://b.a.example.com", "https://a.example.org:8443"] {
            assert!(admits(list, sent), "{sent}");
        }
        assert!(
            admits(list, "http://me.localhost:3000")
                && admits("https://*.bücher.example", "https://a.xn--bcher-kva.example")
        );
        for sent in [
            "https://example.com",
            "https://.example.com",
            "https://a..example.com",
            "https://evilexample.com",
            "https://a.example.com.evil.example",
            "https://evil.example/.example.com",
            "https://evil.example@a.example.com",
            "https://evil.example:1.example.com",
            "https://a.example.com:8443",
            "https://a.example.org",
            "http://a.example.com",
            "a.example.com",
            "null",
            "",
        ] {
            assert!(!admits(list, sent), "{sent}");
        }
    }

    #[test]
    fn what_no_browser_sends_is_refused_with_the_spelling_to_use() {
        for (entry, told) in [
            ("", "empty"),
            ("https://a.example,", "leave out the comma"),
            ("*, https://a.example", "* alone"),
            ("null", "null"),
            ("a.example", "write https://a.example"),
            ("localhost:3000", "write https://localhost:3000"),
            ("*.example.com", "https://*.example.com"),
            ("wss://a.example/ws", "write https://a.example"),
            ("ws://*.example.com:81", "write http://*.example.com:81"),
            ("https://a.example/chat", "write https://a.example"),
            ("https://a.example?x", "write https://a.example"),
            ("https://a.example#x", "write https://a.example"),
            ("https://a.example https://b.example", "a comma"),
            ("https://me:hunter2@a.example", "write https://a.example"),
            ("\"https://a.example\"", "not an origin"),
            ("'https://a.example", "not an origin"),
            ("https://a.example'", "not an origin"),
            ("https://", "not an origin"),
            ("https://a..example", "not an origin"),
            ("https://a.example:port", "not an origin"),
            ("https://*", "https://*.example.com"),
            ("https://*.com", "https://*.example.com"),
            ("https://a.*.example", "https://*.example.com"),
            ("https://a*.example.com", "https://*.example.com"),
            ("https://*.*.example.com", "https://*.example.com"),
            ("https://*.0.0.1", "not an origin"),
            ("https://a.example:*", "https://*.example.com"),
            ("*://a.example", "https://*.example.com"),
            ("file:///tmp/index.html", "not an origin"),
        ] {
            let error = entry.parse::<Origins>().unwrap_err().to_string();
            assert!(error.contains(told) && !error.contains("hunter2"), "{entry}: {error}");
        }
    }
}
