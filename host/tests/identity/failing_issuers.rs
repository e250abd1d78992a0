//! Issuers that are away, silent, or answer what is no set of keys.

use rcgen::CertifiedKey;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::issuer::Issuer;
use crate::rotation::{auth, program, variables};
use crate::support::World;
use crate::support::client::Client;
use crate::support::program::Program;

fn claims() -> Value {
    json!({"sub": Uuid::new_v4(), "aud": "chat"})
}

/// The part `auth` of `/ready`, and whether the gateway is ready.
async fn report(program: &Program) -> (bool, Value) {
    let answer = program.get("/ready").await;
    let mut report: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    (report["ready"].as_bool().unwrap(), report["parts"]["auth"].take())
}

/// Has the keys fetched once more, and waits for that to fail.
async fn fail_to_fetch(program: &Program, times: f64) {
    program.signal("HUP").await;
    program.until_metric("arcyou_jwks_fetches_total{outcome=\"failed\"}", times).await;
}

#[tokio::test]
async fn keys_outlive_their_issuer_and_a_new_one_is_awaited() {
    let world = World::new().await;
    let mut issuer = Issuer::start().await;
    let gateway = program(&world, &issuer, &[]).await;
    let token = issuer.token("a", claims()).await;
    issuer.generate("RS256", "b").await;
    let newer = issuer.token("b", claims()).await;
    issuer.ask(json!({"do": "away"})).await;
    fail_to_fetch(&gateway, 1.0).await;
    let (ready, auth_part) = report(&gateway).await;
    assert!(ready && auth_part["state"] == "up", "{auth_part}");
    let warning = auth_part["warning"].as_str().unwrap();
    assert!(warning.contains(&issuer.jwks_url()) && warning.contains("cannot be reached"), "{warning}");
    assert_eq!(auth(gateway.port, &token).await["success"], true);
    // Nobody can tell whether this one is good: it may be tried again.
    let refused = auth(gateway.port, &newer).await;
    assert_eq!(refused["code"], "token_key_unknown", "{refused}");
    assert!(refused["retry_after_ms"].as_u64().unwrap() > 0, "{refused}");
    issuer.ask(json!({"do": "back"})).await;
    gateway.signal("HUP").await;
    gateway.until_metric("arcyou_jwks_fetches_total{outcome=\"fetched\"}", 2.0).await;
    assert_eq!(auth(gateway.port, &newer).await["success"], true);
    assert!(report(&gateway).await.1["warning"].is_null());
}

#[tokio::test]
async fn a_gateway_that_starts_before_its_issuer_waits_and_says_so() {
    let world = World::new().await;
    let mut issuer = Issuer::start().await;
    let token = issuer.token("a", claims()).await;
    issuer.ask(json!({"do": "away"})).await;
    let own = variables(&issuer);
    let mut variables: Vec<(&str, &str)> = own.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    variables.extend([("JWT_PUBLIC_KEY", ""), ("AUTH_SECONDS", "600")]);
    let gateway = world.starting_gateway(0, &variables).await;
    let reason = gateway.until("auth", "down").await;
    assert!(reason.contains("could not be fetched yet") && reason.contains(&issuer.jwks_url()), "{reason}");
    gateway.until("database", "up").await;
    gateway.until("schema", "up").await;
    assert!(gateway.get("/ready").await.starts_with("HTTP/1.1 503"), "nobody could get in");
    // More often than a socket may be refused: nothing is wrong with the token.
    let mut client = Client::connect(gateway.port).await;
    for _ in 0..6 {
        let refused = client.request(json!({"op": "auth", "token": token})).await;
        assert_eq!(refused["code"], "keys_unavailable", "{refused}");
        assert!(refused["retry_after_ms"].as_u64().unwrap() > 0, "{refused}");
    }
    // What shows without a key is refused all the same.
    assert_eq!(client.code(json!({"op": "auth", "token": "guess"})).await, "token_malformed");
    issuer.ask(json!({"do": "back"})).await;
    gateway.ready().await;
    client.ok(json!({"op": "auth", "token": token})).await;
}

