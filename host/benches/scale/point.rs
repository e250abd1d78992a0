//! One point of an axis: an installation of a size, and what a message costs in it.

use std::time::{Duration, Instant};

use tokio::task::LocalSet;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::stack::{Database, Part, Servers, cpu, cpu_of_tree, status_bytes};
use crate::talk::{Seat, Silent, Steady, Talk, take};

/// A socket may have joined so many conversations.
const JOINED: usize = 1000;
/// Sockets that say nothing share a conversation by so many.
const SILENT: usize = 100;
/// Messages under way at full load.
const UNDER_WAY: u64 = 400;

/// An installation.
#[derive(Clone)]
pub struct Point {
    pub name: String,
    pub conversations: usize,
    /// Of each conversation; each has a socket there.
    pub members: usize,
    /// Sockets that have joined other conversations and say nothing.
    pub silent: usize,
    pub gateways: usize,
    pub workers: usize,
    pub mode: &'static str,
    /// Messages a second at the steady rate.
    pub rate: u32,
    /// Whether full load is measured too.
    pub full: bool,
}

/// How long to measure.
#[derive(Clone, Copy)]
pub struct Times {
    pub warm_up: u32,
    pub steady: u32,
    pub full: u32,
}

/// What a point shows: processor seconds per 1,000 messages at the steady rate and at full load, where batches are
/// larger, and milliseconds.
pub const COLUMNS: &[&str] = &[
    "gateway",
    "worker",
    "PostgreSQL",
    "PgBouncer",
    "Redis",
    "ack p50",
    "ack p99",
    "event p50",
    "event p99",
    "full load, messages/s",
    "gateway at full load",
    "worker at full load",
    "PostgreSQL at full load",
    "PgBouncer at full load",
    "Redis at full load",
    "gateways' RSS, MB",
];

/// The installation's parts, for the time that each takes.
struct Parts<'s> {
    servers: &'s Servers,
    gateways: Vec<Part>,
    workers: Vec<Part>,
}

impl Parts<'_> {
    /// Seconds of gateways, workers, PostgreSQL, PgBouncer and Redis.
    fn times(&mut self) -> [f64; 5] {
        let all = |parts: &mut Vec<Part>| parts.iter_mut().map(|part| cpu(part.pid())).sum::<f64>();
        let Servers { postgres, bouncer, redis } = self.servers;
        [
            all(&mut self.gateways),
            all(&mut self.workers),
            cpu_of_tree(postgres.pid().unwrap()),
            cpu(bouncer.pid().unwrap()),
            cpu(redis.pid().unwrap()),
        ]
    }
}

impl Point {
    pub fn new(name: impl ToString) -> Self {
        Self {
            name: name.to_string(),
            conversations: 50,
            members: 2,
            silent: 0,
            gateways: 1,
            workers: 1,
            mode: "perconv",
            rate: 500,
            full: true,
        }
    }

    /// Measures it on a database that may hold much already.
    pub fn measure(&self, servers: &Servers, database: &Database<'_>, times: Times) -> (String, Vec<Option<f64>>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        (self.name.clone(), LocalSet::new().block_on(&runtime, self.measure_inside(servers, database, times)))
    }

    async fn measure_inside(&self, servers: &Servers, database: &Database<'_>, times: Times) -> Vec<Option<f64>> {
        // Its own: the other one's task belongs to the runtime of the point before.
        let sql = crate::stack::connect(&servers.postgres.url(&database.name)).await;
        let mut parts = Parts { servers, gateways: Vec::new(), workers: Vec::new() };
        let mode = [("PUBSUB_MODE", self.mode.to_owned())];
        for _ in 0..self.gateways {
            parts.gateways.push(database.gateway(&mode).await);
        }
        for _ in 0..self.workers {
            parts.workers.push(database.worker_with(&mode).await);
        }
        let ports: Vec<u16> = parts.gateways.iter().map(|gateway| gateway.port).collect();
        let _silent = Silent::new(take(self.silent_seats(&sql, &ports).await).await);
        let mut talk = self.talk(&sql, &ports).await;
        sql.batch_execute("ANALYZE conversations; ANALYZE participants; CHECKPOINT").await.unwrap();
        let mut before = [0.0; 5];
        let Steady { mut acks, mut deliveries } =
            talk.at_rate(self.rate, times.warm_up, times.steady, || before = parts.times()).await;
        let after = parts.times();
        let thousands = f64::from(self.rate * times.steady) / 1000.0;
        let used: Vec<Option<f64>> =
            after.iter().zip(before).map(|(after, before)| Some((after - before) / thousands)).collect();
        let memory = parts.gateways.iter_mut().map(|gateway| status_bytes(gateway.pid(), "VmRSS:")).sum::<f64>();
        let latencies = [acks.at(0.5), acks.at(0.99), deliveries.at(0.5), deliveries.at(0.99)];
        let full = if self.full { full(&mut parts, &mut talk, times.full).await.map(Some) } else { [None; 6] };
        used.into_iter().chain(latencies.map(Some)).chain(full).chain([Some(memory / 1e6)]).collect()
    }

