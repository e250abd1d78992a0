//! From the old tables to people who go on talking.

use serde_json::json;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::{Before, Sizes, first_room};
use crate::support::client::Client;
use crate::support::connect;

const SIZES: Sizes = Sizes { conversations: 7, messages: 3_000, waiting: 40 };

#[tokio::test]
async fn people_go_on_where_they_were() {
    let before = Before::with(SIZES).await;
    let (is_done, said) = before.migrate(&[]).await;
    assert!(is_done, "{said}");
    for line in [
        "adopting the tables",
        "messages: 3000 of 3000",
        "participants: 21 of 21",
        "comparison: 3000 of 3000",
        "counts: 7 of 7",
        "every row was compared",
        "the schema is up to date",
        "the group roles have their rights",
    ] {
        assert!(said.contains(line), "{line:?} in {said}");
    }
    before.is_whole(&SIZES).await;
    // Again there is nothing to do.
    let (is_done, said) = before.migrate(&[]).await;
    assert!(is_done && !said.contains("adopt"), "{said}");

    let world = &before.world;
    let (conversation, alice) = first_room(&before).await;
    let newest: i64 = before.count("SELECT max(id) FROM messages").await;
    let gateway = world.gateway_with(&[("DATABASE_URL", &before.url)]).await;
    let mut client = Client::authenticated(gateway.port, alice).await;
    let joined = client.ok(json!({"op": "join", "conversation_id": conversation})).await;
    assert_eq!((&joined["last_seq"], &joined["role"]), (&json!(428), &json!("owner")), "{joined}");
    let reply = client.say(conversation, "and on").await;
    assert_eq!((&reply["seq"], &reply["message_id"]), (&json!(429), &json!(newest + 1)), "{reply}");
    let page = client.ok(json!({"op": "history", "conversation_id": conversation, "after_seq": 0, "limit": 1})).await;
    assert_eq!(page["messages"][0]["body"]["text"], "message 7", "{page}");
    assert_eq!(page["messages"][0]["created_at"], "2024-05-03T12:00:06.123Z");
    let history = json!({"op": "history", "conversation_id": conversation, "limit": 200});
    assert_eq!(client.ok(history).await["messages"][0]["body"]["text"], "and on");

    // What no worker had relayed is relayed once, in order; then nothing is left.
    let bob = before.sql.query_one("SELECT md5('u2')::uuid", &[]).await.unwrap().get::<_, Uuid>(0);
    let mut other = Client::authenticated(gateway.port, bob).await;
    other.ok(json!({"op": "join", "conversation_id": conversation, "after_seq": 425})).await;
    let health = arcyou_platform::health::Health::new();
    let mode = arcyou_platform::contract::PubSubMode::Global;
    let _worker = world.worker_with(&before.url, &world.redis.url(), mode, &health);
    for seq in 426..=429 {
        assert_eq!(other.message().await.1, seq);
    }
    world.eventually("SELECT count(*) FROM outbox WHERE NOT processed", 0).await;
    client.say(conversation, "the last").await;
    assert_eq!(other.message().await, ("the last".to_owned(), 430));
    // Participants are told of again.
    let insert = "INSERT INTO participants (conversation_id, user_id) VALUES ($1, $2)";
    before.sql.execute(insert, &[&conversation, &Uuid::new_v4()]).await.unwrap();
    assert_eq!(other.event().await["type"], "participant.added");
}

#[tokio::test]
async fn pgbouncer_in_transaction_mode_is_no_obstacle() {
    let mut before = Before::with(SIZES).await;
    before.url = before.world.database_url();
    let (is_done, said) = before.migrate(&["--batch-rows", "400"]).await;
    assert!(is_done, "{said}");
    before.sql = connect(&before.world.direct_url()).await;
    before.is_whole(&SIZES).await;
}

