//! Checks of text that comes from a plugin.

use std::borrow::Cow;

/// At most `max` bytes of a text, with control characters replaced by spaces. A plugin can therefore not forge a log
/// line, and the text has no U+0000, which PostgreSQL cannot store.
pub(crate) fn sanitize(text: &str, max: usize) -> Cow<'_, str> {
    let kept = &text[..text.floor_char_boundary(max)];
    if !kept.contains(|c: char| c.is_control()) {
        return Cow::Borrowed(kept);
    }
    Cow::Owned(kept.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

/// Whether a text is a stable token: `[a-z0-9_.-]`, 1 to 64 bytes.
pub(crate) fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clipped_text_has_no_control_characters_and_whole_characters() {
        assert_eq!(sanitize("fine 한", 100), "fine 한");
        assert_eq!(sanitize("한한", 4), "한");
        assert_eq!(sanitize("a\nb\0c\u{85}", 100), "a b c ");
    }

    #[test]
    fn tokens_are_short_lower_case_and_plain() {
        assert!(is_token("too_long.2-x"));
        assert!(!["", "Upper", "spa ce", "한", &"x".repeat(65)].iter().any(|text| is_token(text)));
    }
}
