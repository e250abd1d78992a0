//! The frames of replies and failures.

use serde::ser::{Error as _, SerializeMap};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::body::Body;
use crate::client::{Echo, Op};
use crate::server::{EditStatus, Failure, Joined, Reply, SendStatus};

impl Failure {
    /// The frame of this failure; `op` is the request's, or `error`.
    pub fn encode(&self, op: &str, echo: &Echo) -> String {
        Framed { op, success: false, fields: self, echo }.encode()
    }
}

impl Fields for Failure {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        map.serialize_entry("code", self.code.value())?;
        map.serialize_entry("error", &self.text)?;
        for (name, value) in [("plugin", self.plugin.as_deref()), ("reject_code", self.reject_code.as_deref())] {
            if let Some(value) = value {
                map.serialize_entry(name, value)?;
            }
        }
        if let Some(conversation) = &self.conversation {
            write_conversation_id(map, conversation)?;
        }
        if let Some(version) = self.version {
            map.serialize_entry("version", &version)?;
        }
        if let Some(wait) = self.retry_after_ms {
            map.serialize_entry("retry_after_ms", &wait)?;
        }
        Ok(())
    }
}

impl Reply {
    /// The frame of this reply.
    pub fn encode(&self, echo: &Echo) -> String {
        Framed { op: self.op().value(), success: true, fields: self, echo }.encode()
    }

    const fn op(&self) -> Op {
        match self {
            Self::Auth { .. } => Op::Auth,
            Self::Ping => Op::Ping,
            Self::Join(_) | Self::JoinList(_) => Op::Join,
            Self::Leave { .. } => Op::Leave,
            Self::Send { .. } => Op::Send,
            Self::Edit { .. } => Op::Edit,
            Self::Delete { .. } => Op::Delete,
            Self::React { .. } => Op::React,
            Self::Ack { .. } => Op::Ack,
            Self::History(_) => Op::History,
        }
    }
}

impl Fields for Reply {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        match self {
            Self::Auth { user, subject, limits } => {
                map.serialize_entry("userId", user)?;
                if let Some(subject) = subject {
                    map.serialize_entry("subject", subject)?;
                }
                map.serialize_entry("limits", limits)
            }
            Self::Ping => Ok(()),
            Self::Join(joined) => joined.write(map),
            Self::JoinList(entries) => map.serialize_entry("conversations", &Entries(entries)),
            Self::Leave { conversation } => write_conversation_id(map, conversation),
            Self::Send { status, duplicate, body } => {
                let (status, ids, held) = match status {
                    SendStatus::Stored(ids) => ("stored", Some(ids), None),
                    SendStatus::Held(id) => ("held", None, Some(id)),
                    SendStatus::Discarded => ("discarded", None, None),
                };
                map.serialize_entry("status", status)?;
                map.serialize_entry("message_id", &ids.map(|ids| ids.id))?;
                map.serialize_entry("seq", &ids.map(|ids| ids.seq))?;
                map.serialize_entry("created_at", &ids.map(|ids| &ids.created_at))?;
                if let Some(id) = held {
                    map.serialize_entry("held_id", id)?;
                }
                write_duplicate(map, *duplicate)?;
                write_body(map, body.as_ref())
            }
            Self::Edit { conversation, message_id, status, duplicate, body } => {
                let (status, change, held) = match status {
                    EditStatus::Stored(change) => ("stored", Some(change), None),
                    EditStatus::Held(id) => ("held", None, Some(id)),
                    EditStatus::Discarded => ("discarded", None, None),
                };
                map.serialize_entry("status", status)?;
                write_message_id(map, conversation, *message_id)?;
                map.serialize_entry("seq", &change.map(|change| change.seq))?;
                map.serialize_entry("version", &change.map(|change| change.version))?;
                map.serialize_entry("edited_at", &change.map(|change| &change.at))?;
                if let Some(id) = held {
                    map.serialize_entry("held_id", id)?;
                }
                write_duplicate(map, *duplicate)?;
                write_body(map, body.as_ref())
            }
            Self::Delete { conversation, message_id, change, duplicate } => {
                write_message_id(map, conversation, *message_id)?;
                map.serialize_entry("seq", &change.seq)?;
                map.serialize_entry("version", &change.version)?;
                map.serialize_entry("deleted_at", &change.at)?;
                write_duplicate(map, *duplicate)
            }
            Self::React { conversation, message_id, reaction, count, seq, duplicate } => {
                write_message_id(map, conversation, *message_id)?;
                map.serialize_entry("reaction", reaction)?;
                map.serialize_entry("count", count)?;
                map.serialize_entry("seq", seq)?;
                write_duplicate(map, *duplicate)
            }
            Self::Ack { conversation, last_read_id } => {
                write_conversation_id(map, conversation)?;
                map.serialize_entry("last_read_id", last_read_id)
            }
            Self::History(page) => {
                write_conversation_id(map, &page.conversation)?;
                map.serialize_entry("messages", &RawList(&page.messages))?;
                map.serialize_entry("as_of_seq", &page.as_of_seq)?;
                if let Some(before) = page.has_more_before {
                    map.serialize_entry("has_more_before", &before)?;
                }
                map.serialize_entry("has_more", &page.has_more)
            }
        }
    }
}

