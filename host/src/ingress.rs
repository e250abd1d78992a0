//! The inbound line, top to bottom: repeat? → authorize → plugin chain → batch → transaction → ack.

use std::sync::Arc;
use std::time::Instant;

use metrics::{counter, histogram};
use tokio::sync::oneshot;
use tracing::{Instrument as _, Span};

use crate::audit::Audit;
use crate::authorize::{Joined, Submitted, authorize, not_participant};
use crate::batch::{Batcher, NotStored, Outcome};
use crate::plugins::{PluginHost, Rejection, Screening};
use crate::protocol::{ErrorCode, Failure, Reply, SendStatus};
use crate::store::{Committed, Earlier, Store};

/// What every send passes through.
#[derive(Clone)]
pub struct Ingress {
    pub(crate) store: Store,
    pub(crate) plugins: Arc<PluginHost>,
    pub(crate) batcher: Batcher,
    pub(crate) audit: Audit,
}

/// A send that was taken as far as the batch, or no further.
#[derive(Debug)]
pub struct Accepted {
    since: Instant,
    span: Span,
    answer: Answer,
}

/// An answer, or the promise of one.
#[derive(Debug)]
enum Answer {
    /// Known already.
    Ready(Result<Reply, Failure>),
    /// Known after the commit.
    Pending(oneshot::Receiver<Outcome>),
}

impl Ingress {
    /// Takes a message as far as the batch. Calls for one socket must follow one another, so that its messages are stored
    /// in the order of its frames; what is pending may then be awaited side by side.
    pub async fn accept(&self, message: Submitted, joined: Option<&Joined>) -> Accepted {
        let since = Instant::now();
        let span = tracing::debug_span!("send", conversation = %message.conversation, sender = %message.sender);
        let handed_over = self.hand_over(message, joined).instrument(span.clone()).await;
        let answer = handed_over.unwrap_or_else(|failure| Answer::Ready(Err(failure)));
        Accepted { since, span, answer }
    }

    async fn hand_over(&self, message: Submitted, joined: Option<&Joined>) -> Result<Answer, Failure> {
        if let Some(reply) = self.repeat(&message).await? {
            return Ok(Answer::Ready(Ok(reply)));
        }
        let (conversation, sender) = (message.conversation, message.sender);
        let permitted = authorize(&self.store, message, joined).await?;
        let screening = self.plugins.chain().screen(permitted);
        self.audit.note(conversation, sender, &screening);
        match screening {
            Screening::Screened(screened) => Ok(Answer::Pending(self.batcher.submit(screened).map_err(refusal)?)),
            Screening::Discarded { .. } => Ok(Answer::Ready(Ok(sent(SendStatus::Discarded, false)))),
            Screening::Rejected(rejection) => Err(rejected(rejection)),
            Screening::Failed { by } => Err(plugin_failed(by.plugin.clone())),
        }
    }

    /// A key that was used before is answered before the plugins run: a reload or a flood limit must not refuse what is
    /// stored already. (The constraint in the message's transaction stays the truth.)
    async fn repeat(&self, message: &Submitted) -> Result<Option<Reply>, Failure> {
        let Some(key) = &message.idempotency_key else { return Ok(None) };
        let earlier = self.store.find_by_key(message.conversation, message.sender, key).await?;
        Ok(earlier.map(|earlier| match earlier {
            Earlier::Stored(ids) => sent(SendStatus::Stored(ids), true),
            Earlier::Held => sent(SendStatus::Held, true),
        }))
    }
}

impl Accepted {
    /// The answer itself. Counts it.
    pub async fn resolve(self) -> Result<Reply, Failure> {
        let result = match self.answer {
            Answer::Ready(result) => result,
            // A lane that is gone without an answer may have stored the message.
            Answer::Pending(outcome) => reply(outcome.await.unwrap_or(Err(NotStored::Unknown))),
        };
        let outcome = match &result {
            Ok(Reply::Send { status: SendStatus::Stored(_), duplicate: false }) => "stored",
            Ok(Reply::Send { status: SendStatus::Held, .. }) => "held",
            Ok(Reply::Send { status: SendStatus::Discarded, .. }) => "discarded",
            Ok(_) => "duplicate",
            Err(failure) => failure.code.value(),
        };
        counter!("arcyou_sends_total", "outcome" => outcome).increment(1);
        histogram!("arcyou_ack_seconds").record(self.since.elapsed());
        self.span.in_scope(|| tracing::debug!(outcome, elapsed = ?self.since.elapsed(), "answered"));
        result
    }
}

fn sent(status: SendStatus, duplicate: bool) -> Reply {
    Reply::Send { status, duplicate }
}

fn reply(outcome: Outcome) -> Result<Reply, Failure> {
    match outcome {
        Ok(Committed::Stored { ids, repeated }) => Ok(sent(SendStatus::Stored(ids), repeated)),
        Ok(Committed::Held { repeated }) => Ok(sent(SendStatus::Held, repeated)),
        Ok(Committed::Forbidden) => Err(not_participant()),
        // Only handed back to the lane, never out of it.
        Ok(Committed::Busy) => Err(refusal(NotStored::Unavailable)),
        Err(error) => Err(refusal(error)),
    }
}

fn refusal(error: NotStored) -> Failure {
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
            "the database cannot be reached; nothing was stored, try again in a moment",
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

fn rejected(rejection: Rejection) -> Failure {
    Failure {
        code: ErrorCode::Rejected,
        text: rejection.reason,
        retry_after_ms: rejection.retry_after_ms.map(u64::from),
        plugin: Some(rejection.by.plugin.clone()),
        reject_code: Some(rejection.code),
        conversation: None,
    }
}

fn plugin_failed(plugin: Arc<str>) -> Failure {
    let mut failure = Failure::new(
        ErrorCode::PluginFailed,
        "a plugin failed and nothing was stored; try again, or tell the operator",
    );
    failure.plugin = Some(plugin);
    failure
}
