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
    /// It is the part of the text that was not looked at, since there is too much before that may be a link.
    pub unread: bool,
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

/// A search for links in the texts of one message.
///
/// To find out where a link leads costs thousands of times what reading a letter does, and a message can be nothing but
/// links. So a search ends after some hundred of them: what is left is one link that is [`unread`](Link::unread).
#[derive(Debug, Clone)]
pub struct Search {
    left: usize,
    doubtful: bool,
}

/// What a search may cost: as much as 32 KiB of text that are links in ASCII.
const MAX_COST: usize = 32 << 10;
/// What each text that may be a link costs beside its letters.
const COST_OF_EACH: usize = 64;
/// What a byte costs beside one of ASCII, since other alphabets take a conversion.
const COST_OF_OTHERS: usize = 10;

impl Default for Search {
    fn default() -> Self {
        Self { left: MAX_COST, doubtful: true }
    }
}

impl Search {
    /// The same search, with or without links that are [`doubtful`](Link::doubtful). Without them, Korean, Japanese and
    /// Chinese sentences with nothing between them cost nothing.
    #[must_use]
    pub fn with_doubtful(self, doubtful: bool) -> Self {
        Self { doubtful, ..self }
    }

    /// All links of a text, in its order; also `javascript:` and the like.
    ///
    /// ```
    /// use arcyou_plugin_sdk::links::Search;
    ///
    /// let found = Search::default().find("See HTTPS://good.com@Evil.example/x or example.org.");
    /// assert_eq!((found[0].hosts[0].as_str(), found[0].disguised), ("evil.example", true));
    /// assert_eq!((found[1].hosts[0].as_str(), found[1].bare), ("example.org", true));
    /// assert!(Search::default().find("no link. at all").is_empty());
    /// assert!(Search::default().find(&"example.org ".repeat(1000)).last().unwrap().unread);
    /// ```
    pub fn find(&mut self, text: &str) -> Vec<Link> {
        let mut links: Vec<Link> = Vec::new();
        for (start, word) in pieces(text, ends_link) {
            // Most words have neither the colon of a scheme nor the dot of a domain.
            if word.bytes().all(|byte| byte.is_ascii() && !matches!(byte, b':' | b'.')) {
                continue;
            }
            if self.find_in_word(word, start, &mut links).is_none() {
                let unread = links.last().map_or(start, |last| last.place.end.max(start));
                links.push(Link { place: unread..text.len(), unread: true, ..Link::default() });
                break;
            }
        }
        links
    }

    /// Pays for a text that may be a link. None if there is not as much left.
    fn pay(&mut self, text: &str) -> Option<()> {
        let others = text.bytes().filter(|byte| !byte.is_ascii()).count();
        let left = self.left.checked_sub(COST_OF_EACH + text.len() + COST_OF_OTHERS * others);
        self.left = left.unwrap_or(0);
        left.map(|_| ())
    }

    /// Adds the links in a word that stands here. None if there is too much to look at.
    fn find_in_word(&mut self, word: &str, start: usize, links: &mut Vec<Link>) -> Option<()> {
        let mut with_scheme = None;
        for at in word.match_indices(':').filter_map(|(colon, _)| scheme(word, colon)) {
            if let Some(link) = self.link_with_scheme(&word[at..])? {
                with_scheme = Some((at, link));
                break;
            }
        }
        let before = with_scheme.as_ref().map_or(word, |(at, _)| &word[..*at]);
        for (at, piece) in pieces(before, ends_domain) {
            let is_mail = || before[..at].ends_with('@') || before[at + piece.len()..].starts_with('@');
            if let Some(domain) =
                candidate(piece).filter(|domain| !is_mail() && (self.doubtful || !is_sentence(domain)))
            {
                self.pay(domain)?;
                let place = start + at..start + at + piece.len();
                links.extend(bare(domain).map(|link| Link { place, ..link }));
            }
        }
        links.extend(with_scheme.map(|(at, link)| {
            let end = word.trim_end_matches(['.', ',', ';', '!', '?', ')', ']', '}', '\'', '*']).len();
            Link { place: start + at..start + end.max(at + 1), ..link }
        }));
        Some(())
    }

