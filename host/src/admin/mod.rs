//! The gateway's routes for operators and the page on the HTTP API, beside `/ready` and `/metrics`, which every program
//! has.

mod held;
mod plugins;

use std::sync::Arc;

use arcyou_plugin_host::PluginHost;
use axum::Router;

use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::api;
use crate::store::Store;
use crate::wake::Wake;

/// Where people read what services may ask for, and the document behind that page.
const API_PAGE: &str = "/api";
const API_DOCUMENT: &str = "/api/openapi.json";

/// All of them.
pub fn router(store: Store, wake: Wake, plugins: Arc<PluginHost>) -> Router {
    // The API itself is not at this address, so the page tries nothing out.
    let reading_alone = Config::new([API_DOCUMENT]).supported_submit_methods([] as [&str; 0]);
    let page = SwaggerUi::new(API_PAGE).config(reading_alone).url(API_DOCUMENT, api::document());
    held::router(store, wake).merge(plugins::router(plugins)).merge(page)
}
