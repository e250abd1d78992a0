//! What is not adopted, and who is told to wait.

use tokio_postgres::error::SqlState;

use super::{Before, Sizes, another, first_room};

const SIZES: Sizes = Sizes { conversations: 2, messages: 20, waiting: 2 };

/// Nothing has changed, and nothing of ours is there.
async fn is_untouched(before: &Before, digest: &str) {
    assert_eq!(before.digest("").await, digest);
    let ours = "SELECT count(*) FROM pg_class WHERE relname LIKE '%arcyou%' OR relname LIKE 'adopting%'";
    assert_eq!(before.count(ours).await, 0);
    assert_eq!(before.count("SELECT count(*) FROM pg_proc WHERE proname = 'store_messages'").await, 0);
}

#[tokio::test]
async fn tables_of_somebody_else_are_refused_column_by_column() {
    let before = Before::with(SIZES).await;
    let change = "ALTER TABLE messages RENAME sender_id TO author; ALTER TABLE messages ADD edited timestamp;
        ALTER TABLE outbox ALTER retry_count TYPE text; ALTER TABLE participants DROP CONSTRAINT \"participants_conversation_id_user_id_pk\"";
    before.sql.batch_execute(change).await.unwrap();
    let digest = before.digest("").await;
    let (is_done, said) = before.migrate(&[]).await;
    assert!(!is_done);
    for difference in [
        "messages.sender_id (uuid) is missing",
        "messages.author (uuid) is not expected",
        "messages.edited (timestamp without time zone) is not expected",
        "outbox.retry_count is text and not integer",
        "participants has no unique key (conversation_id, user_id)",
        "nothing was changed",
    ] {
        assert!(said.contains(difference), "{difference:?} in {said}");
    }
    is_untouched(&before, &digest).await;
}

/// Whatever the last script could not drop, or would drop without a word: how it is made, named, and removed.
const DEPENDENTS: [(&str, &str, &str); 18] = [
    (
        "CREATE TABLE orders (room uuid CONSTRAINT order_room REFERENCES conversations)",
        "constraint order_room on table orders",
        "DROP TABLE orders",
    ),
    ("CREATE VIEW newest AS SELECT max(id) FROM messages", "view newest", "DROP VIEW newest"),
    (
        "CREATE MATERIALIZED VIEW busy AS SELECT count(*) FROM outbox",
        "materialized view busy",
        "DROP MATERIALIZED VIEW busy",
    ),
    (
        "CREATE FUNCTION title(conversations) RETURNS text LANGUAGE sql AS 'SELECT $1.id::text'",
        "function title(conversations)",
        "DROP FUNCTION title",
    ),
    (
        "CREATE FUNCTION page() RETURNS SETOF messages LANGUAGE sql AS 'SELECT * FROM messages'",
        "function page()",
        "DROP FUNCTION page",
    ),
    (
        "CREATE FUNCTION last_id() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT max(id) FROM messages; END",
        "function last_id()",
        "DROP FUNCTION last_id",
    ),
    ("CREATE TABLE history (m messages)", "column m of table history", "DROP TABLE history"),
    ("CREATE TABLE pages (m messages[])", "column m of table pages", "DROP TABLE pages"),
    ("CREATE DOMAIN stored AS messages CHECK ((VALUE).id > 0)", "type stored", "DROP DOMAIN stored"),
    (
        "CREATE TABLE notes (id bigint DEFAULT nextval('messages_id_seq'))",
        "default value for column id of table notes depends on sequence messages_id_seq",
        "DROP TABLE notes",
    ),
    (
        "CREATE TABLE files (room uuid);
         CREATE POLICY members ON files USING (EXISTS (SELECT FROM participants WHERE conversation_id = room))",
        "policy members on table files",
        "DROP TABLE files",
    ),
    (
        "CREATE TABLE leavers (id uuid);
         CREATE RULE leave AS ON INSERT TO leavers DO ALSO DELETE FROM participants WHERE user_id = NEW.id",
        "rule leave on table leavers",
        "DROP TABLE leavers",
    ),
    ("CREATE TABLE letters () INHERITS (messages)", "table letters", "DROP TABLE letters"),
    (
        "CREATE TABLE everything (id bigint NOT NULL); ALTER TABLE messages INHERIT everything",
        "inheritance of table messages from everything",
        "ALTER TABLE messages NO INHERIT everything; DROP TABLE everything",
    ),
    (
        "CREATE FUNCTION ring() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER ring AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION ring()",
        "trigger ring of table outbox",
        "DROP FUNCTION ring CASCADE",
    ),
    (
        "CREATE RULE wake AS ON INSERT TO outbox DO ALSO NOTIFY outbox",
        "rule wake of table outbox",
        "DROP RULE wake ON outbox",
    ),
    (
        "CREATE POLICY own ON messages USING (sender_id IS NOT NULL)",
        "policy own of table messages",
        "DROP POLICY own ON messages",
    ),
    (
        "CREATE PUBLICATION stream FOR TABLE messages",
        "membership of table messages in publication stream",
        "DROP PUBLICATION stream",
    ),
];

