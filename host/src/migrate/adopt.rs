//! Takes over the tables of the system before this one, in steps that can be interrupted at any point.
//!
//! 1. One short transaction gives the old tables other names, makes the new ones, and lets nobody write to those.
//! 2. Many transactions copy a number of rows each, and then compare them. Each remembers where it stopped.
//! 3. One transaction lets everybody write, hands what no worker has relayed to the workers, and drops the old tables.
//!
//! What each does is in `migrations/adopt/`. Until the third the old tables are as they were.

use arcyou_platform::database::{DatabaseUrl, describe};
use deadpool_postgres::Object;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::existing::{self, Existing};
use super::schema::{self, LOCK, MigrateError, in_transaction};

const SET_ASIDE: &str = include_str!("../../../migrations/adopt/1_set_aside.sql");
const COPY: &str = include_str!("../../../migrations/adopt/2_copy.sql");
const FINISH: &str = include_str!("../../../migrations/adopt/3_finish.sql");
const UNDO: &str = include_str!("../../../migrations/adopt/4_undo.sql");

/// In each transaction. Waiting behind somebody's long transaction would make everybody else wait behind this one.
const TIME_OUTS: &str = "SET LOCAL lock_timeout = '10s'; SET LOCAL statement_timeout = 0";

/// Programs that write to the old tables are done with what they had begun, or this fails.
const LOCK_OLD: &str = "LOCK TABLE conversations, participants, messages, outbox IN ACCESS EXCLUSIVE MODE";

/// `$1` the zone of times without one.
const ZONE: &str = "SELECT set_config('arcyou.timezone', $1, true), now() AT TIME ZONE $1";

const ZONE_OF_ADOPTION: &str = "SELECT timezone FROM arcyou_adoption";

/// How many rows each step has.
const TOTALS: &str = "
SELECT (SELECT count(*) FROM adopting_conversations), (SELECT count(*) FROM adopting_messages),
    (SELECT count(*) FROM adopting_participants), (SELECT count(*) FROM adopting_outbox),
    (SELECT count(*) FROM conversations)";

/// What is to be told when all is done.
const LEFT_BEHIND: &str = "SELECT unnest(left_behind) FROM arcyou_adoption";

/// `$1` rows at most.
const STEP: &str = "SELECT step, coalesce(done, 0) FROM arcyou_adopt($1)";

/// The step that is left when all is copied and compared.
const LAST_STEP: &str = "finish";

/// After many rows at once, of which the planner knows nothing yet.
const ANALYZE: &str = "ANALYZE conversations, participants, messages, outbox";

/// How to take over the tables of the system before this one.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
pub struct AdoptOptions {
    /// Of tables to adopt: the zone of times that are stored without one [default: UTC]
    #[arg(long, value_name = "NAME")]
    pub timezone: Option<String>,
    /// Of tables to adopt: keep the old ones, under names that begin with before_arcyou_
    #[arg(long)]
    pub keep_old_tables: bool,
    /// Of tables whose adoption has begun and not ended: give them back as they were
    #[arg(long, conflicts_with_all = ["timezone", "keep_old_tables"])]
    pub undo: bool,
    /// Of tables to adopt: rows of one transaction
    #[arg(long, value_name = "ROWS", default_value_t = 10_000, value_parser = clap::value_parser!(i32).range(1..=100_000))]
    pub batch_rows: i32,
}

