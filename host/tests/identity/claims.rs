//! Who a token names, and how it may be signed, with tokens of real issuers.

use arcyou_gateway::auth::subject::{DEFAULT_NAMESPACE, UserIds, user_id};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::issuer::Issuer;
use crate::rotation::{auth, program};
use crate::support::World;
use crate::support::client::Client;

fn mapped(subject: &str) -> Uuid {
    user_id(UserIds::Mapped(DEFAULT_NAMESPACE), subject).unwrap()
}

#[tokio::test]
async fn another_algorithm_than_rs256_is_refused_unless_it_is_opted_into() {
    let world = World::new().await;
    let mut issuer = Issuer::start().await;
    for alg in ["ES256", "EdDSA", "PS256", "RS512"] {
        issuer.generate(alg, alg).await;
    }
    let default = program(&world, &issuer, &[]).await;
    let open = program(&world, &issuer, &[("JWT_ALGORITHMS", "ES256, EdDSA,PS256")]).await;
    for (kid, of_default, of_open) in [
        ("a", None, Some("token_algorithm")),
        ("ES256", Some("token_algorithm"), None),
        ("EdDSA", Some("token_algorithm"), None),
        ("PS256", Some("token_algorithm"), None),
        ("RS512", Some("token_algorithm"), Some("token_algorithm")),
    ] {
        let token = issuer.token(kid, json!({"sub": Uuid::new_v4(), "aud": "chat"})).await;
        let code = async |port| auth(port, &token).await["code"].as_str().map(str::to_owned);
        assert_eq!(code(default.port).await.as_deref(), of_default, "{kid}");
        assert_eq!(code(open.port).await.as_deref(), of_open, "{kid}");
    }
}

#[tokio::test]
async fn ids_that_are_no_uuids_chat_under_the_users_that_they_become() {
    let world = World::new().await;
    let mut issuer = Issuer::start().await;
    let gateway = program(&world, &issuer, &[("USER_ID_NAMESPACE", "default")]).await;
    let strict = program(&world, &issuer, &[]).await;
    let token = issuer.token("a", json!({"sub": "auth0|507f1f77", "aud": "chat"})).await;
    assert_eq!(auth(strict.port, &token).await["code"], "token_claims");
    let user = mapped("auth0|507f1f77");
    let conversation = world.conversation(&[user]).await;
    let mut client = Client::connect(gateway.port).await;
    let reply = client.ok(json!({"op": "auth", "token": token})).await;
    assert_eq!((&reply["userId"], &reply["subject"]), (&json!(user), &json!("auth0|507f1f77")));
    client.say(conversation, "my own id").await;
    assert_eq!(world.count(&format!("SELECT count(*) FROM messages WHERE sender_id = '{user}'")).await, 1);
    // A UUID is its own user, and there is nothing to tell.
    let uuid = Uuid::new_v4();
    let reply = auth(gateway.port, &issuer.token("a", json!({"sub": uuid, "aud": "chat"})).await).await;
    assert_eq!((&reply["userId"], &reply["subject"]), (&json!(uuid), &Value::Null));
    // Whoever names himself as another one is known does not become that one.
    let thief = auth(gateway.port, &issuer.token("a", json!({"sub": user, "aud": "chat"})).await).await;
    assert_eq!(thief["success"], true, "{thief}");
    assert_ne!(thief["userId"], json!(user));
}

#[tokio::test]
async fn the_claim_that_names_the_user_can_be_any() {
    let world = World::new().await;
    let mut issuer = Issuer::start().await;
    let user = Uuid::new_v4();
    let claims = json!({
        "sub": "auth0|507f1f77", "aud": "chat", "https://example.com/uid": user, "app_metadata": {"ids": [7, user]},
    });
    let token = issuer.token("a", claims).await;
    for claim in ["https://example.com/uid", "/app_metadata/ids/1"] {
        let gateway = program(&world, &issuer, &[("JWT_USER_CLAIM", claim)]).await;
        let reply = auth(gateway.port, &token).await;
        assert_eq!((&reply["userId"], &reply["subject"]), (&json!(user), &Value::Null), "{claim}: {reply}");
    }
    let gateway = program(&world, &issuer, &[("JWT_USER_CLAIM", "email")]).await;
    let refused = auth(gateway.port, &token).await;
    assert_eq!(refused["code"], "token_claims");
    assert!(refused["error"].as_str().unwrap().contains("in email"), "{refused}");
}

#[tokio::test]
async fn tokens_of_an_open_id_provider_are_good_as_they_are() {
    let world = World::new().await;
    let mut provider = Issuer::open_id().await;
    let found = provider.ask(json!({"do": "discover"})).await;
    let [issuer, jwks_url] = ["issuer", "jwks_uri"].map(|name| found[name].as_str().unwrap().to_owned());
    let variables = [
        ("JWT_PUBLIC_KEY", ""),
        ("JWT_JWKS_URL", jwks_url.as_str()),
        ("JWT_ISSUER", issuer.as_str()),
        ("JWT_AUDIENCE", "https://chat.example"),
        ("JWT_ALGORITHMS", "RS256,ES256"),
        ("USER_ID_NAMESPACE", "default"),
    ];
    let gateway = world.program(&variables).await;
    for alg in ["rs256", "es256"] {
        let answer = provider.ask(json!({"do": "token", "alg": alg})).await;
        let reply = auth(gateway.port, answer["access_token"].as_str().unwrap()).await;
        assert_eq!((&reply["userId"], &reply["subject"]), (&json!(mapped("bot")), &json!("bot")), "{answer} → {reply}");
    }
}
