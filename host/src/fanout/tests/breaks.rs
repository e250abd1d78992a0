//! The bus breaks, comes back, or never carried a thing.

use std::sync::atomic::Ordering;

use super::*;

const ROOM: Uuid = Uuid::from_u128(1);
const OTHER: Uuid = Uuid::from_u128(2);
const A: Uuid = Uuid::from_u128(1001);
const B: Uuid = Uuid::from_u128(1002);
const MODES: [PubSubMode; 2] = [PubSubMode::Global, PubSubMode::PerConversation];

#[tokio::test(flavor = "multi_thread")]
async fn while_the_bus_is_away_the_database_delivers() {
    for mode in MODES {
        let world = World::new(mode);
        let mut a = world.join(ROOM, A, 0).await;
        let mut b = world.join(ROOM, B, 0).await;
        world.say(ROOM);
        a.read_through(0, 1).await;
        b.read_through(0, 1).await;
        world.bus.cut();
        world.until("the bus is down", || world.bus_state() == "down").await;
        for _ in 0..3 {
            world.say(ROOM);
        }
        let read = world.tell(ROOM, "message.read", &json!({"user_id": B}));
        world.store.remove(ROOM, B);
        // A hears of all of it, messages in their order; B is shown the door.
        let (mut seqs, mut kinds) = (Vec::new(), Vec::new());
        while seqs.len() + kinds.len() < 5 {
            let frame = a.next().await;
            match frame["message"]["seq"].as_i64() {
                Some(seq) => seqs.push(seq),
                None => kinds.push((frame["type"].as_str().unwrap().to_owned(), frame["event_id"].as_i64().unwrap())),
            }
        }
        assert_eq!(seqs, [2, 3, 4]);
        assert_eq!(kinds, [("message.read".to_owned(), read), ("participant.removed".to_owned(), read + 1)]);
        world.until("evicted", || b.membership.is_evicted()).await;
        world.bus.mend();
        world.until("the bus is up", || world.bus_state() == "up").await;
        world.say(ROOM);
        assert_eq!(a.seq().await, 5);
        assert!(a.pending().is_empty(), "nothing comes twice");
        world.end().await;
    }
}

/// As when one node of a Redis Cluster is away.
#[tokio::test]
async fn a_conversation_that_the_bus_does_not_carry_is_delivered_from_the_database_alone() {
    let world = World::new(PubSubMode::Sharded);
    let (mut a, mut b) = (world.join(ROOM, A, 0).await, world.join(OTHER, B, 0).await);
    world.until("the bus is up", || world.bus_state() == "up").await;
    world.bus.cut_one(ROOM);
    world.until("a part of the bus is down", || world.bus_state() == "down").await;
    world.say(ROOM);
    assert_eq!(a.seq().await, 1);
    world.say(OTHER);
    assert_eq!(b.seq().await, 1);
    world.say(ROOM);
    world.bus.mend_one(ROOM);
    world.until("the bus is up", || world.bus_state() == "up").await;
    world.say(ROOM);
    a.read_through(1, 3).await;
    assert!(a.pending().is_empty(), "nothing comes twice");
    world.end().await;
}

#[tokio::test]
async fn a_short_break_is_made_good_at_once() {
    for mode in MODES {
        let world = World::new(mode);
        let mut a = world.join(ROOM, A, 0).await;
        world.say(ROOM);
        a.read_through(0, 1).await;
        world.bus.cut();
        world.say(ROOM);
        let id = world.tell(ROOM, "note", &json!(7));
        world.bus.mend();
        let (first, second) = (a.next().await, a.next().await);
        let (note, message) = if first["type"] == "note" { (first, second) } else { (second, first) };
        assert_eq!((&note["event_id"], &note["payload"]), (&json!(id), &json!(7)));
        assert_eq!(message["message"]["seq"], 2);
        world.end().await;
    }
}

#[tokio::test]
async fn a_gateway_that_starts_without_a_bus_delivers() {
    for mode in MODES {
        let world = World::new(mode);
        world.bus.cut();
        let mut a = world.join(ROOM, A, 0).await;
        world.say(ROOM);
        world.say(ROOM);
        a.read_through(0, 2).await;
        world.end().await;
    }
}

#[tokio::test]
async fn a_lost_publication_is_found_by_the_sweep() {
    let world = World::with(PubSubMode::Global, |config| config.sweep = Duration::from_millis(100));
    let mut a = world.join(ROOM, A, 0).await;
    world.store.message(ROOM);
    assert_eq!(a.seq().await, 1);
    world.end().await;
}

