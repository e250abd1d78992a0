//! Requests of clients: text in, [`ClientFrame`] or [`FrameError`] out.

use std::collections::HashSet;

use serde_json::value::RawValue;

use crate::body::Body;
use crate::checks;
use crate::client::{
    Action, ClientFrame, Command, Echo, FrameError, FrameLimits, HistoryFrom, JoinTarget, Op, Operation, ResumeFrom,
    UserOperation,
};
use crate::code::ErrorCode;
use crate::fields::{CONVERSATION_ID, FieldError, Fields, Spellings, invalid, missing};

const MAX_TOKEN_BYTES: usize = 16 * 1024;
const DEFAULT_HISTORY: u32 = 50;
const MAX_HISTORY: u32 = 200;

const IDEMPOTENCY_KEY: Spellings = &["idempotency_key", "idempotencyKey"];
const AFTER_SEQ: Spellings = &["after_seq", "afterSeq"];
const AFTER_ID: Spellings = &["after_id", "afterId"];
const MESSAGE_ID: Spellings = &["message_id", "messageId"];

/// Parses one text frame.
pub fn parse(text: &str, limits: &FrameLimits) -> Result<ClientFrame, FrameError> {
    let frame_error = |code, text: &str| FrameError { op: "error", echo: Echo::default(), code, text: text.to_owned() };
    let fields: Fields<'_> = match serde_json::from_str(text) {
        Ok(fields) => fields,
        Err(error) if error.is_data() => {
            return Err(frame_error(ErrorCode::NotAnObject, "a frame must be a JSON object with an \"op\""));
        }
        Err(error) if error.is_eof() => {
            return Err(frame_error(ErrorCode::InvalidJson, "a frame must be JSON, but this one ends too early"));
        }
        Err(error) => {
            let (line, column) = (error.line(), error.column());
            let text = format!("a frame must be JSON, but this one is not at line {line}, column {column}");
            return Err(frame_error(ErrorCode::InvalidJson, &text));
        }
    };
    let mut echo = Echo::default();
    let mut op = "error";
    match fields.operation(&mut echo, &mut op, limits) {
        Ok(operation) => Ok(ClientFrame { echo, operation }),
        Err(FieldError { code, text }) => Err(FrameError { op, echo, code, text }),
    }
}

