//! Masks personal data: mail addresses, phone numbers, Korean resident registration numbers, card numbers. Each of
//! their letters and digits becomes an asterisk; separators and the rest of the body stay. It protects against
//! accidents, not against intent: digits that are spelt out or in other scripts are not found.

mod find;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use arcyou_plugin_sdk::{Filter, Message, Plugin, Verdict};
use find::{Kind, find};

/// The table `[plugin.config]`.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    /// The kinds of data to mask.
    mask: BTreeSet<Kind>,
    /// Top-level fields to search; if empty, all fields.
    fields: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { mask: [Kind::Mail, Kind::ResidentNumber, Kind::Card, Kind::Phone].into(), fields: Vec::new() }
    }
}

struct PiiMask(Config);

impl Plugin for PiiMask {
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        Ok(Self(config))
    }
}

impl PiiMask {
    /// The text with personal data masked. The number of finds is added to `counts`.
    fn mask(&self, text: &str, counts: &mut BTreeMap<Kind, usize>) -> Option<String> {
        let mut masked = Cow::Borrowed(text);
        for kind in &self.0.mask {
            // Masked text contains nothing more to find.
            let found = find(*kind, &masked);
            if !found.is_empty() {
                *counts.entry(*kind).or_default() += found.len();
                masked = Cow::Owned(starred(&masked, &found));
            }
        }
        match masked {
            Cow::Owned(masked) => Some(masked),
            Cow::Borrowed(_) => None,
        }
    }
}

/// The text with asterisks for the letters and digits of these ranges, which are in order.
fn starred(text: &str, ranges: &[Range<usize>]) -> String {
    let star = |c: char| if c.is_alphanumeric() { '*' } else { c };
    let (mut starred, mut copied) = (String::with_capacity(text.len()), 0);
    for at in ranges {
        starred.push_str(&text[copied..at.start]);
        starred.extend(text[at.clone()].chars().map(star));
        copied = at.end;
    }
    starred + &text[copied..]
}

impl Filter for PiiMask {
    fn filter(&self, message: &Message) -> Verdict {
        let mut counts = BTreeMap::new();
        let verdict = message.replace_strings(&self.0.fields, |text| self.mask(text, &mut counts));
        counts.iter().fold(verdict, |verdict, (kind, count)| verdict.annotate(kind.annotation(), count.to_string()))
    }
}

arcyou_plugin_sdk::export!(PiiMask: filter);

#[cfg(test)]
mod tests {
    use arcyou_plugin_sdk::testing::{check_cases, message, plugin, try_plugin};
    use serde_json::{Value, json};

    use super::*;

    fn filter(config: Value, body: Value) -> Verdict {
        plugin::<PiiMask>(config).filter(&message(body))
    }

    /// The text after masking.
    fn mask(text: &str) -> String {
        let verdict = filter(json!({}), json!({"text": text}));
        verdict.replacement().map_or(text.to_owned(), |body| body["text"].as_str().unwrap_or_default().to_owned())
    }

    #[track_caller]
    fn assert_masked(kind: &str, numbers: &[&str]) {
        for number in numbers {
            let stars: String = number.chars().map(|c| if c.is_alphanumeric() { '*' } else { c }).collect();
            for (before, after) in [("", ""), ("call ", " now"), ("번호는", "입니다."), ("(", ")"), ("x:", ",")] {
                assert_eq!(mask(&format!("{before}{number}{after}")), format!("{before}{stars}{after}"), "{kind}");
            }
            let verdict = filter(json!({}), json!({"text": number}));
            let notes: Vec<_> =
                verdict.annotations().iter().map(|note| (note.key.as_str(), note.value.as_str())).collect();
            assert_eq!(notes, [(kind, "1")], "{number}");
        }
    }

    #[test]
    fn the_cases_hold() {
        check_cases::<PiiMask>(include_str!("../cases.toml"));
    }

