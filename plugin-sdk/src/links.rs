//! Links in a text, as widely as any client sees them: what counts is the host that a client would ask for a preview,
//! whatever the text makes of it. With the feature `links`.

use std::ops::Range;

use url::{Host, Url, quirks::domain_to_unicode};

/// A piece of a text that clients make a link of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Link {
    /// Where it stands in the text, in bytes.
    pub place: Range<usize>,
    /// In lower case, without the colon; `https` if it has none of its own.
    pub scheme: String,
    /// The host as the network knows it (in lower case, other alphabets as `xn--`), and then what a client takes for it
    /// that knows no other letters than a to z. None: nobody can tell.
    pub hosts: Vec<String>,
    /// It has no scheme of its own.
    pub bare: bool,
    /// It may be two sentences with a full stop between them.
    pub doubtful: bool,
    /// Something that looks like a host stands before it: `https://good.com@evil.com`.
    pub disguised: bool,
}

/// The pieces of a text that these characters do not end, and where each begins.
fn pieces(text: &str, ends: fn(char) -> bool) -> impl Iterator<Item = (usize, &str)> {
    let begins =
        text.split_inclusive(ends).scan(0, |next, piece| Some((std::mem::replace(next, *next + piece.len()), piece)));
    begins.map(move |(start, piece)| (start, piece.trim_end_matches(ends))).filter(|(_, piece)| !piece.is_empty())
}

/// What cannot stand in a link ends it.
fn ends_link(c: char) -> bool {
    c.is_whitespace() || matches!(c, '<' | '>' | '"' | '`' | '|')
}

fn ends_domain(c: char) -> bool {
    c.is_ascii() && !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_')
}

/// Where a scheme that ends with this colon begins.
fn scheme(word: &str, colon: usize) -> Option<usize> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-');
    let run = word[..colon].trim_end_matches(plain).len();
    Some(run + word[run..colon].find(|c: char| c.is_ascii_alphabetic())?)
}

/// All of them, in the order of the text; also `javascript:` and the like.
///
/// ```
/// use arcyou_plugin_sdk::links;
///
/// let found = links::find("See HTTPS://good.com@Evil.example/x or example.org.");
/// assert_eq!((found[0].hosts[0].as_str(), found[0].disguised), ("evil.example", true));
/// assert_eq!((found[1].hosts[0].as_str(), found[1].bare), ("example.org", true));
/// assert!(links::find("no link. at all").is_empty());
/// ```
pub fn find(text: &str) -> Vec<Link> {
    let mut links = Vec::new();
    for (start, word) in pieces(text, ends_link) {
        let schemes = word.match_indices(':').filter_map(|(colon, _)| scheme(word, colon));
        let link = schemes.filter_map(|at| Some((at, with_scheme(&word[at..])?))).next();
        let before = link.as_ref().map_or(word, |(at, _)| &word[..*at]);
        links.extend(pieces(before, ends_domain).filter_map(|(at, domain)| {
            let mail = before[..at].ends_with('@') || before[at + domain.len()..].starts_with('@');
            let place = start + at..start + at + domain.len();
            bare(domain).filter(|_| !mail).map(|link| Link { place, ..link })
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
    const AROUND: [char; 3] = ['.', '-', '_'];
    // Most words have none of the dots of domains, or only the one that ends a sentence.
    let text = text.trim_matches(AROUND);
    if !text.contains(['.', '。', '．', '｡']) {
        return None;
    }
    // A longer host there is none; words may have grown together with one.
    let text = &text[text.ceil_char_boundary(text.len().saturating_sub(512))..];
    let Ok(Host::Domain(domain)) = Host::parse(text.trim_start_matches(AROUND)) else { return None };
    let hosts = hosts(&domain);
    let (_, last) = hosts.first()?.rsplit_once('.')?;
    let doubtful = last.starts_with("xn--");
    let domain = last.len() > 1 && last.chars().all(|c| c.is_ascii_lowercase()) || doubtful;
    domain.then(|| Link { scheme: "https".to_owned(), hosts, bare: true, doubtful, ..Link::default() })
}

fn hosts(domain: &str) -> Vec<String> {
    let unicode = domain_to_unicode(domain);
    let mut host = unicode.split(ends_domain).next().unwrap_or_default().trim_end_matches('.');
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
///
/// ```
/// use arcyou_plugin_sdk::links::is_private;
///
/// assert!(is_private("127.0.0.1") && is_private("intranet") && is_private("nas.local"));
/// assert!(!is_private("example.com"));
/// ```
pub fn is_private(host: &str) -> bool {
    let address = !matches!(Host::parse(host), Ok(Host::Domain(_)));
    address || !host.contains('.') || [".local", ".localhost", ".internal"].iter().any(|local| host.ends_with(local))
}
