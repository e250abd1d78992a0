//! What those are told whose command was not carried out.

use std::sync::Arc;

use arcyou_plugin_host::Rejection;
use arcyou_protocol::{ErrorCode, Failure};

use crate::batch::NotStored;
use crate::store::ChangeRefusal;

pub(super) fn refused_change(refusal: ChangeRefusal) -> Failure {
    let (code, text) = match refusal {
        ChangeRefusal::UnknownMessage => (ErrorCode::UnknownMessage, "this conversation has no such message"),
        ChangeRefusal::Deleted => (ErrorCode::MessageDeleted, "the message is deleted; nothing was stored"),
        ChangeRefusal::NotAuthor => (
            ErrorCode::NotAuthor,
            "the message is somebody else's: its author alone edits it, and others need a role to delete it; nothing was stored",
        ),
        ChangeRefusal::TooLate => (ErrorCode::EditTooLate, "the message is too old to be edited; send a new one"),
        ChangeRefusal::VersionConflict(_) => {
            (ErrorCode::VersionConflict, "another version stands by now; look at it, then edit that one")
        }
        ChangeRefusal::ReadOnly => (
            ErrorCode::ConversationReadOnly,
            "the conversation is read-only: nothing new is said in it; nothing was stored",
        ),
        ChangeRefusal::Blocked => {
            (ErrorCode::Blocked, "the other participant of this conversation has blocked you; nothing was stored")
        }
        ChangeRefusal::TooManyReactions => (
            ErrorCode::TooManyReactions,
            "the message has as many different reactions as it can have; choose one that it has",
        ),
        ChangeRefusal::OtherMessage => (
            ErrorCode::KeyReused,
            "this idempotency_key belongs to a change of another message; choose a new one for each change",
        ),
    };
    let mut failure = Failure::new(code, text);
    if let ChangeRefusal::VersionConflict(version) = refusal {
        failure.version = Some(version);
    }
    failure
}

pub(super) fn refusal(error: NotStored) -> Failure {
    match error {
        NotStored::Overloaded => {
            let mut failure = Failure::new(
                ErrorCode::Overloaded,
                "the gateway is overloaded; nothing was stored, try again in a moment",
            );
            failure.retry_after_ms = Some(1000);
            failure
        }
        NotStored::Unavailable => Failure::new(
            ErrorCode::Unavailable,
            "the database is away, or another transaction holds the conversation; nothing was stored, try again in a moment",
        ),
        NotStored::Unknown => Failure::new(
            ErrorCode::OutcomeUnknown,
            "the database's answer was lost and the message may be stored; send it again with the same idempotency_key",
        ),
        NotStored::Unstorable => {
            Failure::new(ErrorCode::UnstorableText, "the database cannot store this body; nothing was stored")
        }
        NotStored::Refused => Failure::internal(),
    }
}

pub(super) fn rejected(rejection: Rejection) -> Failure {
    Failure {
        code: ErrorCode::Rejected,
        text: rejection.reason,
        retry_after_ms: rejection.retry_after_ms.map(u64::from),
        plugin: Some(rejection.by.plugin.clone()),
        reject_code: Some(rejection.code),
        conversation: None,
        version: None,
    }
}

pub(super) fn plugin_failed(plugin: Arc<str>, and: &str) -> Failure {
    let text = format!("a plugin failed and {and}; try again, or tell the operator");
    let mut failure = Failure::new(ErrorCode::PluginFailed, text);
    failure.plugin = Some(plugin);
    failure
}
