//! Who may listen, and until when.

use std::sync::atomic::Ordering;

use arcyou_platform::contract::{CONVERSATION_DELETED, envelope_text};

use super::*;

const ROOM: Uuid = Uuid::from_u128(1);
const A: Uuid = Uuid::from_u128(1001);
const B: Uuid = Uuid::from_u128(1002);

async fn world() -> World {
    let world = World::new(PubSubMode::Global);
    world.until("the bus is up", || world.bus_state() == "up").await;
    world
}

#[tokio::test]
async fn a_removed_participant_hears_of_it_and_then_nothing() {
    let world = world().await;
    let mut a = world.join(ROOM, A, 0).await;
    let mut b = world.join(ROOM, B, 0).await;
    let (_, envelope) = world.store.remove(ROOM, A);
    world.bus.publish_text(ROOM, envelope);
    for client in [&mut a, &mut b] {
        let event = client.next().await;
        assert_eq!((&event["type"], &event["user_id"]), (&json!("participant.removed"), &json!(A)));
    }
    world.until("evicted", || a.membership.is_evicted()).await;
    world.say(ROOM);
    assert_eq!(b.seq().await, 1);
    assert!(a.pending().is_empty());
    assert!(!b.membership.is_evicted());
    world.end().await;
}

#[tokio::test]
async fn an_old_removal_does_not_evict_who_is_back() {
    let world = world().await;
    let mut a = world.join(ROOM, A, 0).await;
    let (_, envelope) = world.store.remove(ROOM, A);
    world.store.admit(ROOM, A);
    let asked = world.store.checks.load(Ordering::Relaxed);
    world.bus.publish_text(ROOM, envelope);
    assert_eq!(a.next().await["type"], "participant.removed");
    world.until("the store was asked", || world.store.checks.load(Ordering::Relaxed) > asked).await;
    world.say(ROOM);
    assert_eq!(a.seq().await, 1);
    assert!(!a.membership.is_evicted());
    world.end().await;
}

#[tokio::test]
async fn a_removal_that_cannot_be_checked_evicts() {
    let world = world().await;
    let a = world.join(ROOM, A, 0).await;
    let (_, envelope) = world.store.remove(ROOM, A);
    world.store.away.store(true, Ordering::Relaxed);
    world.bus.publish_text(ROOM, envelope);
    world.until("evicted", || a.membership.is_evicted()).await;
    world.end().await;
}

#[tokio::test]
async fn a_removal_between_the_check_and_the_attaching_is_not_missed() {
    let world = world().await;
    let mut b = world.join(ROOM, B, 0).await;
    world.store.admit(ROOM, A);
    let room = world.fanout.enter(ROOM);
    let (_, envelope) = world.store.remove(ROOM, A);
    world.bus.publish_text(ROOM, envelope);
    assert_eq!(b.next().await["type"], "participant.removed");
    let membership = room.attach(member(A, 0, &Arc::new(Outbound::new(1 << 20)))).unwrap();
    world.until("evicted", || membership.is_evicted()).await;
    world.end().await;
}

#[tokio::test]
async fn a_deleted_conversation_is_lost_to_all_and_can_be_made_anew() {
    let world = world().await;
    let mut a = world.join(ROOM, A, 0).await;
    world.say(ROOM);
    assert_eq!(a.seq().await, 1);
    let joining = world.fanout.enter(ROOM);
    world.tell(ROOM, "conversation.deleted", &json!({}));
    assert_eq!(a.next().await["type"], "conversation.deleted");
    world.until("evicted", || a.membership.is_evicted()).await;
    // Who was about to join is told as well; the same id starts from nothing.
    assert!(joining.attach(member(B, 0, &Arc::new(Outbound::new(1 << 20)))).unwrap().is_evicted());
    world.store.forget(ROOM);
    let mut anew = world.join(ROOM, B, 0).await;
    drop(a);
    world.say(ROOM);
    assert_eq!(anew.seq().await, 1);
    world.end().await;
}

#[tokio::test]
async fn a_deletion_that_the_store_knows_nothing_of_takes_nothing_away() {
    let world = world().await;
    let mut a = world.join(ROOM, A, 0).await;
    world.say(ROOM);
    assert_eq!(a.seq().await, 1);
    let asked = world.store.checks.load(Ordering::Relaxed);
    world.bus.publish_text(ROOM, envelope_text(&world.store.key(), 1_000, CONVERSATION_DELETED, ROOM, "{}"));
    assert_eq!(a.next().await["type"], "conversation.deleted");
    world.until("the store was asked", || world.store.checks.load(Ordering::Relaxed) > asked).await;
    world.say(ROOM);
    assert_eq!(a.seq().await, 2);
    assert!(!a.membership.is_evicted());
    world.end().await;
}

