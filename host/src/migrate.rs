//! Brings the schema up to date: `migrations/`, embedded, in one transaction, from any number of gateways at once.

use anyhow::Context as _;
use arcyou_platform::database::{self, DatabaseUrl};
use refinery::{Migration, Report, Runner};
use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_postgres::{Client, SimpleQueryMessage};

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// Serialises gateways that start at the same time; any number that nobody else uses.
const LOCK: &str = "SELECT pg_advisory_xact_lock(4820231146907254305)";

/// A schema that could not be brought up to date. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database cannot be reached, or broke off.
    #[error("the database cannot be migrated: {0}")]
    Database(#[from] tokio_postgres::Error),
    /// A migration failed, or one that was applied has been changed since.
    #[error("the schema cannot be brought up to date: {0}")]
    Migration(#[from] Box<refinery::Error>),
}

/// Applies what is missing, once, over a connection of its own.
pub async fn migrate_at(database: &DatabaseUrl) -> anyhow::Result<Vec<String>> {
    let client = database::pool(database, 1)?.get().await.context("the database cannot be reached")?;
    Ok(migrate(&client).await?)
}

/// Applies what is missing and names it. Safe through PgBouncer in transaction mode; a schema that is newer than this
/// gateway is left as it is, so that an old gateway can start beside new ones.
pub async fn migrate(client: &Client) -> Result<Vec<String>, MigrateError> {
    client.batch_execute("BEGIN").await?;
    let result = migrate_inside(client).await;
    let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = client.batch_execute(end).await;
    let report = result?;
    ended?;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}

async fn migrate_inside(client: &Client) -> Result<Report, MigrateError> {
    client.batch_execute(LOCK).await?;
    let runner: Runner = embedded::migrations::runner().set_abort_missing(false);
    Ok(runner.run_async(&mut InTransaction(client)).await.map_err(Box::new)?)
}

/// The migration runner's view of a transaction that is open already. Simple queries only, for PgBouncer's sake.
struct InTransaction<'c>(&'c Client);

impl AsyncTransaction for InTransaction<'_> {
    type Error = tokio_postgres::Error;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> Result<usize, Self::Error> {
        let mut count = 0;
        for query in queries {
            self.0.batch_execute(query).await?;
            count += 1;
        }
        Ok(count)
    }
}

impl AsyncQuery<Vec<Migration>> for InTransaction<'_> {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Migration>, Self::Error> {
        let answers = self.0.simple_query(query).await?;
        let applied = answers.iter().filter_map(|answer| {
            let SimpleQueryMessage::Row(row) = answer else { return None };
            Some(Migration::applied(
                row.get(0)?.parse().ok()?,
                row.get(1)?.to_owned(),
                OffsetDateTime::parse(row.get(2)?, &Rfc3339).ok()?,
                row.get(3)?.parse().ok()?,
            ))
        });
        Ok(applied.collect())
    }
}

impl AsyncMigrate for InTransaction<'_> {}
