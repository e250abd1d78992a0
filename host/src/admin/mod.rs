//! The gateway's routes for operators, beside `/ready` and `/metrics`, which every program has.

mod held;
mod plugins;

use std::sync::Arc;

use arcyou_plugin_host::PluginHost;
use axum::Router;

use crate::store::Store;
use crate::wake::Wake;

/// All of them.
pub fn router(store: Store, wake: Wake, plugins: Arc<PluginHost>) -> Router {
    held::router(store, wake).merge(plugins::router(plugins))
}
