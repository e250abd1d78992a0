//! Finds personal data in a text.

use std::ops::Range;

use linkify::{LinkFinder, LinkKind};

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

/// All finds of a kind, in the order of the text. None overlaps another.
///
/// Numbers are looked for only where one may begin, and each is of a form that is read without going back. So a text
/// costs the same for each of its bytes, whatever they are; a search by regular expressions costs a hundred times as
/// much for a text of digits.
pub(crate) fn find(kind: Kind, text: &str) -> Vec<Range<usize>> {
    // The shortest number has nine digits; most texts have fewer.
    if kind != Kind::Mail && digits(text.as_bytes()) < 9 {
        return Vec::new();
    }
    match kind {
        Kind::Mail => {
            let mut finder = LinkFinder::new();
            finder.kinds(&[LinkKind::Email]).links(text).map(|mail| address(mail.start(), mail.as_str())).collect()
        }
        Kind::ResidentNumber => resident_numbers(text),
        Kind::Card => cards(text),
        Kind::Phone => phones(text),
    }
}

fn is_digit(byte: Option<&u8>) -> bool {
    byte.is_some_and(u8::is_ascii_digit)
}

fn digits(text: &[u8]) -> usize {
    text.iter().filter(|byte| byte.is_ascii_digit()).count()
}

/// Whether a match is not part of a longer number.
fn stands_alone(text: &str, at: &Range<usize>) -> bool {
    let before = at.start.checked_sub(1).and_then(|before| text.as_bytes().get(before));
    !is_digit(before) && !is_digit(text.as_bytes().get(at.end))
}

fn resident_numbers(text: &str) -> Vec<Range<usize>> {
    let (mut found, mut next) = (Vec::new(), 0);
    while next < text.len() {
        let end = next + resident_number(&text.as_bytes()[next..]).unwrap_or(1);
        if end > next + 1 && stands_alone(text, &(next..end)) {
            found.push(next..end);
        }
        next = end;
    }
    found
}

/// The length of the resident registration number that a text begins with: the date of birth, a digit for century and
/// sex, and six more. The check digit is not used, since numbers issued since October 2020 have none.
fn resident_number(text: &[u8]) -> Option<usize> {
    let (born, rest) = text.split_at_checked(6)?;
    let number = without_one_of(rest, b"- ").get(..7)?;
    let is_date = matches!(&born[2..4], [b'0', b'1'..=b'9'] | [b'1', b'0'..=b'2'])
        && matches!(&born[4..], [b'0', b'1'..=b'9'] | [b'1' | b'2', _] | [b'3', b'0' | b'1']);
    let is_number = is_date && digits(born) == 6 && digits(number) == 7 && matches!(number[0], b'1'..=b'8');
    is_number.then(|| 13 + usize::from(rest.len() != without_one_of(rest, b"- ").len()))
}

/// Phone numbers. What overlaps is one.
fn phones(text: &str) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for (start, _) in text.bytes().enumerate().filter(|(_, byte)| matches!(byte, b'0' | b'+' | b'(')) {
        let at = start..start + phone(&text.as_bytes()[start..]).unwrap_or(0);
        if at.is_empty() || !stands_alone(text, &at) {
            continue;
        }
        match found.last_mut().filter(|last| at.start < last.end) {
            Some(last) => last.end = last.end.max(at.end),
            None => found.push(at),
        }
    }
    found
}

/// The length of the phone number that a text begins with, of nine to fifteen digits.
fn phone(text: &[u8]) -> Option<usize> {
    let length = |rest: &[u8]| Some(text.len() - rest.len()).filter(|end| (9..=15).contains(&digits(&text[..*end])));
    korean_phone(text).and_then(length).or_else(|| foreign_phone(text).and_then(length))
}

