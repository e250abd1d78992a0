//! What a service does in SQL: messages in its own transactions, how soon they are delivered, and histories that it brings.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use crate::Options;
use crate::load::{Heard, Socket, heard, member};
use crate::pace::Latencies;
use crate::report::{Figure, Goal, Round};
use crate::stack::{Conversation, Database, Servers};

/// One connection sends in turn to so many.
const CONVERSATIONS: usize = 50;
/// Not counted: plans are made, caches warm up.
const WARM_UP: Duration = Duration::from_secs(1);
/// Of one call of `arcyou_import`: the most.
const HISTORY: usize = 10_000;

/// A service's own row, without which its message would not be.
const BUSINESS: &str = "CREATE TABLE business (id bigserial PRIMARY KEY, conversation_id uuid, text jsonb)";
const BUSINESS_ROW: &str = "INSERT INTO business (conversation_id, text) VALUES ($1, $2::text::jsonb)";
const SEND: &str = "SELECT message_id FROM arcyou_send($1, $3, $2::text::jsonb)";

pub fn figures(options: &Options) -> Vec<Figure> {
    let servers = Servers::start();
    let runtime = crate::runtime();
    let time = Duration::from_secs(options.seconds.into());
    let [mut sends, mut p50, mut p99, mut imports] = [const { Vec::new() }; 4];
    for _ in 0..options.rounds {
        let (plain, sent) = runtime.block_on(transactions(&servers, time));
        sends.push(Round { product: sent, ceiling: plain });
        let (mut by_socket, mut by_service) = runtime.block_on(deliveries(&servers, time));
        p50.push(Round { product: by_service.at(0.5), ceiling: by_socket.at(0.5) });
        p99.push(Round { product: by_service.at(0.99), ceiling: by_socket.at(0.99) });
        let (copied, imported) = runtime.block_on(histories(&servers));
        imports.push(Round { product: imported, ceiling: copied });
    }
    let figure = |name, unit, ceiling, goal, rounds| Figure {
        name,
        unit,
        ceiling,
        shares: "PgBouncer, PostgreSQL; for deliveries Redis, a gateway and a worker too",
        goal,
        rounds,
        notes: vec![],
    };
    let row = "the service's own row alone, in transactions of the same connection";
    let socket = "the same message from a socket";
    vec![
        figure("arcyou_send with a row of one's own", "transactions per second", row, Goal::AtLeast(0.3), sends),
        figure("a service's commit to its event, p50", "ms", socket, Goal::Within(150.0), p50),
        figure("a service's commit to its event, p99", "ms", socket, Goal::Within(300.0), p99),
        figure("arcyou_import", "messages per second", "the same rows into a plain table", Goal::AtLeast(0.2), imports),
    ]
}

fn body() -> String {
    format!(r#"{{"text":"{:<84}"}}"#, "in sql")
}

/// Transactions a second, one after another: with the service's own row alone, and with a message too.
async fn transactions(servers: &Servers, time: Duration) -> (f64, f64) {
    let database = servers.database().await;
    let conversations = database.conversations(CONVERSATIONS, 2).await;
    database.sql.batch_execute(BUSINESS).await.unwrap();
    let client = database.connect().await;
    let plain = per_second(&client, &conversations, time, false).await;
    (plain, per_second(&client, &conversations, time, true).await)
}

async fn per_second(client: &Client, conversations: &[Conversation], time: Duration, sends: bool) -> f64 {
    let body = body();
    let (begun, mut counted) = (Instant::now(), 0);
    for Conversation { id, users } in conversations.iter().cycle() {
        if begun.elapsed() >= WARM_UP + time {
            break;
        }
        client.batch_execute("BEGIN").await.unwrap();
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(id, Type::UUID), (&body, Type::TEXT), (&users[0], Type::UUID)];
        client.query_typed(BUSINESS_ROW, &parameters[..2]).await.unwrap();
        if sends {
            client.query_typed(SEND, &parameters).await.unwrap();
        }
        client.batch_execute("COMMIT").await.unwrap();
        counted += u64::from(begun.elapsed() >= WARM_UP);
    }
    counted as f64 / time.as_secs_f64()
}

/// From a message to its event: one that a socket sends, and one that a service commits.
async fn deliveries(servers: &Servers, time: Duration) -> (Latencies, Latencies) {
    let database = servers.database().await;
    let conversation = database.conversations(1, 2).await.remove(0);
    let gateway = database.gateway(&[]).await;
    let _worker = database.worker().await;
    let mut listener = member(gateway.port, conversation.users[1], conversation.id).await;
    let mut sender = member(gateway.port, conversation.users[0], conversation.id).await;
    let (mut by_socket, mut by_service) = (Latencies::default(), Latencies::default());
    let begun = Instant::now();
    while begun.elapsed() < time {
        by_socket_once(&mut sender, &mut listener, conversation.id, &mut by_socket).await;
    }
    let begun = Instant::now();
    while begun.elapsed() < time {
        // At any moment between two looks of the gateway.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..250))).await;
        by_service_once(&database, &mut listener, &conversation, &mut by_service).await;
    }
    (by_socket, by_service)
}

async fn by_socket_once(sender: &mut Socket, listener: &mut Socket, conversation: Uuid, latencies: &mut Latencies) {
    use futures_util::SinkExt as _;
    let started = Instant::now();
    sender.send(crate::load::send_frame(conversation, 1)).await.unwrap();
    event(listener).await;
    latencies.note(started);
}

async fn by_service_once(
    database: &Database<'_>,
    listener: &mut Socket,
    conversation: &Conversation,
    latencies: &mut Latencies,
) {
    let body = body();
    let parameters: [(&(dyn ToSql + Sync), Type); 3] =
        [(&conversation.id, Type::UUID), (&body, Type::TEXT), (&conversation.users[0], Type::UUID)];
    database.sql.query_typed(SEND, &parameters).await.unwrap();
    let committed = Instant::now();
    event(listener).await;
    latencies.note(committed);
}

async fn event(listener: &mut Socket) {
    loop {
        let message = listener.next().await.expect("the gateway ended").unwrap();
        if matches!(heard(&message), Some(Heard::Event)) {
            return;
        }
    }
}

/// Messages a second: into a plain table, and as a history.
async fn histories(servers: &Servers) -> (f64, f64) {
    let database = servers.database().await;
    let conversation = database.conversations(1, 1).await.remove(0);
    let message = |number: usize| {
        format!(
            r#"{{"id":"m{number}","sender_id":"{}","created_at":"2020-01-02T03:04:05Z","body":{}}}"#,
            conversation.users[0],
            body()
        )
    };
    let history = format!("[{}]", (0..HISTORY).map(message).collect::<Vec<_>>().join(","));
    let plain = "CREATE TABLE plain (id text PRIMARY KEY, sender_id uuid, created_at timestamptz, body jsonb)";
    database.sql.batch_execute(plain).await.unwrap();
    let copy = "INSERT INTO plain SELECT * FROM jsonb_to_recordset($1::text::jsonb)
        AS (id text, sender_id uuid, created_at timestamptz, body jsonb)";
    let started = Instant::now();
    database.sql.query_typed(copy, &[(&history, Type::TEXT)]).await.unwrap();
    let copied = HISTORY as f64 / started.elapsed().as_secs_f64();
    let import = "SELECT imported FROM arcyou_import($1, $2::text::jsonb)";
    let started = Instant::now();
    database.sql.query_typed(import, &[(&conversation.id, Type::UUID), (&history, Type::TEXT)]).await.unwrap();
    (copied, HISTORY as f64 / started.elapsed().as_secs_f64())
}
