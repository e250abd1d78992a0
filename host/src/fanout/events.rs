//! What came over the bus, and the frames that clients see: each written once, whatever the number of sockets.

use std::borrow::Cow;
use std::fmt;

use arcyou_platform::contract::{Envelope, MESSAGE_CREATED};
use axum::extract::ws::Utf8Bytes;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::store::Seq;

/// The frame that shows a message as it happens; `message` is its object's JSON text.
pub(super) fn live_frame(conversation: Uuid, message: &str) -> Utf8Bytes {
    message_frame("live", conversation, message)
}

/// The frame that shows a message that was read from the store for a client that resumes.
pub fn backfill_frame(conversation: Uuid, message: &str) -> Utf8Bytes {
    message_frame("backfill", conversation, message)
}

fn message_frame(source: &str, conversation: Uuid, message: &str) -> Utf8Bytes {
    let mut buffer = Uuid::encode_buffer();
    let id: &str = conversation.hyphenated().encode_lower(&mut buffer);
    let mut frame = String::with_capacity(message.len() + 192);
    for part in [
        r#"{"op":"event","type":"message.created","source":""#,
        source,
        r#"","message":"#,
        message,
        r#","conversation_id":""#,
        id,
        r#"","conversationId":""#,
        id,
        r#""}"#,
    ] {
        frame.push_str(part);
    }
    frame.into()
}

/// The frame of any other event: the fields of an object payload stand beside those of the frame, which win; a payload
/// that is no object stands under `payload`.
pub(super) fn event_frame(id: i64, kind: &str, conversation: Uuid, payload: &str) -> Utf8Bytes {
    let mut buffer = Uuid::encode_buffer();
    let conversation: &str = conversation.hyphenated().encode_lower(&mut buffer);
    let mut frame = String::with_capacity(payload.len() + kind.len() + 192);
    frame.push_str(r#"{"op":"event","type":"#);
    push_string(&mut frame, kind);
    frame.push_str(r#","source":"live","event_id":"#);
    frame.push_str(&id.to_string());
    for part in [r#","conversation_id":""#, conversation, r#"","conversationId":""#, conversation, "\""] {
        frame.push_str(part);
    }
    match serde_json::from_str::<Fields<'_>>(payload) {
        Ok(Fields(fields)) => {
            for (name, value) in fields.iter().filter(|(name, _)| !RESERVED.contains(&name.as_ref())) {
                frame.push(',');
                push_string(&mut frame, name);
                frame.push(':');
                frame.push_str(value.get());
            }
        }
        Err(_) => {
            frame.push_str(r#","payload":"#);
            frame.push_str(payload);
        }
    }
    frame.push('}');
    frame.into()
}

const RESERVED: [&str; 6] = ["op", "type", "source", "event_id", "conversation_id", "conversationId"];

fn push_string(frame: &mut String, text: &str) {
    // Writing a string into memory cannot fail.
    frame.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// An object's fields in their order, undecoded.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            fields.push((name, map.next_value()?));
        }
        Ok(Fields(fields))
    }
}

/// A string that is borrowed when it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// What an envelope tells a room.
#[derive(Debug)]
pub(super) enum Incoming<'a> {
    /// A message with its place in the conversation.
    Message {
        /// The place.
        seq: Seq,
        /// The message object's text.
        message: &'a str,
        /// When it was stored, by the database's clock, in milliseconds since 1970.
        created_ms: Option<i64>,
    },
    /// Anything else; also a `message.created` of somebody else's making that names no place.
    Other,
}

