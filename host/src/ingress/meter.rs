//! What is counted about commands.

use std::time::Instant;

use arcyou_protocol::{EditStatus, ErrorCode, Failure, Op, Reply, SendStatus};
use metrics::{Counter, Histogram, counter, histogram};

/// What becomes of a command that is not refused.
pub(crate) const OUTCOMES: &[&str] = &["stored", "held", "discarded", "duplicate"];

/// Why one is refused.
pub(crate) const REFUSALS: &[ErrorCode] = &[
    ErrorCode::NotParticipant,
    ErrorCode::ConversationReadOnly,
    ErrorCode::Blocked,
    ErrorCode::Rejected,
    ErrorCode::PluginFailed,
    ErrorCode::Overloaded,
    ErrorCode::Unavailable,
    ErrorCode::OutcomeUnknown,
    ErrorCode::UnstorableText,
    ErrorCode::Internal,
    ErrorCode::UnknownMessage,
    ErrorCode::MessageDeleted,
];

/// Why one of another kind is refused as well.
pub(crate) const CHANGE_REFUSALS: &[ErrorCode] = &[
    ErrorCode::NotAuthor,
    ErrorCode::EditTooLate,
    ErrorCode::VersionConflict,
    ErrorCode::TooManyReactions,
    ErrorCode::KeyReused,
];

/// The commands beside a send.
pub(crate) const CHANGE_OPS: &[Op] = &[Op::Edit, Op::Delete, Op::React];

/// What is counted about commands. Looked up once: finding a metric by its labels costs as much as reading a frame.
pub struct SendMeter {
    stored: Counter,
    seconds: Histogram,
}

impl Default for SendMeter {
    fn default() -> Self {
        Self {
            stored: counter!("arcyou_sends_total", "outcome" => "stored"),
            seconds: histogram!("arcyou_ack_seconds"),
        }
    }
}

impl SendMeter {
    pub(super) fn note(&self, op: Op, since: Instant, result: &Result<Reply, Failure>) {
        let outcome = match result {
            Ok(Reply::Send { status: SendStatus::Held(_), .. } | Reply::Edit { status: EditStatus::Held(_), .. }) => {
                "held"
            }
            Ok(
                Reply::Send { status: SendStatus::Discarded, .. } | Reply::Edit { status: EditStatus::Discarded, .. },
            ) => "discarded",
            Ok(
                Reply::Send { duplicate: true, .. }
                | Reply::Edit { duplicate: true, .. }
                | Reply::Delete { duplicate: true, .. }
                | Reply::React { duplicate: true, .. },
            ) => "duplicate",
            Ok(_) => "stored",
            Err(failure) => failure.code.value(),
        };
        match (op, outcome) {
            (Op::Send, "stored") => self.stored.increment(1),
            (Op::Send, other) => counter!("arcyou_sends_total", "outcome" => other).increment(1),
            (op, outcome) => counter!("arcyou_changes_total", "op" => op.value(), "outcome" => outcome).increment(1),
        }
        let elapsed = since.elapsed();
        self.seconds.record(elapsed);
        tracing::debug!(outcome, ?elapsed, "answered");
    }
}
