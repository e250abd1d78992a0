//! `GET /plugins` on the admin listener: how each plugin is doing, and whether changed files are refused.

use std::sync::Arc;

use arcyou_plugin_host::{PluginHost, PluginStatus, RefusedReload};
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};

/// What `/plugins` answers.
#[derive(Debug, serde::Serialize)]
struct Report {
    /// In the chain's order.
    plugins: Vec<PluginStatus>,
    /// Why the files in the plugins directory are not what is running, if they were refused.
    refused: Option<RefusedReload>,
}

pub(super) fn router(host: Arc<PluginHost>) -> Router {
    Router::new().route("/plugins", get(plugins)).with_state(host)
}

async fn plugins(State(host): State<Arc<PluginHost>>) -> Response {
    Json(Report { plugins: host.status(), refused: host.refused() }).into_response()
}
