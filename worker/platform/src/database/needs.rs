//! What a program needs of the schema, and whether it is there for the role that the program has.

use std::collections::BTreeMap;
use std::time::Duration;

use deadpool_postgres::{Pool, PoolError};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Error, Row};

use super::describe::{describe, describe_pool};
use super::fault::Fault;
use super::lease::Lease;

/// The only encoding in which a database can hold every text.
pub const ENCODING: &str = "UTF8";

/// The longest that looking may take, once there is a connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What a program needs of the schema.
#[derive(Debug, Clone, Copy)]
pub struct Needs {
    /// The group role that `migrations/roles.sql` gives these rights to.
    pub group_role: &'static str,
    pub tables: &'static [TableNeed],
    /// Sequences that give ids.
    pub sequences: &'static [&'static str],
    /// Functions that are called.
    pub functions: &'static [&'static str],
}

/// One right on one table.
#[derive(Debug, Clone, Copy)]
pub struct TableNeed {
    pub table: &'static str,
    /// `SELECT`, `INSERT`, `UPDATE` or `DELETE`.
    pub privilege: &'static str,
    /// Which columns must be there.
    pub columns: &'static [&'static str],
    /// Whether the right on these columns is not enough: rows are read as wholes, or deleted.
    pub whole_table: bool,
}

impl TableNeed {
    /// A right on these columns.
    pub const fn columns(table: &'static str, privilege: &'static str, columns: &'static [&'static str]) -> Self {
        Self { table, privilege, columns, whole_table: false }
    }

    /// A right on the table, which must have these columns.
    pub const fn table(table: &'static str, privilege: &'static str, columns: &'static [&'static str]) -> Self {
        Self { table, privilege, columns, whole_table: true }
    }
}

/// What is missing, for operators: the text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// The database cannot hold every text.
    #[error("the database's encoding is {0} and must be UTF8: create it anew with ENCODING 'UTF8' TEMPLATE template0")]
    Encoding(String),
    /// Tables, columns or functions are not there, or not in sight.
    #[error(
        "the schema is not complete, as role {role} sees it: it lacks {things} (search_path: {path}). Run \
         `arcyou-gateway migrate` with DATABASE_URL or MIGRATE_DATABASE_URL for the role that owns the schema"
    )]
    Absent { things: String, role: String, path: String },
    /// There is a schema, but this role does not look into it.
    #[error(
        "the tables are in schema {schema}, where role {role} does not look (search_path: {path}). Run \
         migrations/roles.sql as their owner, then: GRANT {group_role} TO {role}; ALTER ROLE {role} SET search_path = \
         {schema}. (For a second installation in this database, run `arcyou-gateway migrate` once.)"
    )]
    Elsewhere { schema: String, role: String, path: String, group_role: &'static str },
    /// The role may not do what the program does.
    #[error(
        "role {role} lacks rights: {rights}. Run migrations/roles.sql as the owner of the tables, then: \
         GRANT {group_role} TO {role}"
    )]
    Denied { rights: String, role: String, group_role: &'static str },
}

/// The database could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The pool gave no connection.
    #[error("the database cannot be reached: {}", describe_pool(.0))]
    Pool(#[from] PoolError),
    /// The database reported an error, or the connection broke.
    #[error("the database cannot be read: {}", describe(.0))]
    Database(#[from] Error),
    /// It did not answer in time.
    #[error("the database does not answer")]
    TimedOut,
}

/// One row for each thing that is missing, and one without a name if nothing is: `$1` kinds, `$2` names, `$3`
/// privileges, `$4` columns (null: the whole), `$5` whether the privilege must be on the whole table.
const LOOK: &str = "
WITH need AS (
    SELECT *, CASE kind
        WHEN 'function' THEN
            (SELECT oid FROM pg_catalog.pg_proc WHERE proname = name AND pg_function_is_visible(oid) LIMIT 1)
        ELSE to_regclass(name)::oid
    END AS object
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bool[]) AS n (kind, name, privilege, col, is_whole)
), judged AS (
    SELECT kind, name, privilege, col, is_whole, CASE
        WHEN object IS NULL THEN 'absent'
        WHEN kind = 'function' THEN CASE WHEN NOT has_function_privilege(object, privilege) THEN 'denied' END
        WHEN kind = 'sequence' THEN CASE WHEN NOT has_sequence_privilege(object, privilege) THEN 'denied' END
        WHEN col IS NOT NULL AND NOT EXISTS
            (SELECT FROM pg_catalog.pg_attribute WHERE attrelid = object AND attname = col AND NOT attisdropped)
            THEN 'absent column'
        WHEN is_whole THEN CASE WHEN NOT has_table_privilege(object, privilege) THEN 'denied' END
        WHEN NOT has_column_privilege(object, col, privilege) THEN 'denied'
    END AS verdict
    FROM need
), elsewhere AS (
    SELECT min(quote_ident(nspname)) AS schema
    FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace
    WHERE relname = 'arcyou_schema_history' AND to_regclass('arcyou_schema_history') IS NULL
)
SELECT quote_ident(current_user), current_setting('search_path'), current_setting('server_encoding'), elsewhere.schema,
    lacking.kind, lacking.name, lacking.privilege, lacking.col, lacking.is_whole, lacking.verdict
