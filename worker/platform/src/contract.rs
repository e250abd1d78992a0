//! What gateways and workers agree on: the channels of the bus, and the messages on them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// The channel of every event in [`PubSubMode::Global`].
pub const GLOBAL_CHANNEL: &str = "chat:message";
/// Gateways publish here, with any payload, after a commit that wrote to the outbox. Only a hint: workers also poll.
pub const WAKE_CHANNEL: &str = "outbox:wake";

/// The types of the events that tell of a conversation's changes. Their payloads have the change's `seq`, and are of
/// the database's making alone: it lets nobody else write events of these types.
pub const CHANGES: [&str; 5] = [MESSAGE_CREATED, MESSAGE_EDITED, MESSAGE_DELETED, REACTION_ADDED, REACTION_REMOVED];
/// A message was stored; the payload is `{"seq": …, "message": {…}}`.
pub const MESSAGE_CREATED: &str = "message.created";
/// A message has another body; the payload is `{"seq": …, "user_id": …, "message": {…}}`. Of an edit that a later
/// change has overtaken it is `{"seq": …, "user_id": …, "message_id": …, "overtaken": true}`.
pub const MESSAGE_EDITED: &str = "message.edited";
/// A message was deleted; the payload is `{"seq": …, "user_id": …, "message": {…}}`.
pub const MESSAGE_DELETED: &str = "message.deleted";
/// A message was given a reaction; the payload is
/// `{"seq": …, "user_id": …, "message_id": …, "reaction": …, "count": …}`, or that of an overtaken edit.
pub const REACTION_ADDED: &str = "reaction.added";
/// A reaction was taken away; the payload is like that of [`REACTION_ADDED`].
pub const REACTION_REMOVED: &str = "reaction.removed";
/// The type of the event that a user has become a participant; its payload is `{"user_id": …, "role": …}`.
pub const PARTICIPANT_ADDED: &str = "participant.added";
/// The type of the event that a user is no longer a participant; its payload is `{"user_id": …}`.
pub const PARTICIPANT_REMOVED: &str = "participant.removed";
/// The type of the event that a participant has another role; its payload is `{"user_id": …, "role": …}`.
pub const PARTICIPANT_ROLE_CHANGED: &str = "participant.role_changed";
/// The type of the event that a conversation was deleted; its payload is `{}`.
pub const CONVERSATION_DELETED: &str = "conversation.deleted";
/// The type of the event that a user's read mark moved; its payload is `{"user_id": …, "last_read_id": …}`.
pub const MESSAGE_READ: &str = "message.read";

/// Which channel an event is published on. All workers and gateways of an installation must use the same mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PubSubMode {
    /// One channel, [`GLOBAL_CHANNEL`]: every gateway receives every event.
    #[default]
    Global,
    /// One channel per conversation: a gateway subscribes to those that its clients have joined.
    PerConversation,
    /// One sharded channel (`SPUBLISH`) per conversation, and a sharded [`WAKE_CHANNEL`]. Each node of a Redis Cluster
    /// carries only the channels whose names hash to its slots.
    Sharded,
}

impl PubSubMode {
    /// The channel of a conversation's events.
    pub fn channel(self, conversation: Uuid) -> String {
        match self {
            Self::Global => GLOBAL_CHANNEL.to_owned(),
            Self::PerConversation | Self::Sharded => format!("conv:{conversation}"),
        }
    }
}

impl fmt::Display for PubSubMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Global => "global",
            Self::PerConversation => "perconv",
            Self::Sharded => "sharded",
        })
    }
}

/// The text is not the name of a [`PubSubMode`].
#[derive(Debug, thiserror::Error)]
#[error("expected `global`, `perconv` or `sharded`")]
pub struct UnknownMode;

impl FromStr for PubSubMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        match text {
            "global" => Ok(Self::Global),
            "perconv" => Ok(Self::PerConversation),
            "sharded" => Ok(Self::Sharded),
            _ => Err(UnknownMode),
        }
    }
}

/// Reads the secret of an [`EventKey`]. The server and the database are a part of it, so that a copy made by dump and
/// restore is another installation; a standby that takes over is the same one.
pub const READ_EVENT_KEY: &str = "
SELECT event_key || int8send(system_identifier) || oidsend(d.oid)
FROM installation, pg_control_system(), pg_database d WHERE d.datname = current_database()";

/// What an event's mark begins and ends with, around its text.
const MARK_BEGINS: &[u8] = b",\"mark\":\"";
const MARK_ENDS: &[u8] = b"\"}";
/// A mark has 128 bits, in base64 without padding: half of SHA-256, as RFC 2104 (5) allows.
const MARK_BYTES: usize = 16;
const MARK_CHARS: usize = 22;

/// A secret that the workers and gateways of one installation share, and that only the database keeps. Workers mark
/// what they publish with it (HMAC-SHA256), and gateways drop what has no such mark: whoever may publish to Redis, but
/// not read this secret, can forge nothing.
#[derive(Clone)]
pub struct EventKey(hmac::Key);

