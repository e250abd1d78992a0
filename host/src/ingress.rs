//! The inbound line, top to bottom: authorize → plugin chain → batch → transaction → ack.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use arcyou_plugin_host::{Admission, PluginHost, Rejection};
use arcyou_protocol::body::{Body, BodyLimits};
use arcyou_protocol::{ErrorCode, Failure, Reply, SendStatus, StoredIds};
use futures_util::future::BoxFuture;
use metrics::{Counter, Histogram, counter, histogram};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;
use tokio::time::timeout;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use crate::audit::Audit;
use crate::authorize::{JoinedRole, RoleCache, Submitted, authorize, not_participant};
use crate::batch::{Batcher, NotStored, Outcome};
use crate::screen::{Screening, screen};
use crate::store::{Committed, ExistingSend, Store, logged};

/// How long the reply to a repeated send waits for what the first one has become; without it, it is still true.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(2);

/// What every command passes through, whoever carries it: a socket, or a service.
#[derive(Clone)]
pub struct Ingress {
    pub(crate) store: Store,
    pub(crate) plugins: Arc<PluginHost>,
    pub(crate) batcher: Batcher,
    pub(crate) audit: Audit,
    pub(crate) meter: Arc<SendMeter>,
}

/// What becomes of a send that is not refused.
pub(crate) const OUTCOMES: &[&str] = &["stored", "held", "discarded", "duplicate"];

/// Why one is refused.
pub(crate) const REFUSALS: &[ErrorCode] = &[
    ErrorCode::NotParticipant,
    ErrorCode::Rejected,
    ErrorCode::PluginFailed,
    ErrorCode::Overloaded,
    ErrorCode::Unavailable,
    ErrorCode::OutcomeUnknown,
    ErrorCode::UnstorableText,
    ErrorCode::Internal,
];

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
            Ok(Reply::Send { status: SendStatus::Stored(_), duplicate: false, .. }) => "stored",
            Ok(Reply::Send { status: SendStatus::Held(_), .. }) => "held",
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

/// A command that was taken as far as the batch, or no further. It is the future of its answer.
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
    Pending {
        outcome: oneshot::Receiver<Outcome>,
        /// The body, if a plugin has replaced the one that was sent.
        replaced: Option<Body>,
        /// Where an earlier one is found that has the same idempotency key.
        earlier: Option<Box<EarlierSend>>,
    },
    /// It was a repeat; how the first one was stored is being looked up.
    Repeated(BoxFuture<'static, Reply>),
}

/// A send that may have been made before, under the same idempotency key.
struct EarlierSend {
    store: Store,
    conversation: Uuid,
    sender: Uuid,
    key: Box<str>,
}

impl Ingress {
    /// Takes a command as far as the batch. Calls for one socket must follow one another, so that its changes are
    /// stored in the order of its frames; what is pending may then be awaited side by side.
    pub async fn accept(
        &self,
        submitted: Submitted,
        joined: Option<JoinedRole>,
        role_cache: &mut RoleCache,
    ) -> Accepted {
        let since = Instant::now();
        let (op, conversation) = (submitted.command.action.op().value(), submitted.command.conversation);
        let span = tracing::debug_span!("command", op, %conversation, sender = %submitted.sender);
        let handed_over = self.hand_over(submitted, joined, role_cache).instrument(span.clone()).await;
        let answer = handed_over.unwrap_or_else(|failure| Answer::Ready(Some(Err(failure))));
        Accepted { since, span, meter: self.meter.clone(), answer }
    }

    async fn hand_over(
        &self,
        submitted: Submitted,
        joined: Option<JoinedRole>,
        role_cache: &mut RoleCache,
    ) -> Result<Answer, Failure> {
        let (conversation, sender) = (submitted.command.conversation, submitted.sender);
        let key = submitted.command.idempotency_key.clone();
        let earlier = key.map(|key| Box::new(EarlierSend { store: self.store.clone(), conversation, sender, key }));
        let permitted = authorize(&self.store, submitted, joined, role_cache).await;
        let screening = match permitted {
            Ok(permitted) => Ok(screen(&self.plugins.chain(), permitted).await),
            Err(failure) => Err(failure),
        };
        let entry = screening.as_ref().ok().and_then(|screening| self.audit.about(conversation, sender, screening));
        let refused = match screening {
            Ok(Screening::Screened(screened)) => {
                let replaced = screened.replaced_body();
                let outcome = self.batcher.submit(screened).map_err(refusal)?;
                return Ok(Answer::Pending { outcome, replaced, earlier });
            }
            Ok(Screening::Discarded { .. }) => Ok(sent(SendStatus::Discarded, false, None)),
            Ok(Screening::Rejected(rejection)) => Err(rejected(rejection)),
            Ok(Screening::Failed { by, .. }) => Err(plugin_failed(by.plugin.clone(), "nothing was stored")),
            Err(failure) => Err(failure),
        };
        // What is stored or held already is not refused, whatever the plugins say by now: a reload or a flood limit
        // must not turn a repeat into a refusal. What they let through need not be looked up, since the message's own
        // transaction does.
        let existing = match earlier {
            Some(earlier) => Box::pin(earlier.reply()).await?,
            None => None,
        };
        if existing.is_none() {
            self.audit.note(entry);
        }
        Ok(Answer::Ready(Some(existing.map_or(refused, Ok))))
    }

