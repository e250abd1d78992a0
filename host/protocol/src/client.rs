//! Requests of clients: text in, [`ClientFrame`] or [`FrameError`] out.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::body::{Body, BodyError, BodyLimits};
use crate::code::ErrorCode;
use crate::text::Text;

/// Limit for `ref` and `temp_id`, in bytes of JSON.
const MAX_ECHO_BYTES: usize = 256;
const MAX_KEY_BYTES: usize = 128;
const MAX_TOKEN_BYTES: usize = 16 * 1024;
const DEFAULT_HISTORY: u32 = 50;
const MAX_HISTORY: u32 = 200;

/// Limits for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    /// Limits for the body of a `send`.
    pub body: BodyLimits,
}

/// A valid request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientFrame {
    /// What the reply repeats.
    pub echo: Echo,
    pub operation: Operation,
}

/// The values that a reply repeats, so that a client can match it to its request. Raw JSON: a string or a number each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Echo {
    /// The request's `ref`.
    pub reference: Option<Box<str>>,
    /// The request's `temp_id`.
    pub temp_id: Option<Box<str>>,
}

wire_enum! {
    /// The names of the requests, as in their field `op`.
    Op: &'static str {
        /// Authenticates the socket.
        Auth = "auth",
        /// Does nothing; always answered.
        Ping = "ping",
        /// Subscribes to a conversation's events.
        Join = "join",
        /// Unsubscribes from a conversation's events.
        Leave = "leave",
        /// Stores a message.
        /// Stores a message.
        Send = "send",
        /// Marks messages as read.
        Ack = "ack",
        /// Reads stored messages.
        /// Reads stored messages.
        History = "history",
    }
}

/// A valid request, without the values to repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Authenticates the socket.
    Auth {
        /// A JWT, or in development a user's UUID.
        token: String,
    },
    /// A no-op that is always answered, for clients that cannot send WebSocket pings, such as browsers.
    Ping,
    /// A request that needs an authenticated socket.
    User(UserOperation),
}

/// The requests of an authenticated user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserOperation {
    /// Subscribe to a conversation's events, from now on or from where an earlier socket stopped.
    Join {
        conversation: Uuid,
        /// The last message that the client has.
        resume: Option<ResumeFrom>,
    },
    /// Unsubscribe from a conversation's events.
    Leave {
        conversation: Uuid,
    },
    Command(Command),
    /// Mark messages as read.
    Ack {
        conversation: Uuid,
        /// The newest message that was read.
        last_read_id: i64,
    },
    History {
        conversation: Uuid,
        from: HistoryFrom,
        /// The maximum number of messages.
        limit: u32,
    },
}

/// A change of a conversation, independent of how the request arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    pub conversation: Uuid,
    /// Identifies a retry: for the same sender, conversation and key, the change is made once.
    pub idempotency_key: Option<Box<str>>,
    pub action: Action,
}

/// The kinds of change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Store a message and publish it to the conversation.
    Send { body: Body },
}

impl Operation {
    /// The request's name, which the reply repeats.
    pub const fn op(&self) -> Op {
        match self {
            Self::Auth { .. } => Op::Auth,
            Self::Ping => Op::Ping,
            Self::User(operation) => operation.op(),
        }
    }
}

impl UserOperation {
    const fn op(&self) -> Op {
        match self {
            Self::Join { .. } => Op::Join,
            Self::Leave { .. } => Op::Leave,
            Self::Command(Command { action, .. }) => action.op(),
            Self::Ack { .. } => Op::Ack,
            Self::History { .. } => Op::History,
        }
    }
}

impl Action {
    /// The request's name, which the reply repeats.
    pub const fn op(&self) -> Op {
        match self {
            Self::Send { .. } => Op::Send,
        }
    }
}

/// The last message that a resuming client has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResumeFrom {
    /// By its position in the conversation.
    Seq(i64),
    /// By its id; 0 is before the first message.
    Id(i64),
}

