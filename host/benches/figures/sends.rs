//! Durable sends at full load: how many, against one transaction for each and against the same batches without a
//! gateway, and what PostgreSQL does for them.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use tokio::task::LocalSet;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::Options;
use crate::load::ClosedLoop;
use crate::report::{Figure, Goal, Round};
use crate::stack::{Conversation, Servers, TWO_PLUGINS, cpu, cpu_of_tree, plugins_dir};

/// The statements themselves, so that nothing else is measured.
#[allow(dead_code)]
#[path = "../../src/store/sql.rs"]
mod gateway_sql;
#[allow(dead_code)]
#[path = "../../../worker/src/outbox/sql.rs"]
mod outbox_sql;
#[allow(dead_code)]
#[path = "../../../worker/src/consumers/relay/sql.rs"]
pub mod relay_sql;

const CONVERSATIONS: usize = 50;
const MEMBERS: usize = 2;
const IN_FLIGHT: usize = 8;
/// As the gateway has by default.
const LANES: usize = 2;
/// Rows that are marked as told together: about as many as a gateway marks at full load.
const MARKED: usize = 500;
const WARM_UP: Duration = Duration::from_secs(2);

/// What a product run showed.
struct Product {
    per_second: f64,
    batch: f64,
    postgres_cpu_per_thousand: f64,
    shares: String,
}

/// What the bare batches showed.
struct Bare {
    per_second: f64,
    cpu_per_thousand: f64,
}

pub fn figures(options: &Options) -> Vec<Figure> {
    let servers = Servers::start();
    let runtime = crate::runtime();
    let time = Duration::from_secs(options.seconds.into());
    let (mut single, mut rows, mut cpu, mut notes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let pgbench = runtime.block_on(one_by_one(&servers, time));
        let product = LocalSet::new().block_on(&runtime, product(&servers, time));
        let bare = runtime.block_on(bare(&servers, time, product.batch.round().max(1.0) as usize));
        single.push(Round { product: product.per_second, ceiling: pgbench });
        rows.push(Round { product: product.per_second, ceiling: bare.per_second });
        cpu.push(Round { product: product.postgres_cpu_per_thousand, ceiling: bare.cpu_per_thousand });
        notes.push(format!("batches of {:.0}; {}", product.batch, product.shares));
    }
    let shares = "the load, PgBouncer, PostgreSQL, Redis, one worker, all deliveries";
    let figure =
        |name, unit, ceiling, goal, rounds| Figure { name, unit, ceiling, shares, goal, rounds, notes: vec![] };
    let one = "pgbench, 32 clients, a transaction in one round trip for each message, nothing else running";
    let batches = "the gateway's statements in batches of the same size on two connections, nothing else running";
    let bare = "the same batches, and the worker's claims and marks of them, nothing else running";
    vec![
        Figure { notes, ..figure("durable sends", "acknowledged per second", one, Goal::AtLeast(2.5), single) },
        figure("durable sends, in rows", "rows per second", batches, Goal::AtLeast(0.4), rows),
        figure("PostgreSQL's time, insert to mark", "CPU s per 1,000 messages", bare, Goal::AtMost(2.0), cpu),
    ]
}

