//! From a command that was handed to the batch to its answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use arcyou_protocol::body::Body;
use arcyou_protocol::{Action, EditStatus, ErrorCode, Failure, Op, Reply, SendStatus};
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;
use tracing::Span;
use uuid::Uuid;

use super::earlier::{Earlier, sent};
use super::meter::SendMeter;
use super::refusals::{refusal, refused_change};
use crate::authorize::not_participant;
use crate::batch::{NotStored, Outcome};
use crate::store::Committed;

/// A command that was taken as far as the batch, or no further. It is the future of its answer.
pub struct Accepted {
    pub(super) op: Op,
    pub(super) since: Instant,
    pub(super) span: Span,
    pub(super) meter: Arc<SendMeter>,
    pub(super) answer: Answer,
}

/// An answer, or the promise of one.
pub(super) enum Answer {
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

/// Which message a change is about.
pub(super) struct About {
    conversation: Uuid,
    pub(super) message_id: i64,
    /// None: it is edited or deleted.
    reaction: Option<Box<str>>,
    pub(super) is_edit: bool,
}

impl About {
    pub(super) fn of(conversation: Uuid, action: &Action) -> Option<Box<Self>> {
        let (message_id, reaction, is_edit) = match action {
            Action::Send { .. } => return None,
            Action::Edit { message_id, .. } => (*message_id, None, true),
            Action::Delete { message_id, .. } => (*message_id, None, false),
            Action::React { message_id, reaction, .. } => (*message_id, Some(reaction.clone()), false),
        };
        Some(Box::new(Self { conversation, message_id, reaction, is_edit }))
    }

    pub(super) fn edited(&self, status: EditStatus, duplicate: bool, body: Option<Body>) -> Reply {
        let Self { conversation, message_id, .. } = *self;
        Reply::Edit { conversation, message_id, status, duplicate, body }
    }
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

/// What is answered after the commit.
fn concluded(
    outcome: Result<Outcome, RecvError>,
    replaced: Option<Body>,
    earlier: Option<Box<Earlier>>,
    about: Option<Box<About>>,
) -> Answer {
    // A lane that is gone without an answer may have stored the message.
    let outcome = outcome.unwrap_or(Err(NotStored::Unknown));
    let result = match about {
        Some(about) => changed(outcome, replaced, *about),
        None => stored(outcome, replaced),
    };
    match (result, earlier) {
        // What stands may be another body than was sent now.
        (Ok(repeat), Some(earlier)) if is_stored_before(&repeat) => {
            Answer::Repeated(Box::pin(earlier.completed(repeat)))
        }
        (result, _) => Answer::Ready(Some(result)),
    }
}

fn is_stored_before(reply: &Reply) -> bool {
    matches!(
        reply,
        Reply::Send { status: SendStatus::Stored(_), duplicate: true, .. }
            | Reply::Edit { status: EditStatus::Stored(_), duplicate: true, .. }
    )
}

/// What is answered to a send.
fn stored(outcome: Outcome, replaced: Option<Body>) -> Result<Reply, Failure> {
    match outcome {
        Ok(Committed::Stored { ids, repeated }) => {
            Ok(sent(SendStatus::Stored(ids), repeated, replaced.filter(|_| !repeated)))
        }
        Ok(Committed::Held { id, repeated }) => Ok(sent(SendStatus::Held(id), repeated, None)),
        Ok(Committed::Forbidden) => Err(not_participant()),
        Ok(Committed::Refused(refusal)) => Err(refused_change(refusal)),
        // No send is answered so.
        Ok(Committed::Changed { .. } | Committed::Reacted { .. }) => Err(Failure::internal()),
        Err(error) => Err(refusal(error)),
    }
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
