//! What the API answers when it does not do what it was asked for: problem documents as in RFC 9457.

use std::error::Error;

use arcyou_protocol::{ErrorCode, Failure};
use axum::Json;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::request_body::TooSlow;
use crate::store::StoreError;

/// Codes of the API that no socket is answered with. They never change their meaning; new ones may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ApiCode {
    /// There is no key, or none that is known and not revoked.
    InvalidApiKey,
    /// The key lacks the scope that the operation needs.
    MissingScope,
    /// The key speaks for one user, and another one is named.
    OtherSender,
    /// The request does not say for which user it is, and the key does not either.
    SenderRequired,
    NotFound,
    MethodNotAllowed,
    /// The body did not come in time.
    RequestTimeout,
    /// There is no such conversation.
    UnknownConversation,
    /// No issuer of tokens has this name.
    UnknownIssuer,
    /// An issuer's subject that cannot be a user.
    UnfitSubject,
    /// Users cannot block themselves.
    OwnBlock,
    /// The user does not participate in the conversation.
    UnknownParticipant,
    /// The id of a new conversation is taken.
    ConversationExists,
    /// Nothing waits for a decision under this id.
    NothingHeld,
    UnsupportedMediaType,
}

impl ApiCode {
    #[cfg(test)]
    pub(super) const ALL: [Self; 15] = [
        Self::InvalidApiKey,
        Self::MissingScope,
        Self::OtherSender,
        Self::SenderRequired,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::UnknownConversation,
        Self::UnknownIssuer,
        Self::UnfitSubject,
        Self::OwnBlock,
        Self::UnknownParticipant,
        Self::ConversationExists,
        Self::NothingHeld,
        Self::UnsupportedMediaType,
    ];

    /// The code's text and the status that it comes with.
    pub(super) const fn shown(self) -> (&'static str, StatusCode) {
        match self {
            Self::InvalidApiKey => ("invalid_api_key", StatusCode::UNAUTHORIZED),
            Self::MissingScope => ("missing_scope", StatusCode::FORBIDDEN),
            Self::OtherSender => ("other_sender", StatusCode::FORBIDDEN),
            Self::SenderRequired => ("sender_required", StatusCode::UNPROCESSABLE_ENTITY),
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND),
            Self::MethodNotAllowed => ("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED),
            Self::RequestTimeout => ("request_timeout", StatusCode::REQUEST_TIMEOUT),
            Self::UnknownConversation => ("unknown_conversation", StatusCode::NOT_FOUND),
            Self::UnknownIssuer => ("unknown_issuer", StatusCode::NOT_FOUND),
            Self::UnfitSubject => ("unfit_subject", StatusCode::UNPROCESSABLE_ENTITY),
            Self::OwnBlock => ("own_block", StatusCode::UNPROCESSABLE_ENTITY),
            Self::UnknownParticipant => ("unknown_participant", StatusCode::NOT_FOUND),
            Self::ConversationExists => ("conversation_exists", StatusCode::CONFLICT),
            Self::NothingHeld => ("nothing_held", StatusCode::NOT_FOUND),
            Self::UnsupportedMediaType => ("unsupported_media_type", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        }
    }
}

/// Why a request was not done.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Problem(Box<ProblemDocument>);

/// A problem document, as in RFC 9457.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemDocument {
    /// `urn:arcyou:problem:` and the code.
    #[serde(rename = "type")]
    kind: String,
    /// The status in words.
    title: &'static str,
    /// The response's status.
    status: u16,
    /// A sentence for people that says what to do.
    detail: String,
    /// What programs distinguish problems by.
    code: &'static str,
    /// When a repeat makes sense, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// The plugin that rejected the request or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    plugin: Option<String>,
    /// The plugin's own code.
    #[serde(skip_serializing_if = "Option::is_none")]
    reject_code: Option<String>,
    /// The version of the message that stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i32>,
}

impl Problem {
    pub(super) fn new(code: ApiCode, detail: impl Into<String>) -> Self {
        let (code, status) = code.shown();
        Self::of(code, status, detail.into())
    }

    pub(super) fn unknown_conversation(id: Uuid) -> Self {
        Self::new(ApiCode::UnknownConversation, format!("there is no conversation {id}"))
    }

