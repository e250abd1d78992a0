//! What is counted about requests of services.

use std::time::Instant;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use metrics::{counter, describe_counter, describe_histogram, histogram};

/// Every status that the API answers with.
const STATUSES: &[&str] = &[
    "200", "201", "202", "204", "400", "401", "403", "404", "405", "408", "409", "410", "412", "413", "415", "422",
    "429", "500", "503", "504",
];

/// Describes what is counted, and begins every series.
pub(super) fn begin() {
    describe_counter!("arcyou_api_requests_total", "Requests of services to the HTTP API, by status");
    describe_histogram!("arcyou_api_seconds", "From a request of a service to its answer");
    for status in STATUSES {
        counter!("arcyou_api_requests_total", "status" => *status).absolute(0);
    }
    let _ = histogram!("arcyou_api_seconds");
}

/// Counts a request.
pub(super) async fn count(request: Request, next: Next) -> Response {
    let since = Instant::now();
    let response = next.run(request).await;
    counter!("arcyou_api_requests_total", "status" => response.status().as_str().to_owned()).increment(1);
    histogram!("arcyou_api_seconds").record(since.elapsed());
    response
}