/// The tables could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// Before anything was changed.
    #[error(transparent)]
    Refused(#[from] MigrateError),
    /// Somebody writes to them.
    #[error("the tables are in use: stop the programs of the system before this one, and run this again")]
    InUse,
    /// Other objects refer to them.
    #[error(
        "nothing was changed: drop what hangs on the old tables, run this again, and make it anew on the new tables: {}",
        .0.join("; ")
    )]
    Dependents(Vec<String>),
    /// They have rows that would not work any more.
    #[error(
        "nothing was changed: the new tables cannot take these values, so mend them, and run this again \
         (docs/adoption.md): {}", .0.join("; ")
    )]
    Unfit(Vec<String>),
    /// Somebody made other objects refer to them after copying had begun.
    #[error(
        "what hangs on the old tables is in the way: drop it, and run this again, or run this with --keep-old-tables \
         or with --undo: {}",
        .0.join("; ")
    )]
    InTheWay(Vec<String>),
    /// They are somebody else's.
    #[error("this role may not change the old tables: run this as their owner, with MIGRATE_DATABASE_URL ({})", describe(.0))]
    NotOwner(#[source] Error),
    /// PostgreSQL knows no such zone.
    #[error("PostgreSQL knows no time zone {0:?}: see pg_timezone_names")]
    NoSuchZone(String),
    /// Half of the times would be in another zone.
    #[error("copying began with the time zone {0:?}: go on with the same one, or with none")]
    OtherZone(String),
    /// The copies are not what they were made from.
    #[error("the copy is not right, and the old tables are as they were: {}", describe(.0))]
    NotEqual(#[source] Error),
    /// The database cannot be reached, or broke off.
    #[error("adopting was interrupted, and goes on where it stopped when this is run again: {}", describe(.0))]
    Database(Error),
}

impl From<Error> for AdoptError {
    fn from(error: Error) -> Self {
        match error.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => Self::InUse,
            Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Self::NotOwner(error),
            Some(&SqlState::DATA_CORRUPTED) => Self::NotEqual(error),
            Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => Self::InTheWay(existing::in_the_way(&error)),
            _ => Self::Database(error),
        }
    }
}

/// How far taking over has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What is copied or compared.
    pub step: String,
    /// So many of its rows are done.
    pub done: i64,
    /// Of so many.
    pub total: i64,
}

/// Takes over the tables of the system before this one, over a connection of its own.
pub struct Adopter {
    client: Object,
    options: AdoptOptions,
}

impl Adopter {
    /// One that has begun, or goes on; none if there is nothing to take over.
    pub async fn begin(database: &DatabaseUrl, options: AdoptOptions) -> anyhow::Result<Option<Self>> {
        let client = schema::connect(database).await?;
        let has_begun = in_transaction(&client, set_aside(&client, &options)).await?;
        Ok(has_begun.then_some(Self { client, options }))
    }

    /// Copies and compares everything, and ends with the new tables in the place of the old ones. `tell` hears of each
    /// transaction. Answers with what the new tables do not have of the old ones. Another that runs at the same time
    /// takes turns with this one; whoever ends it has the answer.
    pub async fn run(self, tell: impl FnMut(&Progress)) -> Result<Vec<String>, AdoptError> {
        match self.copy(tell).await {
            Err(AdoptError::Database(error)) if is_missing(&error) && self.is_done().await? => Ok(Vec::new()),
            ended => ended,
        }
    }

    async fn copy(&self, mut tell: impl FnMut(&Progress)) -> Result<Vec<String>, AdoptError> {
        let mut totals = self.totals().await?;
        loop {
            let (step, done) = in_transaction(&self.client, self.step()).await?;
            if step == LAST_STEP {
                break;
            }
            // What only messages or participants name is known by then.
            if step == "counts" && totals[4] < done {
                totals = self.totals().await?;
            }
            let place = ["conversations", "messages", "participants", "outbox"].iter().position(|name| *name == step);
            let total = totals[place.unwrap_or(if step == "comparison" { 1 } else { 4 })];
            tell(&Progress { step, done, total });
        }
        self.client.batch_execute(ANALYZE).await?;
        in_transaction(&self.client, self.finish()).await
    }

    /// Whether the new tables are there, and no others.
    async fn is_done(&self) -> Result<bool, Error> {
        Ok(!existing::is_being_adopted(&self.client).await? && existing::look(&self.client).await? == Existing::Ours)
    }

    /// Gives the old tables their names again, and removes what was made. `false`: nothing has begun that has not
    /// ended.
    pub async fn undo(database: &DatabaseUrl) -> anyhow::Result<bool> {
        let client = schema::connect(database).await?;
        let undone = async {
            client.batch_execute(LOCK).await?;
            client.batch_execute(TIME_OUTS).await?;
            if !existing::is_being_adopted(&client).await? {
                return Ok(false);
            }
            client.batch_execute(UNDO).await?;
            Ok::<_, AdoptError>(true)
        };
        Ok(in_transaction(&client, undone).await?)
    }