impl EventKey {
    /// The key of this secret.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A name of the installation, which does not tell its key.
    pub fn installation(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.mark(b"installation"))
    }

    fn mark(&self, text: &[u8]) -> [u8; MARK_BYTES] {
        let mut mark = [0; MARK_BYTES];
        mark.copy_from_slice(&hmac::sign(&self.0, text).as_ref()[..MARK_BYTES]);
        mark
    }

    /// Whether this was published by a holder of the key: it is an [`envelope_text`], unchanged.
    pub fn is_genuine(&self, published: &[u8]) -> bool {
        let marked = || {
            let (text, mark) = published
                .split_at_checked(published.len().checked_sub(MARK_BEGINS.len() + MARK_CHARS + MARK_ENDS.len())?)?;
            let mark = mark.strip_prefix(MARK_BEGINS)?.strip_suffix(MARK_ENDS)?;
            let mark: [u8; MARK_BYTES] = URL_SAFE_NO_PAD.decode(mark).ok()?.try_into().ok()?;
            verify_slices_are_equal(&mark, &self.mark(text)).ok()
        };
        marked().is_some()
    }
}

impl fmt::Debug for EventKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventKey")
    }
}

/// An event as it is published: an outbox row, its payload not decoded.
#[derive(Debug, Clone, Deserialize)]
pub struct Envelope<'a> {
    /// The outbox row's id. The same event may arrive more than once, always with this id.
    pub id: i64,
    /// The outbox row's `type`.
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    /// The conversation that the event belongs to.
    pub conversation_id: Uuid,
    /// Any JSON value.
    #[serde(borrow)]
    pub payload: &'a RawValue,
}

/// The JSON text of an [`Envelope`], with the key's `mark` as its last member. `payload` must be JSON text; it is
/// inserted unchanged and unchecked.
pub fn envelope_text(key: &EventKey, id: i64, kind: &str, conversation_id: Uuid, payload: &str) -> String {
    let kind = serde_json::Value::from(kind);
    let mut text = format!(r#"{{"id":{id},"type":{kind},"conversation_id":"{conversation_id}","payload":{payload}"#);
    let mark = key.mark(text.as_bytes());
    text.push_str(",\"mark\":\"");
    URL_SAFE_NO_PAD.encode_string(mark, &mut text);
    text.push_str("\"}");
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    /// RFC 4231, test case 2.
    #[test]
    fn the_mark_is_half_of_an_hmac() {
        let mark = EventKey::new(b"Jefe").mark(b"what do ya want for nothing?");
        assert_eq!(mark, 0x5bdc_c146_bf60_754e_6a04_2426_0895_75c7_u128.to_be_bytes());
    }

    #[test]
    fn modes_read_as_they_are_written() {
        for mode in [PubSubMode::Global, PubSubMode::PerConversation, PubSubMode::Sharded] {
            assert_eq!(mode.to_string().parse::<PubSubMode>().unwrap(), mode);
        }
        assert!("GLOBAL".parse::<PubSubMode>().is_err());
    }

    #[test]
    fn channels_are_those_of_the_original() {
        let id = Uuid::parse_str("0190A0B0-0000-7000-8000-00000000ABCD").unwrap();
        assert_eq!(PubSubMode::Global.channel(id), "chat:message");
        for mode in [PubSubMode::PerConversation, PubSubMode::Sharded] {
            assert_eq!(mode.channel(id), "conv:0190a0b0-0000-7000-8000-00000000abcd");
        }
    }

    fn payload() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            ".*".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::btree_map(".*", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_changed_is_not_genuine(at: prop::sample::Index, flip in 1..=255_u8) {
            let key = EventKey::new(b"secret");
            let text = envelope_text(&key, 7, MESSAGE_CREATED, Uuid::from_u128(1), r#"{"message":{"seq":3}}"#);
            prop_assert!(!EventKey::new(b"another").is_genuine(text.as_bytes()));
            let mut changed = text.into_bytes();
            let at = at.index(changed.len());
            prop_assert!(!key.is_genuine(&changed[..at]));
            changed[at] ^= flip;
            prop_assert!(!key.is_genuine(&changed));
        }

        #[test]
        fn an_envelope_is_read_as_it_was_written(id: i64, kind in ".*", conversation: u128, payload in payload()) {
            let payload = payload.to_string();
            let key = EventKey::new(b"secret");
            let text = envelope_text(&key, id, &kind, Uuid::from_u128(conversation), &payload);
            prop_assert!(key.is_genuine(text.as_bytes()));
            let read: Envelope<'_> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read.id, id);
            prop_assert_eq!(read.kind.as_ref(), kind);
            prop_assert_eq!(read.conversation_id, Uuid::from_u128(conversation));
            prop_assert_eq!(read.payload.get(), payload);
        }
    }
}
