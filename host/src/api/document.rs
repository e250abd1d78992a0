//! The OpenAPI document: what all operations have in common.

use axum::http::StatusCode;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, OpenApi as Document, Ref, RefOr, ResponseBuilder, Schema, Type};
use utoipa::{Modify, OpenApi};

use super::problem::ProblemDocument;

/// What it says before the operations.
pub(super) fn base() -> Document {
    Described::openapi()
}

/// Says of every operation that it may be answered with a problem, of every response what it is, and of headers that they
/// are text.
pub(super) fn complete(document: &mut Document) {
    let problem = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
    let problem = ResponseBuilder::new().description("a problem").content("application/problem+json", problem).build();
    for path in document.paths.paths.values_mut() {
        let operations = [&mut path.get, &mut path.put, &mut path.post, &mut path.delete, &mut path.patch];
        for operation in operations.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            for (status, response) in responses.iter_mut() {
                if let RefOr::T(response) = response
                    && response.description.is_empty()
                {
                    response.description = meaning(status).to_owned();
                }
            }
            responses.insert("default".to_owned(), problem.clone().into());
            operation.parameters.iter_mut().flatten().for_each(say_that_it_is_text);
        }
    }
}

/// A header may be absent, which is no null.
fn say_that_it_is_text(parameter: &mut RefOr<Parameter>) {
    if let RefOr::T(Parameter { parameter_in: ParameterIn::Header, schema: Some(RefOr::T(schema)), .. }) = parameter
        && let Schema::Object(text) = schema
    {
        text.schema_type = Type::String.into();
    }
}

fn meaning(status: &str) -> &'static str {
    let status: Option<StatusCode> = status.parse().ok();
    status.and_then(|status| status.canonical_reason()).unwrap_or("done")
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "ArcYou gateway",
        description = "What backend services ask for. Errors are problem documents (RFC 9457) whose `code` is stable.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    components(schemas(ProblemDocument)),
    modifiers(&Bearer),
    security(("key" = [])),
)]
struct Described;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("a key that `arcyou-gateway key create` made"))
            .build();
        document.components.get_or_insert_default().add_security_scheme("key", SecurityScheme::Http(scheme));
    }
}