#[tokio::test]
async fn a_bus_that_is_well_and_brings_nothing_is_warned_of() {
    let world = World::with(PubSubMode::Global, |config| config.sweep = Duration::from_millis(50));
    let mut a = world.join(ROOM, A, 0).await;
    world.until("the bus is up", || world.bus_state() == "up").await;
    let warning = || world.health.report().parts["events"].warning.clone();
    let mut stored = 0;
    // Workers publish elsewhere: each sweep finds what was stored since the last one.
    while warning().is_none() {
        world.store.message(ROOM);
        stored += 1;
        assert_eq!(a.seq().await, stored);
    }
    assert!(warning().unwrap().contains("never came over the bus"));
    world.say(ROOM);
    assert_eq!(a.seq().await, stored + 1);
    world.until("the warning is gone", || warning().is_none()).await;
    world.end().await;
}

#[tokio::test]
async fn the_database_may_be_away_too_and_nothing_is_lost() {
    let world = World::new(PubSubMode::Global);
    world.until("the bus is up", || world.bus_state() == "up").await;
    let mut a = world.join(ROOM, A, 0).await;
    world.store.away.store(true, Ordering::Relaxed);
    world.bus.cut();
    let lost: Vec<Seq> = (0..3).map(|_| world.say(ROOM)).collect();
    world.bus.mend();
    let asked = world.store.questions.load(Ordering::Relaxed);
    world.until("the store was asked in vain", || world.store.questions.load(Ordering::Relaxed) > asked).await;
    world.say(ROOM);
    world.store.away.store(false, Ordering::Relaxed);
    assert_eq!(lost, [1, 2, 3]);
    a.read_through(0, 4).await;
    world.end().await;
}

#[tokio::test]
async fn channels_follow_local_members() {
    let world = World::new(PubSubMode::PerConversation);
    let (room, other) = (format!("conv:{ROOM}"), format!("conv:{OTHER}"));
    let channels = || world.bus.channels().into_iter().filter(|name| name.starts_with("conv:")).collect::<Vec<_>>();
    world.until("the bus is up", || world.bus_state() == "up").await;
    assert!(channels().is_empty());
    let a = world.join(ROOM, A, 0).await;
    let b = world.join(ROOM, B, 0).await;
    let c = world.join(OTHER, B, 0).await;
    world.until("both are subscribed", || channels() == [room.clone(), other.clone()]).await;
    drop(a);
    drop(c);
    world.until("the one that was left is not", || channels() == [room.clone()]).await;
    drop(b);
    world.until("nor the other", || channels().is_empty()).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_and_entering_at_once_keeps_the_subscription() {
    let world = World::new(PubSubMode::PerConversation);
    let mut seq = 0;
    let mut a = world.join(ROOM, A, 0).await;
    for round in 0..200 {
        drop(a);
        if round % 3 == 0 {
            tokio::task::yield_now().await;
        }
        a = world.join(ROOM, A, seq).await;
        seq = world.say(ROOM);
        assert_eq!(a.seq().await, seq);
    }
    world.end().await;
}

#[tokio::test]
async fn what_is_said_while_the_first_one_joins_is_not_lost() {
    let world = World::new(PubSubMode::PerConversation);
    world.until("the bus is up", || world.bus_state() == "up").await;
    world.store.admit(ROOM, A);
    let room = world.fanout.enter(ROOM);
    // The joiner has read the store; the channel is not subscribed yet.
    let seq = world.say(ROOM);
    let outbound = Arc::new(Outbound::new(1 << 20));
    let membership = room.attach(member(A, 0, &outbound)).unwrap();
    let mut a = Client { outbound, membership, frames: VecDeque::new() };
    assert_eq!(a.seq().await, seq);
    world.end().await;
}

#[tokio::test]
async fn what_was_purged_is_skipped_and_who_lacks_it_begins_anew() {
    for mode in MODES {
        let world = World::new(mode);
        let mut behind = world.join(ROOM, A, 0).await;
        world.say(ROOM);
        behind.read_through(0, 1).await;
        for _ in 2..=4 {
            world.store.message(ROOM);
        }
        world.store.purge(ROOM, 3);
        let mut level = world.join(ROOM, B, 3).await;
        world.say(ROOM);
        level.read_through(3, 5).await;
        world.until("let go", || behind.membership.is_lapsed()).await;
        assert!(behind.pending().is_empty() && !level.membership.is_lapsed());
        let mut back = world.join(ROOM, A, 3).await;
        world.say(ROOM);
        back.read_through(3, 6).await;
        assert_eq!(level.seq().await, 6);
        world.end().await;
    }
}
