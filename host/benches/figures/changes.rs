//! Edits and reactions at full load, beside sends of the same members.

use std::time::Duration;

use tokio::task::LocalSet;

use crate::Options;
use crate::load::{Ask, ClosedLoop};
use crate::report::{Figure, Goal, Round};
use crate::stack::Servers;

const CONVERSATIONS: usize = 50;
const MEMBERS: usize = 2;
const IN_FLIGHT: usize = 8;
const WARM_UP: Duration = Duration::from_secs(2);

pub fn figures(options: &Options) -> Vec<Figure> {
    let servers = Servers::start();
    let runtime = crate::runtime();
    let time = Duration::from_secs(options.seconds.into());
    let (mut edits, mut reactions) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let [sends, edited, reacted] = [Ask::Send, Ask::Edit, Ask::React]
            .map(|ask| LocalSet::new().block_on(&runtime, per_second(&servers, ask, time)));
        edits.push(Round { product: edited, ceiling: sends });
        reactions.push(Round { product: reacted, ceiling: sends });
    }
    let figure = |name, rounds| Figure {
        name,
        unit: "acknowledged per second",
        ceiling: "sends of the same members, without plugins too",
        shares: "the load, PgBouncer, PostgreSQL, Redis, one worker, all deliveries",
        goal: Goal::AtLeast(0.2),
        rounds,
        notes: vec![],
    };
    vec![figure("durable edits", edits), figure("durable reactions", reactions)]
}

async fn per_second(servers: &Servers, ask: Ask, time: Duration) -> f64 {
    let database = servers.database().await;
    let conversations = database.conversations(CONVERSATIONS, MEMBERS).await;
    // As with the sends: however late the relay is.
    let gateway = database.gateway(&[("RELAY_LAG_TARGET_MS", "0".to_owned())]).await;
    let _worker = database.worker().await;
    let members = ClosedLoop::asking(ask, gateway.port, &conversations, IN_FLIGHT).await;
    tokio::time::sleep(WARM_UP).await;
    members.stored_within(time).await as f64 / time.as_secs_f64()
}
