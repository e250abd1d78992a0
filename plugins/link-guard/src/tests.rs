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
    for listed in ["예시.한국", "xn--vv4b11d.xn--3e0b707e", "bücher.example", "BÜCHER.example", "xn--bcher-kva.example"]
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
    // A letter that only looks the same is another name.
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
    assert_eq!(judge(json!({"allow": ["good.example"], "bare_domains": false}), "node.js at other.example"), "accept");
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
fn links_are_looked_for_in_every_string_or_where_it_is_said() {
    let body = json!({"text": "hi", "attachments": [{"url": "https://evil.example/x.png"}], "n": 1});
    let verdict = |config| plugin::<LinkGuard>(config).filter(&message(body.clone()));
    assert_eq!(verdict(json!({"deny": ["evil.example"]})).code(), Some("link_denied"));
    assert!(verdict(json!({"deny": ["evil.example"], "fields": ["text"]})).is_accept());
}

#[test]
fn slips_in_the_configuration_are_named() {
    let error = |config| try_plugin::<LinkGuard>(config).err().unwrap_or_default();
    assert!(error(json!({"denied": []})).contains("denied"));
    for (key, value) in
        [("allow", "https://x.example"), ("deny", "*.x.example"), ("deny", "10.0.0.1"), ("schemes", "HTTPS:")]
    {
        assert!(error(json!({key: [value]})).contains(value), "{value}");
    }
}