impl Fields for Joined {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let Self { conversation, last_seq, last_read_id, role, resumed } = self;
        write_conversation_id(map, conversation)?;
        map.serialize_entry("last_seq", last_seq)?;
        map.serialize_entry("last_read_id", last_read_id)?;
        map.serialize_entry("role", role)?;
        resumed.map_or(Ok(()), |resumed| map.serialize_entry("resumed", &resumed))
    }
}

/// The answers to the entries of a list.
struct Entries<'a>(&'a [Result<Joined, Failure>]);

impl Serialize for Entries<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Entry))
    }
}

struct Entry<'a>(&'a Result<Joined, Failure>);

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("success", &self.0.is_ok())?;
        match self.0 {
            Ok(joined) => joined.write(&mut map)?,
            Err(failure) => failure.write(&mut map)?,
        }
        map.end()
    }
}

/// Both spellings of the field, as in events.
fn write_conversation_id<M: SerializeMap>(map: &mut M, conversation: &Uuid) -> Result<(), M::Error> {
    map.serialize_entry("conversation_id", conversation)?;
    map.serialize_entry("conversationId", conversation)
}

/// The conversation and a message of it.
fn write_message_id<M: SerializeMap>(map: &mut M, conversation: &Uuid, message: i64) -> Result<(), M::Error> {
    write_conversation_id(map, conversation)?;
    map.serialize_entry("message_id", &message)
}

fn write_duplicate<M: SerializeMap>(map: &mut M, duplicate: bool) -> Result<(), M::Error> {
    if duplicate { map.serialize_entry("duplicate", &true) } else { Ok(()) }
}

fn write_body<M: SerializeMap>(map: &mut M, body: Option<&Body>) -> Result<(), M::Error> {
    body.map_or(Ok(()), |body| map.serialize_entry("body", &Raw(body.as_str())))
}

/// The fields of a frame beside `op`, `success` and the repeated values.
trait Fields {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;
}

/// A complete frame.
struct Framed<'a, F> {
    op: &'a str,
    success: bool,
    fields: &'a F,
    echo: &'a Echo,
}

impl<F: Fields> Serialize for Framed<'_, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("op", self.op)?;
        map.serialize_entry("success", &self.success)?;
        self.fields.write(&mut map)?;
        for (name, raw) in [("temp_id", &self.echo.temp_id), ("ref", &self.echo.reference)] {
            if let Some(raw) = raw {
                map.serialize_entry(name, &Raw(raw))?;
            }
        }
        map.end()
    }
}

impl<F: Fields> Framed<'_, F> {
    fn encode(&self) -> String {
        // Maps with text keys and finite numbers always serialise. A test would show the empty frame of a bug.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// JSON text that is known to be valid.
struct Raw<'a>(&'a str);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(self.0).map_err(S::Error::custom)?.serialize(serializer)
    }
}

struct RawList<'a>(&'a [String]);

