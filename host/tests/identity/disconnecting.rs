//! Users who are disconnected: on every gateway, whoever asks for it, and whatever happens at the same moment.

use std::collections::HashSet;
use std::time::Instant;

use arcyou_gateway::store::Store;
use arcyou_platform::database;
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio_postgres::Client as Sql;
use uuid::Uuid;

use crate::rotation::auth;
use crate::support::client::Client;
use crate::support::gateway::Running;
use crate::support::jwt::{Issuer, now};
use crate::support::{World, blocking};

/// The close code of a user who was disconnected.
const DISCONNECTED: Option<u16> = Some(4504);

fn token(issuer: &Issuer, user: Uuid) -> String {
    issuer.sign(&json!({"sub": user, "iat": now(), "exp": now() + 3600.0}))
}

async fn gateway(world: &World, issuer: &Issuer) -> Running {
    world.gateway_with(&[("JWT_PUBLIC_KEY", &issuer.public)]).await
}

async fn authenticated(port: u16, token: &str) -> Client {
    let mut client = Client::connect(port).await;
    client.ok(json!({"op": "auth", "token": token})).await;
    client
}

async fn disconnect(sql: &Sql, user: Uuid) {
    sql.query_one("SELECT disconnect_user($1)", &[&user]).await.unwrap();
}

#[tokio::test]
async fn a_user_is_gone_from_every_gateway_and_comes_back_with_a_newer_token() {
    let world = World::new().await;
    let issuer = Issuer::new();
    let gateways = [gateway(&world, &issuer).await, gateway(&world, &issuer).await];
    let [user, other] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[user, other]).await;
    let (old, of_other) = (token(&issuer, user), token(&issuer, other));
    let mut sockets = Vec::new();
    for gateway in gateways.iter().chain(&gateways) {
        sockets.push(authenticated(gateway.port, &old).await);
    }
    let mut bystander = authenticated(gateways[0].port, &of_other).await;
    sockets[0].say(conversation, "goodbye").await;
    let store = Store::new(database::pool(&world.database_url().parse().unwrap(), 1).unwrap());
    let since = store.cut_off(user).await.unwrap();
    assert!(since.ends_with('Z') && since.contains('T'), "{since}");
    let began = Instant::now();
    for mut socket in sockets {
        assert_eq!(socket.closed().await, DISCONNECTED);
    }
    println!("four sockets on two gateways were closed {:?} after the user was disconnected", began.elapsed());
    for gateway in &gateways {
        let refused = auth(gateway.port, &old).await;
        assert_eq!(refused["code"], "token_revoked", "{refused}");
        let mut back = authenticated(gateway.port, &token(&issuer, user)).await;
        back.say(conversation, "here I am again").await;
    }
    bystander.say(conversation, "I was here all the time").await;
    assert_eq!(auth(gateways[1].port, &of_other).await["success"], true);
}

#[tokio::test]
async fn a_token_that_does_not_say_when_it_was_issued_is_older_than_any_disconnection() {
    let world = World::new().await;
    let issuer = Issuer::new();
    let gateway = gateway(&world, &issuer).await;
    let user = Uuid::new_v4();
    let silent = issuer.sign(&json!({"sub": user, "exp": now() + 3600.0}));
    let of_future = issuer.sign(&json!({"sub": user, "iat": now() + 600.0, "exp": now() + 3600.0}));
    let mut sockets = [authenticated(gateway.port, &silent).await, authenticated(gateway.port, &of_future).await];
    disconnect(&world.sql, user).await;
    for socket in &mut sockets {
        assert_eq!(socket.closed().await, DISCONNECTED);
    }
    for token in [&silent, &of_future] {
        assert_eq!(auth(gateway.port, token).await["code"], "token_revoked");
    }
    // A session is not renewed with what was revoked before it began, and goes on.
    let mut client = authenticated(gateway.port, &token(&issuer, user)).await;
    assert_eq!(client.code(json!({"op": "auth", "token": silent})).await, "token_revoked");
    client.ok(json!({"op": "auth", "token": token(&issuer, user)})).await;
    let conversation = world.conversation(&[user]).await;
    client.say(conversation, "still here").await;
}

