//! The page of `dev`, on the gateway's own port: two people chat side by side, by the reference client. `serve` has no
//! such routes.

use std::net::SocketAddr;

use axum::Json;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, UPGRADE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use deadpool_postgres::Pool;
use serde_json::{Value, json};

use super::demo;
use crate::store::{HeldPage, Store};

const PAGE: &str = include_str!("../../web/playground/index.html");
/// What the page loads, by name, with its type.
const ASSETS: [(&str, &str, &str); 7] = [
    ("playground.css", "text/css", include_str!("../../web/playground/playground.css")),
    ("pane.css", "text/css", include_str!("../../web/playground/pane.css")),
    ("playground.js", "text/javascript", include_str!("../../web/playground/playground.js")),
    ("pane.js", "text/javascript", include_str!("../../web/playground/pane.js")),
    ("arcyou-client.js", "text/javascript", include_str!("../../web/arcyou-client.js")),
    ("arcyou-room.js", "text/javascript", include_str!("../../web/arcyou-room.js")),
    ("icon.svg", "image/svg+xml", include_str!("../../web/playground/icon.svg")),
];

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
/// The page loads its own files, talks to this gateway, and can make nothing of a text but text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// What the page shows besides messages.
#[derive(Clone)]
struct Playground {
    admin: SocketAddr,
    store: Store,
}

/// The page at `/`, what it loads under `/playground/`, and all else as `app` has it.
pub(super) fn beside(app: Router, pool: Pool, admin: SocketAddr) -> Router {
    let routes = Router::new()
        .route("/config.json", get(config))
        .route("/held.json", get(held))
        .with_state(Playground { admin, store: Store::new(pool) });
    let routes = ASSETS.into_iter().fold(routes, |routes, (name, kind, content)| {
        routes.route(&format!("/{name}"), get(move || async move { ([(CONTENT_TYPE, kind)], content) }))
    });
    app.nest("/playground", routes.layer(middleware::map_response(confined))).layer(middleware::from_fn(front))
}

/// A handshake at `/` goes on to the gateway; a browser that was led there gets the page.
async fn front(request: Request, next: Next) -> Response {
    let is_page = request.uri().path() == "/" && matches!(*request.method(), Method::GET | Method::HEAD);
    if !is_page || request.headers().contains_key(UPGRADE) {
        return next.run(request).await;
    }
    confined(([(CONTENT_TYPE, "text/html; charset=utf-8")], PAGE).into_response()).await
}

async fn confined(mut response: Response) -> Response {
    let headers = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
        // A gateway that is built anew has a new page.
        (CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn config(State(Playground { admin, .. }): State<Playground>) -> Json<Value> {
    let user = |name, id| json!({ "name": name, "id": id });
    let users = [user("Alice", demo::ALICE), user("Bob", demo::BOB)];
    Json(json!({ "conversation": demo::CONVERSATION, "users": users, "admin": admin.to_string() }))
}

async fn held(State(Playground { store, .. }): State<Playground>) -> Response {
    let page = HeldPage { conversation: Some(demo::CONVERSATION), after: 0, limit: HeldPage::DEFAULT_LIMIT };
    match store.held(page).await {
        Ok(held) => Json(json!({ "held": held })).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": error.to_string() }))).into_response(),
    }
}
