//! What every operation has: its parts of the gateway, and how it reads a request.

use arcyou_protocol::body::BodyLimits;
use axum::extract::FromRef;
use axum_extra::extract::WithRejection;

use super::key::Access;
use super::problem::Problem;
use crate::ingress::Ingress;
use crate::store::Store;
use crate::wake::Wake;

/// Where the API is on its listener.
pub const PATH: &str = "/v1";
pub(super) type Json<T> = WithRejection<axum::Json<T>, Problem>;
pub(super) type Query<T> = WithRejection<axum::extract::Query<T>, Problem>;
pub(super) type Path<T> = WithRejection<axum::extract::Path<T>, Problem>;

/// What the operations need.
#[derive(Clone)]
pub struct Api {
    pub(super) store: Store,
    pub(super) ingress: Ingress,
    pub(super) wake: Wake,
    pub(super) body_limits: BodyLimits,
    access: Access,
}

impl Api {
    /// Messages pass `ingress`, and bodies keep to `body_limits`.
    pub fn new(store: Store, ingress: Ingress, wake: Wake, body_limits: BodyLimits) -> Self {
        let access = Access::new(store.clone());
        Self { store, ingress, wake, body_limits, access }
    }
}

impl FromRef<Api> for Access {
    fn from_ref(api: &Api) -> Self {
        api.access.clone()
    }
}
