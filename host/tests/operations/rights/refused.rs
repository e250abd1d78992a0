//! What each role is refused, and that it has no right more than it uses.

use std::collections::BTreeSet;

use arcyou_gateway::store;
use arcyou_platform::database::{self, Lack, Needs, TableNeed, look};

use super::is_refused;
use crate::support::World;

/// For each role statements that it must not run.
const REFUSED: &[(&str, &[&str])] = &[
    (
        "arcyou_gateway",
        &[
            "CREATE TABLE mine ()",
            "INSERT INTO conversations (last_seq) VALUES (7)",
            "UPDATE conversations SET created_at = now()",
            "INSERT INTO participants (conversation_id, user_id, last_read_id) SELECT id, id, 7 FROM conversations",
            "UPDATE participants SET user_id = conversation_id",
            "INSERT INTO api_keys (id, name, secret_sha256, scopes, rate) VALUES (gen_random_uuid(), 'mine', '', '{}', 1)",
            "UPDATE api_keys SET revoked_at = NULL",
            "DELETE FROM api_keys",
            "UPDATE messages SET sender_id = conversation_id",
            "UPDATE messages SET seq = 1",
            "UPDATE message_changes SET message_id = 1",
            "DELETE FROM message_changes",
            "DELETE FROM messages",
            "UPDATE held_messages SET body = '{}'",
            "UPDATE plugin_audit SET reviewer = 'somebody else'",
            "SELECT reason FROM plugin_audit",
            "UPDATE outbox SET retry_count = 0",
            "UPDATE outbox SET type = 'x'",
            "DELETE FROM outbox",
            "INSERT INTO outbox (processed, type, conversation_id, payload) SELECT true, 'x', id, '{}' FROM conversations",
            "SELECT setval('messages_id_seq', 1)",
            "DELETE FROM arcyou_schema_history",
            "UPDATE installation SET event_key = DEFAULT",
            "UPDATE user_cutoffs SET not_before = now()",
            "DELETE FROM user_cutoffs",
            "TRUNCATE messages",
            "DROP TABLE messages",
            "ALTER TABLE participants DISABLE TRIGGER participants_removed",
        ],
    ),
    (
        "arcyou_worker",
        &[
            "CREATE TABLE mine ()",
            "SELECT FROM conversations",
            "SELECT FROM participants",
            "SELECT FROM messages",
            "SELECT FROM held_messages",
            "SELECT FROM plugin_audit",
            "SELECT FROM user_cutoffs",
            "SELECT FROM user_blocks",
            "SELECT FROM purge_oldest(gen_random_uuid(), 1, now(), 1)",
            "SELECT FROM arcyou_schema_history",
            "UPDATE installation SET event_key = DEFAULT",
            "INSERT INTO outbox (type, conversation_id, payload) VALUES ('x', gen_random_uuid(), '{}')",
            "UPDATE outbox SET seq = 1",
            "UPDATE outbox SET type = 'x'",
            "SELECT nextval('outbox_id_seq')",
            "TRUNCATE outbox",
        ],
    ),
    (
        "arcyou_service",
        &[
            "CREATE TABLE mine ()",
            "SELECT FROM messages",
            "INSERT INTO messages (conversation_id, seq, n, changed_seq, sender_id, body)
             SELECT id, 1, 1, 1, id, '{}' FROM conversations",
            "DELETE FROM messages",
            "SELECT FROM held_messages",
            "SELECT FROM plugin_audit",
            "SELECT event_key FROM installation",
            "SELECT FROM outbox",
            "DELETE FROM outbox",
            "UPDATE outbox SET processed = true",
            "INSERT INTO outbox (type, conversation_id, payload, processed) VALUES ('x', gen_random_uuid(), '{}', true)",
            "INSERT INTO outbox (type, conversation_id, payload, internal) VALUES ('x', gen_random_uuid(), '{}', true)",
            "UPDATE conversations SET last_seq = 0",
            "INSERT INTO conversations (last_seq) VALUES (7)",
            "UPDATE participants SET last_read_id = 0",
            "UPDATE participants SET user_id = gen_random_uuid()",
            "TRUNCATE participants",
            "SELECT * FROM store_messages('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', true, NULL, NULL, NULL)",
            "SELECT FROM message_changes",
            "SELECT FROM message_reactions",
            "SELECT FROM purge_messages(1)",
            "UPDATE conversations SET purged_n = 1",
            "INSERT INTO user_blocks (user_id, blocked_id, created_at) VALUES (gen_random_uuid(), gen_random_uuid(), now())",
            "UPDATE user_cutoffs SET not_before = '1970-01-01'",
            "INSERT INTO user_cutoffs (user_id, not_before) VALUES (gen_random_uuid(), '1970-01-01')",
            "DELETE FROM user_cutoffs",
        ],
    ),
    (
        "arcyou_reader",
        &[
            "CREATE TABLE mine ()",
            "INSERT INTO conversations DEFAULT VALUES",
            "UPDATE conversations SET last_seq = 0",
            "DELETE FROM participants",
            "DELETE FROM messages",
            "UPDATE held_messages SET refused_at = now()",
            "DELETE FROM plugin_audit",
            "SELECT event_key FROM installation",
            "INSERT INTO outbox (type, conversation_id, payload) VALUES ('x', gen_random_uuid(), '{}')",
            "SELECT FROM conversations FOR UPDATE",
            "SELECT nextval('messages_id_seq')",
        ],
    ),
];

