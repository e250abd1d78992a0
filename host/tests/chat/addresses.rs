//! One client address does all it can to shut the others out, and they notice nothing. Addresses of the loopback
//! network stand for machines.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

use super::hostile::{CROWD, Street};
use crate::support::client::{Client, as_files_allow, connection_from};
use crate::support::program::Program;
use crate::support::{World, http_get};

/// The machine of everybody who means well, load balancers included.
const HOME: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// The machine of one who does not.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
const HEAD_BYTES: usize = 16 * 1024;

async fn refused(gateway: &Program, bound: &str) -> f64 {
    gateway.metric(&format!("arcyou_refused_connections_total{{bound=\"{bound}\"}} ")).await
}

/// An answer's head and the body that it announces.
async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(answer).unwrap();
    let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.unwrap();
    head + &String::from_utf8(body).unwrap()
}

/// Asks for a socket with these headers; the stream may be one.
async fn handshake(from: Ipv4Addr, port: u16, headers: &[&str]) -> (TcpStream, String) {
    let mut stream = connection_from(from, port).await;
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\n{}\r\n\r\n",
        headers.join("\r\n")
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let answer = answer(&mut stream).await;
    (stream, answer)
}

/// Asks whether the gateway is well, as a load balancer does.
async fn is_healthy(port: u16) -> bool {
    http_get(port, "/health").await.contains(r#"{"status":"ok"}"#)
}

#[tokio::test]
async fn thousands_of_slow_connections_of_one_address_keep_nobody_out() {
    let _crowd = CROWD.lock().await;
    let mut street = Street::new(&[]).await;
    let (gateway, port) = (street.gateway.clone(), street.gateway.port);
    let mischief = async {
        let mut held = Vec::new();
        // Until one had to go for another, however slow this machine is.
        while held.is_empty() || refused(&gateway, "handshakes_per_address").await == 0.0 {
            for _ in 0..as_files_allow(4200).saturating_sub(held.len()).max(1) {
                let mut connection = connection_from(ATTACKER, port).await;
                // Some are cut while they say it.
                let _ = connection.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
                held.push(connection);
            }
        }
        println!("{} connections, {} cut", held.len(), refused(&gateway, "handshakes_per_address").await);
        assert!(is_healthy(port).await);
        Client::connect(port).await.ok(json!({"op": "auth", "token": Uuid::new_v4()})).await;
        // Others are not cut for it.
        assert_eq!(refused(&gateway, "handshakes").await, 0.0);
    };
    street.during(mischief).await;
}

#[tokio::test]
async fn health_is_answered_when_many_addresses_hold_all_places() {
    let mut street = Street::new(&[("MAX_HANDSHAKES", "16")]).await;
    let (gateway, port) = (street.gateway.clone(), street.gateway.port);
    let mischief = async {
        let mut held = Vec::new();
        while refused(&gateway, "handshakes").await == 0.0 {
            for machine in 2..40 {
                let mut connection = connection_from(Ipv4Addr::new(127, 0, 0, machine), port).await;
                let _ = connection.write_all(b"GET /health HTTP/1.1\r\nHost: ").await;
                held.push(connection);
            }
        }
        assert!(is_healthy(port).await);
        Client::connect(port).await.ok(json!({"op": "auth", "token": Uuid::new_v4()})).await;
        // The oldest is gone: its end, or what became of it in the kernel.
        let gone = timeout(Duration::from_secs(60), held[0].read(&mut [0])).await.expect("the oldest is there");
        assert!(matches!(gone, Ok(0) | Err(_)));
    };
    street.during(mischief).await;
}

#[tokio::test]
async fn headers_without_end_are_cut_at_16_kib() {
    const CONNECTIONS: usize = 200;
    let mut street = Street::new(&[]).await;
    let gateway = street.gateway.clone();
    let endless = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX-Endless: {}", "x".repeat(390_000));
    let mischief = async {
        let before = gateway.resident();
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut connection = connection_from(ATTACKER, gateway.port).await;
            connection.write_all(&endless.as_bytes()[..HEAD_BYTES - 1]).await.unwrap();
            held.push(connection);
        }
        let grown = gateway.resident().saturating_sub(before);
        println!("{CONNECTIONS} unfinished requests: {} KiB each", grown / 1024 / CONNECTIONS as u64);
        // Twice 16 KiB while a buffer grows, and what the allocator keeps of that: 15 to 106 in a debug build. A server
        // without the bound would hold 400.
        assert!(grown < 160 * 1024 * CONNECTIONS as u64, "{grown} bytes");
        // One byte more is one too many.
        let mut connection = connection_from(ATTACKER, gateway.port).await;
        connection.write_all(&endless.as_bytes()[..HEAD_BYTES]).await.unwrap();
        let answer = answer(&mut connection).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        gateway.until_metric(r#"arcyou_refused_connections_total{bound="request_head"} "#, 1.0).await;
        // And nobody waits for the rest of what comes anyway.
        let mut connection = connection_from(ATTACKER, gateway.port).await;
        let _ = connection.write_all(endless.as_bytes()).await;
        let _ = timeout(Duration::from_secs(60), connection.read_to_end(&mut Vec::new())).await.expect("it goes on");
    };
    street.during(mischief).await;
}

#[tokio::test]
async fn mute_sockets_do_not_take_the_places_of_users() {
    let variables = [("MAX_CONNECTIONS", "200"), ("AUTH_SECONDS", "3600"), ("PING_SECONDS", "3600")];
    let mut street = Street::new(&variables).await;
    let (gateway, (user, conversation)) = (street.gateway.clone(), street.stranger().await);
    let mischief = async {
        let mut mute = Vec::new();
        for _ in 0..200 {
            let (stream, answer) = handshake(ATTACKER, gateway.port, &[KEY]).await;
            match answer.split(' ').nth(1) {
                Some("101") => mute.push(stream),
                Some("429") => assert!(answer.ends_with("send auth on them, or try later\n"), "{answer}"),
                _ => panic!("{answer}"),
            }
        }
        // Half of the 64 that a gateway of this size lets in unauthenticated.
        assert_eq!((mute.len(), refused(&gateway, "unauthenticated_per_address").await), (32, 168.0));
        let mut client = Client::joined(gateway.port, user, conversation).await;
        client.say(conversation, "hello").await;
    };
    street.during(mischief).await;
}

#[tokio::test]
async fn an_address_has_so_many_sockets_and_no_more() {
    let world = World::new().await;
    let gateway = world.program(&[("MAX_CONNECTIONS_PER_ADDRESS", "2")]).await;
    let mut held = vec![];
    for _ in 0..2 {
        let mut client = Client::connect_from(ATTACKER, gateway.port).await;
        client.ok(json!({"op": "auth", "token": Uuid::new_v4()})).await;
        held.push(client);
    }
    let (_, answer) = handshake(ATTACKER, gateway.port, &[KEY]).await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("too many open sockets"), "{answer}");
    assert_eq!(refused(&gateway, "connections_per_address").await, 1.0);
    let (_other, answer) = handshake(HOME, gateway.port, &[KEY]).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    // The place of one that ends is free.
    held.pop();
    let free = async { while !handshake(ATTACKER, gateway.port, &[KEY]).await.1.starts_with("HTTP/1.1 101 ") {} };
    timeout(Duration::from_secs(60), free).await.expect("a place is never given back");
}

