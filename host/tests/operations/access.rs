//! Whom a gateway believes, and whom its admin address answers: what is tried here is what an attacker tries.

use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::Command;
use uuid::Uuid;

use crate::support::client::Client;
use crate::support::gateway::Running;
use crate::support::jwt::{Issuer, now};
use crate::support::program::free_port;
use crate::support::{World, http_get, http_raw, http_request};

const TOKEN: &str = "0123456789abcdef-of-operators";

fn report(answer: &str) -> Value {
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

#[tokio::test]
async fn nobody_is_believed_where_others_reach_the_gateway() {
    let world = World::new().await;
    let nowhere = [("BIND_ADDR", ""), ("BIND_ADDR", "0.0.0.0"), ("BIND_ADDR", "::"), ("ADMIN_ADDR", "0.0.0.0:0")];
    for variable in nowhere {
        let mut command = world.serve_command(0, 0);
        let command = command.envs([variable, ("MAX_SESSION_SECONDS", "never")]);
        let Output { status, stderr, .. } = command.output().await.unwrap();
        let error = String::from_utf8(stderr).unwrap();
        assert!(!status.success(), "{variable:?}");
        for part in ["JWT_PUBLIC_KEY is dev-placeholder", "openssl genpkey", "openssl pkey", "MAX_SESSION_SECONDS"] {
            assert!(error.contains(part), "{variable:?}: {part} is missing in {error}");
        }
    }
}

#[tokio::test]
async fn a_gateway_that_believes_everybody_is_on_loopback_and_says_so() {
    let world = World::new().await;
    let program = world.program(&[]).await;
    let auth = &report(&program.get("/ready").await)["parts"]["auth"];
    assert!(auth["state"] == "up" && auth["warning"].as_str().unwrap().contains("EVERYBODY IS BELIEVED"), "{auth}");
    assert!(program.get("/metrics").await.contains("arcyou_tokens_verified 0"));
    TcpStream::connect(("127.0.0.1", program.port)).await.unwrap();
    assert!(TcpStream::connect(("127.0.0.2", program.port)).await.is_err(), "it listens where it was not told to");
}

#[tokio::test]
async fn a_gateway_that_verifies_tokens_serves_all_interfaces() {
    let world = World::new().await;
    let key = Issuer::new().public;
    let program = world.program(&[("BIND_ADDR", ""), ("JWT_PUBLIC_KEY", &key)]).await;
    let auth = &report(&program.get("/ready").await)["parts"]["auth"];
    assert!(auth["state"] == "up" && auth["warning"].is_null(), "{auth}");
    assert!(program.get("/metrics").await.contains("arcyou_tokens_verified 1"));
    TcpStream::connect(("127.0.0.2", program.port)).await.unwrap();
}

#[tokio::test]
async fn a_session_ends_with_its_limit_and_not_with_a_token_of_ten_years() {
    let world = World::new().await;
    let issuer = Issuer::new();
    let gateway = world.gateway_with(&[("JWT_PUBLIC_KEY", &issuer.public), ("MAX_SESSION_SECONDS", "1")]).await;
    let mut client = Client::connect(gateway.port).await;
    for exp in [json!(now() + 10.0 * 365.0 * 86_400.0), json!(1e300)] {
        let token = issuer.sign(&json!({"sub": Uuid::from_u128(1), "exp": exp}));
        client.ok(json!({"op": "auth", "token": token})).await;
        assert_eq!(client.next().await["code"], "token_expired", "{exp}");
    }
}

/// A page of an attacker whose name was made to lead to the admin address, then a page that asks it directly.
#[tokio::test]
async fn no_web_page_reads_or_decides_anything() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let routes = [
        ("GET", "/held"),
        ("POST", "/held/1/release"),
        ("POST", "/held/1/refuse"),
        ("GET", "/plugins"),
        ("GET", "/ready"),
        ("GET", "/metrics"),
        ("GET", "/nothing"),
    ];
    for (method, path) in routes {
        for host in ["evil.example", "evil.example:9090", "localhost.evil.example"] {
            let answer = http_raw(gateway.admin_port, method, path, &format!("Host: {host}")).await;
            assert!(answer.starts_with("HTTP/1.1 421") && answer.contains("ADMIN_HOSTS"), "{path}: {answer}");
        }
        let absolute = format!("http://evil.example{path}");
        let answer = http_raw(gateway.admin_port, method, &absolute, "Host: localhost").await;
        assert!(answer.starts_with("HTTP/1.1 421"), "{path}: {answer}");
        for header in ["Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site"] {
            let answer = http_request(gateway.admin_port, method, path, header).await;
            assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("web pages"), "{path}: {answer}");
        }
        // Who types the address is a person.
        let answer = http_request(gateway.admin_port, method, path, "Sec-Fetch-Site: none").await;
        assert!(["200", "404"].iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status}"))), "{answer}");
    }
}