/// Sorts an envelope. What is not a message as the gateway writes it is passed on as it is, like any other event.
pub(super) fn sort<'a>(envelope: &Envelope<'a>) -> Incoming<'a> {
    #[derive(Deserialize)]
    struct Created<'a> {
        #[serde(borrow)]
        message: &'a RawValue,
    }
    if envelope.kind != MESSAGE_CREATED {
        return Incoming::Other;
    }
    let Ok(Created { message }) = serde_json::from_str::<Created<'a>>(envelope.payload.get()) else {
        return Incoming::Other;
    };
    match serde_json::from_str::<Head<'_>>(message.get()) {
        Ok(Head { seq, created_at }) if seq > 0 => Incoming::Message {
            seq,
            message: message.get(),
            created_ms: created_at.and_then(|Name(text)| unix_millis(&text)),
        },
        _ => Incoming::Other,
    }
}

/// What the fan-out reads of a message.
#[derive(Deserialize)]
struct Head<'a> {
    seq: Seq,
    #[serde(borrow)]
    created_at: Option<Name<'a>>,
}

/// The user that a `participant.removed` names.
pub(super) fn removed_user(payload: &str) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Removed {
        user_id: Uuid,
    }
    serde_json::from_str::<Removed>(payload).ok().map(|removed| removed.user_id)
}

/// Milliseconds since 1970 of `YYYY-MM-DDTHH:MM:SS.mmmZ`, the one shape in which the database shows a time.
fn unix_millis(text: &str) -> Option<i64> {
    let bytes: &[u8; 24] = text.as_bytes().try_into().ok()?;
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (23, b'Z')];
    if marks.iter().any(|(at, mark)| bytes[*at] != *mark) {
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
    use serde_json::{Value, json};

    use super::*;

    const CONVERSATION: Uuid = Uuid::from_u128(7);

    fn parsed(frame: &Utf8Bytes) -> Value {
        serde_json::from_str(frame.as_str()).unwrap()
    }

    #[test]
    fn a_message_is_shown_as_documented() {
        let frame = backfill_frame(CONVERSATION, r#"{"id":1,"body":{"text":"é\"\n"}}"#);
        assert_eq!(
            parsed(&frame),
            json!({"op": "event", "type": "message.created", "source": "backfill", "message": {"id": 1, "body": {"text": "é\"\n"}},
                "conversation_id": CONVERSATION, "conversationId": CONVERSATION})
        );
    }

    #[test]
    fn an_events_fields_stand_beside_the_frames_own_which_win() {
        let payload = r#"{"user_id":"u","op":"send","event\u005fid":5,"pay\"load":[1, 2]}"#;
        assert_eq!(
            parsed(&event_frame(9, "a\"b", CONVERSATION, payload)),
            json!({"op": "event", "type": "a\"b", "source": "live", "event_id": 9, "user_id": "u", "pay\"load": [1, 2],
                "conversation_id": CONVERSATION, "conversationId": CONVERSATION})
        );
        for payload in ["null", "[1]", "\"x\"", "7"] {
            let frame = parsed(&event_frame(9, "x", CONVERSATION, payload));
            assert_eq!(frame["payload"], serde_json::from_str::<Value>(payload).unwrap());
        }
    }

    #[test]
    fn only_a_message_with_a_place_is_sequenced() {
        let sorted = |kind: &str, payload: &str| {
            let raw: &RawValue = serde_json::from_str(payload).unwrap();
            let envelope = Envelope { id: 1, kind: kind.into(), conversation_id: CONVERSATION, payload: raw };
            match sort(&envelope) {
                Incoming::Message { seq, created_ms, .. } => Some((seq, created_ms)),
                Incoming::Other => None,
            }
        };
        let made = r#"{"message":{"id":4,"seq":3,"body":{"seq":9},"created_at":"2026-03-01T00:00:00.250Z"}}"#;
        assert_eq!(sorted("message.created", made), Some((3, Some(1_772_323_200_250))));
        assert_eq!(sorted("message.created", r#"{"message":{"seq":3,"created_at":"then"}}"#), Some((3, None)));
        assert_eq!(sorted("message.other", made), None);
        for foreign in [r#"{"message":{"id":4}}"#, r#"{"message":{"seq":"3"}}"#, r#"{"message":{"seq":0}}"#, "[]", "7"]
        {
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
