//! Users who are disconnected: their sockets end here within about a second, and their older tokens are refused.
//!
//! No cutoff is missed, whenever it commits. A socket is registered first (`registry`), and then the database is asked
//! about its user: what committed before that is in the answer. What commits later is found by the next look for new
//! cutoffs (`watch`), which begins where the one before could not see everything yet, and ends the sockets that are
//! registered. While the database does not answer, a socket stays unproven: it may authenticate, and is proven before
//! it asks for anything.

mod registry;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use arcyou_protocol::{ErrorCode, Failure};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use uuid::Uuid;

use self::registry::{Registry, Ticket};
use self::watch::Question;
use crate::auth::Issued;
use crate::fanout::outbound::Outbound;
use crate::store::{SchemaGate, Store};

/// Users that wait to be asked about; the next ones wait for room.
const QUESTIONS: usize = 1024;
/// How long an answer is waited for.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cutoffs {
    registry: Arc<Registry>,
    questions: mpsc::Sender<Question>,
}

/// Why a token is not proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unproven {
    /// The user was disconnected after the token was issued.
    Revoked,
    /// The database does not answer.
    Unknown,
}

impl Unproven {
    /// What a client is told.
    pub fn failure(self) -> Failure {
        match self {
            Self::Revoked => {
                let text = "the user was disconnected after this token was issued; get a fresh one";
                Failure::new(ErrorCode::TokenRevoked, text)
            }
            Self::Unknown => {
                let text = "the database cannot be reached for now, so nobody knows whether this token is revoked";
                Failure::new(ErrorCode::Unavailable, text)
            }
        }
    }
}

impl Cutoffs {
    /// Nobody is registered yet; the task does the asking, and never ends.
    pub fn start(store: Store, gate: SchemaGate) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let registry = Arc::<Registry>::default();
        let (questions, asked) = mpsc::channel(QUESTIONS);
        (Self { registry: registry.clone(), questions }, watch::keep_watching(store, gate, registry, asked))
    }

    /// Registers a socket of `user`, whose reader is woken when a cutoff ends it.
    pub fn register(&self, user: Uuid, issued: Issued, outbound: Arc<Outbound>) -> Standing {
        let is_proven = issued == Issued::Never;
        Standing { ticket: self.registry.register(user, issued, outbound), is_proven }
    }

    /// Whether a token of `user` is good, as far as cutoffs go. For what is no socket, such as one request over HTTP.
    pub async fn prove(&self, user: Uuid, issued: Issued) -> Result<(), Unproven> {
        if issued == Issued::Never {
            return Ok(());
        }
        let (answer, answered) = oneshot::channel();
        let asking = async {
            self.questions.send(Question { user, answer }).await.ok()?;
            answered.await.ok()
        };
        match timeout(ANSWER_WITHIN, asking).await {
            Ok(Some(Some(not_before))) if issued.is_refused_by(not_before) => Err(Unproven::Revoked),
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => Err(Unproven::Unknown),
        }
    }
}

/// What a socket's last token is worth, as far as cutoffs go. Dropping it ends the registration.
#[derive(Debug)]
#[must_use = "dropping it ends the registration"]
pub struct Standing {
    ticket: Ticket,
    is_proven: bool,
}

impl Standing {
    /// Whether a cutoff has ended the socket.
    pub fn is_ended(&self) -> bool {
        self.ticket.is_ended()
    }

    /// Whether the database was asked about the token.
    pub fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Asks about the token, if that is still to be done.
    pub async fn prove(&mut self, cutoffs: &Cutoffs) -> Result<(), Unproven> {
        if !self.is_proven {
            cutoffs.prove(self.ticket.user(), self.ticket.issued()).await?;
            self.is_proven = true;
        }
        Ok(())
    }

    /// The socket goes on with another token of the same user, which was proven.
    pub fn renew(&mut self, issued: Issued) {
        self.ticket.renew(issued);
        self.is_proven = true;
    }
}
