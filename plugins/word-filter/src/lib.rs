//! Masks, rejects or holds listed words, in any case and in any Unicode spelling. The rest of the text stays unchanged. A
//! text with thousands of ligatures, each of which stands for several letters, is rejected too.
//!
//! An edit is judged by its whole text, so that no word comes in by parts; one that keeps a word to hold is held again,
//! since another sentence around it is another message.

mod folded;

use aho_corasick::AhoCorasick;
use arcyou_plugin_sdk::{Filter, Message, Plugin, Verdict};
use folded::{Folded, fold, is_in_normal_form};

/// The table `[plugin.config]`.
#[derive(serde::Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Words to replace with asterisks.
    mask: Vec<String>,
    /// Words for which the message is rejected.
    reject: Vec<String>,
    /// Words for which the message is held for review, as it was written.
    hold: Vec<String>,
    /// Whether words are found inside other words: `ass` in `class`. In Korean, Japanese and Chinese they always are.
    inside_words: bool,
}

/// The plugin, with an index of its words.
pub struct WordFilter {
    config: Config,
    words: AhoCorasick,
}

impl Plugin for WordFilter {
    type Config = Config;

    fn new(config: Config) -> Result<Self, String> {
        let fold = |word: &String| fold(word).map_err(|_| format!("the word {word:?} has too many ligatures"));
        let words: Vec<_> =
            config.mask.iter().chain(&config.hold).chain(&config.reject).map(fold).collect::<Result<_, _>>()?;
        if words.iter().any(|word| word.is_empty()) {
            return Err("`mask`, `reject` and `hold` must not contain empty words".into());
        }
        let words = AhoCorasick::builder().ascii_case_insensitive(true).build(&words);
        Ok(Self { words: words.map_err(|error| format!("too many words: {error}"))?, config })
    }
}

impl Filter for WordFilter {
    fn filter(&self, message: &Message) -> Verdict {
        let Some(text) = message.text("text") else { return Verdict::accept() };
        // Most texts contain none of the words, and need no positions.
        if is_in_normal_form(&text) && !self.words.is_match(&text) {
            return Verdict::accept();
        }
        let Ok(folded) = Folded::new(&text) else {
            return Verdict::reject("too_many_ligatures", "the message has too many characters that stand for several");
        };
        // One more where a match begins, one less where it ends: overlapping matches cost no more than others.
        let (mut edges, mut matches, mut is_held) = (vec![0_i32; folded.places.len() + 1], false, false);
        let (masked_words, held_words) = (self.config.mask.len(), self.config.hold.len());
        let found = self.words.find_overlapping_iter(&folded.text).map(|found| (found.pattern(), found.range()));
        for (word, covered) in folded.covered(found, self.config.inside_words) {
            if word.as_usize() >= masked_words + held_words {
                return Verdict::reject("forbidden_word", "the message contains a word that is not allowed here");
            }
            is_held |= word.as_usize() >= masked_words;
            matches = true;
            edges[covered.start] += 1;
            edges[covered.end] -= 1;
        }
        if is_held {
            return Verdict::hold("the message contains a word that somebody must look at");
        }
        if !matches {
            return Verdict::accept();
        }
        let (masked, count) = masked(&text, &folded.places, &edges);
        message.replace_field("text", &masked).annotate("masked_characters", count.to_string())
    }
}

/// The text with an asterisk for each place that lies between the edges of a match, and how many these are.
fn masked(text: &str, places: &[(usize, usize)], edges: &[i32]) -> (String, usize) {
    let (mut masked, mut copied, mut depth, mut count) = (String::with_capacity(text.len()), 0, 0, 0);
    for ((start, end), edge) in places.iter().zip(edges) {
        depth += edge;
        // Several pieces may come from one place.
        if depth > 0 && copied <= *start {
            masked.extend([&text[copied..*start], "*"]);
            (copied, count) = (*end, count + 1);
        }
    }
    (masked + &text[copied..], count)
}

arcyou_plugin_sdk::export!(WordFilter: filter);

#[cfg(test)]
mod tests {
    use arcyou_plugin_sdk::Outcome;
    use arcyou_plugin_sdk::testing::{check_cases, message, plugin, try_plugin};
    use serde_json::{Value, json};
    use unicode_normalization::UnicodeNormalization;

    use super::*;

    fn filter(config: Value, text: &str) -> Verdict {
        plugin::<WordFilter>(config).filter(&message(json!({"text": text, "n": 1})))
    }