/// The new owner is a member of the old one, and not the other way round.
#[tokio::test]
async fn old_programs_with_a_role_of_their_own_cannot_touch_the_new_tables() {
    let mut before = Before::with(SIZES).await;
    let login = before.world.login(None).await;
    let old: String = before.sql.query_one("SELECT current_user::text", &[]).await.unwrap().get(0);
    let grant = format!("GRANT {old} TO {0}; GRANT CREATE ON SCHEMA public TO {0}", login.name);
    before.world.sql.batch_execute(&grant).await.unwrap();
    before.url = login.url().to_owned();
    let (is_done, said) = before.migrate(&[]).await;
    assert!(is_done, "{said}");
    for statement in [
        "SELECT * FROM outbox WHERE NOT processed ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED",
        "UPDATE outbox SET processed = true",
        "INSERT INTO messages (conversation_id, sender_id, body) VALUES (gen_random_uuid(), gen_random_uuid(), '{}')",
        "DELETE FROM participants",
    ] {
        let error = before.sql.batch_execute(statement).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{statement}: {error:?}");
    }
    before.sql = connect(&before.url).await;
    before.is_whole(&SIZES).await;
}

#[tokio::test]
async fn another_schema_another_zone_and_odd_rows() {
    let before = Before::empty("the chat").await;
    // Foreign keys are not everywhere, and columns are not all there.
    before
        .sql
        .batch_execute(
            r#"ALTER TABLE messages DROP CONSTRAINT "messages_conversation_id_conversations_id_fk";
             ALTER TABLE participants DROP CONSTRAINT "participants_conversation_id_conversations_id_fk";
             ALTER TABLE participants ALTER role DROP NOT NULL, ADD last_read_id bigint;
             ALTER TABLE messages ALTER body DROP NOT NULL;
             ALTER TABLE outbox ALTER created_at TYPE timestamptz, ALTER type TYPE varchar(40), DROP error;
             INSERT INTO conversations VALUES ('00000000-0000-0000-0000-000000000000', '2024-01-01 09:00'), (md5('c1')::uuid, '2024-01-01');
             INSERT INTO messages (id, conversation_id, sender_id, body, created_at) VALUES
                (5, md5('c1')::uuid, md5('u1')::uuid, '{"text": "five"}', '2024-06-01 09:00:00.5'),
                (6, md5('gone')::uuid, md5('u1')::uuid, 'null', '2024-06-01 09:00'),
                (9, md5('c1')::uuid, md5('u1')::uuid, NULL, '2024-06-01 08:00');
             SELECT setval('messages_id_seq', 77);
             INSERT INTO participants VALUES (md5('c1')::uuid, md5('u1')::uuid, NULL, '2024-01-01', 5),
                (md5('c1')::uuid, md5('u2')::uuid, 'x', '2024-01-01', 999),
                (md5('nowhere')::uuid, md5('u1')::uuid, 'y', '2024-01-01', 0),
                (md5('c1')::uuid, md5('u3')::uuid, 'z', '2024-01-01', -7);
             INSERT INTO outbox (id, type, conversation_id, payload, processed) VALUES
                (1, 'message.created', md5('c1')::uuid, '{"message": {"id": 5}}', true),
                (2, 'message.created', md5('c1')::uuid, '{"message": {"id": 9}}', false),
                (3, 'message.created', md5('c1')::uuid, '{"id": 9}', false),
                (4, 'message.created', md5('c1')::uuid, '{"id": "5"}', false),
                (5, 'message.created', md5('c1')::uuid, '{"id": 123456}', false),
                (6, 'message.created', md5('gone')::uuid, '[1]', false),
                (7, 'room.renamed', md5('c1')::uuid, '{"name": "x"}', false)"#,
        )
        .await
        .unwrap();
    let (is_done, said) = before.migrate(&["--timezone", "Asia/Seoul", "--batch-rows", "1", "--keep-old-tables"]).await;
    assert!(is_done, "{said}");
    let rows = async |query: &str| -> Vec<String> {
        before.sql.query(query, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    };
    assert_eq!(
        rows("SELECT concat_ws(' ', id, seq, n, body, message_time(created_at), outbox_id) FROM messages ORDER BY id")
            .await,
        [
            r#"5 1 1 {"text": "five"} 2024-06-01T00:00:00.500Z 4"#,
            "6 1 1 {} 2024-06-01T00:00:00.000Z",
            "9 2 2 {} 2024-05-31T23:00:00.000Z 2",
        ]
    );
    assert_eq!(
        rows("SELECT concat_ws(' ', last_seq, last_message_id) FROM conversations ORDER BY last_message_id, id").await,
        ["0 0", "0 0", "1 6", "2 9"]
    );
    assert_eq!(
        rows("SELECT concat_ws(' ', role, last_read_id) FROM participants ORDER BY role").await,
        ["member 5", "x 9", "y 0", "z 0"]
    );
    assert_eq!(
        rows("SELECT concat_ws(' ', id, type, seq, internal, parked_at IS NOT NULL, payload #> '{message,id}', error) FROM outbox ORDER BY id").await,
        [
            "2 message.created 2 t f 9",
            "4 message.created 1 t f 5",
            "5 adopted.message.created f t adopted: it tells of nothing that is there",
            "6 adopted.message.created f t adopted: it tells of nothing that is there",
            "7 room.renamed f f",
        ]
    );
    assert_eq!(before.count("SELECT nextval('messages_id_seq')").await, 78, "no id is given twice");
    assert_eq!(before.count("SELECT count(*) FROM before_arcyou_messages").await, 3, "they are kept");
}

/// Nobody could send them today.
#[tokio::test]
async fn deep_and_large_bodies_are_kept_and_read() {
    let before = Before::with(SIZES).await;
    let grow = "UPDATE messages SET body = (repeat('{\"a\":', 100) || '1' || repeat('}', 100))::jsonb WHERE id = 2996;
        UPDATE messages SET body = jsonb_build_object('text', repeat('x', 3000000)) WHERE id = 2954";
    before.sql.batch_execute(grow).await.unwrap();
    let (is_done, said) = before.migrate(&[]).await;
    assert!(is_done, "{said}");
    let world = &before.world;
    let (conversation, alice) = first_room(&before).await;
    let gateway = world.gateway_with(&[("DATABASE_URL", &before.url)]).await;
    let mut client = Client::authenticated(gateway.port, alice).await;
    let is_whole = |message: &serde_json::Value| match message["seq"].as_i64() {
        Some(422) => message["body"]["text"].as_str().map(str::len) == Some(3_000_000),
        Some(428) => message["body"].pointer(&"/a".repeat(100)) == Some(&json!(1)),
        _ => false,
    };
    for seq in [422, 428] {
        let page = json!({"op": "history", "conversation_id": conversation, "after_seq": seq - 1, "limit": 1});
        assert!(is_whole(&client.ok(page).await["messages"][0]), "{seq}");
    }
    client.ok(json!({"op": "join", "conversation_id": conversation})).await;
    let health = arcyou_platform::health::Health::new();
    let mode = arcyou_platform::contract::PubSubMode::Global;
    let _worker = world.worker_with(&before.url, &world.redis.url(), mode, &health);
    world.eventually("SELECT count(*) FROM outbox WHERE NOT processed", 0).await;
    let parked = "SELECT count(*) FROM outbox WHERE parked_at IS NOT NULL OR retry_count > 0";
    assert_eq!(before.count(parked).await, 0);
}

/// The page says how to go back; these are its statements.
#[tokio::test]
async fn the_way_back_is_as_documented() {
    let before = Before::with(SIZES).await;
    let digest = before.digest("").await;
    let (is_done, said) = before.migrate(&[]).await;
    assert!(is_done, "{said}");
    let page = include_str!("../../../../docs/adoption.md");
    let back = page.split("```sql\n").find(|block| block.contains("CREATE SCHEMA before")).unwrap();
    let admin = connect(&before.world.direct_url()).await;
    admin.batch_execute(back.split("```").next().unwrap()).await.unwrap();
    let back = Before { sql: admin, ..before };
    let tables = |digest: &str| digest.split(' ').take(3).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(tables(&back.digest("before.").await), tables(&digest));
    let write =
        "INSERT INTO before.messages (conversation_id, sender_id, body) SELECT id, id, '{}' FROM before.conversations";
    assert_eq!(back.sql.execute(write, &[]).await.unwrap(), 7);
}
