//! What only a Redis Cluster has: nodes that fail one by one, and slots that move.

use std::sync::Arc;

use arcyou_local_services::RedisCluster;
use arcyou_platform::bus::{Bus, PublishError, Signal};
use arcyou_platform::health::PartState;

use super::rig::Rig;
use super::{PATIENCE, message, next, publication, subscribe, subscribed, until_lost, until_state, until_subscribed};

/// The index of the node that has channel `a`, and `b`.
const A: usize = 2;
const B: usize = 0;

fn cluster(rig: &Rig) -> Arc<RedisCluster> {
    let Rig::Cluster { cluster, .. } = rig else { unreachable!() };
    Arc::clone(cluster)
}

/// Publishes repeatedly until it succeeds.
async fn publish(bus: &dyn Bus, channel: &str, payload: &str) {
    let batch = [publication(channel, payload)];
    let published = async { while !bus.publish(&batch).await.is_ok_and(|results| results[0].is_ok()) {} };
    tokio::time::timeout(PATIENCE, published).await.expect("published in time");
}

/// Breaks the node of channel `a` and repairs it.
async fn only_its_own_channels(rig: Rig, break_it: impl Fn(&RedisCluster), mend: impl Fn(&RedisCluster)) {
    let (bus, cluster) = (rig.bus(), cluster(&rig));
    let mut subscriber = subscribe(&*bus, &["a", "b"]).await;
    until_state(rig.health(), "redis_publish", PartState::Up).await;
    break_it(&cluster);
    assert_eq!(next(&mut *subscriber).await, Signal::Interrupted { channel: "a".to_owned() });
    // The first call may be the one that detects the outage.
    let batch = [publication("a", "1"), publication("b", "1"), publication("a", "2")];
    let _ = bus.publish(&batch).await.unwrap();
    assert_eq!(next(&mut *subscriber).await, message("b", "1"));
    until_state(rig.health(), "redis_publish", PartState::Down).await;
    for round in 0..20 {
        let results = bus.publish(&[publication("a", "3"), publication("b", round.to_string())]).await.unwrap();
        assert!(matches!(results[0], Err(PublishError::Unavailable(_))) && results[1].is_ok(), "{results:?}");
        assert_eq!(next(&mut *subscriber).await, message("b", round.to_string()));
    }
    let alone = bus.publish(&[publication("a", "5")]).await.unwrap();
    assert!(matches!(alone[0], Err(PublishError::Unavailable(_))), "an outage of a node is none of the bus");
    mend(&cluster);
    assert_eq!(next(&mut *subscriber).await, subscribed("a"));
    publish(&*bus, "a", "4").await;
    assert_eq!(next(&mut *subscriber).await, message("a", "4"));
    until_state(rig.health(), "redis_publish", PartState::Up).await;
    until_state(rig.health(), "redis_subscribe", PartState::Up).await;
}

#[tokio::test]
async fn a_node_that_is_killed_takes_its_own_channels_with_it() {
    let mend = |cluster: &RedisCluster| cluster.node(A).restart().unwrap();
    only_its_own_channels(Rig::cluster().await, |cluster| cluster.node(A).kill(), mend).await;
}

#[tokio::test]
async fn a_node_that_does_not_answer_takes_its_own_channels_with_it() {
    let signal = |cluster: &RedisCluster, name: &str| {
        let pid = cluster.node(A).pid().unwrap().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    only_its_own_channels(Rig::cluster().await, |cluster| signal(cluster, "-STOP"), |cluster| signal(cluster, "-CONT"))
        .await;
}

#[tokio::test]
async fn a_slot_that_moves_is_followed_by_its_channels() {
    let rig = Rig::cluster().await;
    let (bus, cluster) = (rig.bus(), cluster(&rig));
    let mut subscriber = subscribe(&*bus, &["a", "b"]).await;
    let slot = cluster.slot("a").unwrap();
    for (round, to) in [1, B, A].into_iter().enumerate() {
        cluster.move_slot(slot, to).unwrap();
        assert_eq!(next(&mut *subscriber).await, Signal::Interrupted { channel: "a".to_owned() });
        assert_eq!(next(&mut *subscriber).await, subscribed("a"));
        let batch = [publication("a", format!("a{round}")), publication("b", "b")];
        let results = bus.publish(&batch).await.unwrap();
        assert!(results.iter().all(Result::is_ok), "{results:?}");
        let mut heard = [next(&mut *subscriber).await, next(&mut *subscriber).await];
        heard.sort_by_key(|signal| format!("{signal:?}"));
        assert_eq!(heard, [message("a", format!("a{round}")), message("b", "b")]);
    }
}

#[tokio::test]
async fn a_replica_that_takes_over_carries_the_channels() {
    let started = tokio::task::spawn_blocking(|| {
        let mut cluster = RedisCluster::start(3).unwrap();
        cluster.add_replica(A).unwrap();
        cluster
    });
    let rig = Rig::on(started.await.unwrap());
    let (bus, cluster) = (rig.bus(), cluster(&rig));
    let mut subscriber = subscribe(&*bus, &["a", "b"]).await;
    cluster.node(A).kill();
    until_lost(&mut *subscriber, &["a"]).await;
    until_subscribed(&mut *subscriber, &["a"]).await;
    publish(&*bus, "a", "1").await;
    assert_eq!(next(&mut *subscriber).await, message("a", "1"));
    // All nodes that have slots are up.
    until_state(rig.health(), "redis_publish", PartState::Up).await;
    until_state(rig.health(), "redis_subscribe", PartState::Up).await;
    cluster.node(A).restart().unwrap();
    cluster.until_agreed().unwrap();
    publish(&*bus, "a", "2").await;
    assert_eq!(next(&mut *subscriber).await, message("a", "2"));
}