#[tokio::test]
async fn whatever_an_issuer_answers_the_keys_of_before_stay() {
    let world = World::new().await;
    let mut issuer = Issuer::start().await;
    let mut other = Issuer::start().await;
    let gateway = program(&world, &issuer, &[]).await;
    let token = issuer.token("a", claims()).await;
    let elsewhere = |status: u16, to: String| json!({"status": status, "headers": {"location": to}});
    let published = json!({"keys": [{"kty": "oct", "kid": "a", "alg": "HS256", "k": "c2VjcmV0"}]});
    let answers = [
        (json!({"status": 500}), "it answers 500"),
        (json!({"status": 304}), "it answers 304"),
        (json!({"body": "<html>please log in</html>"}), "no set of keys"),
        (json!({"body": r#"{"keys":[]}"#}), "no key for RS256"),
        (json!({"body": published.to_string()}), "private part"),
        (json!({"bytes": 300_000}), "more than 262144 bytes"),
        // Not on this machine, so that it would have to be https.
        (elsewhere(302, "http://keys.example/jwks".to_owned()), "redirects to plain http"),
        (elsewhere(307, issuer.jwks_url()), "redirects too often"),
        (json!("silence"), "does not answer within 5 seconds"),
    ];
    for (times, (answer, reason)) in answers.into_iter().enumerate() {
        issuer.answer_instead(answer).await;
        fail_to_fetch(&gateway, times as f64 + 1.0).await;
        let (ready, part) = report(&gateway).await;
        let warning = part["warning"].as_str().unwrap_or_default();
        assert!(ready && warning.contains(reason), "{reason}: {part}");
        assert_eq!(auth(gateway.port, &token).await["success"], true, "{reason}");
    }
    // A redirect on this machine is followed, and its keys are the issuer's.
    issuer.answer_instead(elsewhere(302, other.jwks_url())).await;
    gateway.signal("HUP").await;
    gateway.until_metric("arcyou_jwks_fetches_total{outcome=\"fetched\"}", 2.0).await;
    let mut claims = claims();
    claims["iss"] = json!(issuer.name());
    let moved = other.token("a", claims).await;
    assert_eq!(auth(gateway.port, &moved).await["success"], true);
    assert_eq!(auth(gateway.port, &token).await["code"], "token_signature");
}

#[tokio::test]
async fn a_silent_issuer_holds_up_nobody_whose_key_is_known() {
    let world = World::new().await;
    let mut issuer = Issuer::start().await;
    let gateway = program(&world, &issuer, &[]).await;
    let token = issuer.token("a", claims()).await;
    issuer.answer_instead(json!("silence")).await;
    issuer.generate("RS256", "b").await;
    let newer = issuer.token("b", claims()).await;
    let mut waiting = Client::connect(gateway.port).await;
    waiting.send_text(json!({"op": "auth", "token": newer}).to_string()).await;
    // The gateway asks, and waits; others go on.
    while issuer.requests().await < 2 {
        tokio::task::yield_now().await;
    }
    for _ in 0..20 {
        assert_eq!(auth(gateway.port, &token).await["success"], true);
    }
    // The answer comes by itself, well before the client would give the connection up.
    let answer = waiting.next().await;
    assert!(answer["code"] == "token_key_unknown" && answer["retry_after_ms"].is_u64(), "{answer}");
}

#[tokio::test]
async fn keys_come_over_https_from_whom_this_machine_trusts_and_from_nobody_else() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (key, certificate) = (write("key.pem", signing_key.serialize_pem()), write("cert.pem", cert.pem()));
    let mut issuer = Issuer::secured(&key, &certificate).await;
    let token = issuer.token("a", claims()).await;
    let trusting = program(&world, &issuer, &[("SSL_CERT_FILE", &certificate)]).await;
    assert_eq!(auth(trusting.port, &token).await["success"], true);
    let own = variables(&issuer);
    let mut variables: Vec<(&str, &str)> = own.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    variables.push(("JWT_PUBLIC_KEY", ""));
    let wary = world.starting_gateway(0, &variables).await;
    let reason = wary.until("auth", "down").await;
    assert!(reason.contains("certificate"), "{reason}");
    assert_eq!(auth(wary.port, &token).await["code"], "keys_unavailable");
}