    /// The link that begins here, if it is one. None if there is too much to look at.
    fn link_with_scheme(&mut self, text: &str) -> Option<Option<Link>> {
        const SPECIAL: [&str; 6] = ["http", "https", "ftp", "file", "ws", "wss"];
        let Some((scheme, rest)) = text.split_once(':') else { return Some(None) };
        let is = |name: &&str| scheme.eq_ignore_ascii_case(name);
        let link = |hosts, disguised| Link { scheme: scheme.to_ascii_lowercase(), hosts, disguised, ..Link::default() };
        // Browsers forgive web addresses any number of slashes, of either kind.
        if !["http", "https"].iter().any(is) && !rest.starts_with("//") {
            let works = if ["javascript", "vbscript", "file", "blob"].iter().any(is) {
                !rest.is_empty()
            } else {
                is(&"data") && rest.split(':').next().is_some_and(|rest| rest.contains(','))
            };
            return Some(works.then(|| link(Vec::new(), false)));
        }
        if !rest.contains(char::is_alphanumeric) {
            return Some(None);
        }
        let text = if SPECIAL.iter().any(is) { up_to_path(text, scheme.len() + 1) } else { Some(text) };
        let Some(text) = text else { return Some(Some(link(Vec::new(), false))) };
        self.pay(text)?;
        // A sentence's punctuation may follow at once.
        let parsed = Url::parse(text)
            .or_else(|_| Url::parse(text.split([']', '}', '^', '\'', ',', ';']).next().unwrap_or(text)));
        let Ok(url) = parsed else { return Some(Some(link(Vec::new(), false))) };
        let hosts = match url.host() {
            Some(Host::Domain(domain)) => hosts(domain),
            address => address.map(|address| address.to_string()).into_iter().collect(),
        };
        Some(Some(link(hosts, !url.username().is_empty() || url.password().is_some())))
    }
}

/// The bytes of a host's name, which has 253 letters at most, and of what words may have grown together with it.
const MAX_HOST_BYTES: usize = 512;
/// The same for a name in other alphabets, whose letters become several each.
const MAX_OTHER_HOST_BYTES: usize = 192;
/// The letters between two of its dots.
const MAX_LABEL_CHARS: usize = 63;

/// A link to its host, which is all that counts. None if nobody can tell which part of it that is.
fn up_to_path(link: &str, behind_colon: usize) -> Option<&str> {
    let slashes = &['/', '\\'];
    let start = link.len() - link[behind_colon..].trim_start_matches(slashes).len();
    let host = link[start..].split(['/', '\\', '?', '#']).next().unwrap_or_default();
    if host.len() <= MAX_HOST_BYTES {
        return Some(&link[..start + host.len()]);
    }
    // The host is what follows the last @, however long what is before.
    (!host.contains('@')).then(|| &link[..link.floor_char_boundary(start + MAX_HOST_BYTES)])
}

const AROUND: [char; 3] = ['.', '-', '_'];
const DOTS: [char; 4] = ['.', '。', '．', '｡'];

/// What may be a domain in a piece of a text: without what cannot be a part of it.
fn candidate(text: &str) -> Option<&str> {
    // Most words have none of the dots of domains, or only the one that ends a sentence.
    let text = text.trim_matches(AROUND);
    if !text.contains(DOTS) {
        return None;
    }
    // A longer host there is none; words may have grown together with one.
    let max_bytes = if text.is_ascii() { MAX_HOST_BYTES } else { MAX_OTHER_HOST_BYTES };
    let text = &text[text.ceil_char_boundary(text.len().saturating_sub(max_bytes))..];
    let too_long = text.rsplit(DOTS).find_map(|label| {
        let (at, _) = label.char_indices().rev().nth(MAX_LABEL_CHARS - 1).filter(|(at, _)| *at > 0)?;
        Some(label.as_ptr() as usize - text.as_ptr() as usize + at)
    });
    let text = text[too_long.unwrap_or(0)..].trim_start_matches(AROUND);
    // Numbers have dots too.
    let (_, last) = text.rsplit_once('.').filter(|_| text.is_ascii()).unwrap_or(("", "xn--"));
    is_top_level(last).then_some(text)
}

/// Whether a name of letters a to z may be the last one of a domain.
fn is_top_level(name: &str) -> bool {
    name.len() > 1 && name.bytes().all(|byte| byte.is_ascii_alphabetic()) || is_encoded(name)
}

fn is_encoded(label: &str) -> bool {
    label.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("xn--"))
}

/// Whether the last word begins with a letter of Korean, Japanese or Chinese.
fn is_sentence(text: &str) -> bool {
    let last = text.trim_end_matches(DOTS).rsplit(DOTS).next().unwrap_or_default();
    last.starts_with(|c| matches!(c, 'ぁ'..='ゖ' | 'ァ'..='ー' | '\u{4e00}'..='\u{9fff}' | '가'..='힣'))
}

fn bare(text: &str) -> Option<Link> {
    let Ok(Host::Domain(domain)) = Host::parse(text) else { return None };
    let hosts = hosts(&domain);
    let (_, last) = hosts.first()?.rsplit_once('.')?;
    let link = Link { scheme: "https".to_owned(), bare: true, doubtful: is_encoded(last), ..Link::default() };
    is_top_level(last).then_some(Link { hosts, ..link })
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
    let name = |name: &str| match name.len() == unicode.len() {
        true => Some(domain.to_owned()),
        false => Host::parse(name).ok().map(|host| host.to_string()),
    };
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