FROM elsewhere LEFT JOIN (SELECT * FROM judged WHERE verdict IS NOT NULL) AS lacking ON true";

/// What is missing of `needs`, for the role with which the pool connects; none if nothing is. Safe through PgBouncer in
/// transaction mode, and needs no rights.
pub async fn look(pool: &Pool, needs: &Needs) -> Result<Option<Lack>, LookError> {
    let lease = Lease::take(pool).await?;
    match tokio::time::timeout(ANSWER_TIMEOUT, ask(&lease, needs)).await {
        Ok(Ok(lack)) => {
            lease.release();
            Ok(lack)
        }
        Ok(Err(error)) => {
            lease.release_after(Fault::of(&error));
            Err(error.into())
        }
        Err(_) => Err(LookError::TimedOut),
    }
}

async fn ask(lease: &Lease, needs: &Needs) -> Result<Option<Lack>, Error> {
    let (mut kinds, mut names, mut privileges) = (Vec::new(), Vec::new(), Vec::new());
    let (mut columns, mut wholes) = (Vec::new(), Vec::new());
    let mut push = |kind, name, privilege, column, whole| {
        kinds.push(kind);
        names.push(name);
        privileges.push(privilege);
        columns.push(column);
        wholes.push(whole);
    };
    for TableNeed { table, privilege, columns, whole_table } in needs.tables {
        if *whole_table {
            push("table", *table, *privilege, None::<&str>, true);
        }
        columns.iter().for_each(|column| push("table", table, privilege, Some(*column), *whole_table));
    }
    needs.sequences.iter().for_each(|name| push("sequence", name, "USAGE, UPDATE", None, true));
    needs.functions.iter().for_each(|name| push("function", name, "EXECUTE", None, true));
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&kinds, Type::TEXT_ARRAY),
        (&names, Type::TEXT_ARRAY),
        (&privileges, Type::TEXT_ARRAY),
        (&columns, Type::TEXT_ARRAY),
        (&wholes, Type::BOOL_ARRAY),
    ];
    judge(&lease.query_typed(LOOK, &parameters).await?, needs.group_role)
}

/// The lack that must be mended first.
fn judge(rows: &[Row], group_role: &'static str) -> Result<Option<Lack>, Error> {
    let Some(first) = rows.first() else { return Ok(None) };
    let (role, path, encoding): (String, String, String) = (first.try_get(0)?, first.try_get(1)?, first.try_get(2)?);
    if encoding != ENCODING {
        return Ok(Some(Lack::Encoding(encoding)));
    }
    let elsewhere: Option<String> = first.try_get(3)?;
    let (mut absent, mut denied) = (Vec::new(), BTreeMap::<_, Vec<String>>::new());
    for row in rows {
        let Some(kind) = row.try_get::<_, Option<String>>(4)? else { continue };
        let (name, privilege, column): (String, String, Option<String>) =
            (row.try_get(5)?, row.try_get(6)?, row.try_get(7)?);
        let (is_whole, verdict): (bool, String) = (row.try_get(8)?, row.try_get(9)?);
        let thing = match (kind.as_str(), &column) {
            ("table", Some(column)) if verdict == "absent column" => format!("column {name}.{column}"),
            (kind, _) => format!("{kind} {name}"),
        };
        if verdict != "denied" {
            absent.push(thing);
            continue;
        }
        let privilege = if kind == "sequence" { "USAGE".to_owned() } else { privilege };
        let columns = denied.entry(format!("{privilege} on {thing}")).or_default();
        columns.extend(column.filter(|_| !is_whole));
    }
    absent.dedup();
    match elsewhere {
        _ if absent.is_empty() => {}
        Some(schema) => return Ok(Some(Lack::Elsewhere { schema, role, path, group_role })),
        None => return Ok(Some(Lack::Absent { things: absent.join(", "), role, path })),
    }
    if denied.is_empty() {
        return Ok(None);
    }
    let rights = denied.into_iter().map(|(right, columns)| match columns.as_slice() {
        [] => right,
        columns => format!("{right} ({})", columns.join(", ")),
    });
    Ok(Some(Lack::Denied { rights: rights.collect::<Vec<_>>().join("; "), role, group_role }))
}