/// What follows a Korean mobile, area or service number, with or without +82.
fn korean_phone(text: &[u8]) -> Option<&[u8]> {
    let area = if let Some(rest) = text.strip_prefix(b"+82") {
        let rest = without_one_of(rest, b"-. ");
        rest.strip_prefix(b"(0)").unwrap_or_else(|| without_one_of(rest, b"0"))
    } else {
        without_one_of(text, b"(").strip_prefix(b"0")?
    };
    let behind_area = match area {
        [b'1', b'0' | b'1' | b'6'..=b'9', rest @ ..]
        | [b'2', rest @ ..]
        | [b'3', b'1'..=b'3', rest @ ..]
        | [b'4' | b'6', b'1'..=b'4', rest @ ..]
        | [b'5', b'1'..=b'5', rest @ ..]
        | [b'7' | b'8', b'0', rest @ ..]
        | [b'5', b'0', b'0'..=b'9', rest @ ..] => rest,
        _ => return None,
    };
    let number = without_one_of(without_one_of(behind_area, b")"), b"-. ");
    match run(number, 8) {
        both @ (7 | 8) => Some(&number[both..]),
        exchange @ (3 | 4) => {
            let line = without_one_of(&number[exchange..], b"-. ");
            (run(line, 4) == 4).then(|| &line[4..])
        }
        _ => None,
    }
}

/// What follows a number of another country: its code, and two to five groups of digits.
fn foreign_phone(text: &[u8]) -> Option<&[u8]> {
    let code = text.strip_prefix(b"+").filter(|code| run(code, 1) == 1 && code[0] != b'0')?;
    let behind_code = &code[run(code, 3)..];
    let mut rest = without_one_of(behind_code, b")");
    // A code in parentheses is followed by one group less.
    for groups in behind_code.len() - rest.len()..5 {
        let group = without_one_of(without_one_of(rest, b"-. "), b"(");
        match run(group, 4) {
            0 => return (groups >= 2).then_some(rest),
            length => rest = without_one_of(&group[length..], b")"),
        }
    }
    Some(rest)
}

/// The text without its first byte, if that is one of these.
fn without_one_of<'a>(text: &'a [u8], bytes: &[u8]) -> &'a [u8] {
    match text {
        [first, rest @ ..] if bytes.contains(first) => rest,
        _ => text,
    }
}

/// How many digits a text begins with, up to a maximum.
fn run(text: &[u8], maximum: usize) -> usize {
    text.iter().take(maximum).take_while(|byte| byte.is_ascii_digit()).count()
}

/// A digit of a text.
struct Digit {
    at: usize,
    /// Which run of digits with single spaces or hyphens between them it belongs to.
    run: usize,
    /// Luhn's sums of the digits before it: with those doubled that have an even index, and with the others doubled.
    sums: [u32; 2],
}

/// The digits of a text, and one behind them that ends the last run.
fn digits_in_runs(text: &str) -> Vec<Digit> {
    let (mut digits, mut run, mut sums): (Vec<Digit>, _, _) = (Vec::new(), 0, [0, 0]);
    for (at, byte) in text.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_digit()) {
        let between = digits.last().map(|last| &text.as_bytes()[last.at + 1..at]);
        run += usize::from(!matches!(between, Some([] | [b'-' | b' '])));
        let doubled = digits.len() % 2;
        digits.push(Digit { at, run, sums });
        let digit = u32::from(byte - b'0');
        sums[doubled] += if digit < 5 { 2 * digit } else { 2 * digit - 9 };
        sums[1 - doubled] += digit;
    }
    digits.push(Digit { at: text.len() + 1, run: run + 1, sums });
    digits
}

/// Card numbers: thirteen to nineteen digits, the last of which is Luhn's check digit. A run of digits may contain other
/// numbers too.
fn cards(text: &str) -> Vec<Range<usize>> {
    let digits = digits_in_runs(text);
    let is_between_groups = |index: usize| index == 0 || digits[index - 1].at + 1 < digits[index].at;
    let mut found: Vec<Range<usize>> = Vec::new();
    for (index, Digit { at, run, sums }) in digits.iter().enumerate() {
        if !matches!(text.as_bytes().get(*at), Some(b'2'..=b'6' | b'9')) || !is_between_groups(index) {
            continue;
        }
        let is_card = |end: &usize| {
            // Counted from the end, each second digit is doubled.
            let sum = |digits: &[u32; 2]| digits[end % 2];
            digits.get(end - 1).is_some_and(|last| last.run == *run)
                && is_between_groups(*end)
                && (sum(&digits[*end].sums) - sum(sums)).is_multiple_of(10)
        };
        if found.last().is_none_or(|last| last.end <= *at)
            && let Some(end) = (index + 13..=index + 19).rev().find(is_card)
        {
            found.push(*at..digits[end - 1].at + 1);
        }
    }
    found
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