async fn product(servers: &Servers, time: Duration) -> Product {
    let database = servers.database().await;
    let conversations = database.conversations(CONVERSATIONS, MEMBERS).await;
    let plugins = plugins_dir(TWO_PLUGINS);
    // What the message path can do by itself, however late the relay is; `overload` measures what both can do.
    let free = ("RELAY_LAG_TARGET_MS", "0".to_owned());
    let mut gateway = database.gateway(&[free, ("PLUGINS_DIR", plugins.path().display().to_string())]).await;
    let mut worker = database.worker().await;
    let members = ClosedLoop::start(gateway.port, &conversations, IN_FLIGHT).await;
    tokio::time::sleep(WARM_UP).await;
    let batches =
        async || (gateway.metric("arcyou_commit_size_sum").await, gateway.metric("arcyou_commit_size_count").await);
    let before = batches().await;
    let pids = [
        servers.postgres.pid().unwrap(),
        servers.bouncer.pid().unwrap(),
        servers.redis.pid().unwrap(),
        std::process::id(),
    ];
    let (started, postgres, others) = (Instant::now(), cpu_of_tree(pids[0]), pids.map(cpu));
    let stored = members.stored_within(time).await;
    let seconds = started.elapsed().as_secs_f64();
    let postgres = cpu_of_tree(pids[0]) - postgres;
    let after = batches().await;
    let lag = database.count("SELECT count(*) FROM outbox WHERE NOT processed").await;
    let delivered = members.counts.events.get() as f64 / members.counts.stored.get() as f64;
    drop(members);
    let each = |index: usize| (cpu(pids[index]) - others[index]) / seconds;
    let shares = format!(
        "cores: PostgreSQL {:.2}, PgBouncer {:.2}, Redis {:.2}, load {:.2}, gateway {:.2} and worker {:.2} since their start; \
         {lag} rows behind, {delivered:.2} events a send",
        postgres / seconds,
        each(1),
        each(2),
        each(3),
        cpu(gateway.pid()) / (seconds + WARM_UP.as_secs_f64()),
        cpu(worker.pid()) / (seconds + WARM_UP.as_secs_f64()),
    );
    Product {
        per_second: stored as f64 / seconds,
        batch: (after.0 - before.0) / (after.1 - before.1),
        postgres_cpu_per_thousand: postgres / stored as f64 * 1000.0,
        shares,
    }
}

/// The strongest client that stores message by message: all of a transaction in one round trip.
async fn one_by_one(servers: &Servers, time: Duration) -> f64 {
    let database = servers.database().await;
    database.conversations(CONVERSATIONS, MEMBERS).await;
    // Conversations by number, since pgbench draws numbers.
    let numbered =
        "CREATE TABLE numbered AS SELECT row_number() OVER () AS n, conversation_id AS c, (array_agg(user_id))[1] AS u
            FROM participants GROUP BY conversation_id; CREATE UNIQUE INDEX ON numbered (n); ANALYZE numbered";
    database.sql.batch_execute(numbered).await.unwrap();
    let script = tempfile::NamedTempFile::new().unwrap();
    let text = format!(
        "\\set n random(1, {CONVERSATIONS})
BEGIN\\;
UPDATE conversations SET last_seq = last_seq + 1 WHERE id = (SELECT c FROM numbered WHERE n = :n)\\;
WITH inserted AS (
    INSERT INTO messages (conversation_id, seq, n, changed_seq, sender_id, body)
    SELECT c, last_seq, last_seq, last_seq, u, '{{\"text\":\"{:<84}\"}}' FROM numbered JOIN conversations ON id = c
        JOIN participants ON conversation_id = c AND user_id = u WHERE n = :n
    RETURNING conversation_id, seq, creation_json(messages) AS payload
) INSERT INTO outbox (type, conversation_id, seq, payload, internal)
    SELECT 'message.created', conversation_id, seq, payload, true FROM inserted\\;
COMMIT;\n",
        "pgbench"
    );
    std::fs::write(script.path(), text).unwrap();
    database.settle().await;
    let url = database.url();
    let (path, seconds) = (script.path().to_owned(), time.as_secs().to_string());
    let pgbench = move || {
        Command::new(pgbench())
            .args(["-n", "-c", "32", "-j", "1", "-T", &seconds, "-f"])
            .arg(path)
            .arg(url)
            .output()
            .unwrap()
    };
    let output = tokio::task::spawn_blocking(pgbench).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let line = said.lines().find_map(|line| line.strip_prefix("tps = "));
    line.and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("{said}")).parse().unwrap()
}