/// `plugin status`, with what it said.
async fn plugin_status(gateway: &Running, token: &str) -> (bool, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_arcyou-gateway"));
    command.env_clear().env("ADMIN_ADDR", format!("127.0.0.1:{}", gateway.admin_port)).env("ADMIN_TOKEN", token);
    let Output { status, stdout, stderr } = command.args(["plugin", "status"]).output().await.unwrap();
    (status.success(), [stdout, stderr].map(|text| String::from_utf8(text).unwrap()).concat())
}

#[tokio::test]
async fn with_a_token_nobody_decides_without_it() {
    let world = World::new().await;
    let gateway = world.gateway_with(&[("ADMIN_TOKEN", TOKEN)]).await;
    for (method, path) in
        [("GET", "/held"), ("POST", "/held/1/release"), ("POST", "/held/1/refuse"), ("GET", "/plugins")]
    {
        for header in ["Accept: */*", "Authorization: Bearer 0123456789abcdef-of-attackers", "Authorization: Bearer"] {
            let answer = http_request(gateway.admin_port, method, path, header).await;
            assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("ADMIN_TOKEN"), "{path}: {answer}");
            assert!(!answer.contains(TOKEN), "{answer}");
        }
        let answer = http_request(gateway.admin_port, method, path, &format!("Authorization: Bearer {TOKEN}")).await;
        assert!(["200", "404"].iter().any(|status| answer.starts_with(&format!("HTTP/1.1 {status}"))), "{answer}");
    }
    for path in ["/ready", "/metrics"] {
        assert!(gateway.get(path).await.starts_with("HTTP/1.1 200"), "{path}");
    }
    assert_eq!(plugin_status(&gateway, TOKEN).await, (true, "no plugins\n".to_owned()));
    for (token, text) in [("", "ADMIN_TOKEN"), ("0123456789abcdef-of-attackers", "401"), ("short", "at least 16")] {
        let (content, said) = plugin_status(&gateway, token).await;
        assert!(!content && said.contains(text), "{token}: {said}");
    }
}

#[tokio::test]
async fn where_others_reach_the_admin_address_they_see_what_monitors_see() {
    let world = World::new().await;
    let key = Issuer::new().public;
    let (port, admin_port) = (free_port(), free_port());
    let mut command = world.serve_command(port, admin_port);
    command.env("JWT_PUBLIC_KEY", key).env("ADMIN_ADDR", format!("0.0.0.0:{admin_port}"));
    command.env("ADMIN_HOSTS", "gateway.internal");
    let _program = command.spawn().unwrap();
    crate::support::ready(admin_port).await;
    for (method, path) in [("GET", "/held"), ("POST", "/held/1/release"), ("GET", "/plugins")] {
        let answer = http_request(admin_port, method, path, "Accept: */*").await;
        assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("set ADMIN_TOKEN"), "{path}: {answer}");
    }
    let scrape = http_raw(admin_port, "GET", "/metrics", "Host: gateway.internal:9090").await;
    assert!(scrape.starts_with("HTTP/1.1 200"), "{scrape}");
    assert!(scrape.contains(r#"arcyou_admin_refused_total{reason="token_not_set"} 3"#), "{scrape}");
}

/// What somebody reads who reads the log of a gateway that was asked to log everything.
#[tokio::test]
async fn no_log_level_shows_tokens_or_bodies() {
    let world = World::new().await;
    let issuer = Issuer::new();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let file = std::fs::File::create(&log).unwrap();
    let variables = [("RUST_LOG", "trace"), ("JWT_PUBLIC_KEY", issuer.public.as_str()), ("ADMIN_TOKEN", TOKEN)];
    let mut program = world.program_logging_to(Stdio::from(file), &variables).await;
    let user = Uuid::new_v4();
    let conversation = world.conversation(&[user]).await;
    let token = issuer.sign(&json!({"sub": user, "exp": now() + 600.0}));
    let wrong = Issuer::new().sign(&json!({"sub": user, "exp": now() + 600.0}));
    let mut client = Client::connect(program.port).await;
    assert_eq!(client.code(json!({"op": "auth", "token": wrong})).await, "token_signature");
    client.ok(json!({"op": "auth", "token": token})).await;
    client.ok(json!({"op": "join", "conversation_id": conversation})).await;
    client.say(conversation, "hunter2").await;
    client.ok(json!({"op": "history", "conversation_id": conversation})).await;
    client.code(json!({"op": "send", "conversation_id": Uuid::nil(), "body": {"text": "hunter2"}})).await;
    client.send_text(r#"{"op": "send", "body": hunter2"#).await;
    client.next().await;
    let authorized = format!("Authorization: Bearer {TOKEN}");
    assert!(http_request(program.admin_port, "GET", "/held", &authorized).await.starts_with("HTTP/1.1 200"));
    assert!(http_get(program.admin_port, "/held").await.starts_with("HTTP/1.1 401"));
    program.begin_stop().await;
    assert!(program.ended().await.success());
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("arcyou_gateway"), "nothing was logged: {log}");
    for secret in [token.as_str(), &wrong, "hunter2", TOKEN] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None);
    }
}
