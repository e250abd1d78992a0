//! Accepts only links to allowed domains, and no disguised ones.
//!
//! It checks the host that a client would contact for a preview, however the text spells it: in upper case,
//! percent-encoded, in other alphabets, with `user@` before it, or with a port or a dot behind it.

use arcyou_plugin_sdk::links::{self, Link, Search};
use arcyou_plugin_sdk::{Filter, Message, Plugin, Verdict};
use url::Host;

/// The table `[plugin.config]`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Allowed domains, with their subdomains. If the list is empty, every domain is allowed.
    allow: Vec<String>,
    /// Denied domains, with their subdomains. This list takes precedence over `allow`.
    deny: Vec<String>,
    /// Allowed schemes. `javascript:`, `data:` and the like count as links too.
    schemes: Vec<String>,
    /// Whether links to IP addresses and to names of a local network are allowed: `localhost`, `intranet`, `nas.local`.
    private_hosts: bool,
    /// Whether `example.com` without `https://` is a link, as it is for most clients.
    bare_domains: bool,
    /// What happens to a message with a link that is not allowed.
    action: Action,
    /// Top-level fields to search; if empty, all fields.
    fields: Vec<String>,
}

#[derive(serde::Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Action {
    /// The message is rejected.
    Reject,
    /// The link is removed from the message: `[link removed]` takes its place, or `…` if that is longer.
    Strip,
}

impl Default for Config {
    fn default() -> Self {
        let (schemes, action) = (vec!["http".to_owned(), "https".to_owned()], Action::Reject);
        let (allow, deny, fields) = Default::default();
        Self { allow, deny, schemes, private_hosts: false, bare_domains: true, action, fields }
    }
}

/// Domains as in DNS: in lower case, other alphabets as `xn--`.
struct Domains(Vec<String>);

impl Domains {
    fn parse(listed: &[String]) -> Result<Self, String> {
        let parse = |text: &String| match Host::parse(text.trim_end_matches('.')) {
            Ok(Host::Domain(domain)) if !domain.contains('*') && !domain.starts_with('.') => Ok(domain),
            _ => Err(format!("{text:?} is no domain; \"example.com\" is, and means all below it too")),
        };
        listed.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether a domain ends in another alphabet, as `example.한국` does.
    fn hold_other_alphabets(&self) -> bool {
        self.0.iter().any(|domain| domain.rsplit('.').next().is_some_and(|last| last.starts_with("xn--")))
    }

    /// `a.example.com` is a subdomain of `example.com`; `badexample.com` is not.
    fn hold(&self, host: &str) -> bool {
        self.0.iter().any(|domain| host.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
    }
}

fn is_scheme(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'+' | b'.' | b'-');
    text.starts_with(|first: char| first.is_ascii_lowercase()) && text.bytes().all(plain)
}

struct LinkGuard {
    config: Config,
    allow: Domains,
    deny: Domains,
}

impl Plugin for LinkGuard {
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        if let Some(scheme) = config.schemes.iter().find(|scheme| !is_scheme(scheme)) {
            return Err(format!("{scheme:?} in `schemes` should be like \"https\", in lower case and without a colon"));
        }
        Ok(Self { allow: Domains::parse(&config.allow)?, deny: Domains::parse(&config.deny)?, config })
    }
}