    async fn totals(&self) -> Result<[i64; 5], Error> {
        let rows = self.client.query_typed(TOTALS, &[]).await?;
        let mut totals = [0; 5];
        if let Some(row) = rows.first() {
            for (place, total) in totals.iter_mut().enumerate() {
                *total = row.try_get(place)?;
            }
        }
        Ok(totals)
    }

    async fn step(&self) -> Result<(String, i64), AdoptError> {
        self.client.batch_execute(LOCK).await?;
        self.client.batch_execute(TIME_OUTS).await?;
        let rows = self.client.query_typed(STEP, &[(&self.options.batch_rows, Type::INT4)]).await?;
        // The function answers with one row, or fails.
        let Some(row) = rows.first() else { return Ok((LAST_STEP.to_owned(), 0)) };
        Ok((row.try_get(0)?, row.try_get(1)?))
    }

    async fn finish(&self) -> Result<Vec<String>, AdoptError> {
        self.client.batch_execute(LOCK).await?;
        self.client.batch_execute(TIME_OUTS).await?;
        if self.options.keep_old_tables {
            self.client.batch_execute("SET LOCAL arcyou.keep_old_tables = 'on'").await?;
        }
        let rows = self.client.query_typed(LEFT_BEHIND, &[]).await?;
        let left_behind = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        self.client.batch_execute(FINISH).await?;
        Ok(left_behind)
    }
}

/// Puts the new tables in the place of the old ones, unless it is done already. `false`: there is nothing to take over.
async fn set_aside(client: &Client, options: &AdoptOptions) -> Result<bool, AdoptError> {
    client.batch_execute(LOCK).await?;
    client.batch_execute(TIME_OUTS).await?;
    if existing::is_being_adopted(client).await? {
        check_zone(client, options).await?;
        return Ok(true);
    }
    if !is_adoptable(client).await? {
        return Ok(false);
    }
    schema::check_that_it_may(client, schema::all()).await?;
    client.batch_execute(LOCK_OLD).await?;
    // Nobody can change them any more.
    if !is_adoptable(client).await? {
        return Ok(false);
    }
    let dependents = existing::dependents(client).await?;
    if !dependents.is_empty() {
        return Err(AdoptError::Dependents(dependents));
    }
    let unfit = existing::unfit(client).await?;
    if !unfit.is_empty() {
        return Err(AdoptError::Unfit(unfit));
    }
    let zone = options.timezone.as_deref().unwrap_or("UTC");
    client.query_typed(ZONE, &[(&zone, Type::TEXT)]).await.map_err(|error| match error.code() {
        Some(&SqlState::INVALID_PARAMETER_VALUE) => AdoptError::NoSuchZone(zone.to_owned()),
        _ => error.into(),
    })?;
    client.batch_execute(SET_ASIDE).await?;
    schema::apply(client).await?;
    client.batch_execute(COPY).await?;
    Ok(true)
}

/// Whether the tables of the system before are there; an error if they are somebody else's.
async fn is_adoptable(client: &Client) -> Result<bool, AdoptError> {
    match existing::look(client).await? {
        Existing::Adoptable { .. } => Ok(true),
        Existing::Foreign { schema, differences } => Err(MigrateError::Foreign { schema, differences }.into()),
        Existing::Nothing | Existing::Ours => Ok(false),
    }
}

/// Whether it is about a table or a function that is not there.
fn is_missing(error: &Error) -> bool {
    [Some(&SqlState::UNDEFINED_TABLE), Some(&SqlState::UNDEFINED_FUNCTION)].contains(&error.code())
}

/// Times are not in two zones.
async fn check_zone(client: &Client, options: &AdoptOptions) -> Result<(), AdoptError> {
    let rows = client.query_typed(ZONE_OF_ADOPTION, &[]).await?;
    let began: Option<String> = rows.first().map(|row| row.try_get(0)).transpose()?;
    match (began, &options.timezone) {
        (Some(began), Some(asked)) if began != *asked => Err(AdoptError::OtherZone(began)),
        _ => Ok(()),
    }
}
