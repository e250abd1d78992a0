//! How long a sender waits for its acknowledgement, and how long until the message is on another gateway, at a steady
//! rate.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::task::LocalSet;
use uuid::Uuid;

use crate::Options;
use crate::pace::{self, Latencies};
use crate::report::{Figure, Goal, Round};
use crate::sends;
use crate::stack::{Servers, TWO_PLUGINS, plugins_dir};
use crate::steady::{WARM_UP, steady};

const RATE: u32 = 1000;
const CONVERSATIONS: usize = 50;
/// As the gateway has by default.
const CONNECTIONS: usize = 10;
/// Milliseconds: a median beyond it is a queue.
const OVERRUN: f64 = 50.0;
/// Transactions that are measured one after another.
const ONE_BY_ONE: usize = 2000;

pub fn figures(options: &Options) -> Vec<Figure> {
    let servers = Servers::start();
    let runtime = crate::runtime();
    let total = (WARM_UP + u64::from(options.seconds)) * u64::from(RATE);
    let [mut p50, mut p99, mut across, mut across_p99] = [const { Vec::new() }; 4];
    let mut notes = Vec::new();
    for _ in 0..options.rounds {
        let mut bare = LocalSet::new().block_on(&runtime, transactions(&servers, total));
        let mut hop = LocalSet::new().block_on(&runtime, redis_hop(&servers, total));
        let (mut acks, _) = LocalSet::new().block_on(&runtime, product(&servers, total, 1));
        let (_, mut delivered) = LocalSet::new().block_on(&runtime, product(&servers, total, 2));
        let mut single = runtime.block_on(one_after_another(&servers));
        notes.push(format!(
            "one such transaction after another takes p50 {:.2}, p99 {:.2} ms",
            single.at(0.5),
            single.at(0.99)
        ));
        // Transactions that do not keep the rate wait for one another without end, and would make anything fast.
        if bare.at(0.5) > OVERRUN {
            notes.push("at the rate they did not keep up: that one after another is the ceiling".to_owned());
            bare = single;
        }
        p50.push(Round { product: acks.at(0.5), ceiling: bare.at(0.5) });
        p99.push(Round { product: acks.at(0.99), ceiling: bare.at(0.99) });
        across.push(Round { product: delivered.at(0.5), ceiling: bare.at(0.5) + hop.at(0.5) });
        across_p99.push(Round { product: delivered.at(0.99), ceiling: bare.at(0.99) + hop.at(0.99) });
    }
    let alone =
        "one-row transactions of the gateway's statements at the same rate on ten connections, nothing else running";
    let hops = "the same transactions, and a PUBLISH to one subscriber at the same rate, added; nothing else running";
    let one = "the load, PgBouncer, PostgreSQL, Redis, one worker, all deliveries; two plugins on";
    let two = "the same, and a second gateway that the receivers are on";
    let figure = |name, ceiling, shares, goal, rounds| Figure {
        name,
        unit: "ms",
        ceiling,
        shares,
        goal,
        rounds,
        notes: Vec::new(),
    };
    vec![
        Figure { notes, ..figure("ack at 1,000/s, p50", alone, one, Goal::AtMost(2.0), p50) },
        figure("ack at 1,000/s, p99", alone, one, Goal::AtMost(3.0), p99),
        figure("send to event on another gateway, p50", hops, two, Goal::AtMost(4.0), across),
        figure("send to event on another gateway, p99", hops, two, Goal::Within(25.0), across_p99),
    ]
}

/// Acknowledgements and deliveries. The sender of each conversation is on the first gateway, its partner on the last.
async fn product(servers: &Servers, total: u64, gateways: usize) -> (Latencies, Latencies) {
    let database = servers.database().await;
    let conversations = database.conversations(CONVERSATIONS, 2).await;
    let plugins = plugins_dir(TWO_PLUGINS);
    let mut running = Vec::new();
    for _ in 0..gateways {
        running.push(database.gateway(&[("PLUGINS_DIR", plugins.path().display().to_string())]).await);
    }
    let _worker = database.worker().await;
    steady([running[0].port, running[gateways - 1].port], &conversations, RATE, total).await
}

/// The same transactions for one message each, in an open loop on as many connections as the gateway has.
async fn transactions(servers: &Servers, total: u64) -> Latencies {
    let database = servers.database().await;
    let conversations = database.conversations(CONVERSATIONS, 2).await;
    let senders: Vec<(Uuid, Uuid)> = conversations.iter().map(|of| (of.id, of.users[0])).collect();
    let mut latencies = Latencies::default();
    let mut free = Vec::new();
    for _ in 0..CONNECTIONS {
        free.push(database.connect().await);
    }
    let mut ticks = pace::ticks(RATE, total);
    let mut under_way = FuturesUnordered::new();
    let mut open = true;
    while open || !under_way.is_empty() {
        tokio::select! {
            tick = ticks.recv(), if open && !free.is_empty() => match tick {
                None => open = false,
                Some((number, intended)) => {
                    let (client, message) = (free.pop().unwrap(), senders[number as usize % senders.len()]);
                    under_way.push(async move {
                        sends::commit(&client, &[message]).await;
                        (client, number, intended)
                    });
                }
            },
            Some((client, number, intended)) = under_way.next() => {
                free.push(client);
                if number >= WARM_UP * u64::from(RATE) {
                    latencies.note(intended);
                }
            }
        }
    }
    latencies
}

/// The same transactions on one connection, each as soon as the one before is done: what one takes when none waits for
/// another.
async fn one_after_another(servers: &Servers) -> Latencies {
    let database = servers.database().await;
    let conversations = database.conversations(CONVERSATIONS, 2).await;
    let client = database.connect().await;
    let mut latencies = Latencies::default();
    for (number, conversation) in conversations.iter().cycle().take(ONE_BY_ONE).enumerate() {
        let started = Instant::now();
        sends::commit(&client, &[(conversation.id, conversation.users[0])]).await;
        if number >= CONVERSATIONS {
            latencies.note(started);
        }
    }
    latencies
}

/// From a publish at its intended time to the subscriber.
async fn redis_hop(servers: &Servers, total: u64) -> Latencies {
    let client = redis::Client::open(servers.redis.url()).unwrap();
    let mut publisher = client.get_multiplexed_async_connection().await.unwrap();
    let mut subscriber = client.get_async_pubsub().await.unwrap();
    subscriber.subscribe("hop").await.unwrap();
    let payload = format!("{:<500}", "x");
    let intended: Rc<RefCell<Vec<Instant>>> = Rc::default();
    let sent = intended.clone();
    let sender = tokio::task::spawn_local(async move {
        let mut ticks = pace::ticks(RATE, total);
        while let Some((_, at)) = ticks.recv().await {
            sent.borrow_mut().push(at);
            let () = redis::cmd("PUBLISH").arg("hop").arg(&payload).query_async(&mut publisher).await.unwrap();
        }
    });
    let mut latencies = Latencies::default();
    let mut messages = subscriber.on_message();
    for number in 0..total as usize {
        messages.next().await.unwrap();
        if number as u64 >= WARM_UP * u64::from(RATE) {
            latencies.note(intended.borrow()[number]);
        }
    }
    sender.await.unwrap();
    latencies
}
