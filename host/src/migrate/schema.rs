//! Brings the schema up to date: `migrations/`, embedded, in one transaction, from any number of gateways at once.
//!
//! Looking comes first, and needs no more than the right to read: whoever finds nothing to do asks for no other right.

use anyhow::anyhow;
use arcyou_platform::database::{self, DatabaseUrl};
use deadpool_postgres::Object;
use refinery::{Migration, Report, Runner};
use refinery_core::traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::existing::{self, Existing};

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// Where applied migrations are recorded. A name of our own: another service that uses the same library in the same
/// schema has a record of its own.
const HISTORY: &str = "arcyou_schema_history";

/// Serialises gateways that start at the same time; any number that nobody else uses.
pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(4820231146907254305)";

/// Whether there is a record of applied migrations, and whether this role may read it. Null: there is none.
const HISTORY_IS_READABLE: &str = "SELECT has_table_privilege(to_regclass($1), 'SELECT')";

/// Where this role would create tables (null: nowhere), whether it may, its name, and the database's encoding.
const MAY_CREATE: &str = "SELECT current_schema()::text, \
    coalesce(has_schema_privilege(current_schema(), 'CREATE'), false), current_user::text, current_setting('server_encoding'), current_setting('search_path')";

/// Whether the four group roles exist that `roles.sql` gives rights to, and whether this role owns the tables.
const MAY_GRANT: &str = "SELECT \
    (SELECT count(*) FROM pg_roles
        WHERE rolname IN ('arcyou_gateway', 'arcyou_worker', 'arcyou_service', 'arcyou_reader')) = 4, \
    coalesce((SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('messages')), false)";

/// Their rights.
const RIGHTS: &str = include_str!("../../../migrations/roles.sql");

/// What became of the group roles' rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// They have them.
    Given,
    /// There are no such roles: whoever does without them grants rights in another way.
    NoRoles,
    /// They are as they were: only the owner of the tables can give any.
    NotOwner,
}

/// A schema that could not be brought up to date. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database cannot be reached, or broke off.
    #[error("the database cannot be migrated: {}", database::describe(.0))]
    Database(#[from] tokio_postgres::Error),
    /// A migration failed.
    #[error("the schema cannot be brought up to date: {0}")]
    Migration(#[from] Box<refinery::Error>),
    /// A migration that was applied has been changed since.
    #[error("{0} was applied to this schema with another text: it was made by another version of this gateway")]
    Changed(String),
    /// This role may not create tables, and some are missing.
    #[error(
        "the schema lacks {pending}, and role {role} may not create tables in schema {schema}: run \
         `arcyou-gateway migrate` with DATABASE_URL or MIGRATE_DATABASE_URL for the role that owns the schema"
    )]
    MayNotCreate {
        /// The migrations that are missing.
        pending: String,
        role: String,
        schema: String,
    },
    /// No schema of the search_path exists, or the role may use none of them.
    #[error(
        "role {role} has no schema to work in (search_path: {path}): create one, and ALTER ROLE {role} SET search_path"
    )]
    NoSchema { role: String, path: String },
    /// The tables of the system before this one are there, and only the command `migrate` takes them over.
    #[error(
        "schema {0} has the tables of the system before this one: stop its programs, and run `arcyou-gateway migrate`, \
         which adopts them (docs/adoption.md)"
    )]
    Adoptable(String),
    /// Tables with the names of this gateway's are there, and are neither its own nor those of the system before it.
    #[error(
        "schema {schema} has tables that are neither this gateway's nor those of the system before it, so nothing was \
         changed (docs/adoption.md): {}", .differences.join("; ")
    )]
    Foreign {
        schema: String,
        /// Column by column.
        differences: Vec<String>,
    },
    /// The tables of the system before this one are being taken over.
    #[error("the tables of the system before this one are being adopted: `arcyou-gateway migrate` finishes it")]
    BeingAdopted,
    /// The database cannot hold every text.
    #[error("the database's encoding is {0} and must be UTF8: create it anew with ENCODING 'UTF8' TEMPLATE template0")]
    Encoding(String),
}

/// Applies what is missing, once, over a connection of its own.
pub async fn migrate_at(database: &DatabaseUrl) -> anyhow::Result<Vec<String>> {
    let client = connect(database).await?;
    Ok(migrate(&client).await?)
}

/// Gives the group roles their rights, once, over a connection of its own.
pub async fn grant_at(database: &DatabaseUrl) -> anyhow::Result<Rights> {
    let client = connect(database).await?;
    let granted = async {
        client.batch_execute(LOCK).await?;
        grant(&client).await
    };
    Ok(in_transaction(&client, granted).await?)
}