#[tokio::test]
async fn each_role_is_refused_what_it_must_not_do() {
    let world = World::new().await;
    world.grant_rights().await;
    // Twice is as good as once.
    world.grant_rights().await;
    world.conversation(&[uuid::Uuid::new_v4()]).await;
    for (role, statements) in REFUSED {
        let client = world.login(Some(role)).await.connect().await;
        for statement in *statements {
            assert!(is_refused(&client, statement).await, "{role} may: {statement}");
        }
    }
    // Who finds nothing to apply needs no right to apply anything.
    let login = world.login(Some("arcyou_gateway")).await;
    let said = super::path::command(login.url(), &["migrate"]).await;
    assert!(said.contains("the schema is up to date") && said.contains("does not own the tables"), "{said}");
    let nobody = world.login(None).await.connect().await;
    for table in [
        "conversations",
        "deleted_conversations",
        "participants",
        "participant_changes",
        "participant_changes_due",
        "messages",
        "held_messages",
        "plugin_audit",
        "outbox",
        "installation",
        "api_keys",
        "user_cutoffs",
    ] {
        assert!(is_refused(&nobody, &format!("SELECT FROM {table}")).await, "{table}");
    }
}

/// The trigger functions have their owner's rights, so nobody else may put them to work, or lead them astray.
#[tokio::test]
async fn nobody_else_makes_the_triggers_write_what_they_like() {
    let world = World::new().await;
    world.grant_rights().await;
    let login = world.login(Some("arcyou_service")).await;
    let service = login.connect().await;
    service.batch_execute("CREATE TEMPORARY TABLE fake (id uuid, conversation_id uuid, user_id uuid)").await.unwrap();
    for function in
        ["participants_changed", "participant_changes_told", "conversation_deleted", "conversations_truncated"]
    {
        let trigger =
            format!("CREATE TRIGGER forged AFTER DELETE ON fake FOR EACH ROW EXECUTE FUNCTION public.{function}()");
        assert!(is_refused(&service, &trigger).await, "{function}");
    }
    // A table or a function of the caller's own is not taken for ours.
    let user = uuid::Uuid::new_v4();
    let conversation = world.conversation(&[user]).await;
    service
        .batch_execute(
            "CREATE TEMPORARY TABLE outbox (id bigserial, type text, conversation_id uuid, payload jsonb);
             CREATE FUNCTION pg_temp.jsonb_build_object(text, uuid) RETURNS jsonb LANGUAGE sql
                 AS 'SELECT ''\"led astray\"''::jsonb';
             SET search_path = pg_temp, public",
        )
        .await
        .unwrap();
    let delete = "DELETE FROM public.participants WHERE conversation_id = $1";
    assert_eq!(service.execute(delete, &[&conversation]).await.unwrap(), 1);
    let reserved = "INSERT INTO public.outbox (type, conversation_id, payload) VALUES ('message.created', $1, '{}')";
    let refused = service.execute(reserved, &[&conversation]).await.unwrap_err();
    assert_eq!(refused.as_db_error().and_then(|error| error.constraint()), Some("outbox_type_is_reserved"));
    let told = format!("SELECT count(*) FROM outbox WHERE payload = '{{\"user_id\": \"{user}\"}}'");
    assert_eq!(world.count(&told).await, 1);
    let astray: i64 = service.query_one("SELECT count(*) FROM pg_temp.outbox", &[]).await.unwrap().get(0);
    assert_eq!(astray, 0);
}