    #[test]
    fn phone_numbers_as_koreans_write_them() {
        assert_masked(
            "masked_phones",
            &[
                "010-1234-5678",
                "01012345678",
                "010 1234 5678",
                "010.1234.5678",
                "011-123-4567",
                "+82 10 1234 5678",
                "+82-10-1234-5678",
                "+821012345678",
                "+82 (0)10-1234-5678",
                "02-123-4567",
                "02-1234-5678",
                "(02) 1234-5678",
                "031-123-4567",
                "0311234567",
                "+82-2-1234-5678",
                "070-1234-5678",
                "0505-123-4567",
                "+1 (212) 555-0123",
                "+44 20 7946 0958",
                "+819012345678",
            ],
        );
    }

    #[test]
    fn resident_registration_numbers() {
        assert_masked(
            "masked_resident_numbers",
            &["900101-1234567", "9001011234567", "011231 4999999", "881130-6123456"],
        );
        for other in ["901301-1234567", "900132-1234567", "900101-9234567", "900101-123456", "1900101-12345678"] {
            assert_eq!(mask(other), other);
        }
    }

    #[test]
    fn card_numbers_by_their_check_digit() {
        assert_masked(
            "masked_cards",
            &[
                "4111 1111 1111 1111",
                "4111111111111111",
                "5555-5555-5555-4444",
                "3782 822463 10005",
                "30569309025904",
                "6011 1111 1111 1117",
                "2223003122003222",
            ],
        );
        for other in ["4111 1111 1111 1112", "1234 5678 9012 3456", "41111111111111111", "0000000000000000"] {
            assert_eq!(mask(other), other);
        }
        assert_eq!(mask("12 4111 1111 1111 1111 2030"), "12 **** **** **** **** 2030");
        let (card, stars) = ("4111 1111 1111 1111", "**** **** **** ****");
        assert_eq!(mask(&format!("{card} {card}")), format!("{stars} {stars}"));
        let long = "4 ".repeat(16_000);
        assert!(mask(&long).len() == long.len());
    }

    #[test]
    fn mail_addresses() {
        assert_masked("masked_mails", &["a.b+c@mail.example.com", "A_B@EXAMPLE.COM", "x@bücher.example"]);
        assert_eq!(mask("mail bob@example.com."), "mail ***@*******.***.");
        assert_eq!(mask("@bob a@b 3@4"), "@bob a@b 3@4");
    }

    #[test]
    fn what_is_no_personal_number_stays() {
        for text in [
            "2026-11-25 16:04:52",
            "1700000000000",
            "v1.2.3 10.0.0.1",
            "1588-1234",
            "₩1,234,567",
            "0101234",
            "301012345678",
            "010123456789",
            "10-1234-5678",
            "C++11, +1 2 3, +100 200 and 2026-11-25",
            "00000000-0000-4000-8000-000000000001",
        ] {
            assert_eq!(mask(text), text);
        }
    }

    #[test]
    fn every_string_is_looked_into_or_only_some() {
        let deep = json!([{"note": "02-123-4567"}]);
        let body = json!({"text": "010-1234-5678 a@b.example", "deep": deep, "n": 1_012_345_678, "z": 1.5});
        let verdict = filter(json!({}), body.clone());
        let deep = json!([{"note": "**-***-****"}]);
        let masked = json!({"text": "***-****-**** *@*.*******", "deep": deep, "n": 1_012_345_678, "z": 1.5});
        assert_eq!(verdict.replacement(), Some(masked));
        let notes: Vec<_> = verdict.annotations().iter().map(|note| (note.key.as_str(), note.value.as_str())).collect();
        assert_eq!(notes, [("masked_mails", "1"), ("masked_phones", "2")]);
        let verdict = filter(json!({"fields": ["deep"], "mask": ["phone"]}), body.clone());
        assert_eq!(verdict.replacement().map(|body| body["text"].clone()), Some(body["text"].clone()));
        assert!(filter(json!({"mask": ["card"]}), body).is_accept());
    }

    #[test]
    fn mistakes_in_the_configuration_are_reported() {
        let error = |config| try_plugin::<PiiMask>(config).err().unwrap_or_default();
        assert!(error(json!({"masks": []})).contains("masks"));
        assert!(error(json!({"mask": ["phones"]})).contains("phones"));
    }
}