    pub(super) fn too_large() -> Self {
        Failure::new(ErrorCode::FrameTooLarge, "the request is too large; send less at once").into()
    }

    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Failure::new(ErrorCode::InvalidField, detail).into()
    }

    /// The same, and which part of the request it is about.
    pub(super) fn about(mut self, part: &str) -> Self {
        self.0.detail = format!("{part}: {}", self.0.detail);
        self
    }

    fn of(code: &'static str, status: StatusCode, detail: String) -> Self {
        Self(Box::new(ProblemDocument {
            kind: format!("urn:arcyou:problem:{code}"),
            title: title(status),
            status: status.as_u16(),
            detail,
            code,
            retry_after_ms: None,
            plugin: None,
            reject_code: None,
            version: None,
        }))
    }
}

fn title(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Problem")
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let Failure { code, text, retry_after_ms, plugin, reject_code, conversation: _, version } = failure;
        let mut problem = Self::of(code.value(), status_of(code), text);
        let document = &mut *problem.0;
        (document.retry_after_ms, document.version) = (retry_after_ms, version);
        (document.plugin, document.reject_code) = (plugin.map(|plugin| plugin.to_string()), reject_code);
        problem
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        crate::store::logged(error).into()
    }
}

const fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::NotParticipant | ErrorCode::NotAuthor | ErrorCode::ConversationReadOnly | ErrorCode::Blocked => {
            StatusCode::FORBIDDEN
        }
        ErrorCode::UnknownMessage => StatusCode::NOT_FOUND,
        ErrorCode::MessageDeleted => StatusCode::GONE,
        ErrorCode::EditTooLate | ErrorCode::TooManyReactions | ErrorCode::KeyReused => StatusCode::CONFLICT,
        ErrorCode::VersionConflict => StatusCode::PRECONDITION_FAILED,
        ErrorCode::BodyTooLarge | ErrorCode::FrameTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::Rejected
        | ErrorCode::BodyTooDeep
        | ErrorCode::DuplicateKey
        | ErrorCode::NumberOutOfRange
        | ErrorCode::UnstorableText => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::PluginFailed => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::OutcomeUnknown => StatusCode::GATEWAY_TIMEOUT,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        match rejection {
            JsonRejection::MissingJsonContentType(_) => Self::new(
                ApiCode::UnsupportedMediaType,
                "the request must have the header Content-Type: application/json",
            ),
            JsonRejection::JsonSyntaxError(error) => Failure::new(ErrorCode::InvalidJson, cause(&error)).into(),
            JsonRejection::JsonDataError(error) => Self::invalid(cause(&error)),
            rejection if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => Self::too_large(),
            rejection if TooSlow::caused(&rejection) => {
                let text = "the body did not come in time; send it again over a better line, or less at once";
                Self::new(ApiCode::RequestTimeout, text)
            }
            rejection => Self::invalid(rejection.body_text()),
        }
    }
}

/// What is wrong with a request, without the names of types that axum puts before it.
fn cause(rejection: &dyn Error) -> String {
    rejection.source().map_or_else(|| rejection.to_string(), cause)
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::invalid(format!("the query: {}", cause(&rejection)))
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        let PathRejection::FailedToDeserializePathParams(failed) = &rejection else {
            return Self::invalid(rejection.body_text());
        };
        Self::invalid(match failed.kind() {
            ErrorKind::DeserializeError { key, value, message } => format!("{key} in the path, {value:?}: {message}"),
            // Ids of messages and of what is held.
            ErrorKind::ParseErrorAtKey { value, .. }
            | ErrorKind::ParseErrorAtIndex { value, .. }
            | ErrorKind::ParseError { value, .. } => format!("{value:?} in the path should be a number"),
            other => other.to_string(),
        })
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let wait = self.0.retry_after_ms;
        // The rest of its body is not read. (That of a message which is too large was.)
        let leaves_body = [ApiCode::RequestTimeout.shown().0, ErrorCode::FrameTooLarge.value()].contains(&self.0.code);
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait) = wait {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.div_ceil(1000)));
        }
        if leaves_body {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"arcyou\""));
        }
        response
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_documented_beside_its_status() {
        let page = include_str!("../../../docs/backend.md");
        let codes = ApiCode::ALL.iter().map(|code| code.shown());
        let shared = ErrorCode::ALL.iter().map(|code| (code.value(), status_of(*code)));
        // What no request of a service comes to.
        let of_sockets = |status: StatusCode| status == StatusCode::BAD_REQUEST;
        for (code, status) in codes.chain(shared.filter(|(_, status)| !of_sockets(*status))) {
            let row = page.lines().find(|line| line.starts_with(&format!("| {} |", status.as_u16())));
            assert!(row.unwrap().contains(&format!("`{code}`")), "{code} is not in the row of {status}");
        }
    }
}
