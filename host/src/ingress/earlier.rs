//! What a repeat is answered with.

use std::time::Duration;

use arcyou_protocol::body::{Body, BodyLimits};
use arcyou_protocol::{EditStatus, Failure, Reply, SendStatus};
use tokio::time::timeout;
use uuid::Uuid;

use crate::store::{ExistingEdit, ExistingSend, Store, logged};

/// How long the reply to a repeat waits for what the first one has become; without it, it is still true.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(2);

/// A send or an edit that may have been made before, under the same idempotency key.
pub(super) struct Earlier {
    pub(super) store: Store,
    pub(super) conversation: Uuid,
    pub(super) sender: Uuid,
    pub(super) key: Box<str>,
    /// The edited message; none: it was a send.
    pub(super) edits: Option<i64>,
}

impl Earlier {
    /// The reply to a repeat, if there was one.
    pub(super) async fn reply(&self) -> Result<Option<Reply>, Failure> {
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
        let reply = |message_id, status, body| Reply::Edit {
            conversation: *conversation,
            message_id,
            status,
            duplicate: true,
            body,
        };
        let existing = existing.filter(|existing| Some(existing.message_id()) == *edits);
        Ok(existing.map(|existing| match existing {
            ExistingEdit::Stored { message_id, change, body } => {
                reply(message_id, EditStatus::Stored(change), body.and_then(as_stored))
            }
            ExistingEdit::Held { message_id, id } => reply(message_id, EditStatus::Held(id), None),
        }))
    }

    /// The same where it is known that there was one: the reply, with the body that stands if it can be had.
    pub(super) async fn completed(self: Box<Self>, reply: Reply) -> Reply {
        match timeout(LOOK_UP_WITHIN, self.reply()).await {
            Ok(Ok(Some(complete))) => complete,
            _ => reply,
        }
    }
}

/// The canonical form of a body that is stored.
pub(super) fn as_stored(text: String) -> Option<Body> {
    Body::parse(&text, &BodyLimits { max_bytes: usize::MAX, max_depth: usize::MAX }).ok()
}

pub(super) fn sent(status: SendStatus, duplicate: bool, body: Option<Body>) -> Reply {
    Reply::Send { status, duplicate, body }
}
