//! Everything of a user, as a stream of lines.

use std::time::Duration;

use arcyou_protocol::{ErrorCode, Failure};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum_extra::extract::WithRejection;
use futures_util::{StreamExt as _, stream};
use metrics::{describe_gauge, gauge};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::key::{Caller, Scope};
use super::problem::Problem;
use super::state::{Api, Path};
use crate::store::{Export, ExportPage, Exported, ExportedLine, StoreError};

/// JSON objects, one on each line.
const LINES: &str = "application/x-ndjson";
/// After so long without a line one says that the walk goes on: proxies end what is silent.
const SILENT_FOR: Duration = Duration::from_secs(10);
/// While the database is away a page is asked for so often, …
const ATTEMPTS: u32 = 20;
/// … with this in between.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// When to try again where too many exports run.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// The last line of an export that is whole: how many lines of each kind came before.
#[derive(Default, Serialize)]
struct Counts {
    participations: u64,
    blocks: u64,
    messages: u64,
    reactions: u64,
    held_messages: u64,
    audit: u64,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum OwnLine<'a> {
    /// No line was found for a while.
    Progress,
    End(&'a Counts),
}

impl OwnLine<'_> {
    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

impl Counts {
    fn text_of(&mut self, lines: Vec<ExportedLine>) -> String {
        let mut text = String::with_capacity(lines.iter().map(|(_, line)| line.len() + 1).sum());
        for (kind, line) in lines {
            self.count(kind);
            text += &line;
            text.push('\n');
        }
        text
    }

    fn count(&mut self, kind: Exported) {
        match kind {
            Exported::User => {}
            Exported::Participation => self.participations += 1,
            Exported::Block => self.blocks += 1,
            Exported::Message => self.messages += 1,
            Exported::Reaction => self.reactions += 1,
            Exported::HeldMessage => self.held_messages += 1,
            Exported::AuditRow => self.audit += 1,
        }
    }
}

/// An export that runs: the next page is read when its reader has taken the one before.
struct Running {
    export: Export,
    counts: Counts,
    is_whole: bool,
    _permit: Permit,
}

/// One of the exports that may run at once.
struct Permit {
    _permit: OwnedSemaphorePermit,
}

impl Permit {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        gauge!("arcyou_exports").increment(1.0);
        Self { _permit: permit }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        gauge!("arcyou_exports").decrement(1.0);
    }
}

/// Begins the series.
pub(super) fn begin() {
    describe_gauge!("arcyou_exports", "Exports of users that are made now");
    gauge!("arcyou_exports").set(0.0);
}

impl Running {
    /// The next lines; none: that was all. An error ends the stream without its last line.
    async fn lines(&mut self) -> Result<Option<String>, StoreError> {
        if self.is_whole {
            return Ok(None);
        }
        let since = Instant::now();
        while let Some(ExportPage { lines }) = self.page().await? {
            if !lines.is_empty() {
                return Ok(Some(self.counts.text_of(lines)));
            }
            if since.elapsed() >= SILENT_FOR {
                return Ok(Some(OwnLine::Progress.text()));
            }
        }
        self.is_whole = true;
        Ok(Some(OwnLine::End(&self.counts).text()))
    }

    /// A database that is away for a moment does not end an export.
    async fn page(&mut self) -> Result<Option<ExportPage>, StoreError> {
        for _ in 1..ATTEMPTS {
            match self.export.next_page().await {
                Err(error) if error.is_an_outage() || error.did_nothing_for_now() => sleep(ASK_AGAIN).await,
                done => return done,
            }
        }
        self.export.next_page().await
    }
}

/// Exports everything of a user, one JSON object on each line, with its kind as `type`: the `user`, then each
/// `participation` and `block`, each `message` and `reaction`, each `held_message`, and each `audit` row. `progress`
/// says nothing. The last line, `end`, counts them: without it the export was cut, and is to be asked for again.
#[utoipa::path(get, operation_id = "export_user", path = "/users/{user_id}/export", tag = "users",
    params(("user_id" = Uuid, Path,)),
    responses((status = 200, body = String, content_type = "application/x-ndjson", description = "JSON objects, one on each line")))]
pub(super) async fn export(
    State(api): State<Api>,
    caller: Caller,
    WithRejection(axum::extract::Path(user), _): Path<Uuid>,
) -> Result<Response, Problem> {
    caller.may(Scope::UsersRead)?;
    let permit = api.exports.clone().try_acquire_owned().map_err(|_| too_many())?;
    let (mut export, mut counts) = (Export::new(api.store.clone(), user), Counts::default());
    // A database that is away now is told with a status.
    let first = export.next_page().await?.unwrap_or_default();
    let first = Bytes::from(counts.text_of(first.lines));
    let running = Running { export, counts, is_whole: false, _permit: Permit::new(permit) };
    let rest = stream::try_unfold(running, |mut running| async move {
        let lines = running.lines().await.inspect_err(|error| {
            tracing::warn!(%error, "an export of a user was cut");
        })?;
        Ok::<_, StoreError>(lines.map(|lines| (Bytes::from(lines), running)))
    });
    let body = Body::from_stream(stream::once(async move { Ok(first) }).chain(rest));
    Ok(([(CONTENT_TYPE, LINES)], body).into_response())
}

fn too_many() -> Problem {
    let text = "MAX_EXPORTS exports are made on this gateway now; ask again when one has ended";
    let mut failure = Failure::new(ErrorCode::Overloaded, text);
    failure.retry_after_ms = Some(TRY_AGAIN.as_millis() as u64);
    failure.into()
}