#[tokio::test]
async fn clients_of_a_trusted_proxy_count_each_for_itself() {
    let world = World::new().await;
    let variables = [("TRUSTED_PROXIES", "127.0.0.1"), ("MAX_CONNECTIONS_PER_ADDRESS", "1")];
    let gateway = world.gateway_with(&variables).await;
    let ask = async |from: Ipv4Addr, header: &str| {
        let (stream, answer) = handshake(from, gateway.port, &[KEY, header]).await;
        (stream, answer.split(' ').nth(1).unwrap().to_owned())
    };
    let (_one, first) = ask(HOME, "X-Forwarded-For: 192.0.2.1").await;
    let (_two, second) = ask(HOME, "X-Forwarded-For: 192.0.2.1, 192.0.2.2").await;
    let (_, third) = ask(HOME, "X-Forwarded-For: 192.0.2.9, 192.0.2.1").await;
    let (_, fourth) = ask(HOME, "Forwarded: for=\"192.0.2.2:4711\"").await;
    assert_eq!([first, second, third, fourth], ["101", "101", "429", "429"]);
    // Those that it does not name count for the proxy.
    let (_unnamed, first) = ask(HOME, "X-Forwarded-For: nobody").await;
    let (_, second) = ask(HOME, "Forwarded: for=unknown").await;
    assert_eq!([first, second], ["101", "429"]);
    // Nobody else chooses an address.
    let (_forger, first) = ask(ATTACKER, "X-Forwarded-For: 192.0.2.100").await;
    let (_, second) = ask(ATTACKER, "X-Forwarded-For: 192.0.2.101").await;
    assert_eq!([first, second], ["101", "429"]);
}