impl Fields<'_> {
    fn operation(&self, echo: &mut Echo, op: &mut &'static str, limits: &FrameLimits) -> Result<Operation, FieldError> {
        // Both echoes come first, since failures repeat them too.
        let reference = self.echo(&["ref"]).map(|raw| echo.reference = raw);
        let temp_id = self.echo(&["temp_id"]).map(|raw| echo.temp_id = raw);
        let name = self.required_text(&["op"])?;
        let Some(known) = Op::ALL.iter().find(|op| op.value() == name) else {
            let names: Vec<&str> = Op::ALL.iter().map(|op| op.value()).collect();
            let text = format!("op must be one of {}", names.join(", "));
            return Err(FieldError { code: ErrorCode::UnknownOp, text });
        };
        *op = known.value();
        reference.and(temp_id)?;
        Ok(Operation::User(match known {
            Op::Auth => return self.auth(),
            Op::Ping => return Ok(Operation::Ping),
            Op::Join => self.join(limits)?,
            Op::Leave => UserOperation::Leave { conversation: self.conversation()? },
            Op::Send => self.command(Some(IDEMPOTENCY_KEY), || self.send(limits))?,
            Op::Edit => self.command(Some(IDEMPOTENCY_KEY), || self.edit(limits))?,
            Op::Delete => self.command(Some(IDEMPOTENCY_KEY), || self.delete())?,
            Op::React => self.command(None, || self.react())?,
            Op::Ack => self.ack()?,
            Op::History => self.history()?,
        }))
    }

    fn ack(&self) -> Result<UserOperation, FieldError> {
        let conversation = self.conversation()?;
        let last_read_id = self.required_natural(&["last_read_id", "lastReadId"])?;
        Ok(UserOperation::Ack { conversation, last_read_id })
    }

    fn auth(&self) -> Result<Operation, FieldError> {
        let token = self.required_text(&["token"])?;
        if token.len() > MAX_TOKEN_BYTES {
            return invalid(format!("token must be at most {MAX_TOKEN_BYTES} bytes long"));
        }
        Ok(Operation::Auth { token })
    }

    fn join(&self, limits: &FrameLimits) -> Result<UserOperation, FieldError> {
        let Some(list) = self.raw(&["conversations"]) else { return self.join_target().map(UserOperation::Join) };
        if [CONVERSATION_ID, AFTER_SEQ, AFTER_ID].into_iter().any(|names| self.raw(names).is_some()) {
            return invalid(
                "give conversation_id or conversations, not both; in a list, after_seq or after_id stands in its entry",
            );
        }
        let most = limits.max_join_list;
        let entries: Vec<&RawValue> = serde_json::from_str(list.get()).unwrap_or_default();
        if entries.is_empty() || entries.len() > most {
            return invalid(format!(
                "conversations must be a list of 1 to {most} entries; join others in another frame"
            ));
        }
        let mut named = HashSet::with_capacity(entries.len());
        let mut targets = Vec::with_capacity(entries.len());
        for (place, entry) in entries.iter().enumerate() {
            let Ok(fields) = serde_json::from_str::<Fields<'_>>(entry.get()) else {
                return invalid(format!("conversations[{place}] must be an object with a conversation_id"));
            };
            let target = fields
                .join_target()
                .or_else(|FieldError { text, .. }| invalid(format!("conversations[{place}]: {text}")))?;
            if !named.insert(target.conversation) {
                let id = target.conversation;
                return invalid(format!("conversations[{place}] names {id} a second time; name each one once"));
            }
            targets.push(target);
        }
        Ok(UserOperation::JoinList(targets))
    }

    fn join_target(&self) -> Result<JoinTarget, FieldError> {
        Ok(JoinTarget { conversation: self.conversation()?, resume: self.resume()? })
    }

    /// What a retry of it is known by stands in `key`; none: it needs no such thing.
    fn command(
        &self,
        key: Option<Spellings>,
        action: impl FnOnce() -> Result<Action, FieldError>,
    ) -> Result<UserOperation, FieldError> {
        let conversation = self.conversation()?;
        let idempotency_key = key.map_or(Ok(None), |key| self.text(key))?;
        let idempotency_key = idempotency_key.as_deref().map(checks::idempotency_key).transpose()?;
        Ok(UserOperation::Command(Command { conversation, idempotency_key, action: action()? }))
    }

    fn send(&self, limits: &FrameLimits) -> Result<Action, FieldError> {
        let reply_to = self.natural(&["reply_to", "replyTo"])?;
        Ok(Action::Send { body: self.body(limits)?, reply_to })
    }

    fn edit(&self, limits: &FrameLimits) -> Result<Action, FieldError> {
        let message_id = self.required_natural(MESSAGE_ID)?;
        let if_version = self.version()?;
        Ok(Action::Edit { message_id, body: self.body(limits)?, if_version })
    }

    fn delete(&self) -> Result<Action, FieldError> {
        Ok(Action::Delete { message_id: self.required_natural(MESSAGE_ID)?, if_version: self.version()? })
    }

    fn version(&self) -> Result<Option<i32>, FieldError> {
        match self.natural(&["if_version", "ifVersion"])?.map(i32::try_from).transpose() {
            Ok(version) => Ok(version),
            Err(_) => invalid("if_version must be a version as the gateway has shown it"),
        }
    }

    fn react(&self) -> Result<Action, FieldError> {
        let message_id = self.required_natural(MESSAGE_ID)?;
        let reaction = checks::reaction(&self.required_text(&["reaction"])?)?;
        let remove = self.flag(&["remove"])?.unwrap_or(false);
        Ok(Action::React { message_id, reaction, remove })
    }

    fn body(&self, limits: &FrameLimits) -> Result<Body, FieldError> {
        let Some(body) = self.raw(&["body"]) else { return missing(&["body"]) };
        Ok(checks::body(body.get(), &limits.body)?)
    }

    fn history(&self) -> Result<UserOperation, FieldError> {
        let before = self.integer(&["before_seq", "beforeSeq"])?;
        let after = self.natural(AFTER_SEQ)?;
        let around = self.natural(&["around_seq", "aroundSeq"])?;
        let from = match (before, after, around) {
            (None, None, None) => HistoryFrom::Newest,
            (Some(seq), None, None) => HistoryFrom::Before(seq),
            (None, Some(seq), None) => HistoryFrom::After(seq),
            (None, None, Some(seq)) => HistoryFrom::Around(seq),
            _ => return invalid("give one of before_seq, after_seq and around_seq"),
        };
        let limit = self.integer(&["limit"])?.map_or(Some(DEFAULT_HISTORY), |limit| u32::try_from(limit).ok());
        let Some(limit) = limit.filter(|limit| (1..=MAX_HISTORY).contains(limit)) else {
            return invalid(format!("limit must be from 1 to {MAX_HISTORY}"));
        };
        let thread = self.natural(&["thread"])?;
        Ok(UserOperation::History { conversation: self.conversation()?, from, thread, limit })
    }

    fn resume(&self) -> Result<Option<ResumeFrom>, FieldError> {
        match (self.natural(AFTER_SEQ)?, self.natural(AFTER_ID)?) {
            (None, None) => Ok(None),
            (Some(seq), None) => Ok(Some(ResumeFrom::Seq(seq))),
            (None, Some(id)) => Ok(Some(ResumeFrom::Id(id))),
            (Some(_), Some(_)) => invalid("give after_seq or after_id, not both"),
        }
    }
}

#[cfg(test)]
mod tests;
