//! Everything that runs beside the sockets, started in one place and ended in order.
//!
//! Clients depend on some of it, so it outlives them: the lanes end when the last command is answered, and upkeep after
//! that.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ::metrics::gauge;
use arcyou_platform::admin::{self, AdminAccess};
use arcyou_platform::bus::Bus;
use arcyou_platform::database::DatabaseUrl;
use arcyou_platform::health::{Health, Part};
use arcyou_plugin_host::{PluginHost, RedisKv, supervise};
use axum::Router;
use deadpool_postgres::Pool;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::keys::keep_keys;
use super::schema::{CompleteHistory, keep_looking};
use super::{metrics, plugin_values};
use crate::audit::{Audit, AuditConfig};
use crate::auth::Authenticator;
use crate::batch::{BatchConfig, Batcher, CommitHealth, Committer, Pace};
use crate::bounds::users::{UserLimits, Users};
use crate::cutoffs::Cutoffs;
use crate::failure_records;
use crate::fanout::{Fanout, FanoutConfig, FanoutTasks};
use crate::read_marks::ReadMarks;
use crate::store::{SchemaGate, Store};
use crate::wake::Wake;

/// How long what no client waits for may take at the end.
const UPKEEP_ENDS_WITHIN: Duration = Duration::from_secs(2);
/// Between looks at the database, for `/ready`.
const PING_EVERY: Duration = Duration::from_secs(2);

/// The tasks of a gateway but its sockets.
#[derive(Default)]
pub(super) struct Background {
    /// They end when everything that was accepted is answered.
    lanes: TaskTracker,
    /// It ends when it is told to.
    upkeep: TaskTracker,
    ends: CancellationToken,
}

impl Background {
    pub(super) fn admin(
        &self,
        listener: TcpListener,
        access: AdminAccess,
        health: Health,
        metrics: PrometheusHandle,
        routes: Router,
    ) {
        self.upkeep.spawn(admin::serve_with(listener, access, health, metrics, routes, self.ends.clone()));
    }

    /// The schema is looked at, and brought up to date, however long the database is away. Then the gate opens.
    pub(super) fn schema(&self, pool: Pool, migration: DatabaseUrl, gate: SchemaGate, part: Part) {
        self.until_the_end(keep_looking(pool, migration, gate, part));
    }

    /// Plugins' values are this installation's.
    pub(super) fn installation(&self, store: Store, gate: SchemaGate, installation: Arc<OnceLock<String>>) {
        self.until_the_end(tell_installation(store, gate, installation));
    }

    /// Whether the database is there, and how its pool is doing.
    pub(super) fn database_watch(&self, store: Store, part: Part, commits: Arc<CommitHealth>) {
        self.until_the_end(watch_database(store, part, commits));
    }

    /// How many messages wait for a reviewer.
    pub(super) fn held_watch(&self, store: Store, gate: SchemaGate) {
        self.until_the_end(metrics::watch_held(store, gate));
    }

    /// Whether plugins can keep values.
    pub(super) fn plugin_values(&self, values: Arc<RedisKv>, plugins: Arc<PluginHost>, health: Health) {
        self.until_the_end(plugin_values::watch(values, plugins, health));
    }

    /// Plugins are reloaded when their files change.
    pub(super) fn plugins(&self, plugins: Arc<PluginHost>, part: Part) {
        self.upkeep.spawn(supervise(plugins, part, self.ends.clone()));
    }

    /// What plugins failed on goes with what was deleted.
    pub(super) fn failure_records(&self, dir: PathBuf, store: Store, gate: SchemaGate) {
        self.until_the_end(failure_records::keep_erasing(dir, store, gate));
    }

    /// The keys of tokens are those that their issuers have.
    pub(super) fn keys(&self, authenticator: &Authenticator, part: Part) {
        self.until_the_end(keep_keys(authenticator, part));
    }

