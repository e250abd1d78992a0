//! Order, holes, joining while events come, and readers that do not read.

use std::sync::atomic::Ordering;

use arcyou_platform::contract::{EventKey, envelope_text};

use super::*;

const ROOM: Uuid = Uuid::from_u128(1);

fn user(number: u128) -> Uuid {
    Uuid::from_u128(1000 + number)
}

#[tokio::test]
async fn a_member_hears_what_is_said_and_the_store_is_not_asked() {
    let world = World::new(PubSubMode::Global);
    world.until("the bus is up", || world.bus_state() == "up").await;
    let mut a = world.join(ROOM, user(1), 0).await;
    let mut b = world.join(ROOM, user(2), 0).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let before = world.store.questions.load(Ordering::Relaxed);
    for _ in 0..20 {
        world.say(ROOM);
    }
    a.read_through(0, 20).await;
    b.read_through(0, 20).await;
    assert_eq!(world.store.questions.load(Ordering::Relaxed), before);
    assert_eq!(b.membership.cursor(), 20);
    world.end().await;
}

#[tokio::test]
async fn holes_repeats_and_disorder_end_in_order() {
    let world = World::new(PubSubMode::PerConversation);
    let mut a = world.join(ROOM, user(1), 0).await;
    let mut dice = Dice(7);
    let mut waiting = Vec::new();
    for _ in 0..300 {
        let (_, envelope) = world.store.message(ROOM);
        // One in five is lost, the others come late and in any order, some twice.
        if dice.below(5) > 0 {
            waiting.push(envelope);
        }
        if waiting.len() > 6 {
            let index = dice.below(waiting.len());
            let envelope = if dice.below(6) == 0 { waiting[index].clone() } else { waiting.swap_remove(index) };
            world.bus.publish_text(ROOM, envelope);
            tokio::task::yield_now().await;
        }
    }
    world.say(ROOM);
    a.read_through(0, 301).await;
    waiting.into_iter().for_each(|envelope| world.bus.publish_text(ROOM, envelope));
    world.say(ROOM);
    assert_eq!(a.seq().await, 302);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_meets_live_events_without_hole_or_repeat() {
    const LAST: Seq = 3000;
    let world = Arc::new(World::new(PubSubMode::Global));
    let speaker = tokio::spawn({
        let world = world.clone();
        async move {
            let (mut dice, mut backlog) = (Dice(99), Vec::new());
            while world.store.message_count(ROOM) + 1 < LAST as usize {
                backlog.push(world.store.message(ROOM).1);
                while backlog.len() > dice.below(4) {
                    let envelope = backlog.swap_remove(dice.below(backlog.len()));
                    if dice.below(40) > 0 {
                        world.bus.publish_text(ROOM, envelope);
                    }
                }
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        }
    });
    let (mut clients, mut dice) = (Vec::new(), Dice(5));
    while !speaker.is_finished() {
        let after = dice.below(world.store.message_count(ROOM).max(1)) as Seq;
        clients.push((after, world.join(ROOM, user(clients.len() as u128), after).await));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    speaker.await.unwrap();
    assert!(clients.len() > 10);
    assert_eq!(world.say(ROOM), LAST);
    for (after, mut client) in clients {
        client.read_through(after, LAST).await;
        assert!(client.pending().is_empty());
    }
}

#[tokio::test]
async fn what_comes_between_entering_and_attaching_is_kept() {
    let world = World::new(PubSubMode::Global);
    world.until("the bus is up", || world.bus_state() == "up").await;
    let (outbound, other) = (Arc::new(Outbound::new(1 << 20)), world.fanout.enter(ROOM));
    let room = world.fanout.enter(ROOM);
    world.say(ROOM);
    world.say(ROOM);
    let mut first = world.join(ROOM, user(1), 2).await;
    world.say(ROOM);
    first.read_through(2, 3).await;
    // The room stands at 3; what came after 2 is still known, what came before its base is not.
    let (room, behind) = room.attach(member(user(2), 1, &outbound)).unwrap_err();
    assert_eq!(behind, Behind { delivered: 3 });
    let membership = room.attach(member(user(2), 2, &outbound)).unwrap();
    let mut second = Client { outbound, membership, frames: VecDeque::new() };
    assert_eq!(second.seq().await, 3);
    drop(other);
    world.end().await;
}

#[tokio::test]
async fn what_no_worker_has_marked_is_not_delivered() {
    let world = World::new(PubSubMode::Global);
    world.until("the bus is up", || world.bus_state() == "up").await;
    let mut a = world.join(ROOM, user(1), 0).await;
    let forged = json!({"seq": 1, "message": {"id": 1, "seq": 1, "body": {"text": "forged"}}}).to_string();
    world.bus.publish_text(ROOM, envelope_text(&EventKey::new(b"guessed"), 1, "message.created", ROOM, &forged));
    let plain = json!({"id": 2, "type": "poll.opened", "conversation_id": ROOM, "payload": {}});
    world.bus.publish_text(ROOM, plain.to_string());
    world.say(ROOM);
    assert_eq!(a.next().await["message"]["body"], json!({"text": "hello"}));
    world.say(ROOM);
    assert_eq!(a.seq().await, 2);
    world.end().await;
}

#[tokio::test]
async fn a_database_with_another_key_is_noticed() {
    let world = World::new(PubSubMode::Global);
    world.until("the bus is up", || world.bus_state() == "up").await;
    let mut a = world.join(ROOM, user(1), 0).await;
    world.say(ROOM);
    assert_eq!(a.seq().await, 1);
    world.store.exchanges.fetch_add(1, Ordering::Relaxed);
    // Dropped, but found when the key is known.
    world.say(ROOM);
    assert_eq!(a.seq().await, 2);
    world.say(ROOM);
    assert_eq!(a.seq().await, 3);
    world.end().await;
}

#[tokio::test]
async fn what_the_store_does_not_have_is_not_delivered() {
    let world = World::new(PubSubMode::Global);
    world.until("the bus is up", || world.bus_state() == "up").await;
    let mut a = world.join(ROOM, user(1), 0).await;
    for garbage in ["", "null", "{", "{\"id\":1}", "[1,2]"] {
        world.bus.publish_raw("chat:message", garbage.to_owned());
    }
    let forged = json!({"seq": 4000, "message": {"id": 1, "seq": 4000}}).to_string();
    world.bus.publish_text(ROOM, envelope_text(&world.store.key(), 900, "message.created", ROOM, &forged));
    world.until("the store was asked", || world.store.pages.load(Ordering::Relaxed) > 0).await;
    world.say(ROOM);
    assert_eq!(a.seq().await, 1);
    // Somebody else's event of that type, without a place: passed on like any other event.
    let id = world.tell(ROOM, "message.created", &json!({"message": {"id": 7}}));
    let foreign = a.next().await;
    assert_eq!((&foreign["event_id"], &foreign["message"]), (&json!(id), &json!({"id": 7})));
    world.say(ROOM);
    assert_eq!(a.seq().await, 2);
    assert!(a.pending().is_empty());
    world.end().await;
}

#[tokio::test]
async fn other_events_come_once() {
    let world = World::new(PubSubMode::Global);
    world.until("the bus is up", || world.bus_state() == "up").await;
    let mut a = world.join(ROOM, user(1), 0).await;
    let (id, envelope) = world.store.event(ROOM, "typing", &json!({"who": 1}));
    world.bus.publish_text(ROOM, envelope.clone());
    world.bus.publish_text(ROOM, envelope);
    world.say(ROOM);
    let event = a.next().await;
    assert_eq!((&event["type"], &event["event_id"], &event["who"]), (&json!("typing"), &json!(id), &json!(1)));
    assert_eq!(a.seq().await, 1);
    world.end().await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_let_go_alone() {
    let world = World::new(PubSubMode::Global);
    world.until("the bus is up", || world.bus_state() == "up").await;
    let mut reader = world.join(ROOM, user(1), 0).await;
    let sleeper = world.join_with(ROOM, user(2), 0, 2000).await;
    for _ in 0..50 {
        world.say(ROOM);
    }
    reader.read_through(0, 50).await;
    assert!(sleeper.outbound.drain().is_err());
    assert!(!sleeper.membership.is_evicted());
    assert!(sleeper.membership.cursor() < 50);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_far_behind_overruns_no_queue() {
    let world = World::with(PubSubMode::Global, |config| config.sweep = Duration::from_millis(100));
    world.until("the bus is up", || world.bus_state() == "up").await;
    let mut fast = world.join(ROOM, user(1), 0).await;
    let mut slow = world.join_with(ROOM, user(2), 0, 20_000).await;
    for _ in 0..2000 {
        world.store.message_with(ROOM, json!({"text": "x".repeat(100)}));
    }
    fast.read_through(0, 2000).await;
    // A tenth of it fits the slow one's queue; the rest waited in the store, and the room went on without it.
    assert!(slow.membership.cursor() < 2000);
    for _ in 0..10 {
        world.say(ROOM);
    }
    fast.read_through(2000, 2010).await;
    slow.read_through(0, 2010).await;
    world.say(ROOM);
    assert_eq!(slow.seq().await, 2011);
    world.end().await;
}

#[tokio::test]
async fn a_member_that_takes_nothing_during_a_catch_up_is_given_up() {
    let world = World::with(PubSubMode::Global, |config| {
        config.sweep = Duration::from_millis(100);
        config.stall = Duration::from_secs(1);
    });
    world.until("the bus is up", || world.bus_state() == "up").await;
    let stuck = world.join_with(ROOM, user(2), 0, 20_000).await;
    for _ in 0..500 {
        world.store.message_with(ROOM, json!({"text": "x".repeat(100)}));
    }
    tokio::time::timeout(PATIENCE, stuck.outbound.overflowed()).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_deleted_message_stops_nobody() {
    let world = World::with(PubSubMode::Global, |config| config.sweep = Duration::from_millis(50));
    let mut a = world.join(ROOM, user(1), 0).await;
    world.say(ROOM);
    assert_eq!(a.seq().await, 1);
    world.store.message(ROOM);
    world.store.delete(ROOM, 2);
    world.say(ROOM);
    assert_eq!(a.seq().await, 3);
    world.end().await;
}
