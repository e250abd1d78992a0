//! Whom a request comes from, and what it is let do.

use std::net::IpAddr;
use std::sync::Arc;

use arcyou_protocol::Failure;
use axum::extract::{ConnectInfo, FromRef, FromRequestParts};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use uuid::Uuid;

use super::access::Access;
use super::kept_connection::KeptConnection;
use super::key::Scope;
use super::problem::{ApiCode, Problem};
use crate::store::ApiKey;

/// The service that a request comes from.
pub(super) struct Caller {
    key: Arc<ApiKey>,
}

impl Caller {
    /// Refuses what the key is not for.
    pub(super) fn may(&self, scope: Scope) -> Result<(), Problem> {
        if self.key.scopes.iter().any(|held| held == scope.name()) {
            return Ok(());
        }
        let name = scope.name();
        Err(Problem::new(ApiCode::MissingScope, format!("the key lacks the scope {name}; make another one with it")))
    }

    /// The user that the request acts for: the key's, or the one that it names.
    pub(super) fn sender(&self, named: Option<Uuid>) -> Result<Option<Uuid>, Problem> {
        match (self.key.sender, named) {
            (Some(own), Some(named)) if own != named => {
                let text = format!("the key acts for the user {own} alone; name that one or none");
                Err(Problem::new(ApiCode::OtherSender, text))
            }
            (own, named) => Ok(own.or(named)),
        }
    }

    /// The same where somebody must be named.
    pub(super) fn required_sender(&self, named: Option<Uuid>) -> Result<Uuid, Problem> {
        self.sender(named)?.ok_or_else(|| {
            Problem::new(ApiCode::SenderRequired, "say which user it is from, or use a key that acts for one")
        })
    }

    /// As audit rows name whoever decides.
    pub(super) fn name(&self) -> &str {
        &self.key.name
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller
where
    Access: FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let text = header.and_then(|value| value.split_once(' '));
        let text = text.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, text)| text.trim());
        let Some(text) = text else {
            let text = "the request must have the header Authorization: Bearer arcyou_…; `arcyou-gateway key create` makes keys";
            return Err(Problem::new(ApiCode::InvalidApiKey, text));
        };
        // Each connection's requests have it; without one nobody could be told from others.
        let peer = parts.extensions.get::<ConnectInfo<IpAddr>>().ok_or_else(Failure::internal)?.0;
        let key = Access::from_ref(state).key(text, peer, &parts.headers).await?;
        if let Some(connection) = parts.extensions.get::<KeptConnection>() {
            connection.keep(key.id);
        }
        Ok(Self { key })
    }
}
