//! Refuses what a request says and nobody would heed: whoever names a parameter in vain, or believes a repeat to be safe, is
//! told before something is done. What an operation heeds is what the document says of it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, HttpBody as _, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use mime::Mime;
use percent_encoding::percent_decode_str;
use url::form_urlencoded;
use utoipa::openapi::path::{Operation, ParameterIn, PathItem};
use utoipa::openapi::{OpenApi as Document, RefOr};

use super::commands::{IDEMPOTENCY_KEY, IF_MATCH};
use super::problem::{ApiCode, Problem};

/// Headers that change what is done, where an operation heeds them.
const HEEDED: [&str; 2] = [IDEMPOTENCY_KEY, IF_MATCH];
/// Headers of which a request has one at most.
const ONCE: [&str; 4] = ["authorization", "content-type", IDEMPOTENCY_KEY, IF_MATCH];

/// What each operation heeds.
#[derive(Clone)]
pub(super) struct Understood(Arc<HashMap<(Method, String), Heeded>>);

/// What one operation heeds beside its path.
#[derive(Default)]
struct Heeded {
    parameters: Vec<String>,
    headers: Vec<String>,
    body: bool,
}

impl Understood {
    /// What the document says.
    pub(super) fn of(document: &Document) -> Self {
        let operations = document.paths.paths.iter().flat_map(|(path, item)| {
            by_method(item).into_iter().filter_map(move |(method, operation)| {
                operation.as_ref().map(|operation| ((method, path.clone()), Heeded::of(operation)))
            })
        });
        Self(Arc::new(operations.collect()))
    }

    /// What the operation of a request heeds, if it is known.
    fn operation(&self, request: &Request) -> Option<&Heeded> {
        let path = request.extensions().get::<MatchedPath>()?.as_str();
        let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
        self.0.get(&(method.clone(), path.to_owned()))
    }
}

impl Heeded {
    fn of(operation: &Operation) -> Self {
        let mut heeded = Self { body: operation.request_body.is_some(), ..Self::default() };
        for parameter in operation.parameters.iter().flatten() {
            let RefOr::T(parameter) = parameter else { continue };
            match parameter.parameter_in {
                ParameterIn::Query => heeded.parameters.push(parameter.name.clone()),
                ParameterIn::Header => heeded.headers.push(parameter.name.to_ascii_lowercase()),
                _ => {}
            }
        }
        heeded
    }

    /// The request, if the operation heeds all that it says.
    async fn check(&self, request: Request) -> Result<Request, Problem> {
        let fault = fault_of_text(request.headers())
            .or_else(|| self.fault_of_headers(request.headers()))
            .or_else(|| self.fault_of_query(request.uri().query().unwrap_or_default()));
        match fault {
            Some(problem) => Err(problem),
            None if self.body || request.body().is_end_stream() => Ok(request),
            None => without_body(request).await,
        }
    }

    fn fault_of_headers(&self, headers: &HeaderMap) -> Option<Problem> {
        if let Some(name) = ONCE.into_iter().find(|name| headers.get_all(*name).iter().nth(1).is_some()) {
            return Some(Problem::invalid(format!("the header {name} is given more than once")));
        }
        let mut named = HEEDED.into_iter().filter(|name| headers.contains_key(*name));
        named.find(|name| !self.headers.iter().any(|heeded| heeded == name)).map(|name| {
            let hint = if name == IF_MATCH { "" } else { " (each message of a batch has its own idempotency_key)" };
            Problem::invalid(format!("this operation does not heed the header {name}{hint}; leave it out"))
        })
    }

    fn fault_of_query(&self, query: &str) -> Option<Problem> {
        // What is no text would be read as another one.
        if percent_decode_str(query).decode_utf8().is_err() {
            return Some(Problem::invalid("the query: its text must be UTF-8"));
        }
        let mut names = form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name);
        names.find(|name| !self.parameters.iter().any(|known| known == name)).map(|name| {
            let known = match &*self.parameters {
                [] => "this operation has none".to_owned(),
                known => format!("this operation has {}", known.join(", ")),
            };
            Problem::invalid(format!("the query: there is no parameter {name:?}; {known}"))
        })
    }
}

/// The request without its body, if that says nothing: clients send such bodies on their own account.
async fn without_body(request: Request) -> Result<Request, Problem> {
    let (head, body) = request.into_parts();
    match to_bytes(body, 16).await {
        Ok(body) if matches!(body.trim_ascii(), b"" | b"{}" | b"null") => Ok(Request::from_parts(head, Body::empty())),
        _ => Err(Problem::invalid("this operation does not heed a body; leave it out")),
    }
}

/// A body is JSON as RFC 8259 has it, in UTF-8, as it is.
fn fault_of_text(headers: &HeaderMap) -> Option<Problem> {
    let refused = |text: &str| Some(Problem::new(ApiCode::UnsupportedMediaType, text));
    if headers.get_all(CONTENT_ENCODING).iter().any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return refused("the gateway decodes no Content-Encoding; send the body as it is");
    }
    let media: Mime = headers.get(CONTENT_TYPE)?.to_str().ok()?.parse().ok()?;
    let charset = media.get_param(mime::CHARSET)?;
    match [mime::UTF_8.as_str(), "utf8", "us-ascii"].iter().any(|known| charset == *known) {
        true => None,
        false => refused("a body is UTF-8, as JSON is; send it so, and without another charset"),
    }
}

fn by_method(item: &PathItem) -> [(Method, &Option<Operation>); 5] {
    [
        (Method::GET, &item.get),
        (Method::PUT, &item.put),
        (Method::POST, &item.post),
        (Method::DELETE, &item.delete),
        (Method::PATCH, &item.patch),
    ]
}

/// Lets a request through whose operation heeds all that it says.
pub(super) async fn check(State(understood): State<Understood>, request: Request, next: Next) -> Response {
    let checked = match understood.operation(&request) {
        Some(operation) => operation.check(request).await,
        None => Ok(request),
    };
    match checked {
        Ok(request) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}
