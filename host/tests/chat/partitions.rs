//! `messages` is split into partitions while people talk.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;

fn keyed(conversation: Uuid, number: usize) -> Value {
    let body = json!({"text": number.to_string()});
    json!({"op": "send", "conversation_id": conversation, "body": body, "idempotency_key": number.to_string()})
}

/// Sends again what was not stored for now, as clients do.
async fn send(client: &mut Client, conversation: Uuid, number: usize) -> Value {
    loop {
        let reply = client.request(keyed(conversation, number)).await;
        if reply["success"] == true {
            return reply;
        }
        assert!(["unavailable", "outcome_unknown"].contains(&reply["code"].as_str().unwrap()), "{reply}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_partitioned_under_a_running_chat() {
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    world
        .sql
        .batch_execute("CREATE ROLE partition_reader; GRANT SELECT ON messages TO partition_reader")
        .await
        .unwrap();
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let (conversation, other) = (world.conversation(&[alice, bob]).await, world.conversation(&[alice]).await);
    let mut a = Client::joined(gateway.port, alice, conversation).await;
    let mut b = Client::joined(gateway.port, bob, conversation).await;
    a.say(other, "elsewhere").await;
    let first = send(&mut a, conversation, 1).await;
    let talk = async {
        for number in 2..=200 {
            send(&mut a, conversation, number).await;
        }
    };
    tokio::join!(talk, world.partition_messages());
    for seq in 1..=200 {
        assert_eq!(b.message().await, (seq.to_string(), seq));
    }
    // What was before is found by key, by id and by place.
    let again = send(&mut a, conversation, 1).await;
    assert_eq!((&again["message_id"], &again["duplicate"]), (&first["message_id"], &json!(true)));
    let mark = json!({"op": "ack", "conversation_id": conversation, "last_read_id": first["message_id"]});
    b.ok(mark).await;
    let elsewhere = json!({"op": "ack", "conversation_id": other, "last_read_id": first["message_id"]});
    assert_eq!(a.code(elsewhere).await, "unknown_message");
    let page = b.ok(json!({"op": "history", "conversation_id": conversation, "after_seq": 0, "limit": 3})).await;
    assert_eq!(page["messages"][2]["body"], json!({"text": "3"}));
    // Released messages go to the partitions too, and what a deleted conversation held there is gone.
    let hold =
        "INSERT INTO held_messages (conversation_id, sender_id, body, held_by, reason) VALUES ($1, $2, '{}', 'x', 'y')
        RETURNING id";
    let held: i64 = world.sql.query_one(hold, &[&conversation, &alice]).await.unwrap().get(0);
    let released =
        crate::support::http_request(gateway.admin_port, "POST", &format!("/held/{held}/release"), "Accept: */*").await;
    assert!(released.starts_with("HTTP/1.1 200") && released.contains("201"), "{released}");
    world.sql.execute("DELETE FROM conversations WHERE id = $1", &[&conversation]).await.unwrap();
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 1);
    let granted = "SELECT count(*) FROM pg_class WHERE relname = 'messages' AND relkind = 'p'
        AND has_table_privilege('partition_reader', oid, 'SELECT')";
    assert_eq!(world.count(granted).await, 1);
    assert_eq!(world.count("SELECT count(*) FROM pg_inherits WHERE inhparent = 'messages'::regclass").await, 5);
    world.sql.batch_execute("DROP OWNED BY partition_reader; DROP ROLE partition_reader").await.unwrap();
}
