//! Text in a normal form for comparing words, with the positions in the original.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{decompose_compatible, is_combining_mark};

/// A text has more characters that stand for several than anybody writes: ligatures, units in one character. Each may
/// become eighteen, so that a text of nothing else would cost as much as a text of many times its length.
#[derive(Debug)]
pub(crate) struct TooManyLigatures;

/// How many characters the normal form of a text of this length may have more than the text.
fn max_added(bytes: usize) -> usize {
    1024 + bytes / 8
}

/// The normal form of a word: composed, and in one case. ASCII keeps its case, which the search ignores.
pub(crate) fn fold(original: &str) -> Result<String, TooManyLigatures> {
    Folded::new(original).map(|folded| folded.text)
}

/// Whether a text is its own normal form, as most are.
pub(crate) fn is_in_normal_form(text: &str) -> bool {
    text.chars().all(is_folded)
}

/// A text in normal form, with the origin of each piece.
#[derive(Default)]
pub(crate) struct Folded {
    pub(crate) text: String,
    /// The start of each piece in `text`; the last entry is the end of `text`.
    begins: Vec<usize>,
    /// The range of the user-perceived character in the original that each piece comes from.
    pub(crate) places: Vec<(usize, usize)>,
}

impl Folded {
    pub(crate) fn new(original: &str) -> Result<Self, TooManyLigatures> {
        let mut folded = Self::default();
        fold_each(original, |c, place| folded.push(c, place))?;
        folded.begins.push(folded.text.len());
        Ok(folded)
    }

    fn push(&mut self, c: char, place: (usize, usize)) {
        if !continues(c) || self.places.last() != Some(&place) {
            self.begins.push(self.text.len());
            self.places.push(place);
        }
        self.text.push(c);
    }

    /// The indices of the places that each match covers, in the order of their ends. Left out are matches that begin or
    /// end inside a character, and those inside a word where only whole words count.
    pub(crate) fn covered<T>(
        &self,
        matches: impl Iterator<Item = (T, Range<usize>)>,
        inside_words: bool,
    ) -> impl Iterator<Item = (T, Range<usize>)> {
        let mut end = 0;
        matches.filter_map(move |(what, found)| {
            end += self.begins[end..].iter().take_while(|begin| **begin < found.end).count();
            // A match has as many pieces as bytes at most.
            let pieces = &self.begins[end.saturating_sub(found.len())..=end];
            let first = end + 1 - pieces.len() + pieces.binary_search(&found.start).ok()?;
            let is_whole = || self.is_edge_of_word(found.start) && self.is_edge_of_word(found.end);
            (self.begins[end] == found.end && (inside_words || is_whole())).then_some((what, first..end))
        })
    }

    fn is_edge_of_word(&self, at: usize) -> bool {
        let (before, after) = self.text.split_at(at);
        !before.chars().next_back().is_some_and(is_spaced) || !after.chars().next().is_some_and(is_spaced)
    }
}

/// Calls `each` for every character of the normal form, with the range of the original character that it comes from.
fn fold_each(original: &str, mut each: impl FnMut(char, (usize, usize))) -> Result<(), TooManyLigatures> {
    let mut may_add = max_added(original.len());
    let mut chars = original.char_indices().peekable();
    while let Some((start, first)) = chars.next() {
        let joins = |c| continues(c) || is_jamo_consonant(first) && is_jamo_vowel(c);
        let rest = std::iter::from_fn(|| chars.next_if(|(_, c)| joins(*c))).last();
        let end = rest.map_or(start + first.len_utf8(), |(at, last)| at + last.len_utf8());
        if rest.is_none() && is_folded(first) {
            each(first, (start, end));
            continue;
        }
        let mut count = 0_usize;
        let mut each = |c: char| {
            // Characters that hide inside words are dropped: soft hyphens, zero-width spaces and joiners.
            if matches!(c, '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}') {
                return;
            }
            // Upper case comes first: it unites characters that lower case alone keeps apart, ς and σ, ß and ss.
            for c in c.to_uppercase().flat_map(char::to_lowercase) {
                count += 1;
                each(c, (start, end));
            }
        };
        let piece = &original[start..end];
        if rest.is_none() && is_own_decomposition(first) {
            each(first);
        } else {
            piece.nfkc().for_each(&mut each);
        }
        may_add = may_add.checked_sub(count.saturating_sub(piece.chars().count())).ok_or(TooManyLigatures)?;
    }
    Ok(())
}

/// Whether a character stays what it is in every normal form. Most do, and to ask costs a tenth of finding out.
fn is_own_decomposition(c: char) -> bool {
    let mut is_own = true;
    decompose_compatible(c, |part| is_own &= part == c);
    is_own
}

/// Accents, and the later letters of a decomposed Korean syllable. They belong to the character before.
fn continues(c: char) -> bool {
    c >= '\u{300}' && (is_combining_mark(c) || matches!(c, '\u{1160}'..='\u{11ff}'))
}

/// Separate Korean consonants, which form a syllable with a vowel that follows: ㅂㅏ is 바.
fn is_jamo_consonant(c: char) -> bool {
    matches!(c, '\u{3131}'..='\u{314e}')
}

fn is_jamo_vowel(c: char) -> bool {
    matches!(c, '\u{314f}'..='\u{3163}')
}

/// Unchanged characters: ASCII, and the usual characters of Korean, Japanese and Chinese, unless an accent follows.
fn is_folded(c: char) -> bool {
    c.is_ascii() || matches!(c, '가'..='힣' | 'ぁ'..='ゖ' | 'ァ'..='ー' | '\u{4e00}'..='\u{9fff}')
}

/// Letters and digits of scripts that separate words with spaces; not those of Korean, Japanese and Chinese.
fn is_spaced(c: char) -> bool {
    let is_hangul = matches!(c, '\u{1100}'..='\u{11ff}' | '\u{a960}'..='\u{a97f}' | '\u{ac00}'..='\u{d7ff}');
    let is_cjk = matches!(c, '\u{2e80}'..='\u{a4cf}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..);
    !is_hangul && !is_cjk && (c.is_alphanumeric() || is_combining_mark(c))
}