/// Beside the server, where packages keep it off most people's PATH.
fn pgbench() -> PathBuf {
    let beside = |postgres: PathBuf| postgres.canonicalize().ok().map(|path| path.with_file_name("pgbench"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path =
        std::env::split_paths(&path).flat_map(|dir| [Some(dir.join("pgbench")), beside(dir.join("postgres"))]);
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found = on_path.flatten().chain(packaged.map(|version| version.path().join("bin/pgbench")));
    found
        .find(|path| path.is_file())
        .expect("pgbench is missing; it comes with the PostgreSQL server or its contrib package")
}

async fn bare(servers: &Servers, time: Duration, batch: usize) -> Bare {
    let database = servers.database().await;
    let conversations = database.conversations(CONVERSATIONS, MEMBERS).await;
    database.settle().await;
    let postgres = servers.postgres.pid().unwrap();
    let lanes = join_all((0..LANES).map(|_| database.connect())).await;
    let (cpu_before, started) = (cpu_of_tree(postgres), Instant::now());
    let insert = |(lane, client)| {
        let share = conversations.iter().skip(lane).step_by(LANES).cloned().collect();
        insert_until(client, share, batch, started + time)
    };
    let rows = join_all(lanes.iter().enumerate().map(insert)).await.concat();
    let stored = rows.len();
    let per_second = stored as f64 / started.elapsed().as_secs_f64();
    for told in rows.chunks(MARKED) {
        lanes[0].query_typed(gateway_sql::MARK_TOLD, &[(&told, Type::INT8_ARRAY)]).await.unwrap();
    }
    let cpu = cpu_of_tree(postgres) - cpu_before;
    Bare { per_second, cpu_per_thousand: cpu / stored as f64 * 1000.0 }
}

/// The outbox rows of what was stored.
async fn insert_until(client: &Client, conversations: Vec<Conversation>, batch: usize, end: Instant) -> Vec<i64> {
    let mut senders = conversations.iter().flat_map(|of| of.users.iter().map(|user| (of.id, *user))).cycle();
    let mut rows = Vec::new();
    while Instant::now() < end {
        let messages: Vec<(Uuid, Uuid)> = senders.by_ref().take(batch).collect();
        rows.extend(commit(client, &messages).await);
    }
    rows
}

/// What the gateway does for a batch, without the gateway. The outbox rows of what was stored.
pub async fn commit(client: &Client, messages: &[(Uuid, Uuid)]) -> Vec<i64> {
    let (conversations, senders): (Vec<Uuid>, Vec<Uuid>) = messages.iter().copied().unzip();
    let body = format!(r#"{{"text":"{:<84}"}}"#, "bare");
    let bodies = vec![body.as_str(); messages.len()];
    let absent: Vec<Option<&str>> = vec![None; messages.len()];
    let reply_tos: Vec<Option<i64>> = vec![None; messages.len()];
    let unaudited: Option<Vec<&str>> = None;
    let parameters: [(&(dyn ToSql + Sync), Type); 12] = [
        (&conversations, Type::UUID_ARRAY),
        (&senders, Type::UUID_ARRAY),
        (&bodies, Type::TEXT_ARRAY),
        (&reply_tos, Type::INT8_ARRAY),
        (&absent, Type::TEXT_ARRAY),
        (&absent, Type::TEXT_ARRAY),
        (&absent, Type::TEXT_ARRAY),
        (&absent, Type::TEXT_ARRAY),
        // Waits for a conversation that another connection has in hand still, where a gateway would come back to it.
        (&true, Type::BOOL),
        (&unaudited, Type::TEXT_ARRAY),
        (&unaudited, Type::TEXT_ARRAY),
        // For so long workers leave the rows alone.
        (&0.5_f64, Type::FLOAT8),
    ];
    let rows = client.query_typed(gateway_sql::STORE_MESSAGES, &parameters).await.unwrap();
    assert!(rows.iter().all(|row| row.get::<_, &str>(0) == "stored"));
    rows.iter().map(|row| row.get("outbox_id")).collect()
}

/// One of the worker's batches without publishing; its last id.
pub async fn claim_and_mark(client: &Client, after: i64) -> Option<i64> {
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (&after, Type::INT8),
        (&500_i64, Type::INT8),
        (&(1_i64 << 20), Type::INT8),
        (&(8_i64 << 20), Type::INT8),
        (&false, Type::BOOL),
    ];
    let (begun, found) =
        join(client.batch_execute(outbox_sql::BEGIN), client.query_typed(relay_sql::CLAIM, &parameters)).await;
    begun.unwrap();
    let ids: Vec<i64> = found.unwrap().iter().map(|row| row.get(0)).collect();
    let mark = [(&ids as &(dyn ToSql + Sync), Type::INT8_ARRAY)];
    let (marked, ended) =
        join(client.query_typed(relay_sql::MARK, &mark), client.batch_execute(relay_sql::COMMIT_MARKS)).await;
    marked.unwrap();
    ended.unwrap();
    ids.last().copied()
}
