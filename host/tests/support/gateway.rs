//! Gateways and workers of a test, each with its own configuration, stopped at its end.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::OnceLock;
use std::time::Duration;

use arcyou_gateway::config::{Config, Mode};
use arcyou_gateway::server::{self, Listeners, Services};
use arcyou_outbox_worker::{RelayConfig, WorkerConfig};
use arcyou_platform::bus;
use arcyou_platform::contract::PubSubMode;
use arcyou_platform::env::Source;
use arcyou_platform::health::Health;
use arcyou_platform::{database, telemetry};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::World;

/// A running part. It ends with the test; [`Running::stop`] ends it in an orderly way.
pub struct Running {
    pub port: u16,
    pub admin_port: u16,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    pub async fn stop(self) {
        self.begin_stop();
        self.task.await.unwrap();
    }

    pub fn begin_stop(&self) {
        self.shutdown.cancel();
    }
}

/// The environment of a gateway in a test.
struct Variables(HashMap<String, String>);

impl Source for Variables {
    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }
}

fn recorder() -> PrometheusHandle {
    static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();
    RECORDER.get_or_init(|| telemetry::metrics().unwrap()).clone()
}

/// A free port is free; one that is given may be somebody's outgoing one for a moment.
async fn listener(port: u16) -> TcpListener {
    for _ in 0..1500 {
        match TcpListener::bind(("127.0.0.1", port)).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse => tokio::time::sleep(Duration::from_millis(20)).await,
            bound => return bound.unwrap(),
        }
    }
    panic!("port {port} never became free");
}

impl World {
    /// A gateway with the defaults of development.
    pub async fn gateway(&self) -> Running {
        self.gateway_with(&[]).await
    }

    /// A gateway with these variables besides.
    pub async fn gateway_with(&self, variables: &[(&str, &str)]) -> Running {
        self.gateway_at(0, variables).await
    }

    /// The same on a port that an earlier gateway had.
    pub async fn gateway_at(&self, port: u16, variables: &[(&str, &str)]) -> Running {
        let running = self.starting_gateway(port, variables).await;
        running.ready().await;
        running
    }

    /// A gateway that tells all that it commits, however slow this machine is: where there is no worker.
    pub async fn gateway_without_worker(&self) -> Running {
        let mut config = self.config(&[]);
        config.fanout.left_for = Duration::from_secs(3600);
        let running = self.starting(config, 0).await;
        running.ready().await;
        running
    }

    /// The same, which may never become ready.
    pub async fn starting_gateway(&self, port: u16, variables: &[(&str, &str)]) -> Running {
        self.starting(self.config(variables), port).await
    }

    fn config(&self, variables: &[(&str, &str)]) -> Config {
        let mut environment = HashMap::from([
            ("DATABASE_URL".to_owned(), self.database_url()),
            ("REDIS_URL".to_owned(), self.redis.url()),
            ("JWT_PUBLIC_KEY".to_owned(), "dev-placeholder".to_owned()),
            ("BIND_ADDR".to_owned(), "127.0.0.1".to_owned()),
            ("DRAIN_SECONDS".to_owned(), "1".to_owned()),
            // No balancer has to notice.
            ("DRAIN_DELAY_SECONDS".to_owned(), "0".to_owned()),
            ("PLUGIN_RECORDS_DIR".to_owned(), "off".to_owned()),
            // A test must not depend on how fast it runs.
            ("RATE_LIMIT_PER_SECOND".to_owned(), "0".to_owned()),
            ("READ_BYTES_PER_SECOND".to_owned(), "0".to_owned()),
        ]);
        environment.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Config::from_source(&Variables(environment), Mode::Serve).unwrap()
    }

    async fn starting(&self, config: Config, port: u16) -> Running {
        let health = Health::with_essential(server::ESSENTIAL);
        let bus = bus::open(config.redis_url.as_ref().unwrap(), config.fanout.mode, &health).unwrap();
        let services = Services::prepare(&config, bus, health, recorder()).await.unwrap();
        let public = listener(port).await;
        let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, admin_port) = (public.local_addr().unwrap().port(), admin.local_addr().unwrap().port());
        let shutdown = CancellationToken::new();
        let api = match config.api.address {
            Some(address) => Some(TcpListener::bind(address).await.unwrap()),
            None => None,
        };
        let served = services.serve(config, Listeners { public, admin, api }, shutdown.clone());
        let task = tokio::spawn(served);
        Running { port, admin_port, shutdown, task }
    }

    /// A worker that relays this test's outbox.
    pub async fn worker(&self) -> Running {
        self.worker_in(PubSubMode::Global).await
    }

    pub async fn worker_in(&self, mode: PubSubMode) -> Running {
        self.worker_at(&self.redis.url(), mode).await
    }

    /// The same with another Redis.
    pub async fn worker_at(&self, redis_url: &str, mode: PubSubMode) -> Running {
        self.worker_with(&self.database_url(), redis_url, mode, &Health::new())
    }

    /// The same with another way to the database, and where it says how it is.
    pub fn worker_with(&self, database_url: &str, redis_url: &str, mode: PubSubMode, health: &Health) -> Running {
        self.worker_relaying(database_url, redis_url, RelayConfig { mode, ..RelayConfig::default() }, health)
    }

    /// The same that relays in this way.
    pub fn worker_relaying(&self, database_url: &str, redis_url: &str, relay: RelayConfig, health: &Health) -> Running {
        let health = health.clone();
        let bus = bus::open(&redis_url.parse().unwrap(), relay.mode, &health).unwrap();
        let pool = database::pool(&database_url.parse().unwrap(), 4).unwrap();
        let config = WorkerConfig { relay, ..WorkerConfig::default() };
        let shutdown = CancellationToken::new();
        let worker = arcyou_outbox_worker::run(config, pool, bus, health, shutdown.clone());
        let task = tokio::spawn(worker);
        Running { port: 0, admin_port: 0, shutdown, task }
    }
}

impl Running {
    /// Waits until every part of the gateway is up.
    pub async fn ready(&self) {
        super::ready(self.admin_port).await;
    }

    /// Waits for a part of the gateway to be reported in this state; returns the reason, if there is one.
    pub async fn until(&self, part: &str, state: &str) -> String {
        super::until(self.admin_port, part, state).await
    }

    /// A GET on the admin listener: status line, headers and body. Not for `/metrics`: all gateways of this process
    /// count together, so that a test that asks for those takes a [`World::program`].
    pub async fn get(&self, path: &str) -> String {
        super::http_get(self.admin_port, path).await
    }
}
