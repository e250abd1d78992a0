//! Killed at any point, it goes on where it stopped, and nobody writes meanwhile.

use arcyou_gateway::migrate::{AdoptOptions, Adopter};
use futures_util::future::join_all;
use tokio_postgres::error::SqlState;

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

/// The end says what is in its way, and what to do.
#[tokio::test]
async fn what_was_hung_on_the_old_tables_meanwhile_is_named_at_the_end() {
    let before = Before::with(SIZES).await;
    begin(&before).await;
    before.sql.batch_execute("CREATE VIEW newest AS SELECT max(id) FROM before_arcyou_messages").await.unwrap();
    for _ in 0..2 {
        let (is_done, said) = before.migrate(&[]).await;
        assert!(!is_done && said.contains("drop it, and run this again"), "{said}");
        assert!(said.contains("view newest depends on table before_arcyou_messages"), "{said}");
        assert_eq!(place(&before).await, ("finish".to_owned(), 0));
    }
    before.sql.batch_execute("DROP VIEW newest").await.unwrap();
    let (is_done, said) = before.migrate(&[]).await;
    assert!(is_done, "{said}");
    before.is_whole(&SIZES).await;
}

#[tokio::test]
async fn several_at_once_take_turns() {
    let before = Before::with(SIZES).await;
    let several = (0..4).map(|_| before.migrate(&["--batch-rows", "100"]));
    for (is_done, said) in join_all(several).await {
        assert!(is_done && said.contains("the schema is up to date"), "{said}");
    }
    before.is_whole(&SIZES).await;
}

/// They have their rights all the time, and what they did not keep is told at the end, whoever comes to it.
#[tokio::test]
async fn other_roles_keep_their_rights_and_hear_what_they_lost() {
    let before = Before::with(SIZES).await;
    let service = before.world.login(None).await;
    let app = &service.name;
    let add = "CREATE INDEX by_sender ON messages (sender_id, id) WHERE sender_id IS NOT NULL;
        CREATE INDEX relayed ON outbox USING hash (processed);
        CREATE STATISTICS pairs ON sender_id, conversation_id FROM messages;
        CREATE TABLE people (id uuid PRIMARY KEY); INSERT INTO people SELECT DISTINCT user_id FROM participants;
        ALTER TABLE messages ADD CONSTRAINT is_text CHECK (body ? 'text');
        ALTER TABLE participants ADD CONSTRAINT is_person FOREIGN KEY (user_id) REFERENCES people;
        GRANT SELECT, INSERT, DELETE ON conversations, participants TO service;
        GRANT UPDATE (role) ON participants TO service WITH GRANT OPTION;
        GRANT TRUNCATE ON participants TO service;
        GRANT SELECT, INSERT ON messages TO service; GRANT SELECT (id, processed) ON outbox TO service;
        GRANT USAGE ON SEQUENCE messages_id_seq TO service; GRANT SELECT ON conversations, messages TO PUBLIC";
    before.sql.batch_execute(&add.replace("service", app)).await.unwrap();
    let acl = "SELECT string_agg(concat(relname, relacl), ' ' ORDER BY oid) FROM pg_class
        WHERE relnamespace = 'public'::regnamespace";
    let acl = async || -> String { before.sql.query_one(acl, &[]).await.unwrap().get(0) };
    let rights = acl().await;
    let client = service.connect().await;
    let join = "INSERT INTO conversations (id, created_at) VALUES (md5('new')::uuid, DEFAULT);
        INSERT INTO participants (conversation_id, user_id, role, created_at)
            VALUES (md5('new')::uuid, md5('u1')::uuid, DEFAULT, DEFAULT);
        UPDATE participants SET role = 'owner' WHERE conversation_id = md5('new')::uuid;
        DELETE FROM participants WHERE conversation_id = md5('new')::uuid;
        DELETE FROM conversations WHERE id = md5('new')::uuid";

    begin(&before).await;
    let error = client.batch_execute(join).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE), "{error:?}");
    assert!(before.migrate(&["--undo"]).await.0);
    assert_eq!(acl().await, rights);
    client.batch_execute(join).await.unwrap();

    begin(&before).await;
    kill_while_it_waits_for(&before, "LOCK TABLE participants IN SHARE MODE").await;
    let (is_done, said) = before.migrate(&[]).await;
    assert!(is_done, "{said}");
    let told: Vec<&str> = said.lines().filter_map(|line| line.strip_prefix("not carried over: ")).collect();
    let grant = "; GRANT what it needs (docs/operations.md, roles and rights)";
    assert_eq!(
        told,
        [
            "constraint is_person of table participants: FOREIGN KEY (user_id) REFERENCES people(id)",
            "constraint is_text of table messages: CHECK ((body ? 'text'::text))",
            "index by_sender: CREATE INDEX by_sender ON public.messages USING btree (sender_id, id) \
             WHERE (sender_id IS NOT NULL)",
            "index relayed: CREATE INDEX relayed ON public.outbox USING hash (processed)",
            "statistics pairs: CREATE STATISTICS public.pairs ON conversation_id, sender_id FROM messages",
            &format!("PUBLIC had SELECT on messages{grant}"),
            &format!("role {app} had INSERT, SELECT on messages{grant}"),
            &format!("role {app} had SELECT (id), SELECT (processed) on outbox{grant}"),
            &format!("role {app} had TRUNCATE on participants{grant}"),
            &format!("role {app} had USAGE on messages_id_seq{grant}"),
        ]
    );
    before.is_whole(&SIZES).await;
    client.batch_execute(join).await.unwrap();
    client.batch_execute("SELECT * FROM conversations; GRANT UPDATE (role) ON participants TO PUBLIC").await.unwrap();
    for beyond in [
        "UPDATE conversations SET last_seq = 0",
        "INSERT INTO conversations (last_seq) VALUES (7)",
        "UPDATE participants SET last_read_id = 7",
        "INSERT INTO messages (body) VALUES ('{}')",
    ] {
        let error = client.batch_execute(beyond).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{beyond}: {error:?}");
    }
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