/// Rights as PostgreSQL has them: table, privilege, column (empty: the table).
async fn granted(world: &World, role: &str) -> BTreeSet<(String, String, String)> {
    let query = "SELECT relname::text, privilege_type, '' FROM pg_class, aclexplode(relacl)
            WHERE relkind IN ('r', 'p') AND grantee = $1::text::regrole
        UNION ALL
        SELECT relname::text, privilege_type, attname::text
            FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid, aclexplode(attacl)
            WHERE grantee = $1::text::regrole";
    let rows = world.sql.query(query, &[&role]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

/// The same as the code states them.
fn needed(needs: &Needs) -> BTreeSet<(String, String, String)> {
    let mut needed = BTreeSet::new();
    for TableNeed { table, privilege, columns, whole_table } in needs.tables {
        let columns = if *whole_table { &[""] } else { *columns };
        needed.extend(columns.iter().map(|column| ((*table).into(), (*privilege).into(), (*column).into())));
    }
    needed
}

#[tokio::test]
async fn what_is_granted_is_what_the_code_needs() {
    let world = World::new().await;
    world.grant_rights().await;
    let mut gateway = granted(&world, "arcyou_gateway").await;
    assert!(gateway.remove(&("arcyou_schema_history".into(), "SELECT".into(), String::new())));
    assert_eq!(gateway, needed(&store::NEEDS));
    assert_eq!(granted(&world, "arcyou_worker").await, needed(&arcyou_outbox_worker::NEEDS));
}

#[tokio::test]
async fn each_right_that_is_missing_is_named() {
    let world = World::new().await;
    world.grant_rights().await;
    for needs in [store::NEEDS, arcyou_outbox_worker::NEEDS] {
        let role = needs.group_role;
        let login = world.login(Some(role)).await;
        let pool = database::pool(&login.url().parse().unwrap(), 1).unwrap();
        assert_eq!(look(&pool, &needs).await.unwrap(), None, "{role}");
        for (table, privilege, column) in needed(&needs) {
            let columns = if column.is_empty() { String::new() } else { format!("({column})") };
            let change = |verb: &str, to: &str| format!("{verb} {privilege} {columns} ON {table} {to} {role}");
            world.sql.batch_execute(&change("REVOKE", "FROM")).await.unwrap();
            let Some(Lack::Denied { rights, .. }) = look(&pool, &needs).await.unwrap() else {
                panic!("{table} {privilege}")
            };
            let expected = if column.is_empty() {
                format!("{privilege} on table {table}")
            } else {
                format!("{privilege} on table {table} ({column})")
            };
            assert_eq!(rights, expected);
            world.sql.batch_execute(&change("GRANT", "TO")).await.unwrap();
        }
        for sequence in needs.sequences {
            let change = |verb: &str, to: &str| format!("{verb} USAGE ON SEQUENCE {sequence} {to} {role}");
            world.sql.batch_execute(&change("REVOKE", "FROM")).await.unwrap();
            let Some(Lack::Denied { rights, .. }) = look(&pool, &needs).await.unwrap() else { panic!("{sequence}") };
            assert_eq!(rights, format!("USAGE on sequence {sequence}"));
            world.sql.batch_execute(&change("GRANT", "TO")).await.unwrap();
        }
        for function in needs.functions {
            let change = |verb: &str, to: &str| format!("{verb} EXECUTE ON FUNCTION {function} {to} PUBLIC, {role}");
            world.sql.batch_execute(&change("REVOKE", "FROM")).await.unwrap();
            let lack = look(&pool, &needs).await.unwrap().unwrap().to_string();
            assert!(lack.contains(&format!("EXECUTE on function {function}. Run migrations/roles.sql")), "{lack}");
            world.sql.batch_execute(&change("GRANT", "TO")).await.unwrap();
        }
        let function = needs.functions[1];
        let (there, back) =
            (format!("ALTER FUNCTION {function} RENAME TO x"), format!("ALTER FUNCTION x RENAME TO {function}"));
        for (there, back, named) in [
            (
                "ALTER TABLE outbox RENAME payload TO x",
                "ALTER TABLE outbox RENAME x TO payload",
                "column outbox.payload",
            ),
            (&there, &back, &format!("function {function}")),
        ] {
            world.sql.batch_execute(there).await.unwrap();
            let lack = look(&pool, &needs).await.unwrap().unwrap().to_string();
            assert!(lack.contains(&format!("lacks {named}")) && lack.contains("arcyou-gateway migrate"), "{lack}");
            world.sql.batch_execute(back).await.unwrap();
        }
        assert_eq!(look(&pool, &needs).await.unwrap(), None, "{role}");
    }
}
