//! A bus under test. Each test has servers of its own, since some break them.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use arcyou_local_services::{Redis, RedisCluster};
use arcyou_platform::bus::{Bus, LocalBus, RedisBus, RedisOptions, ShardedRedisBus};
use arcyou_platform::health::Health;

/// How many bytes a subscriber may leave unread here.
pub(crate) const UNREAD: usize = 256 * 1024;

pub(crate) enum Rig {
    Local(Arc<LocalBus>),
    Redis { redis: Arc<Redis>, bus: Arc<dyn Bus>, health: Health },
    Cluster { cluster: Arc<RedisCluster>, bus: Arc<dyn Bus>, health: Health },
}

pub(crate) fn options() -> RedisOptions {
    RedisOptions {
        response_timeout: Duration::from_secs(2),
        ping_interval: Duration::from_millis(200),
        max_unread_bytes: UNREAD,
        ..RedisOptions::default()
    }
}

impl Rig {
    pub(crate) fn local() -> Self {
        Self::Local(Arc::new(LocalBus::with_capacity(UNREAD)))
    }

    pub(crate) fn redis() -> Self {
        Self::redis_with(&[])
    }

    pub(crate) fn redis_with(settings: &[(&str, &str)]) -> Self {
        let (redis, health) = (Arc::new(Redis::start_with(settings).unwrap()), Health::new());
        let bus = RedisBus::with_options(&redis.url().parse().unwrap(), &health, options()).unwrap();
        Self::Redis { redis, bus: Arc::new(bus), health }
    }

    /// Sharded channels on a Redis outside of a cluster.
    pub(crate) fn sharded() -> Self {
        Self::sharded_with(&[])
    }

    pub(crate) fn sharded_with(settings: &[(&str, &str)]) -> Self {
        let (redis, health) = (Arc::new(Redis::start_with(settings).unwrap()), Health::new());
        let bus = ShardedRedisBus::with_options(&redis.url().parse().unwrap(), &health, options()).unwrap();
        Self::Redis { redis, bus: Arc::new(bus), health }
    }

    /// Sharded channels on a cluster of three nodes. The last one has channel `a`, the first one `b`.
    pub(crate) async fn cluster() -> Self {
        Self::on(tokio::task::spawn_blocking(|| RedisCluster::start(3)).await.unwrap().unwrap())
    }

    pub(crate) fn on(cluster: RedisCluster) -> Self {
        let (cluster, health) = (Arc::new(cluster), Health::new());
        let bus = ShardedRedisBus::with_options(&cluster.url().parse().unwrap(), &health, options()).unwrap();
        Self::Cluster { cluster, bus: Arc::new(bus), health }
    }

    pub(crate) fn bus(&self) -> Arc<dyn Bus> {
        match self {
            Self::Local(bus) => Arc::clone(bus) as Arc<dyn Bus>,
            Self::Redis { bus, .. } | Self::Cluster { bus, .. } => Arc::clone(bus),
        }
    }

    pub(crate) fn health(&self) -> &Health {
        match self {
            Self::Local(_) => panic!("nothing here can be away"),
            Self::Redis { health, .. } | Self::Cluster { health, .. } => health,
        }
    }

    fn servers(&self) -> Vec<&Redis> {
        match self {
            Self::Local(_) => Vec::new(),
            Self::Redis { redis, .. } => vec![redis],
            Self::Cluster { cluster, .. } => (0..cluster.len()).map(|index| cluster.node(index)).collect(),
        }
    }

    /// The answers of all servers, concatenated.
    pub(crate) fn cli(&self, arguments: &[&str]) -> String {
        let ask = |redis: &Redis| {
            let mut command = Command::new("redis-cli");
            let output = command.args(["-p", &redis.port().to_string()]).args(arguments).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap().trim_start_matches('\n').to_owned()
        };
        self.servers().into_iter().map(ask).collect()
    }

    /// Makes every subscriber miss messages.
    pub(crate) async fn lose(&self) {
        match self {
            Self::Local(_) => super::flood(&*self.bus(), "a", 4).await,
            _ => assert!(self.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).lines().any(|killed| killed != "0")),
        }
    }

    pub(crate) fn kill(&self) {
        self.servers().into_iter().for_each(Redis::kill);
    }

    pub(crate) async fn restart(&self) {
        self.servers().into_iter().for_each(|redis| redis.restart().unwrap());
        if let Self::Cluster { cluster, .. } = self {
            let cluster = Arc::clone(cluster);
            tokio::task::spawn_blocking(move || cluster.until_agreed()).await.unwrap().unwrap();
        }
    }
}
