//! Redis going away, cutting subscribers off and refusing under a running chat.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;

use super::{Chat, chat, chat_in};
use crate::support::World;

#[tokio::test]
async fn without_redis_messages_are_stored_and_delivered_from_the_database() {
    let Chat { world, gateway, worker: _worker, conversation, mut a, mut b, .. } = chat().await;
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
    let Chat { world, gateway, worker: _worker, conversation, alice, mut a, mut b } = chat().await;
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

/// Publishes, and lets nobody else do anything meanwhile, until Redis has cut off everybody who did not read.
fn flood(port: u16) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let noise = "x".repeat(1024 * 1024);
    let mut heard_by = String::new();
    for _ in 0..200 {
        write!(stream, "*3\r\n$7\r\nPUBLISH\r\n$12\r\nchat:message\r\n${}\r\n{noise}\r\n", noise.len()).unwrap();
        heard_by.clear();
        BufReader::new(&stream).read_line(&mut heard_by).unwrap();
        if heard_by == ":0\r\n" {
            return;
        }
    }
    panic!("nobody was cut off: {heard_by}");
}

#[tokio::test]
async fn a_gateway_that_redis_cuts_off_for_reading_too_slowly_misses_nothing() {
    let world = World::with_redis(&[("client-output-buffer-limit", "pubsub 2mb 1mb 1")]).await;
    let Chat { world, gateway, worker, conversation, mut a, mut b, .. } = chat_in(world).await;
    worker.stop().await;
    for seq in 2..=6 {
        assert_eq!(a.say(conversation, "lost").await["seq"], seq);
    }
    let insert = "INSERT INTO outbox (type, conversation_id, payload) VALUES ('poll.opened', $1, '{}')";
    world.sql.execute(insert, &[&conversation]).await.unwrap();
    // As if they were published in the moment in which Redis had cut the gateway off.
    world.sql.batch_execute("UPDATE outbox SET processed = true").await.unwrap();
    // The gateway runs on this test's thread: it is frozen meanwhile.
    flood(world.redis.port());
    for client in [&mut a, &mut b] {
        let mut kinds = Vec::new();
        let mut next = 2;
        while kinds.len() < 6 {
            let event = client.event().await;
            kinds.push(event["type"].clone());
            if event["type"] == "message.created" {
                assert_eq!(event["message"]["seq"], next);
                next += 1;
            }
        }
        assert_eq!(kinds.iter().filter(|kind| *kind == "poll.opened").count(), 1);
    }
    gateway.until("events", "up").await;
    let _worker = world.worker().await;
    a.say(conversation, "after").await;
    for client in [&mut a, &mut b] {
        assert_eq!(client.message().await, ("after".to_owned(), 7));
    }
}