pub(super) async fn connect(database: &DatabaseUrl) -> anyhow::Result<Object> {
    let connected = database::pool(database, 1)?.get().await;
    connected.map_err(|error| anyhow!("the database cannot be reached: {}", database::describe_pool(&error)))
}

/// Applies what is missing and names it. Safe through PgBouncer in transaction mode; a schema that is newer than this
/// gateway is left as it is, so that an old gateway can start beside new ones. If something was applied and the group
/// roles exist, they have their rights in the same moment.
pub async fn migrate(client: &Client) -> Result<Vec<String>, MigrateError> {
    let report = in_transaction(client, migrate_inside(client)).await?;
    Ok(report.into_iter().flat_map(|report| names(report.applied_migrations())).collect())
}

/// The migrations that the schema lacks, in their order; none, in place of a list, if this role may not read which ones
/// were applied.
pub async fn pending(client: &Client) -> Result<Option<Vec<String>>, MigrateError> {
    if existing::is_being_adopted(client).await? {
        return Err(MigrateError::BeingAdopted);
    }
    let rows = client.query_typed(HISTORY_IS_READABLE, &[(&HISTORY, Type::TEXT)]).await?;
    let applied = match rows.first().map(|row| row.try_get::<_, Option<bool>>(0)).transpose()?.flatten() {
        None => Vec::new(),
        Some(false) => return Ok(None),
        Some(true) => {
            let query = format!("SELECT version, name, applied_on, checksum FROM {HISTORY} ORDER BY version");
            InTransaction(client).query(&query).await?
        }
    };
    let runner = runner();
    let mut pending = Vec::new();
    for migration in runner.get_migrations() {
        match applied.iter().find(|applied| applied.version() == migration.version()) {
            None => pending.push(migration.clone()),
            Some(applied) if applied == migration => {}
            Some(_) => return Err(MigrateError::Changed(migration.to_string())),
        }
    }
    Ok(Some(names(&pending)))
}

fn names(migrations: &[Migration]) -> Vec<String> {
    migrations.iter().map(ToString::to_string).collect()
}

fn runner() -> Runner {
    let mut runner = embedded::migrations::runner().set_abort_missing(false);
    runner.set_migration_table_name(HISTORY);
    runner
}

pub(super) async fn in_transaction<T, E: From<tokio_postgres::Error>>(
    client: &Client,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    client.batch_execute("BEGIN").await?;
    let result = work.await;
    let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = client.batch_execute(end).await;
    let done = result?;
    ended?;
    Ok(done)
}

async fn migrate_inside(client: &Client) -> Result<Option<Report>, MigrateError> {
    client.batch_execute(LOCK).await?;
    let Some(pending) = pending(client).await?.filter(|pending| !pending.is_empty()) else { return Ok(None) };
    check_that_it_may(client, pending).await?;
    match existing::look(client).await? {
        Existing::Nothing | Existing::Ours => apply(client).await.map(Some),
        Existing::Adoptable { schema } => Err(MigrateError::Adoptable(schema)),
        Existing::Foreign { schema, differences } => Err(MigrateError::Foreign { schema, differences }),
    }
}

/// Applies what is missing inside a transaction that is open already.
pub(super) async fn apply(client: &Client) -> Result<Report, MigrateError> {
    let report = runner().run_async(&mut InTransaction(client)).await.map_err(Box::new)?;
    grant(client).await?;
    Ok(report)
}

/// All migrations that there are.
pub(super) fn all() -> Vec<String> {
    names(runner().get_migrations())
}

/// Says what is in the way before PostgreSQL says it in its own words.
pub(super) async fn check_that_it_may(client: &Client, pending: Vec<String>) -> Result<(), MigrateError> {
    let rows = client.query_typed(MAY_CREATE, &[]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let (schema, may, role) = (row.try_get::<_, Option<String>>(0)?, row.try_get::<_, bool>(1)?, row.try_get(2)?);
    let encoding: String = row.try_get(3)?;
    if encoding != database::ENCODING {
        return Err(MigrateError::Encoding(encoding));
    }
    match schema {
        None => Err(MigrateError::NoSchema { role, path: row.try_get(4)? }),
        Some(schema) if !may => Err(MigrateError::MayNotCreate { pending: pending.join(", "), role, schema }),
        Some(_) => Ok(()),
    }
}

/// Runs `roles.sql` if all of its roles exist.
async fn grant(client: &Client) -> Result<Rights, MigrateError> {
    let rows = client.query_typed(MAY_GRANT, &[]).await?;
    let Some(row) = rows.first() else { return Ok(Rights::NoRoles) };
    match (row.try_get(0)?, row.try_get(1)?) {
        (false, _) => Ok(Rights::NoRoles),
        (true, false) => Ok(Rights::NotOwner),
        (true, true) => {
            client.batch_execute(RIGHTS).await?;
            Ok(Rights::Given)
        }
    }
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
