//! What every bus promises, tested with each, and what Redis adds.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cluster;
mod rig;
mod sentinel;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use arcyou_platform::bus::{Bus, Publication, Signal, Subscriber};
use arcyou_platform::health::{Health, PartState};
use bytes::Bytes;

use rig::{Rig, UNREAD};

const PATIENCE: Duration = Duration::from_secs(30);

/// Publishes `times` times as much as a subscriber may leave unread.
async fn flood(bus: &dyn Bus, channel: &str, times: usize) {
    let payload = Bytes::from(vec![b'x'; UNREAD / 4]);
    let batch = vec![Publication { channel: channel.to_owned(), payload }; 4 * times];
    bus.publish(&batch).await.unwrap();
}

fn publication(channel: &str, payload: impl Into<String>) -> Publication {
    Publication { channel: channel.to_owned(), payload: Bytes::from(payload.into()) }
}

fn message(channel: &str, payload: impl Into<String>) -> Signal {
    let Publication { channel, payload } = publication(channel, payload);
    Signal::Message { channel, payload }
}

fn subscribed(channel: &str) -> Signal {
    Signal::Subscribed { channel: channel.to_owned() }
}

async fn next(subscriber: &mut dyn Subscriber) -> Signal {
    tokio::time::timeout(PATIENCE, subscriber.next()).await.expect("a signal in time")
}

async fn subscribe(bus: &dyn Bus, channels: &[&str]) -> Box<dyn Subscriber> {
    let mut subscriber = bus.subscriber();
    for channel in channels {
        subscriber.subscribe((*channel).to_owned());
    }
    let mut confirmed = BTreeSet::new();
    while confirmed.len() < channels.len() {
        match next(&mut *subscriber).await {
            Signal::Subscribed { channel } => assert!(confirmed.insert(channel), "confirmed twice"),
            other => panic!("unexpected: {other:?}"),
        }
    }
    subscriber
}

