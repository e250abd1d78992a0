//! Lets through only links that lead to welcome domains, and none that is not what it seems.
//!
//! Judged is the host that a client would ask for a preview, whatever the text makes of it: upper case,
//! percent-encoding, other alphabets, `user@` before it, a port or a dot behind it.

use arcyou_plugin_sdk::links::{self, Link};
use arcyou_plugin_sdk::{Filter, Message, Plugin, Verdict};
use url::Host;

/// What stands under `[plugin.config]`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// Domains, each with all below it. If there are any, only links to these pass.
    allow: Vec<String>,
    /// Domains, each with all below it, to which no link leads, whatever `allow` says.
    deny: Vec<String>,
    /// What links may begin with. `javascript:`, `data:` and the like are links too.
    schemes: Vec<String>,
    /// Whether links may lead to IP addresses and to names of a local network: `localhost`, `intranet`, `nas.local`.
    private_hosts: bool,
    /// Whether `example.com` is a link without `https://` before it, as most clients have it.
    bare_domains: bool,
    /// What becomes of a message with a link that does not pass.
    action: Action,
    /// Top-level fields to look into; all if there are none.
    fields: Vec<String>,
}

#[derive(serde::Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Action {
    /// It is refused.
    Reject,
    /// It goes on without the link.
    Strip,
}

impl Default for Config {
    fn default() -> Self {
        let (schemes, action) = (vec!["http".to_owned(), "https".to_owned()], Action::Reject);
        let (allow, deny, fields) = Default::default();
        Self { allow, deny, schemes, private_hosts: false, bare_domains: true, action, fields }
    }
}

/// Domains as the network knows them: in lower case, other alphabets as `xn--`.
struct Domains(Vec<String>);

impl Domains {
    fn parse(listed: &[String]) -> Result<Self, String> {
        let parse = |text: &String| match Host::parse(text.trim_end_matches('.')) {
            Ok(Host::Domain(domain)) if !domain.contains('*') && !domain.starts_with('.') => Ok(domain),
            _ => Err(format!("{text:?} is no domain; \"example.com\" is, and means all below it too")),
        };
        listed.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// `a.example.com` is below `example.com`, `badexample.com` is not.
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

impl LinkGuard {
    /// Why a link does not pass: a token and a sentence.
    fn refusal(&self, link: &Link) -> Option<(&'static str, String)> {
        let Link { scheme, hosts, bare, .. } = link;
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
        // A name that is listed is welcome, local or not.
        if self.allow.hold(host) || link.doubtful {
            return None;
        }
        if !self.config.private_hosts && links::is_private(host) {
            return Some(("link_private", format!("links to {host}, which is no public name, are not allowed here")));
        }
        (!self.config.allow.is_empty()).then(|| ("link_not_allowed", format!("links to {host} are not allowed here")))
    }

    /// The text without the links that do not pass; why goes to `refused`.
    fn strip(&self, text: &str, refused: &mut Vec<(&'static str, String)>) -> Option<String> {
        let (mut stripped, mut copied) = (String::new(), 0);
        for link in links::find(text) {
            let Some(refusal) = self.refusal(&link) else { continue };
            refused.push(refusal);
            stripped.extend([&text[copied..link.place.start], "[link removed]"]);
            copied = link.place.end;
        }
        (copied > 0).then(|| stripped + &text[copied..])
    }
}

impl Filter for LinkGuard {
    fn filter(&self, message: &Message) -> Verdict {
        let mut refused = Vec::new();
        let verdict = message.replace_strings(&self.config.fields, |text| self.strip(text, &mut refused));
        match refused.first() {
            None => verdict,
            Some((code, reason)) if self.config.action == Action::Reject => Verdict::reject(*code, reason),
            Some(_) => verdict.annotate("stripped_links", refused.len().to_string()),
        }
    }
}

arcyou_plugin_sdk::export!(LinkGuard: filter);

#[cfg(test)]
mod tests;