#[tokio::test]
async fn a_service_disconnects_users_in_a_transaction_of_its_own_and_takes_nothing_back() {
    let world = World::new().await;
    world.grant_rights().await;
    let issuer = Issuer::new();
    let gateway = gateway(&world, &issuer).await;
    let service = world.login(Some("arcyou_service")).await.connect().await;
    // Wherever the service looks for its own tables.
    service.batch_execute("SET search_path = pg_temp").await.unwrap();
    let [early, late] = [Uuid::new_v4(), Uuid::new_v4()];
    let mut sockets = [
        authenticated(gateway.port, &token(&issuer, early)).await,
        authenticated(gateway.port, &token(&issuer, late)).await,
    ];
    service.batch_execute("BEGIN").await.unwrap();
    let disconnect_user = "SELECT public.disconnect_user($1)";
    service.query_one(disconnect_user, &[&late]).await.unwrap();
    // Another one begins later, and commits before.
    disconnect(&world.sql, early).await;
    assert_eq!(sockets[0].closed().await, DISCONNECTED);
    assert_eq!(sockets[1].request(json!({"op": "ping"})).await["success"], true);
    service.batch_execute("COMMIT").await.unwrap();
    assert_eq!(sockets[1].closed().await, DISCONNECTED);

    let before = service.query_one(disconnect_user, &[&late]).await.unwrap().get::<_, std::time::SystemTime>(0);
    let counted = "INSERT INTO public.user_cutoffs (user_id) VALUES ($1)
        ON CONFLICT (user_id) DO UPDATE SET times = 0 RETURNING not_before";
    let after = service.query_one(counted, &[&late]).await.unwrap().get::<_, std::time::SystemTime>(0);
    assert!(after > before, "whatever is written, the time is that of the writing");
    for statement in [
        "UPDATE public.user_cutoffs SET not_before = now() - interval '1 day'",
        "UPDATE public.user_cutoffs SET user_id = gen_random_uuid()",
        "INSERT INTO public.user_cutoffs (user_id, not_before) VALUES (gen_random_uuid(), '1970-01-01')",
        "DELETE FROM public.user_cutoffs",
        "TRUNCATE public.user_cutoffs",
    ] {
        assert!(service.batch_execute(statement).await.is_err(), "{statement}");
    }
}

#[tokio::test]
async fn whoever_authenticates_at_the_very_moment_is_out_as_well() {
    let world = World::new().await;
    let issuer = Issuer::new();
    let gateway = gateway(&world, &issuer).await;
    let mut ends = HashSet::new();
    for _ in 0..20 {
        let users: Vec<Uuid> = (0..5).map(|_| Uuid::new_v4()).collect();
        let tokens: Vec<String> = users.iter().map(|user| token(&issuer, *user)).collect();
        let mut clients = join_all(users.iter().map(|_| Client::connect(gateway.port))).await;
        let disconnecting = async {
            for user in &users {
                disconnect(&world.sql, *user).await;
            }
        };
        let authenticating = join_all(
            clients
                .iter_mut()
                .zip(&tokens)
                .map(async |(client, token)| client.request(json!({"op": "auth", "token": token})).await),
        );
        let ((), answers) = tokio::join!(disconnecting, authenticating);
        for (client, answer) in clients.iter_mut().zip(answers) {
            if answer["success"] == true {
                assert_eq!(client.closed().await, DISCONNECTED);
                ends.insert("closed");
            } else {
                assert_eq!(answer["code"], "token_revoked", "{answer}");
                ends.insert("refused");
            }
        }
    }
    println!("100 users who authenticated and were disconnected at once were {ends:?}");
}

#[tokio::test]
async fn while_the_database_is_away_nobody_does_anything_and_nobody_is_missed() {
    let world = World::breakable().await;
    let issuer = Issuer::new();
    let gateway = gateway(&world, &issuer).await;
    let [user, fine] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[user, fine]).await;
    let (old, good) = (token(&issuer, user), token(&issuer, fine));
    let mut before = authenticated(gateway.port, &old).await;
    let bouncer = world.bouncer.clone().unwrap();
    let paused = bouncer.clone();
    blocking(move || paused.pause().unwrap()).await;
    disconnect(&world.sql, user).await;
    // Both get in, since nobody knows; and no further.
    let mut during = [authenticated(gateway.port, &old).await, authenticated(gateway.port, &good).await];
    let join = || json!({"op": "join", "conversation_id": conversation});
    for client in &mut during {
        assert_eq!(client.code(join()).await, "unavailable");
        assert_eq!(client.request(json!({"op": "ping"})).await["success"], true);
    }
    // A session that cannot be renewed now goes on as it was.
    let renewed = before.request(json!({"op": "auth", "token": old})).await;
    assert_eq!(renewed["code"], "unavailable", "{renewed}");
    blocking(move || bouncer.resume().unwrap()).await;
    let [mut revoked, mut admitted] = during;
    assert_eq!((before.closed().await, revoked.closed().await), (DISCONNECTED, DISCONNECTED));
    loop {
        let answer: Value = admitted.request(join()).await;
        if answer["success"] == true {
            break;
        }
        assert_eq!(answer["code"], "unavailable", "{answer}");
    }
    admitted.say(conversation, "only I am here").await;
}

#[tokio::test]
async fn in_development_sockets_end_and_the_same_token_is_good_again() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let user = Uuid::new_v4();
    for _ in 0..2 {
        let mut client = Client::authenticated(gateway.port, user).await;
        disconnect(&world.sql, user).await;
        assert_eq!(client.closed().await, DISCONNECTED);
    }
    Client::authenticated(gateway.port, user).await;
}
