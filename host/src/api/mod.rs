//! `/v1`: what backend services ask for over HTTP. Whatever changes a conversation passes the same inbound line as the
//! requests of sockets.

mod access;
mod blocks;
mod caller;
mod changing;
mod commands;
mod conversations;
mod document;
mod export;
mod held;
mod kept_connection;
pub mod key;
mod messages;
mod meter;
mod object;
mod page;
mod participants;
mod problem;
mod reactions;
mod request_body;
mod sending;
mod state;
mod understood;
mod users;
mod whole_number;

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, LOCATION, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::problem::{ApiCode, Problem};
use self::understood::Understood;

pub use self::kept_connection::KeptConnection;
pub use self::state::{Api, PATH, Parts};
use crate::origins::Origins;

const DOCUMENT_PATH: &str = "/v1/openapi.json";

/// Where the API is, and for whom.
#[derive(Debug, Clone, Default)]
pub struct ApiConfig {
    /// `API_ADDR`: a listener of its own; none: it is beside the sockets.
    pub address: Option<SocketAddr>,
    /// `API_ALLOWED_ORIGINS`: pages that may ask; none: no page.
    pub origins: Option<Origins>,
    /// `MAX_EXPORTS`: exports of users at once.
    pub max_exports: usize,
}

impl Api {
    /// The routes below [`PATH`], and the document that describes them, for pages of these origins too.
    pub fn router(self, origins: Option<Origins>) -> Router {
        meter::begin();
        export::begin();
        let (routes, document) = described();
        let understood = Understood::of(&document);
        let document = document.to_json().unwrap_or_default();
        let document = || async move { ([(CONTENT_TYPE, "application/json")], document) };
        let routes = routes
            .route(DOCUMENT_PATH, get(document))
            .method_not_allowed_fallback(other_method)
            .layer(from_fn_with_state(understood, understood::check))
            .layer(DefaultBodyLimit::max(request_body::MAX_BYTES))
            .layer(from_fn(bounded))
            .layer(from_fn(meter::count))
            .with_state(self);
        match origins {
            Some(origins) => routes.layer(cross_origin(origins)),
            None => routes,
        }
    }
}

/// Refuses a body that says that it is too large, and awaits others as long as they may take.
async fn bounded(request: Request, next: Next) -> Response {
    if request_body::is_too_large(&request) {
        request_body::leave(request);
        return Problem::too_large().into_response();
    }
    request_body::bound(request, next).await
}

/// Tells browsers which pages may ask.
fn cross_origin(origins: Origins) -> CorsLayer {
    let admitted = move |origin: &HeaderValue, _: &axum::http::request::Parts| origins.admit(Some(origin.as_bytes()));
    let own_headers = [commands::IF_MATCH, commands::IDEMPOTENCY_KEY].map(HeaderName::from_static);
    CorsLayer::new()
        .allow_origin(AllowOrigin::predicate(admitted))
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE].into_iter().chain(own_headers).collect::<Vec<_>>())
        .expose_headers([ETAG, LOCATION, RETRY_AFTER])
}

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    described().1
}

/// For what is asked below [`PATH`] where nothing is.
pub async fn nothing_here(request: Request) -> Problem {
    request_body::leave(request);
    Problem::new(ApiCode::NotFound, "there is nothing at this path; /v1/openapi.json describes the API")
}

async fn other_method() -> Problem {
    Problem::new(ApiCode::MethodNotAllowed, "this path has other methods; /v1/openapi.json describes them")
}

fn described() -> (Router<Api>, utoipa::openapi::OpenApi) {
    let routes = OpenApiRouter::new()
        .routes(routes!(conversations::list, conversations::create))
        .routes(routes!(conversations::get, conversations::change, conversations::delete))
        .routes(routes!(participants::list, participants::add))
        .routes(routes!(participants::put, participants::remove))
        .routes(routes!(messages::page, sending::send))
        .routes(routes!(sending::send_batch))
        .routes(routes!(messages::get, changing::edit, changing::delete))
        .routes(routes!(reactions::put, reactions::remove))
        .routes(routes!(users::find))
        .routes(routes!(users::conversations))
        .routes(routes!(users::disconnect))
        .routes(routes!(users::erase))
        .routes(routes!(export::export))
        .routes(routes!(blocks::list))
        .routes(routes!(blocks::put, blocks::remove))
        .routes(routes!(held::list))
        .routes(routes!(held::release))
        .routes(routes!(held::refuse));
    // The paths of the document begin where the API does.
    let (routes, mut document) = OpenApiRouter::with_openapi(document::base()).nest(PATH, routes).split_for_parts();
    document::complete(&mut document);
    (routes, document)
}
