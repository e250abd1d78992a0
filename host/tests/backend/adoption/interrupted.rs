//! Killed at any point, it goes on where it stopped, and nobody writes meanwhile.

use arcyou_gateway::migrate::{AdoptOptions, Adopter};

use super::refused::refuses_writes;
use super::{Before, Sizes, another};
use crate::support::World;

const SIZES: Sizes = Sizes { conversations: 11, messages: 2_000, waiting: 100 };

/// The owner's connections that wait for a lock that a test holds.
const WAITING: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename <> current_user
    AND wait_event_type = 'Lock'";

/// Those that do something.
const AT_WORK: &str =
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND usename <> current_user
    AND state <> 'idle'";

/// Kills it in the middle of the statement that waits for what `hold` locks.
async fn kill_while_it_waits_for(before: &Before, hold: &str) {
    let holder = another(before).await;
    holder.batch_execute(&format!("BEGIN; {hold}")).await.unwrap();
    let mut child = before.command(&["--batch-rows", "100"]).spawn().unwrap();
    before.world.eventually(WAITING, 1).await;
    child.kill().await.unwrap();
    holder.batch_execute("COMMIT").await.unwrap();
    before.world.eventually(AT_WORK, 0).await;
}

/// Where it goes on.
async fn place(before: &Before) -> (String, i64) {
    let row = before.sql.query_one("SELECT step, done FROM arcyou_adoption", &[]).await.unwrap();
    (row.get(0), row.get(1))
}

/// The first transaction alone.
async fn begin(before: &Before) {
    let options = AdoptOptions { timezone: None, keep_old_tables: false, undo: false, batch_rows: 100 };
    assert!(Adopter::begin(&before.url.parse().unwrap(), options).await.unwrap().is_some());
}

#[tokio::test]
async fn killed_before_its_first_transaction_ends_it_has_changed_nothing() {
    let before = Before::with(SIZES).await;
    let digest = before.digest("").await;
    kill_while_it_waits_for(&before, "LOCK TABLE outbox IN SHARE MODE").await;
    assert_eq!(before.digest("").await, digest);
    assert_eq!(before.count("SELECT count(*) FROM pg_class WHERE relname LIKE '%arcyou%'").await, 0);
}

#[tokio::test]
async fn it_goes_on_where_it_was_killed() {
    let before = Before::with(SIZES).await;
    let digest = before.digest("").await;
    begin(&before).await;
    let stop = "CREATE FUNCTION stop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END';
        CREATE TRIGGER stop BEFORE INSERT ON messages FOR EACH ROW WHEN (NEW.id = 1550) EXECUTE FUNCTION stop()";
    before.sql.batch_execute(stop).await.unwrap();
    for (hold, step, done) in [
        ("SELECT pg_advisory_xact_lock(42)", "messages", 1_500),
        ("LOCK TABLE participants IN SHARE MODE", "participants", 0),
        ("LOCK TABLE outbox IN SHARE MODE", "outbox", 0),
        // The last transaction, which lets everybody write.
        ("SELECT FROM conversations", "finish", 0),
    ] {
        kill_while_it_waits_for(&before, hold).await;
        assert_eq!(place(&before).await, (step.to_owned(), done));
        assert_eq!(before.digest("before_arcyou_").await, digest);
        refuses_writes(&before).await;
    }
    assert_eq!(
        before.count("SELECT count(*) FROM outbox WHERE parked_at IS NULL").await,
        0,
        "no worker takes them yet"
    );
    before.sql.batch_execute("DROP FUNCTION stop CASCADE").await.unwrap();
    let (is_done, said) = before.migrate(&["--timezone", "Asia/Seoul"]).await;
    assert!(!is_done && said.contains("copying began with the time zone \"UTC\""), "{said}");
    let (is_done, said) = before.migrate(&[]).await;
    assert!(is_done, "{said}");
    before.is_whole(&SIZES).await;
}

