//! Links in a text, as widely as any client sees them.

use std::ops::Range;
use std::sync::LazyLock;

use regex_lite::Regex;
use url::{Host, Url, quirks::domain_to_unicode};

/// A piece of a text that clients make a link of.
#[derive(Debug, Default)]
pub(crate) struct Link {
    pub(crate) place: Range<usize>,
    pub(crate) scheme: String,
    /// The host, and then what a client takes for it that knows no other letters than a to z. None: nobody can tell.
    pub(crate) hosts: Vec<String>,
    /// It has no scheme of its own.
    pub(crate) bare: bool,
    /// It may be two sentences with a full stop between them.
    pub(crate) doubtful: bool,
    /// Something that looks like a host stands before it: `https://good.com@evil.com`.
    pub(crate) disguised: bool,
}

/// What cannot stand in a link ends it.
static WORD: LazyLock<Regex> = LazyLock::new(|| regex(r#"[^\s<>"`|]+"#));
static SCHEME: LazyLock<Regex> = LazyLock::new(|| regex("[A-Za-z][A-Za-z0-9+.-]*:"));
static DOMAIN: LazyLock<Regex> = LazyLock::new(|| regex(r"[0-9A-Za-z_.\x{80}-\x{10FFFF}-]+"));

#[allow(clippy::expect_used)] // They are written above.
fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("a valid pattern")
}

pub(crate) fn find(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for word in WORD.find_iter(text) {
        let (start, word) = (word.start(), word.as_str());
        let schemes = SCHEME.find_iter(word).map(|scheme| scheme.start());
        let link = schemes.filter_map(|at| Some((at, with_scheme(&word[at..])?))).next();
        let before = link.as_ref().map_or(word, |(at, _)| &word[..*at]);
        links.extend(DOMAIN.find_iter(before).filter_map(|domain| {
            let mail = before[..domain.start()].ends_with('@') || before[domain.end()..].starts_with('@');
            let place = start + domain.start()..start + domain.end();
            bare(domain.as_str()).filter(|_| !mail).map(|link| Link { place, ..link })
        }));
        links.extend(link.map(|(at, link)| {
            let end = word.trim_end_matches(['.', ',', ';', '!', '?', ')', ']', '}', '\'', '*']).len();
            Link { place: start + at..start + end.max(at + 1), ..link }
        }));
    }
    links
}

fn with_scheme(text: &str) -> Option<Link> {
    let (scheme, rest) = text.split_once(':')?;
    let scheme = scheme.to_ascii_lowercase();
    let link = |hosts, disguised| Link { scheme: scheme.clone(), hosts, disguised, ..Link::default() };
    // Browsers forgive web addresses any number of slashes, of either kind.
    if !matches!(scheme.as_str(), "http" | "https") && !rest.starts_with("//") {
        let works = match scheme.as_str() {
            "javascript" | "vbscript" | "file" | "blob" => !rest.is_empty(),
            "data" => rest.split(':').next().is_some_and(|rest| rest.contains(',')),
            _ => false,
        };
        return works.then(|| link(Vec::new(), false));
    }
    if !rest.contains(char::is_alphanumeric) {
        return None;
    }
    // A sentence's punctuation may follow at once.
    let parsed =
        Url::parse(text).or_else(|_| Url::parse(text.split([']', '}', '^', '\'', ',', ';']).next().unwrap_or(text)));
    let Ok(url) = parsed else { return Some(link(Vec::new(), false)) };
    let hosts = match url.host() {
        Some(Host::Domain(domain)) => hosts(domain),
        address => address.map(|address| address.to_string()).into_iter().collect(),
    };
    Some(link(hosts, !url.username().is_empty() || url.password().is_some()))
}

fn bare(text: &str) -> Option<Link> {
    // Most words have no dot of any alphabet.
    if text.is_ascii() && !text.contains('.') {
        return None;
    }
    // A longer host there is none; words may have grown together with one.
    let text = &text[text.ceil_char_boundary(text.len().saturating_sub(512))..];
    let Ok(Host::Domain(domain)) = Host::parse(text.trim_matches(['.', '-', '_'])) else { return None };
    let hosts = hosts(&domain);
    let (_, last) = hosts.first()?.rsplit_once('.')?;
    let doubtful = last.starts_with("xn--");
    let domain = last.len() > 1 && last.chars().all(|c| c.is_ascii_lowercase()) || doubtful;
    domain.then(|| Link { scheme: "https".to_owned(), hosts, bare: true, doubtful, ..Link::default() })
}

fn hosts(domain: &str) -> Vec<String> {
    let unicode = domain_to_unicode(domain);
    let odd = |c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_');
    let mut host = unicode.split(odd).next().unwrap_or_default().trim_end_matches('.');
    // No top-level domain mixes alphabets: what follows is the next word, a Korean particle for one.
    let last = host.rfind('.').map_or(0, |dot| dot + 1);
    if host[last..].starts_with(|c: char| c.is_ascii_alphabetic()) {
        let foreign = host[last..].find(|c: char| !c.is_ascii());
        host = &host[..foreign.map_or(host.len(), |at| last + at)];
    }
    let latin =
        host.rsplit(|c: char| !c.is_ascii()).next().filter(|latin| latin.len() < host.len() && latin.contains('.'));
    let name = |host: &str| Host::parse(host).ok().map(|host| host.to_string());
    name(host).into_iter().chain(latin.and_then(|latin| name(latin.trim_start_matches('.')))).collect()
}

/// Whether a host is an address, or a name that only some networks know.
pub(crate) fn is_private(host: &str) -> bool {
    let address = !matches!(Host::parse(host), Ok(Host::Domain(_)));
    address || !host.contains('.') || [".local", ".localhost", ".internal"].iter().any(|local| host.ends_with(local))
}

pub(crate) fn is_scheme(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'.' | b'-');
    text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(plain)
}
