//! Pages of lists.

use serde::Deserialize;
use utoipa::IntoParams;
use uuid::Uuid;

use super::problem::Problem;

/// Rows of a page, if the request does not say.
const DEFAULT_PAGE: i64 = 100;
/// Rows of a page at most.
const MAX_PAGE: i64 = 1000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Cursor {
    /// The `next` of the page before.
    after: Option<Uuid>,
    /// Rows: 1 to 1000, by default 100.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<i64>,
}

impl Cursor {
    pub(super) fn after(&self) -> Option<Uuid> {
        self.after
    }

    pub(super) fn limit(&self) -> Result<i64, Problem> {
        limited(self.limit)
    }
}

/// The rows that a request asks for.
pub(super) fn limited(limit: Option<i64>) -> Result<i64, Problem> {
    match limit.unwrap_or(DEFAULT_PAGE) {
        limit @ 1..=MAX_PAGE => Ok(limit),
        _ => Err(Problem::invalid(format!("limit must be 1 to {MAX_PAGE}"))),
    }
}
