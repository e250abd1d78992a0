//! Frames that clients get without a request. Each is written once, for any number of sockets.

use std::borrow::Cow;
use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::text::Text;

/// The frame for a change as it happens: `kind` is its event's `type`, and `payload` the text of an object of the
/// database's making, with the change's `seq`.
pub fn live_frame(conversation: Uuid, kind: &str, payload: &str) -> String {
    change_frame("live", conversation, kind, payload)
}

/// The frame for a change that a resuming client missed.
pub fn backfill_frame(conversation: Uuid, kind: &str, payload: &str) -> String {
    change_frame("backfill", conversation, kind, payload)
}

fn change_frame(source: &str, conversation: Uuid, kind: &str, payload: &str) -> String {
    let mut buffer = Uuid::encode_buffer();
    let id: &str = conversation.hyphenated().encode_lower(&mut buffer);
    let mut frame = String::with_capacity(payload.len() + 192);
    for part in [
        r#"{"op":"event","type":""#,
        kind,
        r#"","source":""#,
        source,
        r#"","conversation_id":""#,
        id,
        r#"","conversationId":""#,
        id,
        r#"","#,
        payload.strip_prefix('{').unwrap_or(payload),
    ] {
        frame.push_str(part);
    }
    frame
}

/// Who made the change that a [`live_frame`] or a [`backfill_frame`] tells of.
pub fn author_of(frame: &str) -> Option<Uuid> {
    #[derive(Deserialize)]
    struct Event {
        user_id: Option<Uuid>,
        message: Option<Message>,
    }
    #[derive(Deserialize)]
    struct Message {
        sender_id: Uuid,
    }
    let event = serde_json::from_str::<Event>(frame).ok()?;
    event.user_id.or(event.message.map(|message| message.sender_id))
}

/// A change's frame as the socket gets it that made the change: with the `temp_id` of its request, which is raw JSON.
pub fn with_temp_id(frame: &str, temp_id: &str) -> String {
    let fields = frame.strip_suffix('}').unwrap_or(frame);
    [fields, r#","temp_id":"#, temp_id, "}"].concat()
}

/// The frame for any other event. The fields of a payload that is an object are added to those of the frame, unless one
/// of them says something else than the frame, or is a `seq`, which is the place of a change alone. Then the whole
/// payload is added as `payload`, and so is any that is no object.
pub fn event_frame(id: i64, kind: &str, conversation: Uuid, payload: &str) -> String {
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
    let before = [&frame, "}"].concat();
    let own = serde_json::from_str::<Fields<'_>>(&before).map(|Fields(own)| own).unwrap_or_default();
    let in_frame = |name: &str| own.iter().find(|(known, _)| known == name).map(|(_, value)| value.get());
    let contradicts = |(name, value): &(Cow<'_, str>, &RawValue)| {
        name == "seq" || in_frame(name).is_some_and(|known| known != value.get())
    };
    match serde_json::from_str::<Fields<'_>>(payload) {
        Ok(Fields(fields)) if !fields.iter().any(contradicts) => {
            for (name, value) in fields.iter().filter(|(name, _)| in_frame(name).is_none()) {
                frame.push(',');
                push_string(&mut frame, name);
                frame.push(':');
                frame.push_str(value.get());
            }
        }
        _ => {
            frame.push_str(r#","payload":"#);
            frame.push_str(payload);
        }
    }
    frame.push('}');
    frame
}

fn push_string(frame: &mut String, text: &str) {
    // Serialising a string into memory cannot fail.
    frame.push_str(&serde_json::to_string(text).unwrap_or_default());
}

/// An object's fields in order, not parsed yet.
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
        while let Some(Text(name)) = map.next_key()? {
            fields.push((name, map.next_value()?));
        }
        Ok(Fields(fields))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const CONVERSATION: Uuid = Uuid::from_u128(7);

    fn parsed(frame: &str) -> Value {
        serde_json::from_str(frame).unwrap()
    }

    #[test]
    fn a_change_is_shown_as_documented() {
        let payload = r#"{"seq": 3, "message": {"id":1,"body":{"text":"é\"\n"}}}"#;
        let frame = backfill_frame(CONVERSATION, "message.edited", payload);
        assert_eq!(
            parsed(&frame),
            json!({"op": "event", "type": "message.edited", "source": "backfill", "seq": 3,
                "message": {"id": 1, "body": {"text": "é\"\n"}},
                "conversation_id": CONVERSATION, "conversationId": CONVERSATION})
        );
    }

    #[test]
    fn the_socket_of_who_made_a_change_finds_it() {
        let (sender, other) = (Uuid::from_u128(9), Uuid::from_u128(10));
        let body = format!(r#"{{"sender_id":"{}","user_id":"{}"}}"#, Uuid::nil(), Uuid::nil());
        let message = format!(r#"{{"id": 1, "body": {body}, "sender_id": "{sender}"}}"#);
        let frame = live_frame(CONVERSATION, "message.created", &format!(r#"{{"seq": 1, "message": {message}}}"#));
        assert_eq!(author_of(&frame), Some(sender));
        let deleted = format!(r#"{{"seq": 2, "user_id": "{other}", "message": {message}}}"#);
        assert_eq!(author_of(&live_frame(CONVERSATION, "message.deleted", &deleted)), Some(other));
        let marked = parsed(&with_temp_id(&frame, r#""t\"}""#));
        assert_eq!((marked["temp_id"].as_str(), &marked["message"]), (Some("t\"}"), &parsed(&frame)["message"]));
        assert_eq!(author_of(r#"{"message":{"sender_id":"somebody"}}"#), None);
    }

    #[test]
    fn an_events_fields_stand_beside_the_frames_own() {
        let payload =
            format!(r#"{{"user_id":"u","event\u005fid":9,"conversation_id":"{CONVERSATION}","pay\"load":[1, 2]}}"#);
        let frame = event_frame(9, "a\"b", CONVERSATION, &payload);
        assert_eq!(
            parsed(&frame),
            json!({"op": "event", "type": "a\"b", "source": "live", "event_id": 9, "user_id": "u", "pay\"load": [1, 2],
                "conversation_id": CONVERSATION, "conversationId": CONVERSATION})
        );
        assert_eq!(frame.matches("event_id").count(), 1);
    }

    #[test]
    fn a_payload_that_would_contradict_its_event_is_whole() {
        for payload in [
            "null",
            "[1]",
            "\"x\"",
            "7",
            r#"{"type":"other","a":1}"#,
            r#"{"event\u005fid":5}"#,
            r#"{"source":"history"}"#,
            r#"{"op":"send"}"#,
            r#"{"seq":3,"a":1}"#,
            r#"{"conversationId":"7"}"#,
        ] {
            let frame = parsed(&event_frame(9, "x", CONVERSATION, payload));
            assert_eq!(frame["payload"], serde_json::from_str::<Value>(payload).unwrap());
            assert_eq!(
                (frame["type"].as_str(), frame.get("seq"), frame.get("a")),
                (Some("x"), None, None),
                "{payload}"
            );
        }
    }
}
