//! What stands where this gateway's tables belong: nothing, its own, those of the system before it, or somebody else's.

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

/// What a look at the schema found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Existing {
    Nothing,
    Ours,
    /// The tables of the system before, as it made them.
    Adoptable {
        schema: String,
    },
    /// Others, with what is not as expected.
    Foreign {
        schema: String,
        differences: Vec<String>,
    },
}

/// A table as it is in the database: its kind, its columns with their types, and the columns of each of its unique
/// keys.
#[derive(Debug, Default)]
struct Found {
    kind: String,
    columns: BTreeMap<String, String>,
    keys: BTreeSet<String>,
}

/// A table as the system before has it.
struct Expected {
    name: &'static str,
    /// Each with its type, and whether it must be there.
    columns: &'static [(&'static str, Kind, bool)],
    key: &'static str,
}

/// Types that are alike.
#[derive(Clone, Copy)]
enum Kind {
    Exactly(&'static str),
    Text,
    /// With a zone or without.
    Time,
}

const EXPECTED: [Expected; 4] = [
    Expected {
        name: "conversations",
        columns: &[("id", Kind::Exactly("uuid"), true), ("created_at", Kind::Time, false)],
        key: "id",
    },
    Expected {
        name: "participants",
        columns: &[
            ("conversation_id", Kind::Exactly("uuid"), true),
            ("user_id", Kind::Exactly("uuid"), true),
            ("role", Kind::Text, false),
            ("last_read_id", Kind::Exactly("bigint"), false),
            ("created_at", Kind::Time, false),
        ],
        key: "conversation_id, user_id",
    },
    Expected {
        name: "messages",
        columns: &[
            ("id", Kind::Exactly("bigint"), true),
            ("conversation_id", Kind::Exactly("uuid"), true),
            ("sender_id", Kind::Exactly("uuid"), true),
            ("body", Kind::Exactly("jsonb"), true),
            ("created_at", Kind::Time, true),
        ],
        key: "id",
    },
    Expected {
        name: "outbox",
        columns: &[
            ("id", Kind::Exactly("bigint"), true),
            ("type", Kind::Text, true),
            ("conversation_id", Kind::Exactly("uuid"), true),
            ("payload", Kind::Exactly("jsonb"), true),
            ("processed", Kind::Exactly("boolean"), true),
            ("processed_at", Kind::Time, false),
            ("retry_count", Kind::Exactly("integer"), false),
            ("error", Kind::Text, false),
            ("created_at", Kind::Time, false),
        ],
        key: "id",
    },
];

const IS_BEING_ADOPTED: &str = "SELECT to_regclass('arcyou_adoption') IS NOT NULL";

const IS_OURS: &str = "SELECT to_regclass('arcyou_schema_history') IS NOT NULL, quote_ident(current_schema())";

/// The columns of these tables in the schema in which tables are made.
const COLUMNS: &str = "
SELECT c.relname::text, c.relkind::text, a.attname::text, format_type(a.atttypid, NULL)
FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND c.relname = ANY($1)
    AND c.relkind IN ('r', 'p', 'v', 'm', 'f')";

/// Their unique keys.
const KEYS: &str = "
SELECT c.relname::text, (SELECT string_agg(a.attname, ', ' ORDER BY k.place) FROM unnest(i.indkey::int2[])
    WITH ORDINALITY AS k (number, place) JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number)
FROM pg_class c JOIN pg_index i ON i.indrelid = c.oid
WHERE c.relnamespace = to_regnamespace(quote_ident(current_schema())) AND c.relname = ANY($1)
    AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL";

/// What would go with them without a word.
const ATTACHED: &str = "
WITH old AS (
    SELECT oid FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident(current_schema())) AND relname = ANY($1)
)
SELECT format('trigger %I of table %s', tgname, tgrelid::regclass) FROM pg_trigger
WHERE NOT tgisinternal AND tgrelid IN (SELECT oid FROM old)
UNION ALL
SELECT format('rule %I of table %s', rulename, ev_class::regclass) FROM pg_rewrite
WHERE ev_class IN (SELECT oid FROM old)
UNION ALL
SELECT format('policy %I of table %s', polname, polrelid::regclass) FROM pg_policy WHERE polrelid IN (SELECT oid FROM old)
UNION ALL
SELECT format('membership of table %s in publication %I', prrelid::regclass, pubname)
FROM pg_publication_rel JOIN pg_publication p ON p.oid = prpubid WHERE prrelid IN (SELECT oid FROM old)
UNION ALL
SELECT format('inheritance of table %s from %s', inhrelid::regclass, inhparent::regclass) FROM pg_inherits
WHERE inhrelid IN (SELECT oid FROM old)
ORDER BY 1";

/// What the last script will do.
const DROP: &str = "DROP TABLE conversations, participants, messages, outbox";