    /// Asks the plugins whether a participant may join a conversation.
    pub async fn admit(&self, conversation: Uuid, user: Uuid, role: &str) -> Result<(), Failure> {
        match self.plugins.chain().admit(conversation, user, role).await {
            Admission::Allowed => Ok(()),
            Admission::Refused(rejection) => Err(rejected(rejection)),
            Admission::Failed { by } => Err(plugin_failed(by.plugin.clone(), "the conversation was not joined")),
        }
    }
}

impl EarlierSend {
    /// The reply to a repeat, if there was one.
    async fn reply(&self) -> Result<Option<Reply>, Failure> {
        let existing = self.store.find_by_key(self.conversation, self.sender, &self.key).await.map_err(logged)?;
        Ok(existing.map(|existing| match existing {
            ExistingSend::Stored { ids, body } => sent(SendStatus::Stored(ids), true, body.and_then(as_stored)),
            ExistingSend::Held(id) => sent(SendStatus::Held(id), true, None),
        }))
    }

    /// The same for one that is known to be stored.
    async fn reply_stored(self: Box<Self>, ids: StoredIds) -> Reply {
        match timeout(LOOK_UP_WITHIN, self.reply()).await {
            Ok(Ok(Some(reply))) => reply,
            _ => sent(SendStatus::Stored(ids), true, None),
        }
    }
}

/// The canonical form of a body that is stored.
fn as_stored(text: String) -> Option<Body> {
    Body::parse(&text, &BodyLimits { max_bytes: usize::MAX, max_depth: usize::MAX }).ok()
}

impl Accepted {
    /// Whether the gateway had no room for it.
    pub fn was_one_too_many(&self) -> bool {
        matches!(&self.answer, Answer::Ready(Some(Err(failure))) if failure.code == ErrorCode::Overloaded)
    }
}

impl Future for Accepted {
    type Output = Result<Reply, Failure>;

    /// The answer, once. Counts it.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let result = loop {
            match &mut self.answer {
                // One that was taken already may have been stored.
                Answer::Ready(result) => break result.take().unwrap_or_else(|| Err(refusal(NotStored::Unknown))),
                Answer::Repeated(reply) => break Ok(ready!(reply.as_mut().poll(context))),
                Answer::Pending { outcome, replaced, earlier } => {
                    let outcome = ready!(Pin::new(outcome).poll(context));
                    self.answer = concluded(outcome, replaced.take(), earlier.take());
                }
            }
        };
        self.span.in_scope(|| self.meter.note(self.since, &result));
        Poll::Ready(result)
    }
}

fn sent(status: SendStatus, duplicate: bool, body: Option<Body>) -> Reply {
    Reply::Send { status, duplicate, body }
}

/// What is answered after the commit.
fn concluded(outcome: Result<Outcome, RecvError>, replaced: Option<Body>, earlier: Option<Box<EarlierSend>>) -> Answer {
    // A lane that is gone without an answer may have stored the message.
    let result = match (outcome.unwrap_or(Err(NotStored::Unknown)), earlier) {
        // What is stored is what the first one made of it.
        (Ok(Committed::Stored { ids, repeated: true }), Some(earlier)) => {
            return Answer::Repeated(Box::pin(earlier.reply_stored(ids)));
        }
        (Ok(Committed::Stored { ids, repeated }), _) => {
            Ok(sent(SendStatus::Stored(ids), repeated, replaced.filter(|_| !repeated)))
        }
        (Ok(Committed::Held { id, repeated }), _) => Ok(sent(SendStatus::Held(id), repeated, None)),
        (Ok(Committed::Forbidden), _) => Err(not_participant()),
        (Err(error), _) => Err(refusal(error)),
    };
    Answer::Ready(Some(result))
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
