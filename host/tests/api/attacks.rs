//! Who guesses keys, keeps too many connections, or takes for ever to say what it wants, is bounded, and others do not
//! wait. Addresses of the loopback network stand for machines.

use std::net::Ipv4Addr;
use std::time::Duration;

use arcyou_gateway::api::key::KeyText;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::service::{Service, key};
use crate::support::World;
use crate::support::client::connection_from;
use crate::support::program::Program;

const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Long enough for a busy machine; what takes longer stays for ever.
const PATIENCE: Duration = Duration::from_secs(60);

async fn refused(gateway: &Program, bound: &str) -> f64 {
    gateway.metric(&format!("arcyou_refused_connections_total{{bound=\"{bound}\"}} ")).await
}

fn guess() -> String {
    KeyText::generate().unwrap().to_string()
}

#[tokio::test]
async fn who_guesses_keys_is_refused_unseen_and_a_new_key_from_elsewhere_is_answered_at_once() {
    let world = World::new().await;
    let gateway = world.program(&[]).await;
    let mut keys = Vec::new();
    for _ in 0..20 {
        keys.push(key(&world, &["--scope", "conversations:read"]).await);
    }
    let late = key(&world, &[]).await;
    let guesses = async |rounds: usize| {
        let mut answers = Vec::new();
        for _ in 0..rounds {
            let attacker = Service::at(ATTACKER, gateway.port, String::new());
            let round = (0..50).map(|_| attacker.guessing(guess()));
            let ask = async |service: Service| service.get("/conversations").await;
            answers.extend(join_all(round.map(ask)).await);
        }
        answers
    };
    // More than the gateway looks up in a second.
    let first = guesses(4).await;
    let (mut unknown, mut unseen) = (0, 0);
    for answer in &first {
        match answer.status {
            401 => unknown += 1,
            _ => {
                assert_eq!(answer.code(429), "rate_limited");
                assert!(answer.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
                unseen += 1;
            }
        }
    }
    println!("{unknown} keys were looked at, {unseen} were not");
    assert!(unseen > 0, "{unknown}");
    // Some were not, because in this second nobody suspect was looked up any more. Soon its address is known to guess.
    while refused(&gateway, "refused_keys").await < 1.0 {
        guesses(1).await;
    }
    // At full speed, while others come for the first time: each first request is answered.
    let others = async {
        for key in keys {
            Service::at(HOME, gateway.port, key).get("/conversations").await.ok(200);
        }
    };
    let (answers, ()) = tokio::join!(guesses(20), others);
    assert!(answers.iter().all(|answer| matches!(answer.status, 401 | 429)));
    assert!(answers.iter().any(|answer| answer.status == 429));
    // A good key from there waits like any: that it is good would only be seen by looking. One that is known does not.
    Service::at(HOME, gateway.port, late.clone()).get("/conversations").await.ok(200);
    Service::at(ATTACKER, gateway.port, late).get("/conversations").await.ok(200);
}

#[tokio::test]
async fn clients_of_a_trusted_proxy_guess_each_for_itself() {
    let world = World::new().await;
    let variables = [("TRUSTED_PROXIES", "127.0.0.1"), ("MAX_REFUSED_TOKENS_PER_MINUTE", "1")];
    let gateway = world.gateway_with(&variables).await;
    let ask = async |client: &str, key: String| {
        let service = Service::with_key(gateway.port, key);
        service.call(reqwest::Method::GET, "/conversations", &[("x-forwarded-for", client)], None).await.status
    };
    assert_eq!([ask("192.0.2.1", guess()).await, ask("192.0.2.1", guess()).await], [401, 429]);
    assert_eq!([ask("192.0.2.2", guess()).await, ask("192.0.2.2", "arcyou_x".to_owned()).await], [401, 429]);
    assert_eq!(ask("192.0.2.3", key(&world, &[]).await).await, 200);
}

/// A request over a connection of one's own; none: it is closed.
async fn ask(connection: &mut TcpStream, key: &str) -> Option<String> {
    let request = format!("GET /v1/held HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"{\"held\":[]}") {
        let mut part = [0; 1024];
        match timeout(PATIENCE, connection.read(&mut part)).await.expect("no answer") {
            Ok(0) | Err(_) => return None,
            Ok(read) => answer.extend(&part[..read]),
        }
    }
    let answer = String::from_utf8(answer).unwrap().to_lowercase();
    assert!(answer.starts_with("http/1.1 200"), "{answer}");
    Some(answer)
}

#[tokio::test]
async fn a_key_keeps_so_many_connections_and_further_ones_are_closed_after_their_answer() {
    let world = World::new().await;
    let gateway = world.program(&[("MAX_CONNECTIONS_PER_KEY", "2"), ("MAX_CONNECTIONS_PER_ADDRESS", "3")]).await;
    let (one, other) = (key(&world, &[]).await, key(&world, &[]).await);
    let mut held = Vec::new();
    let connect = || connection_from(HOME, gateway.port);
    let is_kept = async |connection: &mut TcpStream, key: &str| {
        !ask(connection, key).await.expect("no answer").contains("connection: close")
    };
    for _ in 0..2 {
        let mut connection = connect().await;
        assert!(is_kept(&mut connection, &one).await);
        held.push(connection);
    }
    let mut third = connect().await;
    assert!(!is_kept(&mut third, &one).await);
    assert_eq!(timeout(PATIENCE, third.read(&mut [0])).await.expect("it stays open").unwrap_or(0), 0);
    assert_eq!(refused(&gateway, "connections_per_key").await, 1.0);
    // Another key has its own; the address has three.
    let mut others = connect().await;
    assert!(is_kept(&mut others, &other).await);
    assert!(!is_kept(&mut connect().await, &other).await);
    assert_eq!(refused(&gateway, "connections_per_address").await, 1.0);
    let mut elsewhere = connection_from(ATTACKER, gateway.port).await;
    assert!(is_kept(&mut elsewhere, &other).await);
    // Those that are kept go on, and the place of one that ends is free.
    assert!(is_kept(&mut held[0], &one).await);
    held.pop();
    let free = async { while !is_kept(&mut connect().await, &one).await {} };
    timeout(PATIENCE, free).await.expect("a place is never given back");
}

#[tokio::test]
async fn connections_of_services_do_not_take_the_places_of_users() {
    let world = World::new().await;
    let gateway = world.gateway_with(&[("MAX_CONNECTIONS", "3"), ("MAX_CONNECTIONS_PER_KEY", "2")]).await;
    let key = key(&world, &[]).await;
    let mut held = Vec::new();
    for _ in 0..20 {
        let mut connection = connection_from(HOME, gateway.port).await;
        ask(&mut connection, &key).await.expect("no answer");
        held.push(connection);
    }
    crate::support::client::Client::authenticated(gateway.port, Uuid::new_v4()).await;
}

/// Writes so much at a time, so often, until there is an answer or an end.
async fn trickle(connection: &mut TcpStream, text: &str) -> String {
    let (mut read, mut write) = connection.split();
    let answer = async {
        let mut answer = Vec::new();
        // Whoever is cut while it writes may find no answer.
        let _ = read.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    let write = async {
        for byte in text.as_bytes() {
            if write.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        answer = timeout(PATIENCE, answer) => answer.expect("it goes on for ever"),
        () = write => unreachable!(),
    }
}

#[tokio::test]
async fn a_head_or_a_body_that_comes_byte_by_byte_is_not_waited_for() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let key = key(&world, &[]).await;
    let slow_head = async {
        let mut connection = connection_from(HOME, gateway.port).await;
        // A service that was kept.
        ask(&mut connection, &key).await.expect("no answer");
        let endless = format!("GET /v1/held HTTP/1.1\r\nhost: gateway\r\nx: {}", "x".repeat(600));
        let answer = trickle(&mut connection, &endless).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    };
    let slow_body = async {
        let mut connection = connection_from(HOME, gateway.port).await;
        let head = format!(
            "POST /v1/messages HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: 2000\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        let answer = trickle(&mut connection, &" ".repeat(600)).await;
        assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("\"code\":\"request_timeout\""), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    };
    tokio::join!(slow_head, slow_body);
}

#[tokio::test]
async fn what_says_that_it_is_too_large_is_not_awaited() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let key = key(&world, &[]).await;
    let mut connection = connection_from(HOME, gateway.port).await;
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\ncontent-length: 9000000\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("\"code\":\"frame_too_large\""), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

/// A client that writes all before it reads would meet a closed connection.
#[tokio::test]
async fn who_still_writes_what_is_refused_gets_the_answer() {
    const BODY: usize = 24 << 20;
    let world = World::new().await;
    let gateway = world.gateway().await;
    let key = key(&world, &[]).await;
    let chunk = [format!("{BODY:x}\r\n").as_bytes(), &vec![b' '; BODY], b"\r\n0\r\n\r\n"].concat();
    for (path, key, length, body, status) in [
        ("messages", &*key, format!("content-length: {BODY}"), &vec![b' '; BODY], "413"),
        ("messages", &*key, "transfer-encoding: chunked".to_owned(), &chunk, "413"),
        ("messages", "arcyou_none", "content-length: 4000000".to_owned(), &vec![b' '; 4_000_000], "401"),
        ("nothing", &*key, "content-length: 4000000".to_owned(), &vec![b' '; 4_000_000], "404"),
        ("nothing/ws", &*key, "content-length: 4000000".to_owned(), &vec![b' '; 4_000_000], "404"),
    ] {
        let mut connection = connection_from(HOME, gateway.port).await;
        let head = format!(
            "POST /v1/{path} HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\n{length}\r\n\r\n"
        );
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(body).await.unwrap();
        let mut answer = vec![0; 12];
        connection.read_exact(&mut answer).await.unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), format!("HTTP/1.1 {status}"), "{length}");
    }
}

/// On a line of about 10 Mbit/s.
#[tokio::test]
async fn the_largest_body_passes_on_a_usual_line() {
    const PART: usize = 64 * 1024;
    let world = World::new().await;
    let (gateway, user) = (world.gateway().await, Uuid::new_v4());
    let (key, conversation) = (key(&world, &[]).await, world.conversation(&[user]).await);
    let message = json!({"conversation_id": conversation, "sender_id": user, "body": {"text": "x".repeat(8000)}});
    let body = json!({"messages": vec![message; 1000]}).to_string();
    let mut connection = connection_from(HOME, gateway.port).await;
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    for part in body.as_bytes().chunks(PART) {
        connection.write_all(part).await.unwrap();
        sleep(Duration::from_millis(50)).await;
    }
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    let results: Value = serde_json::from_str(&answer[answer.find('{').unwrap()..answer.rfind('}').unwrap() + 1])
        .unwrap_or_else(|_| panic!("{}", &answer[..answer.len().min(500)]));
    assert!(results["results"].as_array().unwrap().iter().all(|result| result["status"] == "stored"));
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 1000);
}
