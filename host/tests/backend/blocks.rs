//! Users who want to hear nothing more from each other.

use serde_json::{Value, json};
use tokio_postgres::Client as Sql;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::send::{Order, send, service};
use crate::state;
use crate::support::World;
use crate::support::client::Client;

fn say(conversation: Uuid) -> Value {
    json!({"op": "send", "conversation_id": conversation, "body": {"text": "x"}})
}

fn about(op: &str, conversation: Uuid, id: &Value) -> Value {
    json!({"op": op, "conversation_id": conversation, "message_id": id, "body": {"text": "y"}, "reaction": "+1"})
}

async fn block(sql: &Sql, user: Uuid, blocked: Uuid) -> Result<u64, tokio_postgres::Error> {
    sql.execute("INSERT INTO public.user_blocks (user_id, blocked_id) VALUES ($1, $2)", &[&user, &blocked]).await
}

#[tokio::test]
async fn alone_with_whom_has_blocked_them_nobody_says_anything_new() {
    let world = World::new().await;
    let (gateway, service) = (world.gateway().await, service(&world).await);
    let [alice, bob, carol] = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
    let (two, three) = (world.conversation(&[alice, bob]).await, world.conversation(&[alice, bob, carol]).await);
    let with_carol = world.conversation(&[bob, carol]).await;
    let mut bobs = Client::joined(gateway.port, bob, two).await;
    let mut keyed = say(two);
    keyed["idempotency_key"] = json!("k");
    let id = bobs.ok(keyed.clone()).await["message_id"].clone();
    bobs.ok(about("react", two, &id)).await;
    block(&service, alice, bob).await.unwrap();
    let mut another = about("react", two, &id);
    another["reaction"] = json!("-1");
    for request in [say(two), about("edit", two, &id), another] {
        assert_eq!(bobs.code(request).await, "blocked");
    }
    let refused = send(&service, &Order::of(two, bob, "{}")).await.unwrap_err();
    assert_eq!(state(&refused), "YC008");
    // What was stored is answered as before; reading goes on, and what was said can be taken back.
    for repeat in [keyed, about("react", two, &id)] {
        assert_eq!(bobs.ok(repeat).await["duplicate"], true);
    }
    assert_eq!(bobs.ok(json!({"op": "history", "conversation_id": two})).await["messages"][0]["id"], id);
    let mut back = about("react", two, &id);
    back["remove"] = json!(true);
    bobs.ok(back).await;
    bobs.ok(about("delete", two, &id)).await;
    // Others hear him, and so does Alice among others; she may write to him.
    for conversation in [three, with_carol] {
        bobs.ok(say(conversation)).await;
    }
    let mut alices = Client::authenticated(gateway.port, alice).await;
    alices.ok(say(two)).await;
    // It counts as many as participate now.
    world.join_sql(two, carol).await;
    bobs.ok(say(two)).await;
    world.sql.execute("DELETE FROM participants WHERE user_id = $1", &[&carol]).await.unwrap();
    for conversation in [two, three] {
        assert_eq!(bobs.code(say(conversation)).await, "blocked");
    }
    service.batch_execute("DELETE FROM public.user_blocks").await.unwrap();
    bobs.ok(say(two)).await;
    assert_eq!(block(&service, bob, bob).await.unwrap_err().code(), Some(&SqlState::CHECK_VIOLATION));
}

#[tokio::test]
async fn nothing_is_stored_after_the_commit_of_a_block() {
    let world = World::new().await;
    let (gateway, service) = (world.gateway().await, service(&world).await);
    let bob = Uuid::new_v4();
    for _ in 0..10 {
        let alice = Uuid::new_v4();
        let conversation = world.conversation(&[alice, bob]).await;
        let mut bobs = Client::authenticated(gateway.port, bob).await;
        for _ in 0..3 {
            bobs.say(conversation, "x").await;
        }
        // On their way while the block comes.
        for _ in 0..30 {
            bobs.send_text(say(conversation).to_string()).await;
        }
        block(&service, alice, bob).await.unwrap();
        let last_seq = format!("SELECT last_seq FROM conversations WHERE id = '{conversation}'");
        let at_commit = world.count(&last_seq).await;
        let mut stored = 3;
        for _ in 0..30 {
            let reply = bobs.next().await;
            stored += i64::from(reply["success"] == true);
            assert!(reply["success"] == true || reply["code"] == "blocked", "{reply}");
        }
        assert_eq!(bobs.code(say(conversation)).await, "blocked");
        assert_eq!((world.count(&last_seq).await, stored), (at_commit, at_commit));
    }
}

#[tokio::test]
async fn the_blocks_of_an_erased_user_go() {
    let world = World::new().await;
    let [alice, bob, carol] = [Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4()];
    for (user, blocked) in [(alice, bob), (bob, carol), (carol, alice)] {
        block(&world.sql, user, blocked).await.unwrap();
    }
    for place in ["NULL, NULL", "'00000000-0000-0000-0000-000000000000', 0"] {
        world.sql.execute(&format!("SELECT arcyou_erase_user($1, {place})"), &[&bob]).await.unwrap();
    }
    let left = "SELECT count(*) FROM user_blocks";
    assert_eq!(world.count(left).await, 1);
    assert_eq!(world.count(&format!("{left} WHERE user_id = '{carol}'")).await, 1);
}