    async fn silent_seats(&self, sql: &Client, ports: &[u16]) -> Vec<Seat> {
        let rooms = conversations(sql, self.silent.div_ceil(SILENT), SILENT).await;
        let seats = rooms.into_iter().flat_map(|(id, users)| users.into_iter().map(move |user| (id, user)));
        let seat = |(index, (id, user)): (usize, (Uuid, Uuid))| Seat {
            port: ports[index % ports.len()],
            user,
            conversations: vec![id],
        };
        seats.take(self.silent).enumerate().map(seat).collect()
    }

    /// Groups of as many people as a conversation has members share the conversations, so that few sockets talk in
    /// many. The members of a group are spread over the gateways.
    async fn talk(&self, sql: &Client, ports: &[u16]) -> Talk {
        let groups = self.conversations.div_ceil(JOINED).max(self.conversations.min(10));
        let people: Vec<Vec<Uuid>> = (0..groups).map(|_| (0..self.members).map(|_| Uuid::new_v4()).collect()).collect();
        let ids: Vec<Uuid> = (0..self.conversations).map(|_| Uuid::new_v4()).collect();
        let group_of = |index: usize| index % groups;
        let make = "INSERT INTO conversations (id) SELECT unnest($1::uuid[])";
        sql.execute(make, &[&ids]).await.unwrap();
        for (group, users) in people.iter().enumerate() {
            let own: Vec<Uuid> = ids.iter().skip(group).step_by(groups).copied().collect();
            let join = "INSERT INTO participants (conversation_id, user_id)
                SELECT c, u FROM unnest($1::uuid[]) AS c, unnest($2::uuid[]) AS u";
            sql.execute(join, &[&own, users]).await.unwrap();
        }
        let seats = people.iter().enumerate().flat_map(|(group, users)| {
            let own: Vec<Uuid> = ids.iter().skip(group).step_by(groups).copied().collect();
            let seat = move |(place, user): (usize, &Uuid)| Seat {
                port: ports[place % ports.len()],
                user: *user,
                conversations: own.clone(),
            };
            users.iter().enumerate().map(seat).collect::<Vec<_>>()
        });
        let sockets = take(seats.collect()).await;
        let speakers = ids.iter().enumerate().map(|(index, id)| (*id, group_of(index) * self.members)).collect();
        Talk::new(sockets, speakers, self.members)
    }
}

/// Messages a second at full load, and what each part takes for 1,000 of them then.
async fn full(parts: &mut Parts<'_>, talk: &mut Talk, seconds: u32) -> [f64; 6] {
    let mut samples = Vec::new();
    let (warm_up, time) = (Duration::from_secs(1), Duration::from_secs(seconds.into()));
    let (stored, seconds) = talk.at_full(UNDER_WAY, warm_up, time, || samples.push(parts.times())).await;
    let used = |index: usize| (samples[1][index] - samples[0][index]) / stored * 1000.0;
    [stored / seconds, used(0), used(1), used(2), used(3), used(4)]
}

/// New conversations with so many members each.
async fn conversations(sql: &Client, count: usize, members: usize) -> Vec<(Uuid, Vec<Uuid>)> {
    let rooms: Vec<(Uuid, Vec<Uuid>)> =
        (0..count).map(|_| (Uuid::new_v4(), (0..members).map(|_| Uuid::new_v4()).collect())).collect();
    let ids: Vec<Uuid> = rooms.iter().map(|(id, _)| *id).collect();
    sql.execute("INSERT INTO conversations (id) SELECT unnest($1::uuid[])", &[&ids]).await.unwrap();
    let insert = "INSERT INTO participants (conversation_id, user_id) SELECT $1, unnest($2::uuid[])";
    for (id, users) in &rooms {
        sql.execute(insert, &[id, users]).await.unwrap();
    }
    rooms
}

/// How long so many workers take for a backlog: rows a second, and their and PostgreSQL's time per 1,000 rows.
pub fn drain(servers: &Servers, database: &Database<'_>, workers: usize, rows: i64) -> (String, Vec<Option<f64>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let values = runtime.block_on(async {
        let sql = crate::stack::connect(&servers.postgres.url(&database.name)).await;
        let fill = "INSERT INTO outbox (type, conversation_id, seq, payload, internal)
            SELECT 'message.created', md5((n % 1000)::text)::uuid, n,
                jsonb_build_object('seq', n, 'message', jsonb_build_object('n', n, 'text', repeat('x', 84))), true
            FROM generate_series(1, $1::bigint) AS n";
        sql.execute(fill, &[&rows]).await.unwrap();
        sql.batch_execute("VACUUM ANALYZE outbox").await.unwrap();
        sql.batch_execute("CHECKPOINT").await.unwrap();
        let mut parts = Parts { servers, gateways: Vec::new(), workers: Vec::new() };
        let (before, started) = (parts.times(), Instant::now());
        for _ in 0..workers {
            parts.workers.push(database.worker_with(&[("PUBSUB_MODE", "perconv".to_owned())]).await);
        }
        let left = "SELECT count(*) FROM (SELECT FROM outbox WHERE NOT processed AND parked_at IS NULL LIMIT 1) AS one";
        while sql.query_one(left, &[]).await.unwrap().get::<_, i64>(0) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let (seconds, after) = (started.elapsed().as_secs_f64(), parts.times());
        let per_thousand = |index: usize| (after[index] - before[index]) / rows as f64 * 1000.0;
        vec![Some(rows as f64 / seconds), Some(per_thousand(1)), Some(per_thousand(2)), Some(per_thousand(4))]
    });
    (workers.to_string(), values)
}
