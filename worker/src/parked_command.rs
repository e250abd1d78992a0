//! The command `arcyou-outbox-worker parked`: operators inspect parked rows and decide what happens to them.

use std::process::ExitCode;

use anyhow::anyhow;
use arcyou_outbox_worker::OutboxError;
use arcyou_outbox_worker::parked::{self, Decision, ParkedRow, RowDetail};
use arcyou_platform::database::{self, DatabaseUrl};
use arcyou_platform::terminal::{self, clipped, is_broken_pipe, print, printable};
use clap::{Args, Subcommand};
use deadpool_postgres::Pool;
use serde_json::json;

/// How many characters of an error a table shows.
const ERROR_WIDTH: usize = 80;

#[derive(Subcommand)]
pub(crate) enum Action {
    /// Lists parked rows, oldest first
    List {
        /// The most rows to list
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i64).range(1..=100_000))]
        limit: i64,
        /// List only rows with a higher id
        #[arg(long, default_value_t = 0)]
        after: i64,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Shows a row, parked or not, with the beginning of its payload
    Show {
        /// The row's id
        id: i64,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Gives parked rows all their tries again
    Requeue(Selection),
    /// Deletes parked rows: their events are never published
    Drop(Selection),
}

// Which rows an action applies to.
#[derive(Args)]
pub(crate) struct Selection {
    /// Ids of parked rows
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<i64>,
    /// Select every row that is parked now
    #[arg(long)]
    all: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) async fn execute(action: Action, url: DatabaseUrl) -> anyhow::Result<ExitCode> {
    let pool = database::pool(&url.application_name("arcyou-outbox-worker parked"), 1)?;
    let work = async {
        match action {
            Action::List { limit, after, json } => list(&pool, after, limit, json).await,
            Action::Show { id, json } => show(&pool, id, json).await,
            Action::Requeue(selection) => decide(&pool, Decision::Requeue, &selection).await,
            Action::Drop(selection) => decide(&pool, Decision::Drop, &selection).await,
        }
    };
    match work.await {
        // The reader closed the pipe, as `head` does: not a failure.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        outcome => outcome,
    }
}

async fn list(pool: &Pool, after: i64, limit: i64, json: bool) -> anyhow::Result<ExitCode> {
    let mut rows = parked::list(pool, after, limit + 1).await.map_err(cannot_read)?;
    let more = rows.len() as i64 > limit;
    rows.truncate(usize::try_from(limit)?);
    if json {
        print(&serde_json::to_string_pretty(&rows)?)?;
    } else if rows.is_empty() {
        print("no parked rows")?;
    } else {
        print(&table(&rows))?;
    }
    if let (true, Some(last)) = (more, rows.last()) {
        eprintln!("there are more: --after {}", last.id);
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(pool: &Pool, id: i64, json: bool) -> anyhow::Result<ExitCode> {
    let Some(detail) = parked::show(pool, id).await.map_err(cannot_read)? else {
        eprintln!("the outbox has no row {id}");
        return Ok(ExitCode::FAILURE);
    };
    print(&if json { serde_json::to_string_pretty(&detail)? } else { describe(&detail) })?;
    Ok(ExitCode::SUCCESS)
}

async fn decide(pool: &Pool, decision: Decision, selection: &Selection) -> anyhow::Result<ExitCode> {
    let done = match decision {
        Decision::Requeue => "requeued",
        Decision::Drop => "dropped",
    };
    if selection.all {
        let count = parked::decide_all(pool, decision).await.map_err(cannot_change)?;
        print(&if selection.json { json!({ done: count }).to_string() } else { format!("{done} {count}") })?;
        return Ok(ExitCode::SUCCESS);
    }
    let changed = parked::decide(pool, decision, &selection.ids).await.map_err(cannot_change)?;
    let not_parked: Vec<i64> = selection.ids.iter().copied().filter(|id| changed.binary_search(id).is_err()).collect();
    if selection.json {
        print(&json!({ done: changed, "not_parked": not_parked }).to_string())?;
    } else {
        changed.iter().try_for_each(|id| print(&format!("{done} {id}")))?;
        not_parked.iter().for_each(|id| eprintln!("{id} is not parked"));
    }
    Ok(if not_parked.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

// Not as contexts: the message of an error already contains its causes.
fn cannot_read(error: OutboxError) -> anyhow::Error {
    anyhow!("reading the outbox: {error}")
}

fn cannot_change(error: OutboxError) -> anyhow::Error {
    anyhow!("changing the outbox: {error}")
}

fn table(rows: &[ParkedRow]) -> String {
    let lines = rows.iter().map(|row| {
        let ParkedRow { id, kind, conversation_id, retry_count, error, parked_at, created_at: _ } = row;
        let error = clipped(error, ERROR_WIDTH);
        [
            id.to_string(),
            printable(kind),
            conversation_id.to_string(),
            retry_count.to_string(),
            parked_at.clone(),
            error,
        ]
    });
    terminal::table(["ID", "TYPE", "CONVERSATION", "TRIES", "PARKED", "ERROR"], lines.collect())
}

fn describe(detail: &RowDetail) -> String {
    let RowDetail { row, state, payload_bytes, stored_bytes, payload } = detail;
    let size = payload_bytes.map_or_else(|| "too many to count".to_owned(), |bytes| bytes.to_string());
    let ParkedRow { id, kind, conversation_id, retry_count, error, parked_at, created_at } = row;
    let payload = match payload {
        Some(text) => printable(text),
        None => "(too large to show)".to_owned(),
    };
    let lines = [
        ("id", id.to_string()),
        ("state", state.clone()),
        ("type", printable(kind)),
        ("conversation", conversation_id.to_string()),
        ("created", created_at.clone()),
        ("parked", parked_at.clone()),
        ("tries", retry_count.to_string()),
        ("error", printable(error)),
        ("payload bytes", format!("{size} ({stored_bytes} on disk)")),
        ("payload", payload),
    ];
    let lines = lines.iter().filter(|(_, value)| !value.is_empty());
    lines.map(|(name, value)| format!("{name:<14}{value}")).collect::<Vec<_>>().join("\n")
}
