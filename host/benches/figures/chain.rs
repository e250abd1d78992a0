//! What a chain of three plugins takes from the sends that can be done at full load.

use std::time::Duration;

use tokio::task::LocalSet;

use crate::Options;
use crate::load::ClosedLoop;
use crate::report::{Figure, Goal, Round};
use crate::stack::{Servers, plugins_dir};

const THREE_PLUGINS: &[(&str, &str, &str)] = &[
    ("body-shape", "body-shape", "[plugin.config]\nmax_chars = 4000\n"),
    ("word-filter", "word-filter", "[plugin.config]\nmask = [\"badword\"]\nreject = [\"forbidden\"]\n"),
    ("word-filter", "word-filter-2", "[plugin.config]\nmask = [\"darn\"]\n"),
];
const WARM_UP: Duration = Duration::from_secs(2);

pub fn figure(options: &Options) -> Figure {
    let servers = Servers::start();
    let runtime = crate::runtime();
    let time = Duration::from_secs(options.seconds.into());
    let plugins = plugins_dir(THREE_PLUGINS);
    let on = [("PLUGINS_DIR", plugins.path().display().to_string())];
    let mut rounds = Vec::new();
    for _ in 0..options.rounds {
        let ceiling = LocalSet::new().block_on(&runtime, sends(&servers, &[], time));
        let product = LocalSet::new().block_on(&runtime, sends(&servers, &on, time));
        rounds.push(Round { product, ceiling });
    }
    Figure {
        name: "sends with three plugins",
        unit: "acknowledged per second",
        ceiling: "the same without plugins",
        shares: "the load, PgBouncer, PostgreSQL, Redis, one worker, all deliveries",
        goal: Goal::AtLeast(0.95),
        rounds,
        notes: Vec::new(),
    }
}

async fn sends(servers: &Servers, variables: &[(&str, String)], time: Duration) -> f64 {
    let database = servers.database().await;
    let conversations = database.conversations(50, 2).await;
    // Plugins cost the message path, not the relay, which would set the pace otherwise.
    let free = ("RELAY_LAG_TARGET_MS", "0".to_owned());
    let gateway = database.gateway(&[&[free], variables].concat()).await;
    let _worker = database.worker().await;
    let members = ClosedLoop::start(gateway.port, &conversations, 8).await;
    tokio::time::sleep(WARM_UP).await;
    members.stored_within(time).await as f64 / time.as_secs_f64()
}
