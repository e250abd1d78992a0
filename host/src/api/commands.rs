//! How requests become commands, and pass the same inbound line as those of sockets.

use arcyou_protocol::body::Body;
use arcyou_protocol::{Command, ErrorCode, Failure, Reply, checks};
use axum::http::HeaderMap;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::problem::Problem;
use super::state::Api;
use crate::authorize::{Role, RoleCache, Submitted};

/// The header that makes a repeat safe.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The header that names the version which is to be changed.
pub(super) const IF_MATCH: &str = "if-match";

impl Api {
    /// Lets a user's command through the inbound line, and waits for what becomes of it.
    pub(super) async fn carry_out(&self, sender: Uuid, command: Command) -> Result<Reply, Problem> {
        let accepted =
            self.ingress.accept(Submitted { sender, command }, Role::Unknown, &mut RoleCache::default()).await;
        Ok(accepted.await?)
    }

    pub(super) fn body(&self, text: &RawValue) -> Result<Body, Problem> {
        Ok(checks::body(text.get(), &self.body_limits)?)
    }
}

pub(super) fn raw(body: Body) -> Option<Box<RawValue>> {
    RawValue::from_string(body.as_str().to_owned()).ok()
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<Box<str>>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().map_err(|_| Problem::invalid("Idempotency-Key must be ASCII text"))?;
    Ok(Some(checks::idempotency_key(key)?))
}

pub(super) fn unknown_message() -> Problem {
    Failure::new(ErrorCode::UnknownMessage, "this conversation has no such message").into()
}

pub(super) fn etag(version: i32) -> String {
    format!("\"{version}\"")
}
