//! `arcyou_send` beside everybody else: gateways, other services, and the workers that must hear of it.

use std::time::Duration;

use arcyou_outbox_worker::RelayConfig;
use arcyou_platform::health::Health;
use serde_json::json;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::send::{Order, send, service};
use crate::support::World;
use crate::support::client::Client;

const HELLO: &str = r#"{"text": "hello"}"#;

#[tokio::test]
async fn above_read_committed_a_conversation_that_has_changed_is_a_serialization_failure() {
    let world = World::new().await;
    let service = service(&world).await;
    let alice = Uuid::new_v4();
    let (quiet, busy) = (world.conversation(&[alice]).await, world.conversation(&[alice]).await);
    for level in ["REPEATABLE READ", "SERIALIZABLE"] {
        let begin = format!("BEGIN ISOLATION LEVEL {level}; SELECT FROM public.conversations");
        service.batch_execute(&begin).await.unwrap();
        send(&world.connect().await, &Order::of(busy, alice, HELLO)).await.unwrap();
        send(&service, &Order::of(quiet, alice, HELLO)).await.unwrap();
        send(&service, &Order::of(quiet, alice, HELLO)).await.unwrap();
        let error = send(&service, &Order::of(busy, alice, HELLO)).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::T_R_SERIALIZATION_FAILURE), "{error:?}");
        service.batch_execute("ROLLBACK").await.unwrap();
        // As whoever uses these levels does anyway.
        service.batch_execute(&begin).await.unwrap();
        send(&service, &Order::of(busy, alice, HELLO)).await.unwrap();
        service.batch_execute("COMMIT").await.unwrap();
    }
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 4);
    let holes = "SELECT count(*) FROM conversations c WHERE last_seq <> (SELECT count(*) FROM messages WHERE conversation_id = c.id)";
    assert_eq!(world.count(holes).await, 0);
}

#[tokio::test]
async fn services_that_send_in_different_orders_deadlock_and_one_of_them_succeeds() {
    let world = World::new().await;
    let (one, two) = (service(&world).await, service(&world).await);
    let alice = Uuid::new_v4();
    let (first, second) = (world.conversation(&[alice]).await, world.conversation(&[alice]).await);
    for sql in [&one, &two] {
        sql.batch_execute("BEGIN").await.unwrap();
    }
    send(&one, &Order::of(first, alice, HELLO)).await.unwrap();
    send(&two, &Order::of(second, alice, HELLO)).await.unwrap();
    let (to_second, to_first) = (Order::of(second, alice, HELLO), Order::of(first, alice, HELLO));
    let ends = tokio::join!(
        async {
            let sent = send(&one, &to_second).await;
            one.batch_execute(if sent.is_ok() { "COMMIT" } else { "ROLLBACK" }).await.unwrap();
            sent
        },
        async {
            let sent = send(&two, &to_first).await;
            two.batch_execute(if sent.is_ok() { "COMMIT" } else { "ROLLBACK" }).await.unwrap();
            sent
        },
    );
    let errors: Vec<_> = [ends.0, ends.1].into_iter().filter_map(Result::err).collect();
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].code(), Some(&SqlState::T_R_DEADLOCK_DETECTED), "{errors:?}");
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 2);
}

#[tokio::test]
async fn a_gateway_waits_for_a_services_transaction_and_delays_nobody_else() {
    let world = World::new().await;
    let (gateway, service) = (world.gateway().await, service(&world).await);
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let (held, free) = (world.conversation(&[alice]).await, world.conversation(&[bob]).await);
    service.batch_execute("BEGIN").await.unwrap();
    send(&service, &Order::of(held, alice, HELLO)).await.unwrap();
    let mut waiting = Client::authenticated(gateway.port, alice).await;
    waiting.send_text(json!({"op": "send", "conversation_id": held, "body": {"text": "x"}}).to_string()).await;
    let mut neighbour = Client::authenticated(gateway.port, bob).await;
    for seq in 1..=20 {
        assert_eq!(neighbour.say(free, "x").await["seq"], seq);
    }
    service.batch_execute("COMMIT").await.unwrap();
    let reply = waiting.next().await;
    assert_eq!((&reply["status"], &reply["seq"]), (&json!("stored"), &json!(2)), "{reply}");
}

#[tokio::test]
async fn a_lock_timeout_ends_the_wait_for_another_transaction() {
    let world = World::new().await;
    let (one, two) = (service(&world).await, service(&world).await);
    let alice = Uuid::new_v4();
    let conversation = world.conversation(&[alice]).await;
    one.batch_execute("BEGIN").await.unwrap();
    send(&one, &Order::of(conversation, alice, HELLO)).await.unwrap();
    two.batch_execute("SET lock_timeout = '50ms'").await.unwrap();
    let error = send(&two, &Order::of(conversation, alice, HELLO)).await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE), "{error:?}");
    one.batch_execute("COMMIT").await.unwrap();
    assert_eq!(send(&two, &Order::of(conversation, alice, HELLO)).await.unwrap().seq, Some(2));
}

/// The service tells no worker, and this one would look by itself after a minute.
#[tokio::test]
async fn a_gateway_tells_the_workers_what_a_service_has_committed() {
    let world = World::new().await;
    let (gateway, service) = (world.gateway().await, service(&world).await);
    let alice = Uuid::new_v4();
    let conversation = world.conversation(&[alice]).await;
    let relay = RelayConfig { poll_interval: Duration::from_secs(60), ..RelayConfig::default() };
    let _worker = world.worker_relaying(&world.database_url(), &world.redis.url(), relay, &Health::new());
    let mut client = Client::joined(gateway.port, alice, conversation).await;
    for seq in 1..=3 {
        send(&service, &Order::of(conversation, alice, HELLO)).await.unwrap();
        assert_eq!(client.message().await, ("hello".to_owned(), seq));
    }
    let event = "INSERT INTO public.outbox (type, conversation_id, payload) VALUES ('room.renamed', $1, '{}')";
    service.execute(event, &[&conversation]).await.unwrap();
    assert_eq!(client.event().await["type"], "room.renamed");
}
