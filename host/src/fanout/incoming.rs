//! What came over the bus, sorted.

use std::borrow::Cow;

use arcyou_platform::contract::{CHANGES, Envelope, MESSAGE_CREATED};
use arcyou_protocol::Seq;
use serde::Deserialize;
use uuid::Uuid;

/// What an envelope tells a room.
#[derive(Debug)]
pub(super) enum Incoming {
    /// A change with its place in the conversation.
    Change {
        seq: Seq,
        /// When the message was stored that it creates, by the database's clock, in milliseconds since 1970.
        created_ms: Option<i64>,
    },
    /// Anything else; also what has a change's type and names no place.
    Other,
}

/// Sorts an envelope. What is not a change as the database writes it is passed on as it is, like any other event.
pub(super) fn sort(envelope: &Envelope<'_>) -> Incoming {
    if !CHANGES.contains(&&*envelope.kind) {
        return Incoming::Other;
    }
    match serde_json::from_str::<Change<'_>>(envelope.payload.get()) {
        Ok(Change { seq, message }) if seq > 0 => {
            let created = message.filter(|_| envelope.kind == MESSAGE_CREATED).and_then(|message| message.created_at);
            Incoming::Change { seq, created_ms: created.and_then(|Name(text)| unix_millis(&text)) }
        }
        _ => Incoming::Other,
    }
}

/// What the fan-out reads of a change.
#[derive(Deserialize)]
struct Change<'a> {
    seq: Seq,
    #[serde(borrow)]
    message: Option<Head<'a>>,
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    created_at: Option<Name<'a>>,
}

/// A string that is borrowed when it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// The user that an event about a participant names.
pub(super) fn concerned_user(payload: &str) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Concerned {
        user_id: Uuid,
    }
    serde_json::from_str::<Concerned>(payload).ok().map(|concerned| concerned.user_id)
}

/// Milliseconds since 1970 of `YYYY-MM-DDTHH:MM:SS.mmmZ`, the one shape in which the database shows a time.
fn unix_millis(text: &str) -> Option<i64> {
    let bytes: &[u8; 24] = text.as_bytes().try_into().ok()?;
    let watermarks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (23, b'Z')];
    if watermarks.iter().any(|(at, mark)| bytes[*at] != *mark) {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<i64> { text.get(range)?.parse().ok() };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    // Days since 1970 in the Gregorian calendar, counting years from March so that the leap day comes last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let seconds = ((days * 24 + number(11..13)?) * 60 + number(14..16)?) * 60 + number(17..19)?;
    Some(seconds * 1000 + number(20..23)?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    const CONVERSATION: Uuid = Uuid::from_u128(7);

    #[test]
    fn only_a_change_with_a_place_is_sequenced() {
        let sorted = |kind: &str, payload: &str| {
            let raw: &RawValue = serde_json::from_str(payload).unwrap();
            let envelope = Envelope { id: 1, kind: kind.into(), conversation_id: CONVERSATION, payload: raw };
            match sort(&envelope) {
                Incoming::Change { seq, created_ms } => Some((seq, created_ms)),
                Incoming::Other => None,
            }
        };
        let made = r#"{"seq":3,"message":{"id":4,"seq":2,"body":{"seq":9},"created_at":"2026-03-01T00:00:00.250Z"}}"#;
        assert_eq!(sorted("message.created", made), Some((3, Some(1_772_323_200_250))));
        assert_eq!(sorted("message.edited", made), Some((3, None)), "its message is older than it");
        assert_eq!(sorted("message.created", r#"{"seq":3,"message":{"created_at":"then"}}"#), Some((3, None)));
        assert_eq!(sorted("reaction.added", r#"{"seq":3,"message_id":4}"#), Some((3, None)));
        assert_eq!(sorted("message.other", made), None);
        for foreign in [r#"{"message":{"seq":4}}"#, r#"{"seq":"3"}"#, r#"{"seq":0}"#, "[]", "7"] {
            assert_eq!(sorted("message.created", foreign), None, "{foreign}");
        }
    }

    #[test]
    fn times_are_read_in_the_databases_shape_only() {
        assert_eq!(unix_millis("1970-01-01T00:00:00.001Z"), Some(1));
        assert_eq!(unix_millis("2000-02-29T12:34:56.789Z"), Some(951_827_696_789));
        for text in ["", "1970-01-01 00:00:00.001Z", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.0é"] {
            assert_eq!(unix_millis(text), None, "{text}");
        }
    }
}
