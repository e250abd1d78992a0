//! Roles of least rights in PostgreSQL and Redis: what they can do, what they are refused, and what is said where one
//! lacks a right.

mod compose;
mod path;
mod redis;
mod refused;
mod start;

use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Whether PostgreSQL refuses the statement for want of a right.
async fn is_refused(client: &Client, statement: &str) -> bool {
    // Rolled back if it was not refused: the next one finds everything as it was.
    let result = client.batch_execute(&format!("BEGIN; {statement}; ROLLBACK")).await;
    if result.is_err() {
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    match result {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{statement}: {error:?}");
            true
        }
    }
}