/// Values that the new tables, or whoever reads them, cannot live with: which column, in how many rows, the first of
/// these, and what to do. A time that is not in the old table is null. Zones move times by less than a day. What is
/// stored in 16 KiB is no 8 MiB, however well it is compressed.
const UNFIT: &str = "
SELECT format('%s: %s %s %s, the first has %s: %s', name, count(*),
    CASE count(*) WHEN 1 THEN 'row is' ELSE 'rows are' END,
    CASE kind WHEN 'time' THEN 'infinite or not within the years 1 to 9999' WHEN 'body' THEN 'no object'
        WHEN 'size' THEN 'larger than 8 MiB' ELSE 'null' END,
    coalesce('id ' || min(id), min(key), 'no id'),
    CASE kind WHEN 'time' THEN 'set a time' WHEN 'size' THEN 'shorten it'
        WHEN 'body' THEN 'UPDATE messages SET body = jsonb_build_object(''text'', body) ' ||
            'WHERE jsonb_typeof(body) NOT IN (''object'', ''null'')'
        ELSE 'set a value' END)
FROM (
    SELECT name, kind, NULL::bigint AS id, 'id ' || o.id AS key FROM (VALUES (NULL::timestamp)) AS lacks (created_at)
    CROSS JOIN LATERAL (SELECT id, created_at FROM conversations) AS o
    CROSS JOIN LATERAL (VALUES ('conversations.id', 'null', o.id IS NULL),
        ('conversations.created_at', 'time', NOT (o.created_at > '0001-01-02' AND o.created_at < '9999-12-31'))
    ) AS fault (name, kind, is_there) WHERE is_there
    UNION ALL
    SELECT name, kind, NULL, format('conversation_id %s and user_id %s', o.conversation_id, o.user_id)
    FROM (VALUES (NULL::timestamp)) AS lacks (created_at)
    CROSS JOIN LATERAL (SELECT conversation_id, user_id, created_at FROM participants) AS o
    CROSS JOIN LATERAL (VALUES ('participants.conversation_id', 'null', o.conversation_id IS NULL),
        ('participants.user_id', 'null', o.user_id IS NULL),
        ('participants.created_at', 'time', NOT (o.created_at > '0001-01-02' AND o.created_at < '9999-12-31'))
    ) AS fault (name, kind, is_there) WHERE is_there
    UNION ALL
    SELECT name, kind, o.id, NULL FROM messages o
    CROSS JOIN LATERAL (VALUES ('messages.id', 'null', o.id IS NULL),
        ('messages.conversation_id', 'null', o.conversation_id IS NULL),
        ('messages.sender_id', 'null', o.sender_id IS NULL),
        ('messages.body', 'body', jsonb_typeof(o.body) NOT IN ('object', 'null')),
        ('messages.body', 'size', pg_column_size(o.body) > 16384 AND octet_length(o.body::text) > 8388608),
        ('messages.created_at', 'time', NOT (o.created_at > '0001-01-02' AND o.created_at < '9999-12-31'))
    ) AS fault (name, kind, is_there) WHERE is_there
    UNION ALL
    SELECT name, kind, o.id, NULL FROM outbox o
    CROSS JOIN LATERAL (VALUES ('outbox.id', 'null', o.id IS NULL), ('outbox.type', 'null', o.type IS NULL),
        ('outbox.conversation_id', 'null', o.conversation_id IS NULL), ('outbox.payload', 'null', o.payload IS NULL)
    ) AS fault (name, kind, is_there) WHERE is_there AND o.processed IS NOT TRUE
) AS found
GROUP BY name, kind ORDER BY name, kind";

/// Whether taking over has begun and not ended. Needs no right.
pub(super) async fn is_being_adopted(client: &Client) -> Result<bool, Error> {
    let rows = client.query_typed(IS_BEING_ADOPTED, &[]).await?;
    rows.first().map_or(Ok(false), |row| row.try_get(0))
}

/// Looks at the schema in which tables would be made.
pub(super) async fn look(client: &Client) -> Result<Existing, Error> {
    let rows = client.query_typed(IS_OURS, &[]).await?;
    let Some(row) = rows.first() else { return Ok(Existing::Nothing) };
    if row.try_get(0)? {
        return Ok(Existing::Ours);
    }
    let schema = row.try_get::<_, Option<String>>(1)?.unwrap_or_default();
    let names: Vec<&str> = EXPECTED.iter().map(|expected| expected.name).collect();
    let mut tables = BTreeMap::<String, Found>::new();
    for row in client.query_typed(COLUMNS, &[(&names, Type::TEXT_ARRAY)]).await? {
        let table = tables.entry(row.try_get(0)?).or_default();
        table.kind = row.try_get(1)?;
        if let (Some(column), Some(kind)) = (row.try_get(2)?, row.try_get(3)?) {
            table.columns.insert(column, kind);
        }
    }
    if tables.is_empty() {
        return Ok(Existing::Nothing);
    }
    for row in client.query_typed(KEYS, &[(&names, Type::TEXT_ARRAY)]).await? {
        if let (Some(table), Some(key)) = (tables.get_mut(row.try_get::<_, &str>(0)?), row.try_get(1)?) {
            table.keys.insert(key);
        }
    }
    let differences = differences(&tables);
    Ok(if differences.is_empty() { Existing::Adoptable { schema } } else { Existing::Foreign { schema, differences } })
}