/// Receives until these channels are reported as lost, which must happen once, for all together or for each.
async fn until_lost(subscriber: &mut dyn Subscriber, channels: &[&str]) {
    let mut carried: BTreeSet<&str> = channels.iter().copied().collect();
    while !carried.is_empty() {
        match next(subscriber).await {
            Signal::Lost => {
                assert_eq!(carried.len(), channels.len(), "told twice");
                return;
            }
            Signal::Interrupted { channel } => assert!(carried.remove(channel.as_str()), "{channel} told twice"),
            Signal::Message { .. } => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
}

/// Receives the confirmations of these channels, and nothing else.
async fn until_subscribed(subscriber: &mut dyn Subscriber, channels: &[&str]) {
    let mut missing: BTreeSet<&str> = channels.iter().copied().collect();
    while !missing.is_empty() {
        match next(subscriber).await {
            Signal::Subscribed { channel } => assert!(missing.remove(channel.as_str()), "{channel} confirmed twice"),
            other => panic!("unexpected: {other:?}"),
        }
    }
}

/// Receives until each channel is reported as lost and then confirmed, each exactly once.
async fn after_loss(subscriber: &mut dyn Subscriber, channels: &[&str]) {
    let (mut lost, mut confirmed) = (BTreeSet::new(), BTreeSet::new());
    while confirmed.len() < channels.len() {
        match next(subscriber).await {
            Signal::Lost => {
                assert!(lost.is_empty(), "told twice");
                lost.extend(channels.iter().map(|channel| (*channel).to_owned()));
            }
            Signal::Interrupted { channel } => assert!(lost.insert(channel.clone()), "{channel} told twice"),
            Signal::Subscribed { channel } => {
                assert!(lost.contains(&channel) && confirmed.insert(channel.clone()), "{channel} confirmed twice");
            }
            Signal::Message { .. } => assert!(lost.len() < channels.len(), "nothing is published after the loss"),
        }
    }
}

async fn order_is_kept(rig: Rig) {
    let bus = rig.bus();
    let mut subscriber = subscribe(&*bus, &["a", "b"]).await;
    let batch = |from: usize| -> Vec<_> {
        (from..from + 500).map(|n| publication(if n % 3 == 0 { "b" } else { "a" }, n.to_string())).collect()
    };
    for from in [0, 500] {
        let results = bus.publish(&batch(from)).await.unwrap();
        assert_eq!(results.len(), 500);
        assert!(results.iter().all(Result::is_ok));
        let mut expected: BTreeMap<String, Vec<Bytes>> = BTreeMap::new();
        let mut heard = expected.clone();
        for Publication { channel, payload } in batch(from) {
            expected.entry(channel).or_default().push(payload);
            let Signal::Message { channel, payload } = next(&mut *subscriber).await else { panic!("not a message") };
            heard.entry(channel).or_default().push(payload);
        }
        assert_eq!(heard, expected);
    }
}

async fn what_is_published_after_the_confirmation_arrives(rig: Rig) {
    let bus = rig.bus();
    bus.publish(&[publication("a", "nobody hears this")]).await.unwrap();
    let mut subscriber = subscribe(&*bus, &["a"]).await;
    bus.publish(&[publication("other", "nor this"), publication("a", "한글 ✓")]).await.unwrap();
    assert_eq!(next(&mut *subscriber).await, message("a", "한글 ✓"));
}

async fn a_waiting_subscriber_can_be_told_to_subscribe(rig: Rig) {
    let bus = rig.bus();
    let mut subscriber = subscribe(&*bus, &["a"]).await;
    tokio::select! {
        biased;
        signal = subscriber.next() => panic!("unexpected: {signal:?}"),
        () = tokio::task::yield_now() => subscriber.subscribe("b".to_owned()),
    }
    assert_eq!(next(&mut *subscriber).await, subscribed("b"));
    bus.publish(&[publication("b", "1")]).await.unwrap();
    assert_eq!(next(&mut *subscriber).await, message("b", "1"));
}

async fn dropped_calls_lose_nothing(rig: Rig) {
    let bus = rig.bus();
    let mut subscriber = subscribe(&*bus, &["a"]).await;
    let batch: Vec<_> = (0..300).map(|n| publication("a", n.to_string())).collect();
    bus.publish(&batch).await.unwrap();
    let mut heard = 0;
    while heard < 300 {
        tokio::select! {
            biased;
            () = tokio::task::yield_now(), if heard % 2 == 0 => {}
            signal = subscriber.next() => {
                assert_eq!(signal, message("a", heard.to_string()));
                heard += 1;
                continue;
            }
        }
        // The other half of the calls is dropped when it has to wait.
        if let Ok(signal) = tokio::time::timeout(Duration::from_micros(50), subscriber.next()).await {
            assert_eq!(signal, message("a", heard.to_string()));
            heard += 1;
        }
    }
}

async fn an_unwanted_channel_is_silent_and_can_be_wanted_again(rig: Rig) {
    let bus = rig.bus();
    let mut subscriber = subscribe(&*bus, &["a", "b"]).await;
    bus.publish(&[publication("a", "unread when given up")]).await.unwrap();
    subscriber.unsubscribe("a");
    bus.publish(&[publication("a", "unheard"), publication("b", "heard")]).await.unwrap();
    assert_eq!(next(&mut *subscriber).await, message("b", "heard"));
    subscriber.subscribe("a".to_owned());
    assert_eq!(next(&mut *subscriber).await, subscribed("a"));
    // Unsubscribed and subscribed again before the receiver noticed: confirmed again.
    subscriber.unsubscribe("a");
    subscriber.subscribe("a".to_owned());
    // Subscribed already.
    subscriber.subscribe("a".to_owned());
    assert_eq!(next(&mut *subscriber).await, subscribed("a"));
    bus.publish(&[publication("a", "heard again")]).await.unwrap();
    assert_eq!(next(&mut *subscriber).await, message("a", "heard again"));
}

async fn a_loss_is_told_and_healed(rig: Rig) {
    let bus = rig.bus();
    let mut subscriber = subscribe(&*bus, &["a", "b"]).await;
    for round in 0..3 {
        rig.lose().await;
        after_loss(&mut *subscriber, &["a", "b"]).await;
        bus.publish(&[publication("b", format!("after loss {round}"))]).await.unwrap();
        assert_eq!(next(&mut *subscriber).await, message("b", format!("after loss {round}")));
    }
}

async fn who_does_not_read_loses_messages_and_is_told(rig: Rig) {
    let bus = rig.bus();
    let mut slow = subscribe(&*bus, &["a", "b"]).await;
    let mut quick = subscribe(&*bus, &["b"]).await;
    flood(&*bus, "a", 20).await;
    bus.publish(&[publication("b", "others hear")]).await.unwrap();
    assert_eq!(next(&mut *quick).await, message("b", "others hear"));
    after_loss(&mut *slow, &["a", "b"]).await;
    bus.publish(&[publication("a", "again")]).await.unwrap();
    assert_eq!(next(&mut *slow).await, message("a", "again"));
}

async fn a_message_that_is_refused_harms_no_other(rig: Rig, too_large: usize) {
    let bus = rig.bus();
    let mut subscriber = subscribe(&*bus, &["a"]).await;
    let large = publication("a", "x".repeat(too_large));
    let results = bus.publish(&[publication("a", "1"), large, publication("a", "2")]).await.unwrap();
    let outcomes: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(outcomes, [true, false, true]);
    assert_eq!(next(&mut *subscriber).await, message("a", "1"));
    // Messages may be published again while the bus looks for the one that is rejected.
    let mut signal = next(&mut *subscriber).await;
    while signal == message("a", "1") {
        signal = next(&mut *subscriber).await;
    }
    assert_eq!(signal, message("a", "2"));
}

macro_rules! conformance {
    ($($name:ident),* $(,)?) => {
        mod local {
            $(#[tokio::test] async fn $name() { super::$name(super::Rig::local()).await })*
        }
        mod redis {
            $(#[tokio::test] async fn $name() { super::$name(super::Rig::redis()).await })*
        }
        mod sharded {
            $(#[tokio::test] async fn $name() { super::$name(super::Rig::sharded()).await })*
        }
        mod in_cluster {
            $(#[tokio::test] async fn $name() { super::$name(super::Rig::cluster().await).await })*
        }
    };
}

conformance!(
    order_is_kept,
    what_is_published_after_the_confirmation_arrives,
    a_waiting_subscriber_can_be_told_to_subscribe,
    dropped_calls_lose_nothing,
    an_unwanted_channel_is_silent_and_can_be_wanted_again,
    a_loss_is_told_and_healed,
    who_does_not_read_loses_messages_and_is_told,
);

#[tokio::test]
async fn local_refuses_what_fits_nowhere() {
    a_message_that_is_refused_harms_no_other(Rig::local(), UNREAD + 1).await;
}

const SMALL: &[(&str, &str)] = &[("proto-max-bulk-len", "1mb")];

#[tokio::test]
async fn redis_closing_on_a_message_blames_that_message() {
    a_message_that_is_refused_harms_no_other(Rig::redis_with(SMALL), 1024 * 1024 + 1).await;
}

#[tokio::test]
async fn a_node_closing_on_a_message_blames_that_message() {
    a_message_that_is_refused_harms_no_other(Rig::sharded_with(SMALL), 1024 * 1024 + 1).await;
}

async fn until_state(health: &Health, part: &str, state: PartState) {
    let part = health.part(part);
    let reached = async {
        while part.state() != state {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("the state in time");
}

/// It answers all else, pings among it.
#[tokio::test]
async fn a_server_that_refuses_to_publish_is_down_until_it_publishes() {
    let rig = Rig::redis_with(&[("rename-command PUBLISH", "NOTHING")]);
    let bus = rig.bus();
    until_state(rig.health(), "redis_publish", PartState::Up).await;
    let refused = bus.publish(&[publication("a", "1")]).await;
    assert!(refused.as_ref().is_err_and(|error| error.to_string().contains("unknown command")), "{refused:?}");
    let pings = || {
        let stats = rig.cli(&["INFO", "commandstats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_ping:calls="));
        line.and_then(|line| line.split(',').next()).map_or(0, |calls| calls.parse::<u64>().unwrap())
    };
    let before = pings();
    let answered = async {
        while pings() < before + 4 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("it is pinged");
    assert_eq!(rig.health().part("redis_publish").state(), PartState::Down);
}

/// The outage outlasts the retries of client libraries that give up, and nothing is published meanwhile.
async fn an_idle_subscriber_outlives_an_outage(rig: Rig) {
    let health = rig.health();
    let bus = rig.bus();
    let mut subscriber = subscribe(&*bus, &["a", "b"]).await;
    until_state(health, "redis_publish", PartState::Up).await;
    until_state(health, "redis_subscribe", PartState::Up).await;
    rig.kill();
    until_lost(&mut *subscriber, &["a", "b"]).await;
    until_state(health, "redis_publish", PartState::Down).await;
    until_state(health, "redis_subscribe", PartState::Down).await;
    // While some nodes of a cluster are not yet noticed, each message has an error of its own.
    let unpublished = bus.publish(&[publication("a", "1")]).await;
    assert!(unpublished.as_ref().map_or(true, |results| results[0].is_err()), "{unpublished:?}");
    // Changes during the outage count too.
    subscriber.subscribe("c".to_owned());
    subscriber.unsubscribe("b");
    let quiet = tokio::time::timeout(Duration::from_secs(8), subscriber.next()).await;
    assert!(quiet.is_err(), "one loss is told once: {quiet:?}");
    rig.restart().await;
    until_subscribed(&mut *subscriber, &["a", "c"]).await;
    until_state(health, "redis_publish", PartState::Up).await;
    bus.publish(&[publication("b", "unheard"), publication("c", "heard")]).await.unwrap();
    assert_eq!(next(&mut *subscriber).await, message("c", "heard"));
    until_state(health, "redis_subscribe", PartState::Up).await;
}

#[tokio::test]
async fn an_idle_subscriber_outlives_an_outage_of_redis() {
    an_idle_subscriber_outlives_an_outage(Rig::redis()).await;
}

#[tokio::test]
async fn an_idle_subscriber_outlives_an_outage_of_all_nodes() {
    an_idle_subscriber_outlives_an_outage(Rig::cluster().await).await;
}

/// A server that is suspended, or behind a network that drops all packets, closes no connection.
#[tokio::test]
async fn a_server_that_does_not_answer_is_noticed() {
    let rig = Rig::redis();
    let Rig::Redis { redis, .. } = &rig else { unreachable!() };
    let bus = rig.bus();
    let mut subscriber = subscribe(&*bus, &["a"]).await;
    let pid = redis.pid().unwrap().to_string();
    assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
    assert_eq!(next(&mut *subscriber).await, Signal::Lost);
    let bounded = tokio::time::timeout(PATIENCE, bus.publish(&[publication("a", "1")])).await.unwrap();
    assert!(bounded.is_err());
    assert!(Command::new("kill").args(["-CONT", &pid]).status().unwrap().success());
    assert_eq!(next(&mut *subscriber).await, subscribed("a"));
    let published = async { while bus.publish(&[publication("a", "2")]).await.is_err() {} };
    tokio::time::timeout(PATIENCE, published).await.expect("published in time");
    assert_eq!(next(&mut *subscriber).await, message("a", "2"));
}

async fn a_thousand_channels_are_subscribed_again(rig: Rig, listing: &str) {
    let names: Vec<String> = (0..1_000).map(|n| format!("conv:{n}")).collect();
    let channels: Vec<&str> = names.iter().map(String::as_str).collect();
    let bus = rig.bus();
    let mut subscriber = subscribe(&*bus, &channels).await;
    rig.lose().await;
    after_loss(&mut *subscriber, &channels).await;
    assert_eq!(rig.cli(&["PUBSUB", listing]).lines().count(), 1_000);
    drop(subscriber);
    let ended = async {
        while !rig.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]).trim().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("a dropped subscriber leaves no connection");
}

#[tokio::test]
async fn a_thousand_channels_are_subscribed_again_at_redis() {
    a_thousand_channels_are_subscribed_again(Rig::redis(), "CHANNELS").await;
}

#[tokio::test]
async fn a_thousand_channels_are_subscribed_again_at_their_nodes() {
    a_thousand_channels_are_subscribed_again(Rig::cluster().await, "SHARDCHANNELS").await;
}