#[tokio::test]
async fn refused_tokens_end_the_socket() {
    let mut street = Street::new(&[]).await;
    let gateway = street.gateway.clone();
    let mischief = async {
        for _ in 0..3 {
            let mut client = Client::connect_from(ATTACKER, gateway.port).await;
            let mut tokens = 0;
            // More than are answered; the socket may end in between.
            while tokens < 1000 && client.try_send(json!({"op": "auth", "token": "guess"}).to_string()).await {
                tokens += 1;
            }
            assert_eq!(client.closed().await, Some(4502));
        }
        let metric = r#"arcyou_auth_refused_total{code="token_malformed"} "#;
        assert_eq!(gateway.metric(metric).await, 15.0);
    };
    street.during(mischief).await;
}

#[tokio::test]
async fn tokens_of_an_address_that_guesses_are_refused_unseen() {
    let mut street = Street::new(&[("MAX_REFUSED_TOKENS_PER_MINUTE", "1")]).await;
    let (gateway, (user, conversation)) = (street.gateway.clone(), street.stranger().await);
    let auth = json!({"op": "auth", "token": user});
    let mischief = async {
        let mut old = Client::connect_from(ATTACKER, gateway.port).await;
        old.ok(auth.clone()).await;
        let mut waiting = Client::connect_from(ATTACKER, gateway.port).await;
        let mut guessing = Client::connect_from(ATTACKER, gateway.port).await;
        assert_eq!(guessing.code(json!({"op": "auth", "token": "guess"})).await, "token_malformed");
        for _ in 0..10 {
            let reply = guessing.request(json!({"op": "auth", "token": "guess"})).await;
            assert_eq!(reply["code"], "rate_limited", "{reply}");
            assert!(reply["retry_after_ms"].as_u64().is_some_and(|wait| (1..=60_000).contains(&wait)), "{reply}");
        }
        // A good one as well: that it is good would only be seen by looking.
        assert_eq!(waiting.code(auth.clone()).await, "rate_limited");
        let (_, answer) = handshake(ATTACKER, gateway.port, &[KEY]).await;
        assert!(answer.starts_with("HTTP/1.1 429 "), "{answer}");
        assert_eq!(refused(&gateway, "refused_tokens").await, 1.0);
        // A socket that has authenticated is no stranger, and neither is another address.
        old.ok(auth.clone()).await;
        old.say(conversation, "hello").await;
        Client::authenticated(gateway.port, user).await;
        assert_eq!(gateway.metric(r#"arcyou_auth_refused_total{code="rate_limited"} "#).await, 11.0);
    };
    street.during(mischief).await;
}

#[tokio::test]
async fn a_key_that_is_not_16_bytes_in_base64_is_refused() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    for keys in [
        &["Sec-WebSocket-Key: "][..],
        &["Sec-WebSocket-Key: x"],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"],
        &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSE="],
        &["Sec-WebSocket-Key: ~~~~~~~~~~~~~~~~~~~~~~=="],
        &[KEY, KEY],
    ] {
        let (_, answer) = handshake(HOME, gateway.port, keys).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{keys:?}: {answer}");
    }
    let (_, answer) = handshake(HOME, gateway.port, &[KEY]).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
}