/// The database itself may be killed too.
#[tokio::test]
async fn it_goes_on_after_the_database_crashed() {
    let mut before = Before::with(SIZES).await;
    begin(&before).await;
    let mut ends = Vec::new();
    for _ in 0..3 {
        let (is_done, _) = tokio::join!(before.migrate(&["--batch-rows", "25"]), end_sessions(&before.world));
        ends.push(is_done);
        before.sql = another(&before).await;
    }
    let (is_done, said) = before.migrate(&[]).await;
    assert!(is_done, "{ends:?} {said}");
    before.is_whole(&SIZES).await;
}

/// Whatever the owner's sessions do: as after a crash, or a failover.
async fn end_sessions(world: &World) {
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database()
        AND usename <> current_user AND query LIKE '%arcyou_adopt%'";
    for _ in 0..20 {
        world.count(end).await;
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// One whose copy is not what it was made from stays as it was, and so do the old tables.
#[tokio::test]
async fn a_wrong_copy_is_noticed_and_the_old_tables_stay() {
    let before = Before::with(SIZES).await;
    let digest = before.digest("").await;
    begin(&before).await;
    let spoil = "CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql
            AS 'BEGIN NEW.body = ''{\"text\": \"spoilt\"}''; RETURN NEW; END';
        CREATE TRIGGER spoil BEFORE INSERT ON messages FOR EACH ROW WHEN (NEW.id = 777) EXECUTE FUNCTION spoil()";
    before.sql.batch_execute(spoil).await.unwrap();
    for _ in 0..2 {
        let (is_done, said) = before.migrate(&[]).await;
        assert!(!is_done && said.contains("the copy is not right") && said.contains("message 777"), "{said}");
        assert_eq!(before.digest("before_arcyou_").await, digest);
        refuses_writes(&before).await;
    }
}

#[tokio::test]
async fn undone_in_the_middle_everything_is_as_it_was() {
    let before = Before::with(SIZES).await;
    let names = "SELECT string_agg(format('%s %s', oid, relname), ' ' ORDER BY oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace
        UNION ALL SELECT string_agg(proname, ' ') FROM pg_proc WHERE pronamespace = 'public'::regnamespace";
    let names = async || -> Vec<Option<String>> {
        before.sql.query(names, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    };
    let (digest, named) = (before.digest("").await, names().await);
    begin(&before).await;
    kill_while_it_waits_for(&before, "LOCK TABLE participants IN SHARE MODE").await;
    let (is_done, said) = before.migrate(&["--undo"]).await;
    assert!(is_done && said.contains("the old tables are as they were"), "{said}");
    assert_eq!((before.digest("").await, names().await), (digest, named));
    let write = "INSERT INTO messages (conversation_id, sender_id, body) SELECT id, id, '{}' FROM conversations";
    assert_eq!(before.sql.execute(write, &[]).await.unwrap(), 11);
    let (_, said) = before.migrate(&["--undo"]).await;
    assert!(said.contains("there is nothing to undo"), "{said}");
    // And again, to the end.
    before.sql.batch_execute("DELETE FROM messages WHERE body = '{}'").await.unwrap();
    let (is_done, said) = before.migrate(&[]).await;
    assert!(is_done, "{said}");
    before.is_whole(&SIZES).await;
}

/// A gateway and a worker that run already, or start, do nothing before it is done.
#[tokio::test]
async fn a_gateway_waits_until_it_is_done() {
    let before = Before::with(SIZES).await;
    begin(&before).await;
    let gateway = before.world.starting_gateway(0, &[("DATABASE_URL", &before.url)]).await;
    while !gateway.until("schema", "down").await.contains("are being adopted: `arcyou-gateway migrate` finishes it") {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let (is_done, said) = before.migrate(&[]).await;
    assert!(is_done, "{said}");
    gateway.ready().await;
    before.is_whole(&SIZES).await;
}