#[tokio::test]
async fn what_hangs_on_the_tables_must_be_dropped_first() {
    let before = Before::with(SIZES).await;
    let create = "DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO PUBLIC', current_database()); END $$";
    before.world.sql.batch_execute(create).await.unwrap();
    for (make, ..) in DEPENDENTS {
        before.sql.batch_execute(make).await.unwrap();
    }
    let digest = before.digest("").await;
    let (is_done, said) = before.migrate(&[]).await;
    assert!(!is_done && said.contains("nothing was changed: drop what hangs on the old tables"), "{said}");
    let named: Vec<&str> = said.trim().split_once("new tables: ").unwrap().1.split("; ").collect();
    for (_, name, _) in DEPENDENTS {
        assert_eq!(named.iter().filter(|line| line.starts_with(name)).count(), 1, "{name:?} in {said}");
    }
    assert_eq!(named.len(), DEPENDENTS.len(), "{said}");
    is_untouched(&before, &digest).await;
    for (.., remove) in DEPENDENTS {
        before.sql.batch_execute(remove).await.unwrap();
    }
    let (is_done, said) = before.migrate(&[]).await;
    assert!(is_done, "{said}");
    before.is_whole(&SIZES).await;
}

#[tokio::test]
async fn values_that_the_new_tables_cannot_take_are_refused_at_once() {
    let before = Before::with(SIZES).await;
    // What is not to be copied may be as it is.
    let spoil = "ALTER TABLE messages ALTER sender_id DROP NOT NULL; ALTER TABLE outbox ALTER payload DROP NOT NULL;
        INSERT INTO conversations VALUES ('00000000-0000-0000-0000-000000000001', '0044-03-15 BC');
        INSERT INTO participants
            VALUES (md5('c1')::uuid, '00000000-0000-0000-0000-000000000002', 'member', '-infinity');
        INSERT INTO messages (id, conversation_id, sender_id, body, created_at) VALUES
            (101, md5('c1')::uuid, md5('u1')::uuid, '[1]', '2024-05-04'),
            (102, md5('c1')::uuid, md5('u1')::uuid, '\"two\"', '2024-05-04'),
            (103, md5('c1')::uuid, md5('u1')::uuid, '3', 'infinity'),
            (104, md5('c1')::uuid, NULL, 'null', '10000-01-01'),
            (105, md5('c1')::uuid, md5('u1')::uuid, jsonb_build_object('text', repeat('x', 8 << 20)), '2024-05-04'),
            (106, md5('c1')::uuid, md5('u1')::uuid, jsonb_build_object('text', repeat('x', 8000000)), '2024-05-04');
        INSERT INTO outbox (id, type, conversation_id, payload, processed, created_at) VALUES
            (101, 'x', md5('c1')::uuid, NULL, false, 'infinity'),
            (102, 'x', md5('c1')::uuid, NULL, true, '2024-05-04')";
    before.sql.batch_execute(spoil).await.unwrap();
    let digest = before.digest("").await;
    let (is_done, said) = before.migrate(&[]).await;
    assert!(!is_done && said.contains("nothing was changed: the new tables cannot take these values"), "{said}");
    let mend = "UPDATE messages SET body = jsonb_build_object('text', body) \
        WHERE jsonb_typeof(body) NOT IN ('object', 'null')";
    let bodies = format!("messages.body: 3 rows are no object, the first has id 101: {mend}");
    let named: Vec<&str> = said.trim().split_once("docs/adoption.md): ").unwrap().1.split("; ").collect();
    assert_eq!(
        named,
        [
            "conversations.created_at: 1 row is infinite or not within the years 1 to 9999, the first has id \
             00000000-0000-0000-0000-000000000001: set a time",
            &bodies,
            "messages.body: 1 row is larger than 8 MiB, the first has id 105: shorten it",
            "messages.created_at: 2 rows are infinite or not within the years 1 to 9999, the first has id 103: set a \
             time",
            "messages.sender_id: 1 row is null, the first has id 104: set a value",
            "outbox.payload: 1 row is null, the first has id 101: set a value",
            &format!(
                "participants.created_at: 1 row is infinite or not within the years 1 to 9999, the first has \
                 conversation_id {} and user_id 00000000-0000-0000-0000-000000000002: set a time",
                first_room(&before).await.0
            ),
        ]
    );
    is_untouched(&before, &digest).await;
    let mend = format!(
        "{mend}; UPDATE messages SET created_at = '2024-05-04' WHERE id > 102;
         UPDATE messages SET body = '{{}}' WHERE id = 105;
         UPDATE messages SET sender_id = md5('u1')::uuid WHERE id = 104;
         UPDATE outbox SET payload = '{{}}' WHERE id = 101;
         UPDATE conversations SET created_at = '2024-05-01' WHERE id = '00000000-0000-0000-0000-000000000001';
         UPDATE participants SET created_at = '2024-05-02' WHERE created_at = '-infinity'"
    );
    before.sql.batch_execute(&mend).await.unwrap();
    let (is_done, said) = before.migrate(&[]).await;
    assert!(is_done, "{said}");
    let bodies = before
        .sql
        .query("SELECT body::text FROM messages WHERE id BETWEEN 101 AND 105 ORDER BY id", &[])
        .await
        .unwrap();
    let bodies: Vec<String> = bodies.iter().map(|row| row.get(0)).collect();
    assert_eq!(bodies, [r#"{"text": [1]}"#, r#"{"text": "two"}"#, r#"{"text": 3}"#, "{}", "{}"]);
}

#[tokio::test]
async fn tables_in_use_and_zones_that_do_not_exist_leave_everything_as_it_was() {
    let before = Before::with(SIZES).await;
    let digest = before.digest("").await;
    let (is_done, said) = before.migrate(&["--timezone", "Seoul/Asia"]).await;
    assert!(!is_done && said.contains("no time zone \"Seoul/Asia\""), "{said}");
    is_untouched(&before, &digest).await;
    let busy = another(&before).await;
    busy.batch_execute(
        "BEGIN; INSERT INTO outbox (type, conversation_id, payload) SELECT 'x', id, '{}' FROM conversations",
    )
    .await
    .unwrap();
    let (is_done, said) = before.migrate(&[]).await;
    assert!(!is_done && said.contains("the tables are in use: stop the programs"), "{said}");
    busy.batch_execute("ROLLBACK").await.unwrap();
    is_untouched(&before, &digest).await;
}

#[tokio::test]
async fn a_role_that_does_not_own_them_is_told_who_must_run_it() {
    let mut before = Before::with(SIZES).await;
    let digest = before.digest("").await;
    let login = before.world.login(None).await;
    let grant = format!("GRANT CREATE ON SCHEMA public TO {0}; GRANT SELECT ON messages TO {0}", login.name);
    before.sql.batch_execute(&grant).await.unwrap();
    before.url = login.url().to_owned();
    let (is_done, said) = before.migrate(&[]).await;
    assert!(!is_done && said.contains("run this as their owner, with MIGRATE_DATABASE_URL"), "{said}");
    is_untouched(&before, &digest).await;
}

#[tokio::test]
async fn a_gateway_that_starts_leaves_them_alone_and_says_what_to_run() {
    let before = Before::with(SIZES).await;
    let digest = before.digest("").await;
    let gateway = before.world.starting_gateway(0, &[("DATABASE_URL", &before.url)]).await;
    while !gateway.until("schema", "down").await.contains("run `arcyou-gateway migrate`, which adopts them") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    is_untouched(&before, &digest).await;
    let (is_done, said) = before.migrate(&[]).await;
    assert!(is_done, "{said}");
    // It looks again by itself.
    gateway.ready().await;
}

/// The old programs, as they write.
pub const OLD_WRITES: [&str; 7] = [
    "INSERT INTO messages (conversation_id, sender_id, body) SELECT id, id, '{}' FROM adopting_conversations",
    "INSERT INTO outbox (type, conversation_id, payload) VALUES ('message.created', gen_random_uuid(), '{}')",
    "INSERT INTO outbox (type, conversation_id, payload) VALUES ('room.renamed', gen_random_uuid(), '{}')",
    "UPDATE outbox SET processed = true, processed_at = now() WHERE id = 1",
    "INSERT INTO conversations DEFAULT VALUES",
    "DELETE FROM participants WHERE user_id = gen_random_uuid()",
    "TRUNCATE participants",
];

/// Each of them fails, and says why.
pub async fn refuses_writes(before: &Before) {
    let old = another(before).await;
    for write in OLD_WRITES {
        let error = old.batch_execute(write).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE), "{write}: {error:?}");
        assert!(error.as_db_error().unwrap().hint().unwrap().contains("Stop the programs"), "{error:?}");
    }
}
