//! PostgreSQL, PgBouncer and Redis going away and coming back under a running chat.
#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod database;
mod failover;
#[path = "../support/mod.rs"]
mod support;
mod talk;

use serde_json::json;
use support::World;
use support::client::Client;
use support::gateway::Running;
use uuid::Uuid;

struct Chat {
    world: World,
    gateway: Running,
    _worker: Running,
    conversation: Uuid,
    alice: Uuid,
    a: Client,
    b: Client,
}

async fn chat() -> Chat {
    let world = World::breakable().await;
    let (gateway, worker) = (world.gateway().await, world.worker().await);
    let [alice, bob] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[alice, bob]).await;
    let mut a = Client::joined(gateway.port, alice, conversation).await;
    let mut b = Client::joined(gateway.port, bob, conversation).await;
    a.say(conversation, "before").await;
    for client in [&mut a, &mut b] {
        assert_eq!(client.message().await, ("before".to_owned(), 1));
    }
    Chat { world, gateway, _worker: worker, conversation, alice, a, b }
}

#[tokio::test]
async fn pgbouncer_restarting_costs_nobody_a_message() {
    let Chat { world, gateway, _worker, conversation, mut a, mut b, .. } = chat().await;
    let bouncer = world.bouncer.clone().unwrap();
    for round in 0..3 {
        let keyed = |number: i32| {
            let key = format!("{round}-{number}");
            json!({"op": "send", "conversation_id": conversation, "body": {"text": key}, "idempotency_key": key})
        };
        let restarting = bouncer.clone();
        let restart = tokio::task::spawn_blocking(move || {
            restarting.kill();
            restarting.restart().unwrap();
        });
        for number in 0..10 {
            // What the README tells a client to do: the same key again, until there is an answer that is final.
            loop {
                let reply = a.request(keyed(number)).await;
                if reply["success"] == true {
                    break;
                }
                assert!(["unavailable", "outcome_unknown"].contains(&reply["code"].as_str().unwrap()), "{reply}");
            }
        }
        restart.await.unwrap();
    }
    for client in [&mut a, &mut b] {
        for seq in 2..=31 {
            assert_eq!(client.message().await.1, seq);
        }
    }
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 31);
    gateway.ready().await;
}

#[tokio::test]
async fn without_redis_messages_are_stored_and_delivered_from_the_database() {
    let Chat { world, gateway, _worker, conversation, mut a, mut b, .. } = chat().await;
    let redis = world.redis.clone();
    let stopping = redis.clone();
    tokio::task::spawn_blocking(move || stopping.kill()).await.unwrap();
    gateway.until("events", "down").await;
    for seq in 2..=6 {
        assert_eq!(a.say(conversation, "during").await["seq"], seq);
    }
    for client in [&mut a, &mut b] {
        for seq in 2..=6 {
            assert_eq!(client.message().await, ("during".to_owned(), seq));
        }
    }
    tokio::task::spawn_blocking(move || redis.restart().unwrap()).await.unwrap();
    gateway.until("events", "up").await;
    a.say(conversation, "after").await;
    for client in [&mut a, &mut b] {
        assert_eq!(client.message().await, ("after".to_owned(), 7));
    }
    world.eventually("SELECT count(*) FROM outbox WHERE NOT processed", 0).await;
    assert_eq!(world.count("SELECT coalesce(sum(retry_count), 0) FROM outbox").await, 0);
}

#[tokio::test]
async fn a_removal_while_redis_is_away_still_takes_the_conversation_away() {
    let Chat { world, gateway, _worker, conversation, alice, mut a, mut b } = chat().await;
    let redis = world.redis.clone();
    tokio::task::spawn_blocking(move || redis.kill()).await.unwrap();
    gateway.until("events", "down").await;
    world.sql.execute("DELETE FROM participants WHERE user_id = $1", &[&alice]).await.unwrap();
    let told = a.event().await;
    assert_eq!((&told["type"], &told["user_id"]), (&json!("participant.removed"), &json!(alice)));
    b.event().await;
    b.say(conversation, "not for alice").await;
    assert_eq!(b.message().await.0, "not for alice");
    assert_eq!(a.request(json!({"op": "auth", "token": alice})).await["success"], true);
    // Her next frame would be the message, had it been sent to her.
    assert_eq!(a.code(json!({"op": "leave", "conversation_id": conversation})).await, "not_joined");
}
