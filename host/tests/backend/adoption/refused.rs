//! What is not adopted, and who is told to wait.

use tokio_postgres::error::SqlState;

use super::{Before, Sizes, another};

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

#[tokio::test]
async fn what_hangs_on_the_tables_must_be_dropped_first() {
    let before = Before::with(SIZES).await;
    let hang = "CREATE TABLE orders (conversation_id uuid CONSTRAINT order_room REFERENCES conversations);
        CREATE VIEW newest AS SELECT max(id) FROM messages;
        CREATE FUNCTION ring() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE TRIGGER ring AFTER INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION ring()";
    before.sql.batch_execute(hang).await.unwrap();
    let digest = before.digest("").await;
    let (is_done, said) = before.migrate(&[]).await;
    assert!(!is_done);
    for thing in ["foreign key order_room of table orders", "view newest", "trigger ring of table outbox"] {
        assert!(said.contains(thing), "{thing:?} in {said}");
    }
    is_untouched(&before, &digest).await;
    before.sql.batch_execute("DROP TABLE orders; DROP VIEW newest; DROP TRIGGER ring ON outbox").await.unwrap();
    let (is_done, said) = before.migrate(&[]).await;
    assert!(is_done, "{said}");
    before.is_whole(&SIZES).await;
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
