//! Ack and delivery latency of the real binaries at a steady rate: `cargo bench --bench latency -- --rate 100 --seconds 30`.
//!
//! One gateway and two workers, PostgreSQL (fsync on) behind PgBouncer in transaction mode, Redis, all on this machine
//! together with this load generator. The load is open: each message has an intended send time, and latency is counted
//! from there, so that a stall is not hidden by waiting for it (coordinated omission).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcyou_local_services::{PgBouncer, PgBouncerOptions, Postgres, PostgresOptions, Redis};
use clap::Parser;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};
use uuid::Uuid;

#[derive(Parser)]
struct Options {
    /// Messages per second over all conversations
    #[arg(long, default_value_t = 100)]
    rate: u32,
    #[arg(long, default_value_t = 30)]
    seconds: u32,
    /// Conversations of two members each
    #[arg(long, default_value_t = 10)]
    conversations: usize,
    /// Plugins to load
    #[arg(long)]
    plugins: Option<PathBuf>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// A process that ends with this one.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[derive(Clone, Copy)]
enum Heard {
    Ack(usize),
    Event(usize),
}

fn main() {
    let options = Options::parse();
    let postgres = Postgres::start(PostgresOptions { durable: true, ..PostgresOptions::default() }).unwrap();
    let bouncer = PgBouncer::start(&postgres, PgBouncerOptions::default()).unwrap();
    let redis = Redis::start().unwrap();
    let (port, admin) = (free_port(), free_port());
    let mut environment = HashMap::from([
        ("DATABASE_URL", bouncer.url("postgres")),
        ("REDIS_URL", redis.url()),
        ("JWT_PUBLIC_KEY", "dev-placeholder".to_owned()),
        ("PORT", port.to_string()),
        ("ADMIN_ADDR", format!("127.0.0.1:{admin}")),
        ("RATE_LIMIT_PER_SECOND", "0".to_owned()),
        ("RUST_LOG", "warn".to_owned()),
    ]);
    if let Some(dir) = &options.plugins {
        environment.insert("PLUGINS_DIR", dir.display().to_string());
    }
    let gateway = PathBuf::from(env!("CARGO_BIN_EXE_arcyou-gateway"));
    let worker = gateway.with_file_name("arcyou-outbox-worker");
    assert!(worker.exists(), "build the worker first: cargo build --release -p arcyou-outbox-worker");
    let start = |binary: &PathBuf, extra: &[(&str, String)]| {
        let mut command = Command::new(binary);
        command.envs(&environment).envs(extra.iter().map(|(name, value)| (*name, value))).stdout(Stdio::null());
        Process(command.spawn().unwrap())
    };
    let _gateway = start(&gateway, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(ready(admin));
    let _workers = [0, 1].map(|_| start(&worker, &[("ADMIN_ADDR", format!("127.0.0.1:{}", free_port()))]));
    runtime.block_on(measure(&options, port, &postgres.url("postgres")));
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn ready(admin: u16) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    loop {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", admin)).await {
            stream.write_all(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            if answer.starts_with("HTTP/1.1 200") {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

type Socket = WebSocketStream<TcpStream>;

async fn member(port: u16, user: Uuid, conversation: Uuid) -> Socket {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut socket, _) = client_async(format!("ws://127.0.0.1:{port}/"), stream).await.unwrap();
    for frame in [json!({"op": "auth", "token": user}), json!({"op": "join", "conversation_id": conversation})] {
        socket.send(Message::text(frame.to_string())).await.unwrap();
        let reply = socket.next().await.unwrap().unwrap();
        assert!(reply.to_text().unwrap().contains("\"success\":true"), "{reply}");
    }
    socket
}

async fn measure(options: &Options, port: u16, database: &str) {
    let (sql, connection) = tokio_postgres::connect(database, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let (heard, mut hearing) = mpsc::channel(4096);
    let heard = Arc::new(heard);
    let mut writers: Vec<(Uuid, SplitSink<Socket, Message>)> = Vec::new();
    for _ in 0..options.conversations {
        let users = [Uuid::new_v4(), Uuid::new_v4()];
        let row = sql.query_one("INSERT INTO conversations DEFAULT VALUES RETURNING id", &[]).await.unwrap();
        let conversation: Uuid = row.get(0);
        let insert = "INSERT INTO participants (conversation_id, user_id) VALUES ($1, $2), ($1, $3)";
        sql.execute(insert, &[&conversation, &users[0], &users[1]]).await.unwrap();
        let (writer, reader) = member(port, users[0], conversation).await.split();
        tokio::spawn(listen(reader, heard.clone(), true));
        let (silent, reader) = member(port, users[1], conversation).await.split();
        // Kept, so that the socket stays open.
        let heard = heard.clone();
        tokio::spawn(async move {
            listen(reader, heard, false).await;
            drop(silent);
        });
        writers.push((conversation, writer));
    }
    let total = (options.rate * options.seconds) as usize;
    let gap = Duration::from_secs(1) / options.rate;
    let begin = Instant::now() + Duration::from_millis(100);
    let sender = tokio::spawn(async move {
        for number in 0..total {
            tokio::time::sleep_until((begin + gap * number as u32).into()).await;
            let place = number % writers.len();
            let (conversation, writer) = &mut writers[place];
            let body = json!({"text": format!("{number:<80}")});
            let frame = json!({"op": "send", "conversation_id": conversation, "body": body, "temp_id": number});
            writer.send(Message::text(frame.to_string())).await.unwrap();
        }
        writers
    });
    let (mut acks, mut events) = (Vec::with_capacity(total), Vec::with_capacity(total));
    while acks.len() < total || events.len() < total {
        let (what, at): (Heard, Instant) = hearing.recv().await.unwrap();
        match what {
            Heard::Ack(number) => acks.push(at - (begin + gap * number as u32)),
            Heard::Event(number) => events.push(at - (begin + gap * number as u32)),
        }
    }
    drop(sender.await.unwrap());
    println!("{} messages, {} per second, {} conversations of 2", total, options.rate, options.conversations);
    report("ack", acks);
    report("delivery", events);
}

/// The sender hears acks, the other member events.
async fn listen(mut reader: SplitStream<Socket>, heard: Arc<mpsc::Sender<(Heard, Instant)>>, sender: bool) {
    while let Some(Ok(message)) = reader.next().await {
        let at = Instant::now();
        // A ping is answered by the library.
        let Message::Text(text) = message else { continue };
        let frame: Value = serde_json::from_str(&text).unwrap();
        let what = if frame["op"] == "send" {
            assert_eq!(frame["success"], true, "{frame}");
            Heard::Ack(frame["temp_id"].as_u64().unwrap() as usize)
        } else if !sender {
            Heard::Event(frame["message"]["body"]["text"].as_str().unwrap().trim_end().parse().unwrap())
        } else {
            continue;
        };
        if heard.send((what, at)).await.is_err() {
            return;
        }
    }
}

fn report(what: &str, mut latencies: Vec<Duration>) {
    latencies.sort_unstable();
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    println!("{what:<9} p50 {:>7.2} ms   p99 {:>7.2} ms   max {:>7.2} ms", at(0.5), at(0.99), at(1.0));
}