/// Where a page of history starts, and its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HistoryFrom {
    /// At the newest message, newest first.
    Newest,
    /// Below this `seq`, newest first.
    Before(i64),
    /// Above this `seq`, oldest first.
    After(i64),
}

/// An invalid request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameError {
    /// The request's `op` if it is known, otherwise `error`.
    pub op: &'static str,
    /// What the reply repeats.
    pub echo: Echo,
    pub code: ErrorCode,
    /// A sentence for people.
    pub text: String,
}

/// Parses one text frame.
pub fn parse(text: &str, limits: &FrameLimits) -> Result<ClientFrame, FrameError> {
    let frame_error = |code, text: &str| FrameError { op: "error", echo: Echo::default(), code, text: text.to_owned() };
    let fields: Fields<'_> = match serde_json::from_str(text) {
        Ok(fields) => fields,
        Err(error) if error.is_data() => {
            return Err(frame_error(ErrorCode::NotAnObject, "a frame must be a JSON object with an \"op\""));
        }
        Err(error) => return Err(frame_error(ErrorCode::InvalidJson, &format!("a frame must be JSON: {error}"))),
    };
    let mut echo = Echo::default();
    let mut op = "error";
    match fields.operation(&mut echo, &mut op, limits) {
        Ok(operation) => Ok(ClientFrame { echo, operation }),
        Err(FieldError { code, text }) => Err(FrameError { op, echo, code, text }),
    }
}

struct FieldError {
    code: ErrorCode,
    text: String,
}

fn fail<T>(code: ErrorCode, text: impl Into<String>) -> Result<T, FieldError> {
    Err(FieldError { code, text: text.into() })
}

