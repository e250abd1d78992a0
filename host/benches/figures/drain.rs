//! One worker's way through a backlog, against each half of its work alone.

use std::time::{Duration, Instant};

use crate::Options;
use crate::report::{Figure, Goal, Round};
use crate::sends::claim_and_mark;
use crate::stack::{Database, Servers};

/// As the worker claims by default.
const BATCH: usize = 500;

pub fn figure(options: &Options) -> Figure {
    let servers = Servers::start();
    let runtime = crate::runtime();
    let rows = options.backlog;
    let (mut rounds, mut notes) = (Vec::new(), Vec::new());
    // A round of half a million rows takes its time.
    for _ in 0..options.rounds.min(3) {
        let publish = runtime.block_on(publish(&servers, rows));
        let statements = runtime.block_on(statements(&servers, rows));
        let product = runtime.block_on(product(&servers, rows));
        rounds.push(Round { product, ceiling: publish.min(statements) });
        notes.push(format!("PUBLISH alone {publish:.0}, claim and mark alone {statements:.0} rows per second"));
    }
    Figure {
        name: "drain of a backlog",
        unit: "rows per second",
        ceiling: "the slower of pipelined PUBLISH alone and the claim and mark statements alone",
        shares: "PgBouncer, PostgreSQL, Redis",
        goal: Goal::AtLeast(0.5),
        rounds,
        notes,
    }
}

async fn backlog<'s>(servers: &'s Servers, rows: i64) -> Database<'s> {
    let database = servers.database().await;
    let fill = "INSERT INTO outbox (type, conversation_id, seq, payload, internal)
        SELECT 'message.created', md5((n % 1000)::text)::uuid, n, jsonb_build_object('seq', n / 1000, 'message', jsonb_build_object('id', n, 'seq',
            n / 1000, 'conversation_id', md5((n % 1000)::text)::uuid, 'sender_id', md5(n::text)::uuid, 'body',
            jsonb_build_object('text', lpad(n::text, 84)), 'created_at', '2026-01-02T03:04:05.678Z')), true
        FROM generate_series(1, $1::int8) AS n";
    database.sql.execute(fill, &[&rows]).await.unwrap();
    database.settle().await;
    database
}

async fn product(servers: &Servers, rows: i64) -> f64 {
    let database = backlog(servers, rows).await;
    let worker = database.worker().await;
    // It has begun by now: the rate is that of what is left.
    let published = async || worker.metric("arcyou_outbox_published_total").await;
    let (begun, started) = (published().await, Instant::now());
    loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let done = published().await;
        if done as i64 >= rows {
            return (done - begun) / started.elapsed().as_secs_f64();
        }
    }
}

async fn statements(servers: &Servers, rows: i64) -> f64 {
    let database = backlog(servers, rows).await;
    let client = database.connect().await;
    let (mut after, started) = (0, Instant::now());
    while let Some(last) = claim_and_mark(&client, after).await {
        after = last;
    }
    rows as f64 / started.elapsed().as_secs_f64()
}

async fn publish(servers: &Servers, rows: i64) -> f64 {
    let client = redis::Client::open(servers.redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    // As long as an envelope around one of the rows.
    let payload = format!("{:<420}", "x");
    let (mut left, started) = (rows as usize, Instant::now());
    while left > 0 {
        let count = left.min(BATCH);
        let mut pipeline = redis::Pipeline::with_capacity(count);
        for _ in 0..count {
            pipeline.cmd("PUBLISH").arg("chat:message").arg(&payload);
        }
        connection.send_packed_commands(&pipeline, 0, count).await.unwrap();
        left -= count;
    }
    rows as f64 / started.elapsed().as_secs_f64()
}