/// Why a link is not allowed: a code and a sentence.
type Refusal = (&'static str, String);

impl LinkGuard {
    /// Why a link is not allowed, if it is not.
    fn refusal(&self, link: &Link) -> Option<Refusal> {
        let Link { scheme, hosts, bare, .. } = link;
        if link.unread {
            return Some(("link_too_many", "the message has too many links".to_owned()));
        }
        if *bare && !self.config.bare_domains {
            return None;
        }
        if !self.config.schemes.contains(scheme) {
            return Some(("link_scheme", format!("links that begin with {scheme}: are not allowed here")));
        }
        if let Some(host) = hosts.iter().find(|host| self.deny.hold(host)) {
            return Some(("link_denied", format!("links to {host} are not allowed here")));
        }
        let Some(host) = hosts.first() else {
            return Some(("link_unclear", "it is not clear where a link leads".to_owned()));
        };
        if link.disguised {
            return Some(("link_disguised", format!("a link to {host} pretends to lead elsewhere")));
        }
        // A listed name is allowed even if it is local.
        if self.allow.hold(host) || link.doubtful {
            return None;
        }
        if !self.config.private_hosts && links::is_private(host) {
            return Some(("link_private", format!("links to {host}, which is no public name, are not allowed here")));
        }
        (!self.config.allow.is_empty()).then(|| ("link_not_allowed", format!("links to {host} are not allowed here")))
    }

    /// The text without the links that are not allowed. Their reasons are added to `refused`.
    fn strip(&self, text: &str, search: &mut Search, refused: &mut Vec<Refusal>) -> Option<String> {
        let (mut stripped, mut copied) = (String::new(), 0);
        for link in search.find(text) {
            let Some(refusal) = self.refusal(&link) else { continue };
            refused.push(refusal);
            // No text grows: a body that is as large as it may be would be too large.
            let mark = if link.place.len() < "[link removed]".len() { "…" } else { "[link removed]" };
            stripped.extend([&text[copied..link.place.start], mark]);
            copied = link.place.end;
        }
        (copied > 0).then(|| stripped + &text[copied..])
    }
}

impl Filter for LinkGuard {
    fn filter(&self, message: &Message) -> Verdict {
        let rejects = self.config.action == Action::Reject;
        let (mut search, mut refused) = (Search::default().with_doubtful(self.deny.hold_other_alphabets()), Vec::new());
        let verdict = message.replace_strings(&self.config.fields, |text| {
            // One reason is enough for a rejection.
            if rejects && !refused.is_empty() { None } else { self.strip(text, &mut search, &mut refused) }
        });
        match refused.first() {
            None => verdict,
            Some((code, reason)) if rejects => Verdict::reject(*code, reason),
            Some(_) => verdict.annotate("stripped_links", refused.len().to_string()),
        }
    }
}

arcyou_plugin_sdk::export!(LinkGuard: filter);

#[cfg(test)]
mod tests {
    use arcyou_plugin_sdk::testing::{check_cases, message, plugin, try_plugin};
    use serde_json::{Value, json};

    use super::*;

    /// The code of the rejection, or "accept".
    fn judge(config: Value, text: &str) -> String {
        let verdict = plugin::<LinkGuard>(config).filter(&message(json!({"text": text})));
        verdict.code().unwrap_or("accept").to_owned()
    }

    #[test]
    fn the_cases_hold() {
        check_cases::<LinkGuard>(include_str!("../cases.toml"));
    }

    #[test]
    fn a_denied_domain_is_found_in_every_disguise() {
        for text in [
            "see https://evil.example/x?y#z",
            "HTTPS://EVIL.EXAMPLE",
            "http://evil.example.:8080/",
            "http://a.b.evil.example",
            "http://evil%2Eexample/",
            "http://ｅｖｉｌ。example/",
            "http://ⓔvil.example",
            "http:evil.example",
            "http:/evil.example",
            "http:\\\\evil.example\\x",
            "http://evil.example:80,other.example",
            "http://evil.example,other.example",
            "http://good.example@evil.example/",
            "[good.example](http://evil.example)",
            "**http://evil.example**",
            "see:http://evil.example",
            "evil.example",
            "evil．example and evil。example",
            "go to www.evil.example/x.",
            "여기https://evil.example입니다",
            "여기evil.example입니다",
            "good.example/?http://evil.example",
            "http://evil.example]",
        ] {
            assert_eq!(judge(json!({"deny": ["Evil.Example."]}), text), "link_denied", "{text}");
        }
        assert_eq!(judge(json!({"deny": ["evil.example"]}), &("가".repeat(5000) + ".evil.example")), "link_denied");
        for text in [
            "http://notevil.example",
            "http://evil.example.org",
            "mail bob@evil.example",
            "http://good.example/evil.example",
        ] {
            assert_eq!(judge(json!({"deny": ["evil.example"]}), text), "accept", "{text}");
        }
    }

    #[test]
    fn other_alphabets_are_one_name_however_they_are_written() {
        for listed in
            ["예시.한국", "xn--vv4b11d.xn--3e0b707e", "bücher.example", "BÜCHER.example", "xn--bcher-kva.example"]
        {
            let config = json!({"deny": [listed]});
            let links = if listed.ends_with("example") {
                ["http://Bücher.example/x", "https://xn--bcher-kva.example", "bu\u{308}cher.example"]
            } else {
                ["http://예시.한국/길", "https://xn--vv4b11d.xn--3e0b707e", "a.예시.한국"]
            };
            for text in links {
                assert_eq!(judge(config.clone(), text), "link_denied", "{listed}: {text}");
            }
        }
        // A letter that only looks the same makes another name.
        assert_eq!(judge(json!({"allow": ["apple.example"]}), "https://аpple.example"), "link_not_allowed");
    }

    #[test]
    fn only_listed_domains_pass_where_there_is_a_list() {
        let config = json!({"allow": ["good.example", "bücher.example", "nas.local"], "deny": ["bad.good.example"]});
        for (text, code) in [
            ("https://good.example/a and www.good.example", "accept"),
            ("https://good.example에서 봤어", "accept"),
            ("https://bücher.example http://nas.local/x", "accept"),
            ("안녕하세요.반갑습니다 e.g. 3.5 v1.2.3 12:30 note:this", "accept"),
            ("https://good.example and https://other.example", "link_not_allowed"),
            ("other.example", "link_not_allowed"),
            ("https://good.example.evil.example", "link_not_allowed"),
            ("https://bad.good.example", "link_denied"),
        ] {
            assert_eq!(judge(config.clone(), text), code, "{text}");
        }
        assert_eq!(
            judge(json!({"allow": ["good.example"], "bare_domains": false}), "node.js at other.example"),
            "accept"
        );
    }

    #[test]
    fn what_no_preview_should_ask_does_not_pass() {
        for (text, code) in [
            ("http://127.0.0.1/", "link_private"),
            ("http://2130706433/", "link_private"),
            ("http://0x7f.1:80/", "link_private"),
            ("http://[::1]/", "link_private"),
            ("http://localhost:3000/", "link_private"),
            ("http://intranet/", "link_private"),
            ("http://db.internal/", "link_private"),
            ("[x](JavaScript:alert(1))", "link_scheme"),
            ("data:text/html,<b>", "link_scheme"),
            ("file:///etc/passwd", "link_scheme"),
            ("ftp://good.example/", "link_scheme"),
            ("https://good.example@other.example/", "link_disguised"),
            ("http://a%00b/", "link_unclear"),
            ("see:data:,x", "link_scheme"),
            ("http://... and https://, javascript: the good parts", "accept"),
            ("data: three, four", "accept"),
        ] {
            assert_eq!(judge(json!({}), text), code, "{text}");
        }
        assert_eq!(judge(json!({"private_hosts": true}), "http://127.0.0.1/"), "accept");
        assert_eq!(judge(json!({"schemes": ["https", "ftp"]}), "ftp://good.example/"), "accept");
        assert_eq!(judge(json!({"schemes": ["https"]}), "http://good.example/"), "link_scheme");
    }

    #[test]
    fn so_many_links_are_looked_at() {
        let links = |count: usize| judge(json!({}), &"https://good.example/x ".repeat(count));
        assert_eq!((links(300).as_str(), links(3000).as_str()), ("accept", "link_too_many"));
        // Sentences with nothing between them are none, but where a domain ends in such letters.
        let sentences = "오늘은 날씨가 좋네요.그래서 나왔어요。정말。".repeat(500);
        assert_eq!(judge(json!({"deny": ["evil.example"]}), &sentences), "accept");
        assert_eq!(judge(json!({"deny": ["나쁜.한국"]}), &sentences), "link_too_many");
        let body = json!({"f": vec!["good.example"; 2000]});
        assert_eq!(plugin::<LinkGuard>(json!({})).filter(&message(body)).code(), Some("link_too_many"));
    }

    #[test]
    fn no_text_grows_when_links_are_removed_from_it() {
        let strip = json!({"action": "strip", "deny": ["x.co", "evil.example"]});
        for text in ["x.co", "see x.co, y.co or https://evil.example/x now", &"x.co,".repeat(5000)] {
            let body = message(json!({"text": text}));
            let stripped = plugin::<LinkGuard>(strip.clone()).filter(&body).replacement().unwrap_or_default();
            let stripped = stripped["text"].as_str().unwrap_or_default();
            assert!(stripped.len() <= text.len() && !stripped.contains("x.co"), "{stripped}");
        }
    }

    #[test]
    fn links_are_looked_for_in_every_string_or_where_it_is_said() {
        let body = json!({"text": "hi", "attachments": [{"url": "https://evil.example/x.png"}], "n": 1});
        let verdict = |config| plugin::<LinkGuard>(config).filter(&message(body.clone()));
        assert_eq!(verdict(json!({"deny": ["evil.example"]})).code(), Some("link_denied"));
        assert!(verdict(json!({"deny": ["evil.example"], "fields": ["text"]})).is_accept());
    }

    #[test]
    fn mistakes_in_the_configuration_are_reported() {
        let error = |config| try_plugin::<LinkGuard>(config).err().unwrap_or_default();
        assert!(error(json!({"denied": []})).contains("denied"));
        for (key, value) in
            [("allow", "https://x.example"), ("deny", "*.x.example"), ("deny", "10.0.0.1"), ("schemes", "HTTPS:")]
        {
            assert!(error(json!({key: [value]})).contains(value), "{value}");
        }
    }
}
