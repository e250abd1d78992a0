//! Several issuers, each with keys, an audience and users of its own.

use std::path::Path;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::issuer::Issuer;
use crate::rotation::auth;
use crate::support::World;
use crate::support::jwt;
use crate::support::program::Program;

/// A gateway that believes the issuers of this file.
async fn program(world: &World, file: &Path) -> Program {
    world.program(&[("JWT_PUBLIC_KEY", ""), ("JWT_ISSUERS", file.to_str().unwrap())]).await
}

fn entry(issuer: &Issuer, others: &str) -> String {
    format!("[[issuer]]\nissuer = \"{}\"\njwks_url = \"{}\"\n{others}\n", issuer.name(), issuer.jwks_url())
}

#[tokio::test]
async fn two_issuers_have_two_audiences_and_the_same_sub_is_two_users() {
    let world = World::new().await;
    let (mut staff, mut partner) = (Issuer::start().await, Issuer::without_keys().await);
    partner.generate("ES256", "a").await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("issuers.toml");
    // A third one, whose key is in a file beside the list.
    let guests = jwt::Issuer::new();
    std::fs::write(folder.path().join("guests.pub.pem"), &guests.public).unwrap();
    let text = format!(
        "{}{}[[issuer]]\nissuer = \"guests\"\naudience = \"any\"\npublic_key = \"guests.pub.pem\"\nusers = \"own\"\n",
        entry(&staff, "audience = [\"chat\", \"chat-staging\"]\nusers = \"shared\""),
        entry(&partner, "audience = \"partner-chat\"\nalgorithms = [\"ES256\"]\nusers = \"own\""),
    );
    std::fs::write(&file, text).unwrap();
    let gateway = program(&world, &file).await;
    let sub = Uuid::new_v4();
    let claims = |aud: &str| json!({"sub": sub, "aud": aud});
    let of_staff = auth(gateway.port, &staff.token("a", claims("chat-staging")).await).await;
    assert_eq!((&of_staff["userId"], &of_staff["subject"]), (&json!(sub), &Value::Null));
    let of_partner = auth(gateway.port, &partner.token("a", claims("partner-chat")).await).await;
    assert_eq!((of_partner["success"].as_bool(), &of_partner["subject"]), (Some(true), &json!(sub)), "{of_partner}");
    let guest = json!({"sub": sub, "iss": "guests", "exp": jwt::now() + 600.0});
    let of_guests = auth(gateway.port, &guests.sign(&guest)).await;
    assert_eq!(of_guests["subject"], json!(sub), "{of_guests}");
    let mut users = [&of_staff, &of_partner, &of_guests].map(|reply| reply["userId"].as_str().unwrap().to_owned());
    users.sort();
    assert!(users[0] != users[1] && users[1] != users[2], "{users:?}");

    let refused = async |token: &str| auth(gateway.port, token).await["code"].as_str().unwrap_or_default().to_owned();
    assert_eq!(refused(&staff.token("a", claims("partner-chat")).await).await, "token_audience");
    assert_eq!(refused(&partner.token("a", claims("chat")).await).await, "token_audience");
    // In the name of another one.
    let mut forged = claims("chat");
    forged["iss"] = json!(staff.name());
    assert_eq!(refused(&partner.token("a", forged).await).await, "token_algorithm");
    let mut forged = claims("partner-chat");
    forged["iss"] = json!(partner.name());
    assert_eq!(refused(&staff.token("a", forged).await).await, "token_algorithm");
    let forged = json!({"sub": sub, "iss": staff.name(), "aud": "chat", "exp": jwt::now() + 600.0});
    assert_eq!(refused(&jwt::Issuer::new().sign(&forged)).await, "token_signature");
    // Who speaks for no partner does not become one by its id.
    let stolen = json!({"sub": of_partner["userId"], "aud": "chat"});
    assert_eq!(refused(&staff.token("a", stolen).await).await, "token_claims");
    let mut stranger = claims("chat");
    stranger["iss"] = json!("https://login.evil.example/");
    assert_eq!(refused(&staff.token("a", stranger).await).await, "token_issuer");
}

#[tokio::test]
async fn one_issuer_that_is_away_keeps_nobody_elses_users_out() {
    let world = World::new().await;
    let (mut staff, mut partner) = (Issuer::start().await, Issuer::start().await);
    let claims = json!({"sub": Uuid::new_v4(), "aud": "chat"});
    let of_partner = partner.token("a", claims.clone()).await;
    partner.ask(json!({"do": "away"})).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("issuers.toml");
    let rest = "audience = \"chat\"\nusers = \"shared\"";
    std::fs::write(&file, entry(&staff, rest) + &entry(&partner, rest)).unwrap();
    let gateway = program(&world, &file).await;
    assert_eq!(auth(gateway.port, &staff.token("a", claims).await).await["success"], true);
    let refused = auth(gateway.port, &of_partner).await;
    assert_eq!(refused["code"], "keys_unavailable", "{refused}");
    let report = gateway.get("/ready").await;
    assert!(report.starts_with("HTTP/1.1 200") && report.contains(&partner.jwks_url()), "{report}");
    partner.ask(json!({"do": "back"})).await;
    gateway.signal("HUP").await;
    gateway.until_metric("arcyou_jwks_fetches_total{outcome=\"fetched\"}", 3.0).await;
    assert_eq!(auth(gateway.port, &of_partner).await["success"], true);
}

#[tokio::test]
async fn a_wrong_configuration_is_told_with_what_to_write() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("issuers.toml");
    std::fs::write(&file, "[[issuer]]\nissuer = \"x\"\naudience = \"chat\"\njwks_url = \"https://x.example/\"\n")
        .unwrap();
    let file = file.to_str().unwrap();
    let url = "https://login.example.com/jwks";
    for (variables, told) in [
        (vec![("JWT_ISSUERS", file)], vec!["line 1", "users = \"shared\"", "users = \"own\""]),
        (vec![("JWT_ISSUERS", file), ("JWT_JWKS_URL", url)], vec!["JWT_JWKS_URL is set beside JWT_ISSUERS"]),
        (vec![("JWT_JWKS_URL", url)], vec!["JWT_ISSUER is not set", "JWT_AUDIENCE is not set", "any"]),
        (vec![("JWT_JWKS_URL", "http://login.example.com/jwks")], vec!["must begin with https://"]),
        (vec![("JWT_ALGORITHMS", "HS256")], vec!["symmetric"]),
        (vec![("JWT_ALGORITHMS", "RS256,none")], vec!["nobody has signed"]),
        (vec![("USER_ID_NAMESPACE", "ours")], vec!["a UUID, or default"]),
        (vec![], vec!["JWT_PUBLIC_KEY is not set", "JWT_JWKS_URL", "JWT_ISSUERS"]),
        (vec![("JWT_JWKS_URL", url), ("JWT_PUBLIC_KEY", "dev-placeholder")], vec!["believes everybody", "unset one"]),
    ] {
        let mut command = world.serve_command(0, 0);
        let output = command.env("JWT_PUBLIC_KEY", "").envs(variables.clone()).output().await.unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{variables:?}: {error}");
        for told in told {
            assert!(error.contains(told), "{variables:?}: {told} is missing in {error}");
        }
    }
}
