//! What the worker's statements need of the schema, and waiting for it: gateways, or an operator, bring it up to date.

use std::time::Duration;

use arcyou_platform::database::{Lack, Needs, TableNeed, look};
use arcyou_platform::health::Part;
use deadpool_postgres::Pool;
use tokio::time::sleep;

/// Between looks at a schema that is not complete, or a database that is away.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Tables, columns and functions, with the right that each is used with. `migrations/roles.sql` grants the same, and a
/// test takes each right away to see that its lack is noticed.
pub const NEEDS: Needs = Needs {
    group_role: "arcyou_worker",
    tables: &[
        TableNeed::columns("installation", "SELECT", &["event_key"]),
        TableNeed::table("outbox", "SELECT", COLUMNS),
        TableNeed::columns("outbox", "UPDATE", PROGRESS),
        TableNeed::table("outbox", "DELETE", &[]),
        TableNeed::table("outbox_corrections", "SELECT", &[]),
        TableNeed::table("outbox_corrections", "DELETE", &[]),
    ],
    sequences: &[],
    functions: &["claim_outbox", "mark_outbox", "purge_messages"],
};

const COLUMNS: &[&str] = &["id", "type", "conversation_id", "payload", "created_at"];

/// Its progress, and the payload where something does not stand any more.
const PROGRESS: &[&str] =
    &["processed", "processed_at", "retry_count", "error", "next_attempt_at", "parked_at", "payload"];

/// Waits until the schema is complete and the worker has its rights, however long the database is away.
pub(crate) async fn until_complete(pool: &Pool, database: &Part, schema: &Part) {
    loop {
        let found = look(pool, &NEEDS).await;
        match &found {
            Ok(_) => database.up(),
            Err(error) => database.down(error.to_string()),
        }
        match found {
            Ok(None) => return schema.up(),
            // Nothing unusual while everything starts at once.
            Ok(Some(lack @ Lack::Absent { .. })) => schema.waits(lack.to_string()),
            Ok(Some(lack)) => schema.needs_mending(lack.to_string()),
            Err(error) => schema.down(error.to_string()),
        }
        sleep(LOOK_AGAIN).await;
    }
}