    /// Users who are disconnected lose their sockets.
    pub(super) fn cutoffs(&self, store: &Store, gate: SchemaGate) -> Cutoffs {
        let (cutoffs, task) = Cutoffs::start(store.clone(), gate);
        self.until_the_end(task);
        cutoffs
    }

    /// Workers are told of commits.
    pub(super) fn wake(&self, bus: Arc<dyn Bus>) -> Wake {
        let wake = Wake::default();
        self.upkeep.spawn(wake.clone().run(bus, self.ends.clone()));
        wake
    }

    /// Events go to sockets.
    pub(super) fn fanout(
        &self,
        config: FanoutConfig,
        bus: &Arc<dyn Bus>,
        store: &Store,
        gate: SchemaGate,
        health: &Health,
    ) -> Fanout {
        let history = Arc::new(CompleteHistory { store: store.clone(), gate });
        let (fanout, tasks) = Fanout::start(config, bus, history, health, self.ends.clone());
        self.upkeep.spawn(FanoutTasks::join(tasks));
        fanout
    }

    /// Users are remembered for as long as their allowances are not full.
    pub(super) fn users(&self, limits: UserLimits) -> Arc<Users> {
        let users = Arc::new(Users::new(limits));
        self.until_the_end(users.clone().keep_sweeping());
        users
    }

    /// Conversations hear of read marks.
    pub(super) fn read_marks(&self, store: &Store, wake: &Wake) -> Arc<ReadMarks> {
        let read_marks = Arc::new(ReadMarks::new(store.clone(), wake.clone()));
        self.upkeep.spawn(read_marks.clone().keep_telling(self.ends.clone()));
        read_marks
    }

    /// Commits are no faster than what is stored is relayed; what is overdue is looked up.
    pub(super) fn pace(
        &self,
        store: &Store,
        fanout: Fanout,
        wake: &Wake,
        relay_lag: Option<Duration>,
        health: &Health,
    ) -> Arc<Pace> {
        let pace = Arc::<Pace>::default();
        if let Some(target) = relay_lag {
            let part = health.part("relay");
            let overdue = move || fanout.compare();
            self.until_the_end(pace.clone().control(store.clone(), target, part, wake.clone(), overdue));
        }
        pace
    }

    /// Commands are committed in groups.
    pub(super) fn batcher(&self, committer: Committer, pace: Arc<Pace>) -> Batcher {
        Batcher::new(committer, BatchConfig::default(), pace, self.lanes.clone())
    }

    /// Plugins' verdicts leave rows.
    pub(super) fn audit(&self, store: &Store, config: AuditConfig) -> Audit {
        Audit::start(store, config, &self.lanes, &self.upkeep, self.ends.clone())
    }

    /// To be called when the last socket is gone, which held the last batcher.
    pub(super) async fn end(self) {
        self.lanes.close();
        let _ = timeout(UPKEEP_ENDS_WITHIN, self.lanes.wait()).await;
        self.ends.cancel();
        self.upkeep.close();
        let _ = timeout(UPKEEP_ENDS_WITHIN, self.upkeep.wait()).await;
    }

    fn until_the_end(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.upkeep.spawn(self.ends.clone().run_until_cancelled_owned(task));
    }
}

async fn tell_installation(store: Store, gate: SchemaGate, installation: Arc<OnceLock<String>>) {
    gate.opened().await;
    loop {
        if let Ok(key) = store.event_key().await {
            installation.get_or_init(|| key.installation());
            return;
        }
        tokio::time::sleep(PING_EVERY).await;
    }
}

async fn watch_database(store: Store, part: Part, commits: Arc<CommitHealth>) {
    loop {
        let pool = store.pool_status();
        gauge!("arcyou_database_pool_connections").set(pool.size as f64);
        gauge!("arcyou_database_pool_waiting").set(pool.waiting as f64);
        match store.ping().await {
            Ok(()) => {
                part.up();
                commits.forget(Instant::now());
            }
            Err(error) => part.down(error.to_string()),
        }
        tokio::time::sleep(PING_EVERY).await;
    }
}
