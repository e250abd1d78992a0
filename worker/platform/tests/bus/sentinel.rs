//! A Redis that sentinels watch, and another one that takes over.

use std::process::Command;
use std::time::Duration;

use arcyou_local_services::{Redis, RedisSentinels};
use arcyou_platform::bus::{Bus, RedisBus, RedisClient, RedisUrl, ShardedRedisBus, Signal, Subscriber};
use arcyou_platform::health::Health;

use super::{message, next, publication, rig, subscribe, until_lost, until_subscribed};

/// The answer of a server to a command.
fn ask(port: u16, arguments: &[&str]) -> String {
    let output = Command::new("redis-cli").args(["-p", &port.to_string()]).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Waits for an answer to contain a text.
async fn until(port: u16, arguments: &[&str], text: &str) {
    for _ in 0..600 {
        if ask(port, arguments).contains(text) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{arguments:?} never answered {text}, but {}", ask(port, arguments));
}

/// A leader with a replica, and three sentinels that know both.
async fn watched() -> (Redis, Redis, RedisSentinels) {
    let start = || {
        let leader = Redis::start().unwrap();
        let follows = format!("127.0.0.1 {}", leader.port());
        let replica = Redis::start_with(&[("replicaof", &follows), ("repl-diskless-sync-delay", "0")]).unwrap();
        let sentinels = RedisSentinels::start(&leader, 3).unwrap();
        (leader, replica, sentinels)
    };
    let (leader, replica, sentinels) = tokio::task::spawn_blocking(start).await.unwrap();
    until(replica.port(), &["INFO", "replication"], "master_link_status:up").await;
    for port in sentinels.ports() {
        until(port, &["SENTINEL", "MASTER", RedisSentinels::NAME], "num-other-sentinels\n2").await;
        until(port, &["SENTINEL", "REPLICAS", RedisSentinels::NAME], &replica.port().to_string()).await;
    }
    (leader, replica, sentinels)
}

/// Publishes until the subscriber hears it.
async fn until_heard(bus: &dyn Bus, subscriber: &mut dyn Subscriber, text: &str) {
    for _ in 0..600 {
        let published = bus.publish(&[publication("a", text)]).await;
        let heard = tokio::time::timeout(Duration::from_millis(100), subscriber.next()).await;
        if published.is_ok() && heard == Ok(message("a", text)) {
            return;
        }
    }
    panic!("{text} was never heard");
}

/// The value of a key, from whoever answers: the command that finds the old connection broken fails.
async fn value(client: &RedisClient) -> String {
    for _ in 0..600 {
        let answer = client.query::<(Option<String>,)>(redis::pipe().cmd("GET").arg("key")).await;
        if let Ok((Some(value),)) = answer {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the key was never there");
}

#[tokio::test]
async fn the_bus_follows_the_redis_that_takes_over() {
    let (leader, replica, sentinels) = watched().await;
    let (url, health): (RedisUrl, _) = (sentinels.url().parse().unwrap(), Health::new());
    let bus = RedisBus::with_options(&url, &health, rig::options()).unwrap();
    let client = RedisClient::new(&url, "this test", Duration::from_secs(5)).unwrap();
    let mut subscriber = subscribe(&bus, &["a"]).await;
    bus.publish(&[publication("a", "from the first")]).await.unwrap();
    assert_eq!(next(&mut *subscriber).await, message("a", "from the first"));
    client.query::<()>(redis::pipe().cmd("SET").arg("key").arg("kept").ignore()).await.unwrap();
    until(replica.port(), &["GET", "key"], "kept").await;

    // With a sentinel less they are still most of them.
    sentinels.kill(0);
    leader.kill();
    until_lost(&mut *subscriber, &["a"]).await;
    until_subscribed(&mut *subscriber, &["a"]).await;
    until_heard(&bus, &mut *subscriber, "from the second").await;
    assert!(ask(replica.port(), &["ROLE"]).starts_with("master"));
    assert_eq!(value(&client).await, "kept");

    // The first one is back, leads nobody, and is left alone.
    tokio::task::spawn_blocking(move || leader.restart().map(|()| leader)).await.unwrap().unwrap();
    until_heard(&bus, &mut *subscriber, "still from the second").await;
}

/// A leader that nobody told that it no longer leads: it takes what is published, and nobody hears it.
#[tokio::test]
async fn a_redis_that_no_longer_leads_is_left_although_it_works() {
    let (leader, replica, sentinels) = watched().await;
    let health = Health::new();
    let bus = RedisBus::with_options(&sentinels.url().parse().unwrap(), &health, rig::options()).unwrap();
    let mut subscriber = subscribe(&bus, &["a"]).await;
    // From now on sentinels cannot change the first one, which goes on answering.
    ask(leader.port(), &["CONFIG", "SET", "requirepass", "unknown-to-sentinels"]);
    ask(replica.port(), &["REPLICAOF", "NO", "ONE"]);
    for port in sentinels.ports() {
        ask(port, &["SENTINEL", "REMOVE", RedisSentinels::NAME]);
        ask(port, &["SENTINEL", "MONITOR", RedisSentinels::NAME, "127.0.0.1", &replica.port().to_string(), "2"]);
    }
    loop {
        if next(&mut *subscriber).await == (Signal::Subscribed { channel: "a".to_owned() }) {
            break;
        }
    }
    until_heard(&bus, &mut *subscriber, "from the second").await;
    // Both ways lead there: nothing was heard by way of the first.
    assert!(ask(replica.port(), &["PUBSUB", "NUMSUB", "a"]).contains('1'));
}

#[tokio::test]
async fn sentinels_serve_no_cluster() {
    let url: RedisUrl = "redis+sentinel://:hunter2@127.0.0.1/chat".parse().unwrap();
    let error = ShardedRedisBus::new(&url, &Health::new()).unwrap_err().to_string();
    assert!(error.contains("name a node of the cluster") && !error.contains("hunter2"), "{error}");
}
