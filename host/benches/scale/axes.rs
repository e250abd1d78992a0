//! The axes, and the points on each.

use std::time::Instant;

use crate::Axis;
use crate::point::{COLUMNS, Point, Times, drain};
use crate::stack::{Database, Servers};
use crate::table::Table;

/// All points of an axis, or its ends.
fn ends<T: Copy>(points: &[T], quick: bool) -> Vec<T> {
    if quick { vec![points[0], points[points.len() - 1]] } else { points.to_vec() }
}

pub fn measure(axis: Axis, quick: bool) -> Table {
    let times =
        if quick { Times { warm_up: 1, steady: 3, full: 2 } } else { Times { warm_up: 2, steady: 10, full: 6 } };
    let servers = Servers::start();
    let (about, rows) = match axis {
        Axis::Conversations => (
            "talked in by turns, 2 members each, 20 sockets, 500 messages a second",
            fresh(&servers, times, ends(&[10, 100, 1_000, 10_000], quick), |conversations| Point {
                conversations,
                ..Point::new(conversations)
            }),
        ),
        Axis::Members => (
            "of one conversation, each with a socket, at most 10,000 deliveries a second",
            fresh(&servers, times, ends(&[2, 50, 500, 5_000], quick), |members| Point {
                conversations: 1,
                members,
                rate: u32::try_from(10_000 / members).unwrap().clamp(2, 500),
                full: false,
                ..Point::new(members)
            }),
        ),
        Axis::Sockets => (
            "joined and silent, 100 a conversation, beside 50 conversations of 2 that say 500 messages a second",
            fresh(&servers, times, ends(&[100, 1_000, 5_000, 15_000], quick), |silent| Point {
                silent,
                ..Point::new(silent)
            }),
        ),
        Axis::Rows => (
            "messages stored, 100 a conversation, and a tenth as many relayed outbox rows; 50 other conversations of 2, 500 messages a second",
            stored(&servers, times, if quick { &[1_000, 1_000_000] } else { &[1_000, 100_000, 1_000_000, 10_000_000] }),
        ),
        Axis::Partitions => (
            "of messages (1: not partitioned), 1,000,000 rows stored; 50 other conversations of 2, 500 messages a second",
            partitioned(&servers, times, &ends(&[1, 16, 64], quick)),
        ),
        Axis::Gateways => (
            "and mode; the members of 50 conversations of 4 spread over all, 500 messages a second",
            fresh(&servers, times, gateways(quick), |(mode, gateways)| Point {
                gateways,
                members: 4,
                mode,
                ..Point::new(format!("{gateways}, {mode}"))
            }),
        ),
        Axis::Workers => {
            let backlog = if quick { 50_000 } else { 200_000 };
            let one = |workers| drain(&servers, &database(&servers), workers, backlog);
            let rows = ends(&[1, 2, 4], quick).into_iter().map(one).collect();
            let columns = vec!["rows/s", "worker CPU s/1,000", "PostgreSQL CPU s/1,000", "Redis CPU s/1,000"];
            return Table {
                axis,
                about: "relaying a backlog of 200,000 rows (quick: 50,000), no gateway",
                columns,
                rows,
            };
        }
    };
    Table { axis, about, columns: COLUMNS.to_vec(), rows }
}

type Row = (String, Vec<Option<f64>>);

fn gateways(quick: bool) -> Vec<(&'static str, usize)> {
    let counts = ends(&[1, 2, 4], quick);
    ["global", "perconv"]
        .into_iter()
        .flat_map(|mode| counts.clone().into_iter().map(move |count| (mode, count)))
        .collect()
}

/// Each point on a database of its own.
fn fresh<T: Copy>(servers: &Servers, times: Times, points: Vec<T>, point: impl Fn(T) -> Point) -> Vec<Row> {
    points.into_iter().map(|value| point(value).measure(servers, &database(servers), times)).collect()
}

fn database(servers: &Servers) -> Database<'_> {
    runtime().block_on(servers.database())
}

/// Points on one database that fills up.
fn stored(servers: &Servers, times: Times, points: &[i64]) -> Vec<Row> {
    let database = database(servers);
    let mut filled = 0;
    let mut rows = Vec::new();
    for &count in points {
        runtime().block_on(fill(servers, &database, filled, count));
        filled = count;
        rows.push(Point::new(count).measure(servers, &database, times));
    }
    rows
}

fn partitioned(servers: &Servers, times: Times, points: &[u32]) -> Vec<Row> {
    let mut rows = Vec::new();
    for &partitions in points {
        let database = database(servers);
        runtime().block_on(async {
            fill(servers, &database, 0, 1_000_000).await;
            if partitions > 1 {
                let sql = crate::stack::connect(&servers.postgres.url(&database.name)).await;
                sql.batch_execute(&format!("SET arcyou.partitions = {partitions}")).await.unwrap();
                let started = Instant::now();
                let script = include_str!("../../../migrations/partition_messages.sql");
                sql.batch_execute(script).await.unwrap();
                eprintln!("1,000,000 messages were split into {partitions} partitions in {:.1?}", started.elapsed());
                sql.batch_execute("VACUUM ANALYZE messages").await.unwrap();
            }
        });
        rows.push(Point::new(partitions).measure(servers, &database, times));
    }
    rows
}

/// Messages number `from` to `to`, a hundred a conversation, and a relayed outbox row for each tenth.
async fn fill(servers: &Servers, database: &Database<'_>, from: i64, to: i64) {
    let sql = crate::stack::connect(&servers.postgres.url(&database.name)).await;
    let started = Instant::now();
    let conversation = "md5((n / 100)::text)::uuid";
    for statement in [
        // Nobody is to be told of these participants.
        "SET synchronous_commit = off; SET session_replication_role = replica".to_owned(),
        format!(
            "INSERT INTO conversations (id, last_seq) SELECT md5(n::text)::uuid, 100 FROM generate_series({}, {}) AS n",
            from / 100,
            to / 100 - 1
        ),
        format!(
            "INSERT INTO participants (conversation_id, user_id)
            SELECT md5(n::text)::uuid, md5('user' || n % 1000 + m)::uuid FROM generate_series({}, {}) AS n, generate_series(0, 1) AS m",
            from / 100,
            to / 100 - 1
        ),
        format!(
            "INSERT INTO messages (conversation_id, seq, n, changed_seq, sender_id, body)
            SELECT {conversation}, 1 + n % 100, 1 + n % 100, 1 + n % 100, md5('user' || n / 100 % 1000)::uuid,
                jsonb_build_object('text', rpad(n::text, 84)) FROM generate_series({from}, {}) AS n",
            to - 1
        ),
        format!(
            "INSERT INTO outbox (type, conversation_id, seq, payload, internal, processed, processed_at)
            SELECT 'message.created', {conversation}, n, '{{\"message\": {{}}}}', true, true, now() FROM generate_series({from}, {}, 10) AS n",
            to - 1
        ),
        "VACUUM ANALYZE".to_owned(),
        "CHECKPOINT".to_owned(),
    ] {
        sql.batch_execute(&statement).await.unwrap();
    }
    eprintln!("filled up to {to} messages in {:.0?}", started.elapsed());
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}
