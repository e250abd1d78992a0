//! The inbound line, top to bottom: authorize → plugin chain → batch → transaction → ack.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use arcyou_plugin_host::{Admission, PluginHost, Rejection};
use arcyou_protocol::body::{Body, BodyLimits};
use arcyou_protocol::{Action, EditStatus, ErrorCode, Failure, Op, Reply, SendStatus, StoredIds};
use futures_util::future::BoxFuture;
use metrics::{Counter, Histogram, counter, histogram};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;
use tokio::time::timeout;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use crate::audit::Audit;
use crate::authorize::{KnownRole, Permitted, RoleCache, Submitted, authorize, not_participant};
use crate::batch::{Batcher, NotStored, Outcome};
use crate::screen::{Screening, Standing, screen};
use crate::store::{ChangeRefusal, Committed, ExistingEdit, ExistingSend, Store, logged};

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
    fn note(&self, op: Op, since: Instant, result: &Result<Reply, Failure>) {
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

/// A command that was taken as far as the batch, or no further. It is the future of its answer.
pub struct Accepted {
    op: Op,
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
        earlier: Option<Box<Earlier>>,
        /// What a reply repeats, if it is no send.
        about: Option<Box<About>>,
    },
    /// It was a repeat; how the first one was stored is being looked up.
    Repeated(BoxFuture<'static, Reply>),
}

/// A send or an edit that may have been made before, under the same idempotency key.
struct Earlier {
    store: Store,
    conversation: Uuid,
    sender: Uuid,
    key: Box<str>,
    /// The edited message; none: it was a send.
    edits: Option<i64>,
}

/// Which message a change is about.
struct About {
    conversation: Uuid,
    message_id: i64,
    /// None: it is edited or deleted.
    reaction: Option<Box<str>>,
    is_edit: bool,
}

impl About {
    fn of(conversation: Uuid, action: &Action) -> Option<Box<Self>> {
        let (message_id, reaction, is_edit) = match action {
            Action::Send { .. } => return None,
            Action::Edit { message_id, .. } => (*message_id, None, true),
            Action::Delete { message_id } => (*message_id, None, false),
            Action::React { message_id, reaction, .. } => (*message_id, Some(reaction.clone()), false),
        };
        Some(Box::new(Self { conversation, message_id, reaction, is_edit }))
    }

    fn edited(&self, status: EditStatus, duplicate: bool, body: Option<Body>) -> Reply {
        let Self { conversation, message_id, .. } = *self;
        Reply::Edit { conversation, message_id, status, duplicate, body }
    }
}

impl Ingress {
    /// Takes a command as far as the batch. Calls for one socket must follow one another, so that its changes are
    /// stored in the order of its frames; what is pending may then be awaited side by side.
    pub async fn accept(&self, submitted: Submitted, known: Option<KnownRole>, role_cache: &mut RoleCache) -> Accepted {
        let since = Instant::now();
        let (op, conversation) = (submitted.command.action.op(), submitted.command.conversation);
        let span = tracing::debug_span!("command", op = op.value(), %conversation, sender = %submitted.sender);
        let handed_over = self.hand_over(submitted, known, role_cache).instrument(span.clone()).await;
        let answer = handed_over.unwrap_or_else(|failure| Answer::Ready(Some(Err(failure))));
        Accepted { op, since, span, meter: self.meter.clone(), answer }
    }

    async fn hand_over(
        &self,
        submitted: Submitted,
        known: Option<KnownRole>,
        role_cache: &mut RoleCache,
    ) -> Result<Answer, Failure> {
        let (conversation, sender) = (submitted.command.conversation, submitted.sender);
        let about = About::of(conversation, &submitted.command.action);
        let edits = about.as_ref().filter(|about| about.is_edit).map(|about| about.message_id);
        let key = submitted.command.idempotency_key.clone().filter(|_| about.is_none() || edits.is_some());
        let earlier = key.map(|key| Box::new(Earlier { store: self.store.clone(), conversation, sender, key, edits }));
        let permitted = authorize(&self.store, submitted, known, role_cache).await;
        let screening = match permitted {
            Ok(permitted) => self.screen(permitted).await,
            Err(failure) => Err(failure),
        };
        let entry = screening.as_ref().ok().and_then(|screening| self.audit.about(conversation, sender, screening));
        let refused = match screening {
            Ok(Screening::Screened(screened)) => {
                let replaced = screened.replaced_body();
                let outcome = self.batcher.submit(screened).map_err(refusal)?;
                return Ok(Answer::Pending { outcome, replaced, earlier, about });
            }
            Ok(Screening::Discarded { .. }) => Ok(match about {
                Some(about) => about.edited(EditStatus::Discarded, false, None),
                None => sent(SendStatus::Discarded, false, None),
            }),
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

    /// Asks the plugins. What they judge of an edit is shown beside what stands, so that is read first, and an edit that
    /// cannot be made need not be judged.
    async fn screen(&self, permitted: Permitted) -> Result<Screening, Failure> {
        let chain = self.plugins.chain();
        let Action::Edit { message_id, .. } = permitted.command().action else {
            return Ok(screen(&chain, permitted, None).await);
        };
        if chain.is_empty() {
            return Ok(screen(&chain, permitted, None).await);
        }
        let conversation = permitted.command().conversation;
        let standing = self.store.standing_message(conversation, message_id).await.map_err(logged)?;
        let standing = standing.ok_or(ChangeRefusal::UnknownMessage).map_err(refused_change)?;
        if standing.sender != permitted.sender() {
            return Err(refused_change(ChangeRefusal::NotAuthor));
        }
        let Some(body) = standing.body.and_then(as_stored) else {
            return Err(refused_change(ChangeRefusal::Deleted));
        };
        let standing = Standing { message_id, version: standing.version.unsigned_abs(), body };
        Ok(screen(&chain, permitted, Some(&standing)).await)
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

impl Earlier {
    /// The reply to a repeat, if there was one.
    async fn reply(&self) -> Result<Option<Reply>, Failure> {
        if self.edits.is_some() {
            return self.reply_to_edit().await;
        }
        let existing = self.store.find_by_key(self.conversation, self.sender, &self.key).await.map_err(logged)?;
        Ok(existing.map(|existing| match existing {
            ExistingSend::Stored { ids, body } => sent(SendStatus::Stored(ids), true, body.and_then(as_stored)),
            ExistingSend::Held(id) => sent(SendStatus::Held(id), true, None),
        }))
    }

    async fn reply_to_edit(&self) -> Result<Option<Reply>, Failure> {
        let Self { store, conversation, sender, key, edits } = self;
        let existing = store.find_edit_by_key(*conversation, *sender, key).await.map_err(logged)?;
        let reply = |message_id, status| Reply::Edit {
            conversation: *conversation,
            message_id,
            status,
            duplicate: true,
            body: None,
        };
        let existing = existing.filter(|existing| Some(existing.message_id()) == *edits);
        Ok(existing.map(|existing| match existing {
            ExistingEdit::Stored { message_id, change } => reply(message_id, EditStatus::Stored(change)),
            ExistingEdit::Held { message_id, id } => reply(message_id, EditStatus::Held(id)),
        }))
    }

    /// The same for a send that is known to be stored.
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
                Answer::Pending { outcome, replaced, earlier, about } => {
                    let outcome = ready!(Pin::new(outcome).poll(context));
                    self.answer = concluded(outcome, replaced.take(), earlier.take(), about.take());
                }
            }
        };
        self.span.in_scope(|| self.meter.note(self.op, self.since, &result));
        Poll::Ready(result)
    }
}

fn sent(status: SendStatus, duplicate: bool, body: Option<Body>) -> Reply {
    Reply::Send { status, duplicate, body }
}

/// What is answered after the commit.
fn concluded(
    outcome: Result<Outcome, RecvError>,
    replaced: Option<Body>,
    earlier: Option<Box<Earlier>>,
    about: Option<Box<About>>,
) -> Answer {
    // A lane that is gone without an answer may have stored the message.
    let outcome = outcome.unwrap_or(Err(NotStored::Unknown));
    if let Some(about) = about {
        return Answer::Ready(Some(changed(outcome, replaced, *about)));
    }
    let result = match (outcome, earlier) {
        // What is stored is what the first one made of it.
        (Ok(Committed::Stored { ids, repeated: true }), Some(earlier)) => {
            return Answer::Repeated(Box::pin(earlier.reply_stored(ids)));
        }
        (Ok(Committed::Stored { ids, repeated }), _) => {
            Ok(sent(SendStatus::Stored(ids), repeated, replaced.filter(|_| !repeated)))
        }
        (Ok(Committed::Held { id, repeated }), _) => Ok(sent(SendStatus::Held(id), repeated, None)),
        (Ok(Committed::Forbidden), _) => Err(not_participant()),
        (Ok(Committed::Refused(refusal)), _) => Err(refused_change(refusal)),
        // No send is answered so.
        (Ok(Committed::Changed { .. } | Committed::Reacted { .. }), _) => Err(Failure::internal()),
        (Err(error), _) => Err(refusal(error)),
    };
    Answer::Ready(Some(result))
}

/// The same for what is no send.
fn changed(outcome: Outcome, replaced: Option<Body>, about: About) -> Result<Reply, Failure> {
    let About { conversation, message_id, .. } = about;
    match outcome {
        Ok(Committed::Changed { change, repeated }) if about.is_edit => {
            Ok(about.edited(EditStatus::Stored(change), repeated, replaced.filter(|_| !repeated)))
        }
        Ok(Committed::Changed { change, repeated }) => {
            Ok(Reply::Delete { conversation, message_id, change, duplicate: repeated })
        }
        Ok(Committed::Held { id, repeated }) => Ok(about.edited(EditStatus::Held(id), repeated, None)),
        Ok(Committed::Reacted { count, seq, repeated }) => {
            let reaction = about.reaction.unwrap_or_default();
            Ok(Reply::React { conversation, message_id, reaction, count, seq, duplicate: repeated })
        }
        Ok(Committed::Forbidden) => Err(not_participant()),
        Ok(Committed::Refused(refusal)) => Err(refused_change(refusal)),
        Ok(Committed::Stored { .. }) => Err(Failure::internal()),
        Err(error) => Err(refusal(error)),
    }
}

fn refused_change(refusal: ChangeRefusal) -> Failure {
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
        version: None,
    }
}

fn plugin_failed(plugin: Arc<str>, and: &str) -> Failure {
    let text = format!("a plugin failed and {and}; try again, or tell the operator");
    let mut failure = Failure::new(ErrorCode::PluginFailed, text);
    failure.plugin = Some(plugin);
    failure
}