impl Serialize for RawList<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|text| Raw(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::BodyLimits;
    use crate::code::ErrorCode;
    use crate::ids::{StoredChange, StoredIds};
    use crate::server::{HistoryPage, SocketLimits};

    fn echo() -> Echo {
        Echo { reference: Some("7".into()), temp_id: Some("\"t-1\"".into()) }
    }

    #[test]
    fn replies_have_the_documented_shape() {
        let ids = StoredIds { id: 1, seq: 2, created_at: "2026-01-02T03:04:05.678Z".into() };
        let stored = Reply::Send { status: SendStatus::Stored(ids.clone()), duplicate: false, body: None };
        assert_eq!(
            stored.encode(&echo()).as_str(),
            concat!(
                r#"{"op":"send","success":true,"status":"stored","message_id":1,"seq":2,"#,
                r#""created_at":"2026-01-02T03:04:05.678Z","temp_id":"t-1","ref":7}"#
            )
        );
        let body = Body::parse(r#"{"text": "…"}"#, &BodyLimits::default()).ok();
        let replaced = Reply::Send { status: SendStatus::Stored(ids), duplicate: false, body }.encode(&Echo::default());
        assert!(replaced.ends_with(r#"5.678Z","body":{"text":"…"}}"#), "{replaced}");
        let held = Reply::Send { status: SendStatus::Held(9), duplicate: true, body: None };
        assert_eq!(
            held.encode(&Echo::default()).as_str(),
            concat!(
                r#"{"op":"send","success":true,"status":"held","message_id":null,"seq":null,"created_at":null,"#,
                r#""held_id":9,"duplicate":true}"#
            )
        );
        let user = Uuid::nil();
        let limits = SocketLimits {
            frames_per_second: 50,
            frames_burst: 200,
            max_frame_bytes: 65_536,
            max_body_bytes: 32_768,
            max_joined: 1000,
            max_join_list: 500,
            joins_per_frame: 20,
        };
        assert_eq!(
            Reply::Auth { user, subject: None, limits }.encode(&Echo::default()).as_str(),
            concat!(
                r#"{"op":"auth","success":true,"userId":"00000000-0000-0000-0000-000000000000","limits":{"#,
                r#""frames_per_second":50,"frames_burst":200,"max_frame_bytes":65536,"max_body_bytes":32768,"#,
                r#""max_joined":1000,"max_join_list":500,"joins_per_frame":20}}"#
            )
        );
        let mapped = Reply::Auth { user, subject: Some("auth0|7".to_owned()), limits }.encode(&Echo::default());
        assert!(mapped.contains(r#""userId":"00000000-0000-0000-0000-000000000000","subject":"auth0|7","limits":{"#));
        let messages = vec![r#"{"id": 1}"#.into()];
        let page = HistoryPage { conversation: user, messages, as_of_seq: 3, has_more: false, has_more_before: None };
        let page = Reply::History(page).encode(&Echo::default());
        assert!(page.contains(r#""messages":[{"id": 1}],"as_of_seq":3,"has_more":false"#), "{page}");
    }

    #[test]
    fn a_change_is_answered_with_what_it_made() {
        let conversation = Uuid::nil();
        let ids = format!(r#""conversation_id":"{conversation}","conversationId":"{conversation}","message_id":4"#);
        let change = StoredChange { seq: 9, version: 2, at: "2026-01-02T03:04:05.006Z".into() };
        let edit = |status| Reply::Edit { conversation, message_id: 4, status, duplicate: false, body: None };
        let reaction = "+1".into();
        for (reply, expected) in [
            (
                edit(EditStatus::Stored(change.clone())),
                format!(
                    r#"{{"op":"edit","success":true,"status":"stored",{ids},"seq":9,"version":2,"edited_at":"{}"}}"#,
                    change.at
                ),
            ),
            (
                edit(EditStatus::Held(7)),
                format!(
                    r#"{{"op":"edit","success":true,"status":"held",{ids},"seq":null,"version":null,"edited_at":null,"held_id":7}}"#
                ),
            ),
            (
                Reply::Delete { conversation, message_id: 4, change: change.clone(), duplicate: true },
                format!(
                    r#"{{"op":"delete","success":true,{ids},"seq":9,"version":2,"deleted_at":"{}","duplicate":true}}"#,
                    change.at
                ),
            ),
            (
                Reply::React { conversation, message_id: 4, reaction, count: 3, seq: Some(9), duplicate: false },
                format!(r#"{{"op":"react","success":true,{ids},"reaction":"+1","count":3,"seq":9}}"#),
            ),
        ] {
            assert_eq!(reply.encode(&Echo::default()), expected);
        }
        let conflict = Failure { version: Some(2), ..Failure::new(ErrorCode::VersionConflict, "no") };
        let expected = r#"{"op":"edit","success":false,"code":"version_conflict","error":"no","version":2}"#;
        assert_eq!(conflict.encode("edit", &Echo::default()), expected);
    }

    #[test]
    fn a_list_is_answered_entry_by_entry() {
        let conversation = Uuid::nil();
        let joined = Joined { conversation, last_seq: 3, last_read_id: 1, role: "member".into(), resumed: Some(true) };
        let refused = Failure { conversation: Some(conversation), ..Failure::new(ErrorCode::NotParticipant, "no") };
        let ids = format!(r#""conversation_id":"{conversation}","conversationId":"{conversation}""#);
        let expected = [
            r#"{"op":"join","success":true,"conversations":[{"success":true,"#,
            &ids,
            r#","last_seq":3,"last_read_id":1,"role":"member","resumed":true},"#,
            r#"{"success":false,"code":"not_participant","error":"no","#,
            &ids,
            r#"}],"temp_id":"t-1","ref":7}"#,
        ];
        assert_eq!(Reply::JoinList(vec![Ok(joined), Err(refused)]).encode(&echo()), expected.concat());
    }

    #[test]
    fn failures_have_the_documented_shape() {
        let mut failure = Failure::new(ErrorCode::Rejected, "no");
        failure.plugin = Some("word-filter".into());
        failure.reject_code = Some("words".into());
        failure.retry_after_ms = Some(5);
        assert_eq!(
            failure.encode("send", &echo()).as_str(),
            concat!(
                r#"{"op":"send","success":false,"code":"rejected","error":"no","plugin":"word-filter","#,
                r#""reject_code":"words","retry_after_ms":5,"temp_id":"t-1","ref":7}"#
            )
        );
    }
}