#[tokio::test]
async fn a_changed_role_reaches_open_sockets() {
    let world = world().await;
    let mut a = world.join(ROOM, A, 0).await;
    let b = world.join(ROOM, B, 0).await;
    let (_, envelope) = world.store.change_role(ROOM, A, "guest");
    world.bus.publish_text(ROOM, envelope);
    let event = a.next().await;
    assert_eq!((&event["type"], &event["role"]), (&json!("participant.role_changed"), &json!("guest")));
    world.until("the role is the new one", || &*a.membership.role() == "guest").await;
    assert_eq!(&*b.membership.role(), MEMBER);
    world.say(ROOM);
    assert_eq!(a.seq().await, 1);
    world.end().await;
}

#[tokio::test]
async fn a_role_follows_the_store_and_not_the_event() {
    let world = world().await;
    let mut a = world.join(ROOM, A, 0).await;
    let (_, old) = world.store.change_role(ROOM, A, "owner");
    let (_, new) = world.store.change_role(ROOM, A, "guest");
    world.bus.publish_text(ROOM, new);
    a.next().await;
    world.until("the role is the new one", || &*a.membership.role() == "guest").await;
    let asked = world.store.checks.load(Ordering::Relaxed);
    world.bus.publish_text(ROOM, old);
    a.next().await;
    world.until("the store was asked", || world.store.checks.load(Ordering::Relaxed) > asked).await;
    world.say(ROOM);
    assert_eq!(a.seq().await, 1);
    assert_eq!(&*a.membership.role(), "guest");
    world.end().await;
}

#[tokio::test]
async fn a_role_changed_between_the_check_and_the_attaching_is_not_missed() {
    let world = world().await;
    let mut b = world.join(ROOM, B, 0).await;
    world.store.admit(ROOM, A);
    let room = world.fanout.enter(ROOM);
    let (_, envelope) = world.store.change_role(ROOM, A, "guest");
    world.bus.publish_text(ROOM, envelope);
    assert_eq!(b.next().await["type"], "participant.role_changed");
    let membership = room.attach(member(A, 0, &Arc::new(Outbound::new(1 << 20)))).unwrap();
    world.until("the role is the new one", || &*membership.role() == "guest").await;
    world.end().await;
}

#[tokio::test]
async fn a_role_whose_change_was_never_published_is_found_by_the_sweep() {
    let world = World::with(PubSubMode::Global, |config| config.sweep = Duration::from_millis(100));
    let a = world.join(ROOM, A, 0).await;
    world.store.change_role(ROOM, A, "guest");
    world.until("the role is the new one", || &*a.membership.role() == "guest").await;
    world.end().await;
}

#[tokio::test]
async fn who_only_tries_to_join_costs_the_bus_nothing() {
    let world = World::new(PubSubMode::PerConversation);
    drop(world.fanout.enter(ROOM));
    let refused = world.fanout.enter(ROOM);
    let other = Uuid::from_u128(2);
    let a = world.join(other, A, 0).await;
    let channel = PubSubMode::PerConversation.channel(other);
    world.until("the joined one is carried", || world.bus.channels() == [channel.clone()]).await;
    drop((refused, a));
    world.until("nothing is", || world.bus.channels().is_empty()).await;
    world.end().await;
}

#[tokio::test]
async fn a_removal_that_was_never_published_is_found_by_the_sweep() {
    let world = World::with(PubSubMode::Global, |config| config.sweep = Duration::from_millis(100));
    let mut a = world.join(ROOM, A, 0).await;
    world.store.remove(ROOM, A);
    world.until("evicted", || a.membership.is_evicted()).await;
    assert_eq!(a.next().await["type"], "participant.removed");
    world.end().await;
}

#[tokio::test]
async fn an_evicted_socket_is_woken() {
    let world = world().await;
    let mut a = world.join(ROOM, A, 0).await;
    let (_, envelope) = world.store.remove(ROOM, A);
    world.bus.publish_text(ROOM, envelope);
    a.next().await;
    let noticed = async {
        while !a.membership.is_evicted() {
            a.outbound.changed().await;
        }
    };
    tokio::time::timeout(PATIENCE, noticed).await.unwrap();
    world.end().await;
}