/// The fields of a frame, not parsed yet. Of a repeated field, the last value counts. Unknown fields are ignored.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::with_capacity(6);
                while let Some(entry) = entries.next_entry::<Text<'de>, &'de RawValue>()? {
                    fields.push((entry.0.0, entry.1));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'a> Fields<'a> {
    fn operation(&self, echo: &mut Echo, op: &mut &'static str, limits: &FrameLimits) -> Result<Operation, FieldError> {
        // Both echoes come first, since failures repeat them too.
        let reference = self.echo("ref").map(|raw| echo.reference = raw);
        let temp_id = self.echo("temp_id").map(|raw| echo.temp_id = raw);
        let name: String = self.required("op")?;
        let Some(known) = Op::ALL.iter().find(|op| op.value() == name) else {
            let names: Vec<&str> = Op::ALL.iter().map(|op| op.value()).collect();
            return fail(ErrorCode::UnknownOp, format!("op must be one of {}", names.join(", ")));
        };
        *op = known.value();
        reference.and(temp_id)?;
        Ok(Operation::User(match known {
            Op::Auth => return self.auth(),
            Op::Ping => return Ok(Operation::Ping),
            Op::Join => UserOperation::Join { conversation: self.conversation()?, resume: self.resume()? },
            Op::Leave => UserOperation::Leave { conversation: self.conversation()? },
            Op::Send => UserOperation::Command(self.send(limits)?),
            Op::Ack => self.ack()?,
            Op::History => self.history()?,
        }))
    }

    fn ack(&self) -> Result<UserOperation, FieldError> {
        let conversation = self.conversation()?;
        let last_read_id = self.either_required("last_read_id", "lastReadId").and_then(not_negative("last_read_id"))?;
        Ok(UserOperation::Ack { conversation, last_read_id })
    }

    fn auth(&self) -> Result<Operation, FieldError> {
        let token: String = self.required("token")?;
        if token.len() > MAX_TOKEN_BYTES {
            return fail(ErrorCode::InvalidField, format!("token must be at most {MAX_TOKEN_BYTES} bytes long"));
        }
        Ok(Operation::Auth { token })
    }

    fn send(&self, limits: &FrameLimits) -> Result<Command, FieldError> {
        let conversation = self.conversation()?;
        let idempotency_key: Option<Box<str>> = self.either("idempotency_key", "idempotencyKey")?;
        let is_usable = |key: &str| !key.is_empty() && key.len() <= MAX_KEY_BYTES && !key.contains('\0');
        if idempotency_key.as_deref().is_some_and(|key| !is_usable(key)) {
            let text = format!("idempotency_key must be 1 to {MAX_KEY_BYTES} bytes of text without U+0000");
            return fail(ErrorCode::InvalidField, text);
        }
        let Some(body) = self.raw("body") else {
            return fail(ErrorCode::MissingField, "body is missing");
        };
        let body = Body::parse(body.get(), &limits.body)
            .map_err(|error| FieldError { code: code_of(&error), text: error.to_string() })?;
        Ok(Command { conversation, idempotency_key, action: Action::Send { body } })
    }

    fn history(&self) -> Result<UserOperation, FieldError> {
        let before: Option<i64> = self.either("before_seq", "beforeSeq")?;
        let after: Option<i64> = self.either("after_seq", "afterSeq")?;
        let from = match (before, after) {
            (None, None) => HistoryFrom::Newest,
            (Some(seq), None) => HistoryFrom::Before(seq),
            (None, Some(seq)) => HistoryFrom::After(not_negative("after_seq")(seq)?),
            (Some(_), Some(_)) => return fail(ErrorCode::InvalidField, "give before_seq or after_seq, not both"),
        };
        let limit = self.optional("limit")?.unwrap_or(DEFAULT_HISTORY);
        if !(1..=MAX_HISTORY).contains(&limit) {
            return fail(ErrorCode::InvalidField, format!("limit must be from 1 to {MAX_HISTORY}"));
        }
        Ok(UserOperation::History { conversation: self.conversation()?, from, limit })
    }

    fn resume(&self) -> Result<Option<ResumeFrom>, FieldError> {
        let seq: Option<i64> = self.either("after_seq", "afterSeq")?;
        let id: Option<i64> = self.either("after_id", "afterId")?;
        match (seq, id) {
            (None, None) => Ok(None),
            (Some(seq), None) => not_negative("after_seq")(seq).map(|seq| Some(ResumeFrom::Seq(seq))),
            (None, Some(id)) => not_negative("after_id")(id).map(|id| Some(ResumeFrom::Id(id))),
            (Some(_), Some(_)) => fail(ErrorCode::InvalidField, "give after_seq or after_id, not both"),
        }
    }

    /// Any spelling of a UUID names the same conversation.
    fn conversation(&self) -> Result<Uuid, FieldError> {
        let text: String = self.either_required("conversation_id", "conversationId")?;
        Uuid::try_parse(&text).or_else(|_| fail(ErrorCode::InvalidField, "conversation_id must be a UUID"))
    }

    fn echo(&self, name: &str) -> Result<Option<Box<str>>, FieldError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        let text = raw.get();
        let fits = match text.as_bytes().first() {
            // A string is decoded once to make sure that it is valid.
            Some(b'"') => serde_json::from_str::<String>(text).is_ok(),
            Some(b'-' | b'0'..=b'9') => true,
            _ => false,
        };
        if !fits || text.len() > MAX_ECHO_BYTES {
            return fail(
                ErrorCode::InvalidField,
                format!("{name} must be a string or a number of at most {MAX_ECHO_BYTES} bytes"),
            );
        }
        Ok(Some(text.into()))
    }

    /// The field unless it is absent or null.
    fn raw(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, raw)| *raw).filter(|raw| raw.get() != "null")
    }

    fn optional<T: Deserialize<'a>>(&self, name: &str) -> Result<Option<T>, FieldError> {
        let Some(raw) = self.raw(name) else { return Ok(None) };
        match serde_json::from_str(raw.get()) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                // The position within the field would only mislead.
                let text = error.to_string();
                let text = text.split(" at line ").next().unwrap_or_default();
                fail(ErrorCode::InvalidField, format!("{name}: {text}"))
            }
        }
    }

    fn required<T: Deserialize<'a>>(&self, name: &str) -> Result<T, FieldError> {
        self.optional(name)?.map_or_else(|| fail(ErrorCode::MissingField, format!("{name} is missing")), Ok)
    }

    fn either<T: Deserialize<'a>>(&self, snake: &str, camel: &str) -> Result<Option<T>, FieldError> {
        Ok(match self.optional(snake)? {
            None => self.optional(camel)?,
            some => some,
        })
    }

    fn either_required<T: Deserialize<'a>>(&self, snake: &str, camel: &str) -> Result<T, FieldError> {
        self.either(snake, camel)?.map_or_else(|| fail(ErrorCode::MissingField, format!("{snake} is missing")), Ok)
    }
}

