//! The fan-out on a real PostgreSQL behind a real PgBouncer, with both buses. The worker's part is played by the tests,
//! which publish worse than any worker would.

pub(crate) mod redis;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arcyou_platform::bus::{Bus, LocalBus};
use arcyou_platform::contract::PubSubMode;
use serde_json::json;
use tokio::task::JoinSet;
use uuid::Uuid;

use redis::redis_bus;
use world::{Client, Dice, World, eventually};

const MODES: [PubSubMode; 2] = [PubSubMode::Global, PubSubMode::PerConversation];

/// Several writers, several clumsy publishers, and sockets that join and resume meanwhile.
async fn turmoil(bus: Arc<dyn Bus>, mode: PubSubMode) {
    const WRITERS: usize = 4;
    const EACH: usize = 60;
    let world = Arc::new(World::start(bus, mode, |config| config.sweep = Duration::from_millis(300)).await);
    let conversation = world.conversation().await;
    let mut clients: Vec<(i64, Client)> = vec![(0, world.join(conversation, 0).await)];
    let written = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (world, written) = (world.clone(), written.clone());
        writers.spawn(async move {
            let (mut dice, mut waiting) = (Dice::new(writer as u64 + 1), Vec::new());
            for _ in 0..EACH {
                waiting.push(world.commit_message(conversation).await);
                written.fetch_add(1, Ordering::Relaxed);
                while waiting.len() > 3 {
                    let publication = waiting.swap_remove(dice.below(waiting.len()));
                    match dice.below(10) {
                        0 => {}
                        1 => world.publish(&[publication.clone(), publication]).await,
                        _ => world.publish(&[publication]).await,
                    }
                }
            }
            world.publish(&waiting).await;
        });
    }
    let mut dice = Dice::new(77);
    for _ in 0..12 {
        let so_far = written.load(Ordering::Relaxed);
        let after = dice.below(so_far.max(1)) as i64;
        clients.push((after, world.join(conversation, after).await));
        if dice.below(3) == 0 {
            // Away for a moment, then back with what it has.
            let (_, mut client) = clients.swap_remove(dice.below(clients.len()));
            let at = client.last_pending_seq().await;
            drop(client);
            clients.push((at, world.join(conversation, at).await));
        }
    }
    while let Some(result) = writers.join_next().await {
        result.unwrap();
    }
    for (after, mut client) in clients {
        client.read_through(after, (WRITERS * EACH) as i64).await;
        assert!(client.pending().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn order_survives_turmoil_in_one_process() {
    for mode in MODES {
        turmoil(Arc::new(LocalBus::new()), mode).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn order_survives_turmoil_over_redis() {
    for mode in MODES {
        let (bus, _redis) = redis_bus().await;
        turmoil(bus, mode).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_that_was_overrun_catches_up() {
    for mode in MODES {
        // Space for a handful: most of what is published in one go is lost.
        let bus = Arc::new(LocalBus::with_capacity(2000));
        let world = World::start(bus, mode, |_| {}).await;
        let conversation = world.conversation().await;
        let mut a = world.join(conversation, 0).await;
        let mut publications = Vec::new();
        for _ in 0..100 {
            publications.push(world.commit_message(conversation).await);
        }
        world.publish(&publications).await;
        a.read_through(0, 100).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn removal_and_deletion_by_plain_sql_reach_sockets() {
    let world = World::start(Arc::new(LocalBus::new()), PubSubMode::PerConversation, |_| {}).await;
    let conversation = world.conversation().await;
    let (mut a, mut b) = (world.join(conversation, 0).await, world.join(conversation, 0).await);
    world.sql(&format!("DELETE FROM participants WHERE user_id = '{}'", a.user)).await;
    world.relay_all().await;
    for client in [&mut a, &mut b] {
        assert_eq!(client.next().await["type"], "participant.removed");
    }
    eventually("the removed one is evicted", || a.membership.is_evicted()).await;
    assert!(!b.membership.is_evicted());
    world.sql(&format!("DELETE FROM conversations WHERE id = '{conversation}'")).await;
    world.relay_all().await;
    eventually("the other one, too", || b.membership.is_evicted()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_conversations_with_a_local_member_are_subscribed() {
    let (bus, redis) = redis_bus().await;
    let world = World::start(bus, PubSubMode::PerConversation, |_| {}).await;
    let (one, two) = (world.conversation().await, world.conversation().await);
    let heard = |conversation: Uuid| redis::ask(&redis, "PUBSUB CHANNELS").contains(&format!("conv:{conversation}"));
    let a = world.join(one, 0).await;
    let b = world.join(two, 0).await;
    eventually("both are subscribed", || heard(one) && heard(two)).await;
    drop(a);
    eventually("one is not", || !heard(one)).await;
    assert!(heard(two));
    drop(b);
    eventually("none is", || !redis::ask(&redis, "PUBSUB CHANNELS").contains("conv:")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_the_database_delivers() {
    for mode in MODES {
        let (bus, redis) = redis_bus().await;
        let world = World::start(bus, mode, |_| {}).await;
        let conversation = world.conversation().await;
        let (mut a, mut b) = (world.join(conversation, 0).await, world.join(conversation, 0).await);
        let publication = world.commit_message(conversation).await;
        world.publish(&[publication]).await;
        a.read_through(0, 1).await;
        b.read_through(0, 1).await;

        redis::kill(&redis).await;
        eventually("the outage is reported", || world.state("events") == "down").await;
        for _ in 0..5 {
            world.commit_message(conversation).await;
        }
        a.read_through(1, 6).await;
        b.read_through(1, 6).await;
        world.sql(&format!("DELETE FROM participants WHERE user_id = '{}'", b.user)).await;
        eventually("rights end also now", || b.membership.is_evicted()).await;
        assert_eq!(a.next().await["type"], "participant.removed");
        world.commit_message(conversation).await;
        a.read_through(6, 7).await;

        redis::restart(&redis).await;
        eventually("Redis is back", || world.state("events") == "up").await;
        // What was committed in the outage may be published now; all of it is known.
        let last = world.commit_message(conversation).await;
        world.relay_all().await;
        world.publish(&[last]).await;
        a.read_through(7, 8).await;
        assert!(a.pending().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_subscriptions_lose_nothing() {
    for mode in MODES {
        let (bus, redis) = redis_bus().await;
        let world = World::start(bus, mode, |_| {}).await;
        let conversation = world.conversation().await;
        let mut a = world.join(conversation, 0).await;
        for round in 0..60 {
            let publication = world.commit_message(conversation).await;
            world.publish(&[publication]).await;
            if round % 20 == 10 {
                redis::ask(&redis, "CLIENT KILL TYPE pubsub");
            }
        }
        a.read_through(0, 60).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hole_is_filled_when_the_pool_is_back() {
    let world = World::start(Arc::new(LocalBus::new()), PubSubMode::Global, |_| {}).await;
    let conversation = world.conversation().await;
    let mut a = world.join(conversation, 0).await;
    // Before there is something to read: rooms may be compared with the store at any time.
    world.kill_pool().await;
    let _lost = world.commit_message(conversation).await;
    let second = world.commit_message(conversation).await;
    world.publish(&[second]).await;
    // The hole is looked up in vain meanwhile.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(a.pending().is_empty(), "not before its predecessor");
    world.restart_pool().await;
    a.read_through(0, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_services_events_pass_and_are_caught_up_once() {
    let (bus, redis) = redis_bus().await;
    let world = World::start(bus, PubSubMode::Global, |_| {}).await;
    let conversation = world.conversation().await;
    let mut a = world.join(conversation, 0).await;
    eventually("events come", || world.state("events") == "up").await;
    let insert = |kind: &str, payload: serde_json::Value| {
        format!("INSERT INTO outbox (type, conversation_id, payload) VALUES ('{kind}', '{conversation}', '{payload}')")
    };
    world.sql(&insert("poll.opened", json!({"question": "?"}))).await;
    world.relay_all().await;
    let event = a.next().await;
    assert_eq!(
        (&event["type"], &event["question"], &event["op"]),
        (&json!("poll.opened"), &json!("?"), &json!("event"))
    );

    redis::kill(&redis).await;
    world.sql(&insert("poll.closed", json!([1, 2]))).await;
    let event = a.next().await;
    assert_eq!((&event["type"], &event["payload"]), (&json!("poll.closed"), &json!([1, 2])));
    redis::restart(&redis).await;
    eventually("Redis is back", || world.state("events") == "up").await;
    world.relay_all().await;
    let publication = world.commit_message(conversation).await;
    world.publish(&[publication]).await;
    a.read_through(0, 1).await;
    assert!(a.pending().is_empty());
}
