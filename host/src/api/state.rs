//! What every operation has: its parts of the gateway, and how it reads a request.

use std::sync::Arc;

use arcyou_protocol::body::BodyLimits;
use axum::extract::FromRef;
use axum_extra::extract::WithRejection;
use tokio::sync::Semaphore;

use super::access::Access;
use super::object::Object;
use super::problem::Problem;
use crate::auth::Authenticator;
use crate::bounds::connections::ConnectionBounds;
use crate::ingress::Ingress;
use crate::store::Store;
use crate::wake::Wake;

/// Where the API is on its listener.
pub const PATH: &str = "/v1";
pub(super) type Json<T> = WithRejection<axum::Json<Object<T>>, Problem>;
pub(super) type Query<T> = WithRejection<axum::extract::Query<T>, Problem>;
pub(super) type Path<T> = WithRejection<axum::extract::Path<T>, Problem>;

/// The parts of a gateway that the API works with.
pub struct Parts {
    pub store: Store,
    /// What every message passes.
    pub ingress: Ingress,
    pub wake: Wake,
    pub body_limits: BodyLimits,
    /// Who knows which user an issuer's subject is.
    pub authenticator: Arc<Authenticator>,
    /// What an address, and a key, may use.
    pub bounds: Arc<ConnectionBounds>,
    /// `MAX_EXPORTS`.
    pub max_exports: usize,
}

/// What the operations need.
#[derive(Clone)]
pub struct Api {
    pub(super) store: Store,
    pub(super) ingress: Ingress,
    pub(super) wake: Wake,
    pub(super) body_limits: BodyLimits,
    pub(super) authenticator: Arc<Authenticator>,
    /// One permit for each export that may run.
    pub(super) exports: Arc<Semaphore>,
    access: Access,
}

impl Api {
    /// An API over these.
    pub fn new(parts: Parts) -> Self {
        let Parts { store, ingress, wake, body_limits, authenticator, bounds, max_exports } = parts;
        let (access, exports) = (Access::new(store.clone(), bounds), Arc::new(Semaphore::new(max_exports)));
        Self { store, ingress, wake, body_limits, authenticator, exports, access }
    }
}

impl FromRef<Api> for Access {
    fn from_ref(api: &Api) -> Self {
        api.access.clone()
    }
}
