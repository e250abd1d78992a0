//! What gateways and workers agree on: the channels of the bus, and the messages on them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

/// The channel of every event in [`PubSubMode::Global`].
pub const GLOBAL_CHANNEL: &str = "chat:message";
/// Gateways publish here, with any payload, after a commit that wrote to the outbox. Only a hint: workers also poll.
pub const WAKE_CHANNEL: &str = "outbox:wake";

/// The type of a stored message's event; its payload is `{"message": {…}}`.
pub const MESSAGE_CREATED: &str = "message.created";
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

/// The JSON text of an [`Envelope`]. `payload` must be JSON text; it is inserted unchanged and unchecked.
pub fn envelope_text(id: i64, kind: &str, conversation_id: Uuid, payload: &str) -> String {
    let kind = serde_json::Value::from(kind);
    format!(r#"{{"id":{id},"type":{kind},"conversation_id":"{conversation_id}","payload":{payload}}}"#)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

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
        fn an_envelope_is_read_as_it_was_written(id: i64, kind in ".*", conversation: u128, payload in payload()) {
            let payload = payload.to_string();
            let text = envelope_text(id, &kind, Uuid::from_u128(conversation), &payload);
            let read: Envelope<'_> = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read.id, id);
            prop_assert_eq!(read.kind.as_ref(), kind);
            prop_assert_eq!(read.conversation_id, Uuid::from_u128(conversation));
            prop_assert_eq!(read.payload.get(), payload);
        }
    }
}
