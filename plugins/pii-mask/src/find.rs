//! Finds personal data in a text.

use std::ops::Range;

use linkify::{LinkFinder, LinkKind};
use regex_lite::Regex;

/// In the order of the search: what is found as one kind is not searched for the next.
#[derive(serde::Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Mail,
    ResidentNumber,
    Card,
    Phone,
}

impl Kind {
    pub(crate) fn annotation(self) -> &'static str {
        match self {
            Self::Mail => "masked_mails",
            Self::ResidentNumber => "masked_resident_numbers",
            Self::Card => "masked_cards",
            Self::Phone => "masked_phones",
        }
    }
}

/// Korean mobile, area and service numbers, with or without +82, and numbers of other countries with their code.
const PHONE: &str = concat!(
    r"(?:\+82[-. ]?(?:\(0\)|0)?|\(?0)(?:1[016789]|2|3[1-3]|4[1-4]|5[1-5]|6[1-4]|[78]0|50[0-9])\)?",
    r"[-. ]?[0-9]{3,4}[-. ]?[0-9]{4}",
    r"|\+[1-9][0-9]{0,2}(?:[-. ]?\(?[0-9]{1,4}\)?){2,5}"
);

pub(crate) struct Finder {
    resident_number: Regex,
    digits: Regex,
    phone: Regex,
}

impl Finder {
    pub(crate) fn new() -> Result<Self, String> {
        let regex = |pattern| Regex::new(pattern).map_err(|error| error.to_string());
        Ok(Self {
            // The date of birth, and a digit for century and sex. The check digit is not used, since numbers issued
            // since October 2020 have none.
            resident_number: regex("[0-9]{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12][0-9]|3[01])[- ]?[1-8][0-9]{6}")?,
            digits: regex("[0-9]+(?:[- ][0-9]+)*")?,
            phone: regex(PHONE)?,
        })
    }

    /// All finds, in the order of the text.
    pub(crate) fn find(&self, kind: Kind, text: &str) -> Vec<Range<usize>> {
        let whole = |regex: &Regex| -> Vec<_> {
            regex.find_iter(text).map(|found| found.range()).filter(|at| stands_alone(text, at)).collect()
        };
        match kind {
            // The shortest number has nine digits; most texts have fewer.
            Kind::ResidentNumber | Kind::Card | Kind::Phone if digits(text) < 9 => Vec::new(),
            Kind::Mail => {
                let mut finder = LinkFinder::new();
                finder.kinds(&[LinkKind::Email]).links(text).map(|mail| address(mail.start(), mail.as_str())).collect()
            }
            Kind::ResidentNumber => whole(&self.resident_number),
            Kind::Card => self.digits.find_iter(text).flat_map(|run| cards(text, run.range())).collect(),
            Kind::Phone => {
                let mut phones = whole(&self.phone);
                phones.retain(|at| (9..=15).contains(&digits(&text[at.clone()])));
                phones
            }
        }
    }
}

fn digits(text: &str) -> usize {
    text.bytes().filter(u8::is_ascii_digit).count()
}

/// Whether a match is not part of a longer number.
fn stands_alone(text: &str, at: &Range<usize>) -> bool {
    let digit = |b: Option<&u8>| b.is_some_and(u8::is_ascii_digit);
    !digit(text.as_bytes().get(at.end))
        && !digit(at.start.checked_sub(1).and_then(|before| text.as_bytes().get(before)))
}

/// A mail address without adjacent words in another alphabet: in Korean they follow without a space.
fn address(start: usize, mail: &str) -> Range<usize> {
    let (local, domain) = mail.rsplit_once('@').unwrap_or_default();
    let foreign = |text: &str| text.char_indices().rfind(|(_, c)| !c.is_ascii()).map_or(0, |(at, c)| at + c.len_utf8());
    let before = Some(foreign(local)).filter(|at| *at < local.len()).unwrap_or(0);
    let last = domain.rfind('.').map_or(0, |dot| dot + 1);
    let behind =
        domain[last..].find(|c: char| !c.is_ascii()).filter(|at| *at > 0).map_or(0, |at| domain.len() - last - at);
    start + before..start + mail.len() - behind
}

/// The card numbers in a run of digits with single spaces or hyphens. The run may contain other numbers too.
fn cards(text: &str, run: Range<usize>) -> Vec<Range<usize>> {
    let is_digit = |at: usize| text.as_bytes()[at].is_ascii_digit();
    let starts = run.clone().filter(|at| is_digit(*at) && (*at == run.start || !is_digit(at - 1)));
    let ends: Vec<usize> =
        run.clone().map(|at| at + 1).filter(|at| is_digit(at - 1) && (*at == run.end || !is_digit(*at))).collect();
    let mut found: Vec<Range<usize>> = Vec::new();
    for start in starts.filter(|start| text[*start..].starts_with(['2', '3', '4', '5', '6', '9'])) {
        // From thirteen digits to nineteen digits with as many separators.
        let [near, far] = [start + 13, start + 39].map(|at| ends.partition_point(|end| *end < at));
        if found.last().is_none_or(|last| last.end <= start)
            && let Some(end) = ends[near..far].iter().rev().find(|end| is_card(&text[start..**end]))
        {
            found.push(start..*end);
        }
    }
    found
}

/// Checks the length and Luhn's check digit.
fn is_card(text: &str) -> bool {
    let digits = text.bytes().rev().filter(u8::is_ascii_digit).map(|b| u32::from(b - b'0'));
    let weighed = digits.clone().zip([1, 2].into_iter().cycle()).map(|(digit, weight)| digit * weight);
    let sum: u32 = weighed.map(|product| product / 10 + product % 10).sum();
    (13..=19).contains(&digits.count()) && sum.is_multiple_of(10)
}