/// What must be dropped before the tables of the system before can be taken over. Inside a transaction, in which nobody
/// else can use them any more.
pub(super) async fn dependents(client: &Client) -> Result<Vec<String>, Error> {
    let names: Vec<&str> = EXPECTED.iter().map(|expected| expected.name).collect();
    let rows = client.query_typed(ATTACHED, &[(&names, Type::TEXT_ARRAY)]).await?;
    let mut dependents = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<_>, _>>()?;
    // PostgreSQL knows every kind of thing that keeps a table from being dropped.
    client.batch_execute("SAVEPOINT trial").await?;
    let trial = client.batch_execute(DROP).await;
    client.batch_execute("ROLLBACK TO SAVEPOINT trial; RELEASE SAVEPOINT trial").await?;
    match trial {
        Err(error) if error.code() == Some(&SqlState::DEPENDENT_OBJECTS_STILL_EXIST) => {
            dependents.extend(in_the_way(&error))
        }
        trial => trial?,
    }
    Ok(dependents)
}

/// What PostgreSQL names as depending on what was to be dropped.
pub(super) fn in_the_way(error: &Error) -> Vec<String> {
    let Some(error) = error.as_db_error() else { return Vec::new() };
    error.detail().unwrap_or(error.message()).lines().map(str::to_owned).collect()
}

/// The values that cannot be taken over.
pub(super) async fn unfit(client: &Client) -> Result<Vec<String>, Error> {
    client.query_typed(UNFIT, &[]).await?.iter().map(|row| row.try_get(0)).collect()
}

/// What makes these tables others than those of the system before.
fn differences(tables: &BTreeMap<String, Found>) -> Vec<String> {
    let mut differences = Vec::new();
    for Expected { name, columns, key } in &EXPECTED {
        let Some(found) = tables.get(*name) else {
            differences.push(format!("table {name} is missing"));
            continue;
        };
        if found.kind != "r" {
            differences.push(format!("{name} is no ordinary table"));
        }
        for (column, kind, is_required) in *columns {
            match found.columns.get(*column) {
                Some(found) if kind.is(found) => {}
                Some(found) => differences.push(format!("{name}.{column} is {found} and not {}", kind.text())),
                None if *is_required => differences.push(format!("{name}.{column} ({}) is missing", kind.text())),
                None => {}
            }
        }
        let is_known = |column: &str| columns.iter().any(|(known, ..)| *known == column);
        let unknown = found.columns.iter().filter(|(column, _)| !is_known(column));
        differences.extend(unknown.map(|(column, kind)| format!("{name}.{column} ({kind}) is not expected")));
        if !found.keys.contains(*key) {
            differences.push(format!("{name} has no unique key ({key})"));
        }
    }
    differences
}

impl Kind {
    fn is(self, found: &str) -> bool {
        match self {
            Self::Exactly(name) => found == name,
            Self::Text => ["text", "character varying"].contains(&found),
            Self::Time => ["timestamp without time zone", "timestamp with time zone"].contains(&found),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Exactly(name) => name,
            Self::Text => "text",
            Self::Time => "timestamp",
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// All that the system before may have.
    fn whole() -> BTreeMap<String, Found> {
        let table = |expected: &Expected| Found {
            kind: "r".to_owned(),
            columns: expected.columns.iter().map(|(name, kind, _)| ((*name).to_owned(), example(*kind))).collect(),
            keys: BTreeSet::from([expected.key.to_owned()]),
        };
        EXPECTED.iter().map(|expected| (expected.name.to_owned(), table(expected))).collect()
    }

    fn example(kind: Kind) -> String {
        if let Kind::Time = kind { "timestamp without time zone".to_owned() } else { kind.text().to_owned() }
    }

    #[test]
    fn the_tables_of_the_system_before_are_known() {
        let mut tables = whole();
        assert_eq!(differences(&tables), Vec::<String>::new());
        // Its later versions, or its older ones.
        tables.get_mut("participants").unwrap().columns.remove("last_read_id");
        tables.get_mut("outbox").unwrap().columns.insert("type".to_owned(), "character varying".to_owned());
        tables
            .get_mut("messages")
            .unwrap()
            .columns
            .insert("created_at".to_owned(), "timestamp with time zone".to_owned());
        assert_eq!(differences(&tables), Vec::<String>::new());
    }

    #[test]
    fn each_difference_is_named() {
        let mut tables = whole();
        tables.remove("participants");
        let messages = tables.get_mut("messages").unwrap();
        messages.columns.insert("body".to_owned(), "text".to_owned());
        messages.columns.insert("edited_at".to_owned(), "date".to_owned());
        messages.columns.remove("sender_id");
        messages.keys.clear();
        tables.get_mut("outbox").unwrap().kind = "v".to_owned();
        assert_eq!(
            differences(&tables),
            [
                "table participants is missing",
                "messages.sender_id (uuid) is missing",
                "messages.body is text and not jsonb",
                "messages.edited_at (date) is not expected",
                "messages has no unique key (id)",
                "outbox is no ordinary table",
            ]
        );
    }
}