fn not_negative(name: &'static str) -> impl Fn(i64) -> Result<i64, FieldError> {
    move |value| {
        if value < 0 {
            return fail(ErrorCode::InvalidField, format!("{name} must not be negative"));
        }
        Ok(value)
    }
}

fn code_of(error: &BodyError) -> ErrorCode {
    match error {
        BodyError::Malformed(_) => ErrorCode::InvalidJson,
        BodyError::NotAnObject => ErrorCode::InvalidField,
        BodyError::TooLarge(_) => ErrorCode::BodyTooLarge,
        BodyError::TooDeep(_) => ErrorCode::BodyTooDeep,
        BodyError::DuplicateKey(_) => ErrorCode::DuplicateKey,
        BodyError::NumberOutOfRange => ErrorCode::NumberOutOfRange,
        BodyError::UnstorableText => ErrorCode::UnstorableText,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: FrameLimits = FrameLimits { body: BodyLimits { max_bytes: 200, max_depth: 8 } };
    const ID: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";

    fn code(text: &str) -> (&'static str, ErrorCode) {
        let error = parse(text, &LIMITS).unwrap_err();
        (error.op, error.code)
    }

    fn operation(text: &str) -> Operation {
        parse(text, &LIMITS).unwrap().operation
    }

    #[test]
    fn the_frames_of_the_walk_through() {
        assert_eq!(operation(r#"{"op":"auth","token":"t"}"#), Operation::Auth { token: "t".into() });
        assert_eq!(operation(r#"{"op":"ping"}"#), Operation::Ping);
        let conversation = Uuid::parse_str(ID).unwrap();
        for id in [ID.to_owned(), ID.to_uppercase(), format!("{{{ID}}}"), ID.replace('-', "")] {
            for name in ["conversation_id", "conversationId"] {
                let join = operation(&format!(r#"{{"op":"join","{name}":"{id}","unknown":[1]}}"#));
                assert_eq!(join, Operation::User(UserOperation::Join { conversation, resume: None }));
            }
        }
        let frame = parse(
            &format!(r#"{{"op":"send","conversation_id":"{ID}","body":{{"text":"Hello!"}},"temp_id":"temp-123"}}"#),
            &LIMITS,
        )
        .unwrap();
        assert_eq!(frame.echo.temp_id.as_deref(), Some("\"temp-123\""));
        let Operation::User(UserOperation::Command(Command { action: Action::Send { body }, .. })) = frame.operation
        else {
            panic!("not a send")
        };
        assert_eq!(body.as_str(), r#"{"text":"Hello!"}"#);
    }

    #[test]
    fn each_fault_has_its_code() {
        assert_eq!(code("nonsense"), ("error", ErrorCode::InvalidJson));
        assert_eq!(code(""), ("error", ErrorCode::InvalidJson));
        for frame in ["null", "1", "[]", "\"x\"", "true"] {
            assert_eq!(code(frame), ("error", ErrorCode::NotAnObject), "{frame}");
        }
        assert_eq!(code("{}"), ("error", ErrorCode::MissingField));
        assert_eq!(code(r#"{"op":1}"#), ("error", ErrorCode::InvalidField));
        assert_eq!(code(r#"{"op":"fly"}"#), ("error", ErrorCode::UnknownOp));
        assert_eq!(code(r#"{"op":"auth"}"#), ("auth", ErrorCode::MissingField));
        assert_eq!(code(r#"{"op":"auth","token":null}"#), ("auth", ErrorCode::MissingField));
        assert_eq!(code(r#"{"op":"auth","token":5}"#), ("auth", ErrorCode::InvalidField));
        assert_eq!(code(r#"{"op":"join","conversation_id":"conv"}"#), ("join", ErrorCode::InvalidField));
        assert_eq!(code(r#"{"op":"leave","ref":{},"conversation_id":"conv"}"#), ("leave", ErrorCode::InvalidField));
        let send = |rest: &str| code(&format!(r#"{{"op":"send","conversation_id":"{ID}",{rest}}}"#));
        assert_eq!(send(r#""x":1"#), ("send", ErrorCode::MissingField));
        assert_eq!(send(r#""body":"text""#), ("send", ErrorCode::InvalidField));
        assert_eq!(send(r#""body":{"a":1,"a":2}"#), ("send", ErrorCode::DuplicateKey));
        assert_eq!(send(r#""body":{},"idempotency_key":"""#), ("send", ErrorCode::InvalidField));
        assert_eq!(
            send(&format!(r#""body":{{}},"idempotency_key":"{}""#, "k".repeat(129))),
            ("send", ErrorCode::InvalidField)
        );
        assert_eq!(send(&format!(r#""body":{{}},"temp_id":"{}""#, "t".repeat(300))), ("send", ErrorCode::InvalidField));
        assert_eq!(
            send(&format!(r#""body":{{"a":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000))),
            ("send", ErrorCode::BodyTooDeep)
        );
        let history = |rest: &str| code(&format!(r#"{{"op":"history","conversation_id":"{ID}",{rest}}}"#));
        assert_eq!(history(r#""before_seq":1,"after_seq":1"#), ("history", ErrorCode::InvalidField));
        assert_eq!(history(r#""limit":0"#), ("history", ErrorCode::InvalidField));
        assert_eq!(history(r#""limit":100000"#), ("history", ErrorCode::InvalidField));
    }

    #[test]
    fn a_refusal_repeats_what_the_request_carried() {
        let error = parse(r#"{"op":"send","ref":"r","temp_id":7}"#, &LIMITS).unwrap_err();
        assert_eq!(error.echo, Echo { reference: Some("\"r\"".into()), temp_id: Some("7".into()) });
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in any::<String>()) {
            let _ = parse(&text, &LIMITS);
        }

        #[test]
        fn what_is_encoded_is_parsed(text in any::<String>(), key in "[ -~]{1,40}", reference in any::<i64>()) {
            let frame = serde_json::json!({
                "op": "send", "conversationId": ID, "body": {"text": text}, "idempotency_key": key, "ref": reference,
            });
            match parse(&frame.to_string(), &FrameLimits { body: BodyLimits { max_bytes: 100_000, max_depth: 8 } }) {
                Ok(parsed) => {
                    prop_assert_eq!(parsed.echo.reference.as_deref(), Some(&*reference.to_string()));
                    let Operation::User(UserOperation::Command(command)) = parsed.operation else {
                        panic!("not a send")
                    };
                    let Command { idempotency_key, action: Action::Send { body }, .. } = command;
                    let body: serde_json::Value = serde_json::from_str(body.as_str()).unwrap();
                    prop_assert_eq!(body, serde_json::json!({"text": text}));
                    prop_assert_eq!(idempotency_key.as_deref(), Some(&*key));
                }
                Err(error) => prop_assert!(text.contains('\0') && error.code == ErrorCode::UnstorableText),
            }
        }
    }
}
