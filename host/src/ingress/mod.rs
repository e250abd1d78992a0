//! The inbound line, top to bottom: authorize → plugin chain → batch → transaction → ack.

mod accepted;
mod earlier;
mod meter;
mod refusals;

use std::sync::Arc;
use std::time::Instant;

use arcyou_plugin_host::{Admission, PluginHost};
use arcyou_protocol::{Action, EditStatus, Failure, SendStatus};
use tracing::Instrument as _;
use uuid::Uuid;

pub use accepted::Accepted;
pub use meter::SendMeter;
pub(crate) use meter::{CHANGE_OPS, CHANGE_REFUSALS, OUTCOMES, REFUSALS};

use accepted::{About, Answer};
use earlier::{Earlier, as_stored, sent};
use refusals::{plugin_failed, refusal, refused_change, rejected};

use crate::audit::Audit;
use crate::authorize::{Permitted, Role, RoleCache, Submitted, authorize};
use crate::batch::Batcher;
use crate::screen::{Screening, Standing, screen};
use crate::store::{ChangeRefusal, Store, logged};

/// What every command passes through, whoever carries it: a socket, or a service.
#[derive(Clone)]
pub struct Ingress {
    pub(crate) store: Store,
    pub(crate) plugins: Arc<PluginHost>,
    pub(crate) batcher: Batcher,
    pub(crate) audit: Audit,
    pub(crate) meter: Arc<SendMeter>,
}

impl Ingress {
    /// Takes a command as far as the batch. Calls for one socket must follow one another, so that its changes are
    /// stored in the order of its frames; what is pending may then be awaited side by side.
    pub async fn accept(&self, submitted: Submitted, role: Role, role_cache: &mut RoleCache) -> Accepted {
        let since = Instant::now();
        let (op, conversation) = (submitted.command.action.op(), submitted.command.conversation);
        let span = tracing::debug_span!("command", op = op.value(), %conversation, sender = %submitted.sender);
        let handed_over = self.hand_over(submitted, role, role_cache).instrument(span.clone()).await;
        let answer = handed_over.unwrap_or_else(|failure| Answer::Ready(Some(Err(failure))));
        Accepted { op, since, span, meter: self.meter.clone(), answer }
    }

    async fn hand_over(&self, submitted: Submitted, role: Role, role_cache: &mut RoleCache) -> Result<Answer, Failure> {
        let (conversation, sender) = (submitted.command.conversation, submitted.sender);
        let about = About::of(conversation, &submitted.command.action);
        let edits = about.as_ref().filter(|about| about.is_edit).map(|about| about.message_id);
        let key = submitted.command.idempotency_key.clone().filter(|_| about.is_none() || edits.is_some());
        let earlier = key.map(|key| Box::new(Earlier { store: self.store.clone(), conversation, sender, key, edits }));
        let permitted = authorize(&self.store, submitted, role, role_cache).await;
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

    /// Asks the plugins. What they judge of an edit is shown beside what stands, so that is read first, and an edit
    /// that cannot be made need not be judged.
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
