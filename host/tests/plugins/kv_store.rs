//! What every store of plugins' values must do, over both that there are.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arcyou_local_services::Redis;
use arcyou_plugin_host::{KvError, KvStore, MemoryKv, RedisKv};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(1);

async fn holds(store: &dyn KvStore) {
    assert_eq!(store.get("a").await, Ok(None));
    store.set("a", b"\x00\xff", LONG).await.unwrap();
    assert_eq!(store.get("a").await, Ok(Some(b"\x00\xff".to_vec())));
    assert_eq!(store.increment("a", 1, LONG).await, Err(KvError::NotANumber));
    assert_eq!((store.delete("a").await, store.delete("a").await), (Ok(true), Ok(false)));

    assert_eq!(store.increment("n", 2, LONG).await, Ok(2));
    assert_eq!(store.increment("n", -5, LONG).await, Ok(-3));
    assert_eq!(store.get("n").await, Ok(Some(b"-3".to_vec())));
    store.set("n", i64::MAX.to_string().as_bytes(), LONG).await.unwrap();
    assert_eq!(store.increment("n", 1, LONG).await, Err(KvError::NotANumber));
    assert_eq!(store.increment("n", -1, LONG).await, Ok(i64::MAX - 1));

    store.set("short", b"x", SHORT).await.unwrap();
    while store.get("short").await.unwrap().is_some() {
        tokio::task::yield_now().await;
    }
    // The first increment sets the time to live, a later one does not move it.
    store.increment("count", 1, SHORT).await.unwrap();
    while store.increment("count", 1, LONG).await.unwrap() > 1 {
        tokio::task::yield_now().await;
    }
    let counts = (0..50).map(|_| store.increment("many", 1, LONG));
    let mut sums: Vec<i64> = futures_util::future::join_all(counts).await.into_iter().map(Result::unwrap).collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=50).collect::<Vec<_>>());
}

#[tokio::test]
async fn values_in_this_process() {
    holds(&MemoryKv::default()).await;
}

fn installation(name: &str) -> Arc<OnceLock<String>> {
    Arc::new(OnceLock::from(name.to_owned()))
}

#[tokio::test]
async fn values_in_redis_and_while_it_is_away() {
    let redis = tokio::task::spawn_blocking(Redis::start).await.unwrap().unwrap();
    let store = RedisKv::new(&redis.url().parse().unwrap(), installation("a")).unwrap();
    holds(&store).await;
    store.set("shared", b"a's", LONG).await.unwrap();
    let other = RedisKv::new(&redis.url().parse().unwrap(), installation("b")).unwrap();
    assert_eq!(other.get("shared").await.unwrap(), None, "two installations share a Redis, and no values");
    let nobody = RedisKv::new(&redis.url().parse().unwrap(), Arc::default()).unwrap();
    assert!(matches!(nobody.get("shared").await, Err(KvError::Unavailable(_))));
    let redis = tokio::task::spawn_blocking(move || {
        redis.kill();
        redis
    });
    let redis = redis.await.unwrap();
    assert!(matches!(store.get("n").await, Err(KvError::Unavailable(_))));
    let _redis = tokio::task::spawn_blocking(move || redis.restart().map(|()| redis)).await.unwrap().unwrap();
    while store.get("n").await.is_err() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