    /// The text after a filter has masked these words.
    fn mask(words: &[&str], text: &str) -> String {
        let verdict = filter(json!({"mask": words}), text);
        let body = verdict.replacement().unwrap_or_else(|| json!({"text": text}));
        body["text"].as_str().unwrap_or_default().to_owned()
    }

    #[test]
    fn the_cases_hold() {
        check_cases::<WordFilter>(include_str!("../cases.toml"));
    }

    #[test]
    fn masks_in_any_case_and_leaves_the_rest_alone() {
        assert_eq!(mask(&["badword"], "You BadWord,  you!\tÉté e\u{301}"), "You *******,  you!\tÉté e\u{301}");
        assert_eq!(mask(&["STRASSE"], "die Straße."), "die ******.");
        assert_eq!(mask(&["οδος"], "ΟΔΟΣ οδός οδος"), "**** οδός ****");
        assert_eq!(mask(&["bad"], "ＢＡＤ b\u{200b}a\u{ad}d"), "*** *\u{200b}*\u{ad}*");
        assert_eq!(mask(&["a", "ab"], "ab a"), "** *");
        assert_eq!(mask(&["bad"], "fine"), "fine");
    }

    #[test]
    fn korean_matches_composed_and_decomposed() {
        let decomposed: String = "바보".nfd().collect();
        assert_ne!(decomposed, "바보");
        for word in ["바보", &decomposed] {
            assert_eq!(mask(&[word], "이 바보야!"), "이 **야!");
            assert_eq!(mask(&[word], &format!("이 {decomposed}야 Ａ")), "이 **야 Ａ");
            assert_eq!(mask(&[word], "바봉 버보"), "바봉 버보");
            assert_eq!(mask(&[word], &"바봉".nfd().collect::<String>()), "바봉".nfd().collect::<String>());
            assert_eq!(mask(&[word], "ㅂㅏ보 ㅂㅏㅂㅗ ㅂㅗㅂㅗ ㅠㅠ"), "** ** ㅂㅗㅂㅗ ㅠㅠ");
        }
        assert_eq!(mask(&["badword"], "그badword는"), "그*******는");
        assert_eq!(mask(&["ㅅㅂ", "ㅠㅠ"], "ㅅㅂ 사바 ㅅ바 ㅠㅠㅠ…"), "** 사바 ㅅ바 ***…");
    }

    #[test]
    fn words_inside_words_count_only_if_asked() {
        assert_eq!(mask(&["ass"], "class ass, passé"), "class ***, passé");
        assert_eq!(mask(&["fe"], "cafe\u{301}fe"), "cafe\u{301}fe");
        assert!(filter(json!({"reject": ["ass"]}), "class").is_accept());
        assert_eq!(filter(json!({"reject": ["ass"], "inside_words": true}), "class").code(), Some("forbidden_word"));
    }

    #[test]
    fn rejects_and_keeps_other_fields() {
        assert_eq!(filter(json!({"reject": ["forbidden"]}), "so FORBIDDEN!").code(), Some("forbidden_word"));
        let verdict = filter(json!({"mask": ["bad"]}), "bad");
        assert_eq!(verdict.replacement(), Some(json!({"text": "***", "n": 1})));
        assert_eq!(verdict.annotations()[0].value, "3");
        assert!(plugin::<WordFilter>(json!({"mask": ["7"]})).filter(&message(json!({"text": 7}))).is_accept());
    }

    #[test]
    fn holds_unless_another_word_is_a_reason_to_reject() {
        let config = json!({"mask": ["bad"], "hold": ["secret"], "reject": ["forbidden"]});
        assert!(matches!(filter(config.clone(), "a bad Secret").outcome(), Outcome::Hold(_)));
        assert_eq!(filter(config.clone(), "secret and forbidden").code(), Some("forbidden_word"));
        assert!(filter(config.clone(), "secretary").is_accept());
        assert_eq!(filter(config, "bad").replacement(), Some(json!({"text": "***", "n": 1})));
    }

    #[test]
    fn mistakes_in_the_configuration_are_reported() {
        assert!(try_plugin::<WordFilter>(json!({"masks": []})).is_err_and(|error| error.contains("masks")));
        assert!(try_plugin::<WordFilter>(json!({"mask": ["\u{200b}"]})).is_err_and(|error| error.contains("empty")));
    }
}
