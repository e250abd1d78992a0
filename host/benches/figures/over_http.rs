//! A service's sends over HTTP, one at a time and in batches, beside those of sockets.

use std::time::{Duration, Instant};

use arcyou_gateway::api::key::KeyText;
use futures_util::future::join_all;
use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::LocalSet;

use crate::Options;
use crate::load::ClosedLoop;
use crate::report::{Figure, Goal, Round};
use crate::stack::{Conversation, Database, Servers};

/// Connections, and sockets, that send one message after another.
const ONE_AT_A_TIME: usize = 16;
/// Of one request: the most.
const BATCH: usize = 1000;
/// Requests with batches under way.
const BATCHES: usize = 2;
/// The sockets beside them: conversations, members of each, and sends of a member under way.
const CROWD: (usize, usize, usize) = (50, 2, 8);
const WARM_UP: Duration = Duration::from_secs(2);

pub fn figures(options: &Options) -> Vec<Figure> {
    let servers = Servers::start();
    let runtime = crate::runtime();
    let time = Duration::from_secs(options.seconds.into());
    let (mut single, mut batches) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let sockets = LocalSet::new().block_on(&runtime, by_sockets(&servers, (ONE_AT_A_TIME, 1, 1), time));
        let requests = runtime.block_on(by_requests(&servers, ONE_AT_A_TIME, 1, time));
        single.push(Round { product: requests, ceiling: sockets });
        let sockets = LocalSet::new().block_on(&runtime, by_sockets(&servers, CROWD, time));
        let requests = runtime.block_on(by_requests(&servers, BATCHES, BATCH, time));
        batches.push(Round { product: requests, ceiling: sockets });
    }
    let figure = |name, ceiling, goal, rounds| Figure {
        name,
        unit: "stored per second",
        ceiling,
        shares: "the load, PgBouncer, PostgreSQL, Redis, one worker",
        goal,
        rounds,
        notes: vec![],
    };
    let one = "16 sockets that each send one message after another";
    let crowd = "100 sockets with 8 sends each under way, without plugins too";
    vec![
        figure("sends over HTTP, one at a time on 16 connections", one, Goal::AtLeast(0.3), single),
        figure("sends over HTTP, in batches of 1,000", crowd, Goal::AtLeast(0.5), batches),
    ]
}

async fn by_sockets(
    servers: &Servers,
    (conversations, members, under_way): (usize, usize, usize),
    time: Duration,
) -> f64 {
    let database = servers.database().await;
    let conversations = database.conversations(conversations, members).await;
    // As with the sends: however late the relay is.
    let gateway = database.gateway(&[("RELAY_LAG_TARGET_MS", "0".to_owned())]).await;
    let _worker = database.worker().await;
    let members = ClosedLoop::start(gateway.port, &conversations, under_way).await;
    tokio::time::sleep(WARM_UP).await;
    members.stored_within(time).await as f64 / time.as_secs_f64()
}

/// Messages stored by so many connections, each of which asks with so many messages as soon as it is answered.
async fn by_requests(servers: &Servers, connections: usize, messages: usize, time: Duration) -> f64 {
    let database = servers.database().await;
    let conversations = database.conversations(ONE_AT_A_TIME.max(CROWD.0), 1).await;
    let key = key(&database).await;
    let gateway = database.gateway(&[("RELAY_LAG_TARGET_MS", "0".to_owned())]).await;
    let _worker = database.worker().await;
    let (counts_from, end) = (Instant::now() + WARM_UP, Instant::now() + WARM_UP + time);
    let service = |place: usize| {
        let own: Vec<Conversation> = conversations.iter().skip(place).step_by(connections).cloned().collect();
        let request = match messages {
            1 => Request::one(&own[0]),
            many => Request::batch(&own, many),
        };
        request.repeat(gateway.port, key.to_string(), counts_from, end)
    };
    let stored: usize = join_all((0..connections).map(service)).await.into_iter().sum();
    stored as f64 / time.as_secs_f64()
}

/// A key that is not held up by its rate.
async fn key(database: &Database<'_>) -> KeyText {
    let key = KeyText::generate().unwrap();
    let insert = "INSERT INTO api_keys (id, name, secret_sha256, scopes, rate) VALUES ($1, 'bench', $2, '{messages:write}', 1000000)";
    database.sql.execute(insert, &[&key.id, &key.sha256()]).await.unwrap();
    key
}

/// What one connection asks for, again and again.
struct Request {
    path: String,
    body: String,
    messages: usize,
}

impl Request {
    fn one(Conversation { id, users }: &Conversation) -> Self {
        let body = json!({"sender_id": users[0], "body": text()}).to_string();
        Self { path: format!("/v1/conversations/{id}/messages"), body, messages: 1 }
    }

    fn batch(conversations: &[Conversation], messages: usize) -> Self {
        let message = |Conversation { id, users }: &Conversation| json!({"conversation_id": id, "sender_id": users[0], "body": text()});
        let all: Vec<Value> = conversations.iter().cycle().take(messages).map(message).collect();
        Self { path: "/v1/messages".to_owned(), body: json!({"messages": all}).to_string(), messages }
    }

    /// Answers how many messages were stored between these moments.
    async fn repeat(self, port: u16, key: String, from: Instant, until: Instant) -> usize {
        let (client, url) =
            (Client::builder().tcp_nodelay(true).build().unwrap(), format!("http://127.0.0.1:{port}{}", self.path));
        let mut stored = 0;
        while Instant::now() < until {
            let request = client.post(&url).bearer_auth(&key).header("content-type", "application/json");
            let response = request.body(self.body.clone()).send().await.unwrap();
            let (status, text) = (response.status(), response.text().await.unwrap());
            // A refusal ends the benchmark: it would make anything fast.
            assert!(status.is_success(), "{status}: {text}");
            assert_eq!(text.matches(r#""status":"stored""#).count(), self.messages, "{text}");
            if (from..until).contains(&Instant::now()) {
                stored += self.messages;
            }
        }
        stored
    }
}

/// A body of about 100 bytes.
fn text() -> Value {
    json!({"text": format!("{:<84}", "over http")})
}
