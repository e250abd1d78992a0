//! The inbound line, top to bottom: authorize → plugin chain → batch → transaction → ack.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use metrics::{Counter, Histogram, counter, histogram};
use tokio::sync::oneshot;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use crate::audit::Audit;
use crate::authorize::{Asked, Joined, Submitted, authorize, not_participant};
use crate::batch::{Batcher, NotStored, Outcome};
use crate::plugins::{Admission, PluginHost, Rejection, Screening};
use crate::protocol::{ErrorCode, Failure, Reply, SendStatus};
use crate::store::{Committed, Earlier, Store};

/// What every send passes through.
#[derive(Clone)]
pub struct Ingress {
    pub(crate) store: Store,
    pub(crate) plugins: Arc<PluginHost>,
    pub(crate) batcher: Batcher,
    pub(crate) audit: Audit,
    pub(crate) meter: Arc<SendMeter>,
}

/// What is counted about sends. Looked up once: finding a metric by its labels costs as much as reading a frame.
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
    fn note(&self, since: Instant, result: &Result<Reply, Failure>) {
        let outcome = match result {
            Ok(Reply::Send { status: SendStatus::Stored(_), duplicate: false }) => "stored",
            Ok(Reply::Send { status: SendStatus::Held, .. }) => "held",
            Ok(Reply::Send { status: SendStatus::Discarded, .. }) => "discarded",
            Ok(_) => "duplicate",
            Err(failure) => failure.code.value(),
        };
        match outcome {
            "stored" => self.stored.increment(1),
            other => counter!("arcyou_sends_total", "outcome" => other).increment(1),
        }
        let elapsed = since.elapsed();
        self.seconds.record(elapsed);
        tracing::debug!(outcome, ?elapsed, "answered");
    }
}

/// A send that was taken as far as the batch, or no further.
pub struct Accepted {
    since: Instant,
    span: Span,
    meter: Arc<SendMeter>,
    answer: Answer,
}

/// An answer, or the promise of one.
enum Answer {
    /// Known already; taken when it is given.
    Ready(Option<Result<Reply, Failure>>),
    /// Known after the commit.
    Pending(oneshot::Receiver<Outcome>),
}

impl Ingress {
    /// Takes a message as far as the batch. Calls for one socket must follow one another, so that its messages are stored
    /// in the order of its frames; what is pending may then be awaited side by side.
    pub async fn accept(&self, message: Submitted, joined: Option<&Joined>, asked: &mut Asked) -> Accepted {
        let since = Instant::now();
        let span = tracing::debug_span!("send", conversation = %message.conversation, sender = %message.sender);
        let handed_over = self.hand_over(message, joined, asked).instrument(span.clone()).await;
        let answer = handed_over.unwrap_or_else(|failure| Answer::Ready(Some(Err(failure))));
        Accepted { since, span, meter: self.meter.clone(), answer }
    }

    async fn hand_over(
        &self,
        message: Submitted,
        joined: Option<&Joined>,
        asked: &mut Asked,
    ) -> Result<Answer, Failure> {
        let repeat = message.idempotency_key.clone().map(|key| (message.conversation, message.sender, key));
        let (conversation, sender) = (message.conversation, message.sender);
        let permitted = authorize(&self.store, message, joined, asked).await;
        let screening = match permitted {
            Ok(permitted) => Ok(self.plugins.chain().screen(permitted).await),
            Err(failure) => Err(failure),
        };
        let kept = screening.as_ref().ok().and_then(|screening| self.audit.about(conversation, sender, screening));
        let refused = match screening {
            Ok(Screening::Screened(screened)) => {
                return self.batcher.submit(screened).map(Answer::Pending).map_err(refusal);
            }
            Ok(Screening::Discarded { .. }) => Ok(sent(SendStatus::Discarded, false)),
            Ok(Screening::Rejected(rejection)) => Err(rejected(rejection)),
            Ok(Screening::Failed { by }) => Err(plugin_failed(by.plugin.clone(), "nothing was stored")),
            Err(failure) => Err(failure),
        };
        let earlier = match repeat {
            Some((conversation, sender, key)) => Box::pin(self.earlier(conversation, sender, &key)).await?,
            None => None,
        };
        if earlier.is_none() {
            self.audit.note(kept);
        }
        Ok(Answer::Ready(Some(earlier.map_or(refused, Ok))))
    }

    /// Asks the plugins whether a participant may join a conversation.
    pub async fn admit(&self, conversation: Uuid, user: Uuid, role: &str) -> Result<(), Failure> {
        match self.plugins.chain().admit(conversation, user, role).await {
            Admission::Allowed => Ok(()),
            Admission::Refused(rejection) => Err(rejected(rejection)),
            Admission::Failed { by } => Err(plugin_failed(by.plugin.clone(), "the conversation was not joined")),
        }
    }

    /// What is stored or held already is not refused, whatever the plugins say by now: a reload or a flood limit must not turn
    /// a repeat into a refusal. What they let through need not be looked up, since the message's own transaction does.
    async fn earlier(&self, conversation: Uuid, sender: Uuid, key: &str) -> Result<Option<Reply>, Failure> {
        let earlier = self.store.find_by_key(conversation, sender, key).await?;
        Ok(earlier.map(|earlier| match earlier {
            Earlier::Stored(ids) => sent(SendStatus::Stored(ids), true),
            Earlier::Held => sent(SendStatus::Held, true),
        }))
    }
}

impl Accepted {
    /// The answer, once. Counts it.
    pub fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Reply, Failure>> {
        // A lane that is gone without an answer may have stored the message; so may one whose answer was taken already.
        let unknown = || reply(Err(NotStored::Unknown));
        let result = match &mut self.answer {
            Answer::Ready(result) => result.take().unwrap_or_else(unknown),
            Answer::Pending(outcome) => match Pin::new(outcome).poll(context) {
                Poll::Ready(outcome) => outcome.map_or_else(|_| unknown(), reply),
                Poll::Pending => return Poll::Pending,
            },
        };
        self.span.in_scope(|| self.meter.note(self.since, &result));
        Poll::Ready(result)
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

fn plugin_failed(plugin: Arc<str>, and: &str) -> Failure {
    let text = format!("a plugin failed and {and}; try again, or tell the operator");
    let mut failure = Failure::new(ErrorCode::PluginFailed, text);
    failure.plugin = Some(plugin);
    failure
}
