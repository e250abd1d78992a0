//! Joining many conversations at once, as a client does that comes back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

use crate::support::client::Client;
use crate::support::{World, blocking};

/// A link to the database that keeps what the gateway says, to count its questions.
struct Wiretap {
    port: u16,
    /// What each connection has said.
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Wiretap {
    async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::<Mutex<Vec<Vec<u8>>>>::default();
        let connections = heard.clone();
        tokio::spawn(async move {
            for number in 0.. {
                let Ok((near, _)) = listener.accept().await else { return };
                let far = TcpStream::connect(("127.0.0.1", upstream)).await.unwrap();
                connections.lock().unwrap().push(Vec::new());
                let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.into_split(), far.into_split());
                let heard = connections.clone();
                tokio::spawn(async move { tokio::io::copy(&mut far_in, &mut near_out).await });
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64 * 1024];
                    while let Ok(count @ 1..) = near_in.read(&mut buffer).await {
                        heard.lock().unwrap()[number].extend(&buffer[..count]);
                        far_out.write_all(&buffer[..count]).await.unwrap();
                    }
                });
            }
        });
        Self { port, heard }
    }

    /// How many statements have this text in them. Each is sent in full each time.
    fn count(&self, text: &str) -> usize {
        let heard = self.heard.lock().unwrap();
        let count = |said: &Vec<u8>| said.windows(text.len()).filter(|part| *part == text.as_bytes()).count();
        heard.iter().map(count).sum()
    }
}

/// Conversations of a user, each with so many messages.
async fn conversations(world: &World, user: Uuid, count: i64, messages: i64) -> Vec<Uuid> {
    let insert = "
        WITH made AS (INSERT INTO conversations (last_seq) SELECT $3 FROM generate_series(1, $2::bigint) RETURNING id),
        joined AS (INSERT INTO participants (conversation_id, user_id) SELECT id, $1 FROM made),
        said AS (
            INSERT INTO messages (conversation_id, seq, n, changed_seq, sender_id, body)
            SELECT id, seq, seq, seq, $1, '{}' FROM made, generate_series(1, $3::bigint) seq ORDER BY id, seq)
        SELECT id FROM made";
    let sql = world.connect().await;
    // The user is in them for so long that nobody has to be told.
    sql.batch_execute("SET session_replication_role = replica").await.unwrap();
    let rows = sql.query(insert, &[&user, &count, &messages]).await.unwrap();
    let newest = "UPDATE conversations c SET last_message_id = coalesce(
        (SELECT max(id) FROM messages WHERE conversation_id = c.id), 0)";
    sql.batch_execute(newest).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn message_id(world: &World, conversation: Uuid, seq: i64) -> i64 {
    let query = "SELECT id FROM messages WHERE conversation_id = $1 AND seq = $2";
    world.sql.query_one(query, &[&conversation, &seq]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_thousand_rooms_are_joined_again_by_two_frames_and_two_questions_each() {
    const MESSAGES: i64 = 4;
    let world = World::new().await;
    let user = Uuid::new_v4();
    let ids = conversations(&world, user, 1000, MESSAGES).await;
    let wiretap = Wiretap::start(world.servers.bouncer.port()).await;
    let url =
        world.database_url().replace(&format!(":{}/", world.servers.bouncer.port()), &format!(":{}/", wiretap.port));
    let gateway = world.gateway_with(&[("DATABASE_URL", &url)]).await;
    let _worker = world.worker().await;
    let mut client = Client::authenticated(gateway.port, user).await;
    // Of every tenth something was missed; half of those are resumed by an id.
    let mut owed = HashMap::new();
    let mut entries = Vec::new();
    for (number, id) in ids.iter().enumerate() {
        let last = if number % 10 == 0 { (number / 10) as i64 % MESSAGES } else { MESSAGES };
        owed.insert(*id, last);
        entries.push(match number % 20 {
            10 if last > 0 => json!({"conversation_id": id, "after_id": message_id(&world, *id, last).await}),
            _ => json!({"conversation_id": id, "after_seq": last}),
        });
    }
    for half in entries.chunks(500) {
        client.send_text(json!({"op": "join", "conversations": half, "ref": "all"}).to_string()).await;
    }
    let (mut replies, mut missing) = (Vec::new(), owed.values().map(|last| MESSAGES - last).sum::<i64>());
    while replies.len() < 2 || missing > 0 {
        let frame = client.next().await;
        if frame["op"] == "join" {
            replies.push(frame);
            continue;
        }
        assert_eq!(frame["source"], "backfill", "{frame}");
        let last = owed.get_mut(&frame["conversation_id"].as_str().unwrap().parse().unwrap()).unwrap();
        *last += 1;
        assert_eq!(frame["message"]["seq"], *last, "each once, in order: {frame}");
        missing -= 1;
    }
    let answered = replies.iter().flat_map(|reply| reply["conversations"].as_array().unwrap());
    for (id, entry) in ids.iter().zip(answered) {
        assert_eq!(
            *entry,
            json!({"success": true, "conversation_id": id, "conversationId": id, "last_seq": MESSAGES,
                "last_read_id": 0, "role": "member", "resumed": true})
        );
    }
    assert!(replies.iter().all(|reply| reply["success"] == true && reply["ref"] == "all"));
    assert_eq!(
        wiretap.count("c.last_seq, c.purged_seq, c.id FROM participants"),
        2,
        "who participates, for all of a list"
    );
    assert_eq!(wiretap.count("c.last_message_id >= r.id"), 2, "where all of a list go on");
    assert!(
        wiretap.count("c.last_seq, c.purged_seq FROM participants") <= 100,
        "but for those that are behind, page by page"
    );
    // All of them are live.
    for id in [ids[0], ids[1], ids[999]] {
        client.say(id, "now").await;
        let event = client.event().await;
        assert_eq!((&event["source"], &event["message"]["seq"]), (&json!("live"), &json!(MESSAGES + 1)));
    }
}

#[tokio::test]
async fn an_entry_that_is_refused_keeps_no_other_from_being_joined() {
    let world = World::new().await;
    let gateway = world.gateway_with(&[("PUBSUB_MODE", "perconv"), ("MAX_JOINED", "5")]).await;
    let _worker = world.worker_in(arcyou_platform::contract::PubSubMode::PerConversation).await;
    let (user, stranger) = (Uuid::new_v4(), Uuid::new_v4());
    let ids = conversations(&world, user, 8, 2).await;
    let foreign = world.conversation(&[stranger]).await;
    let mut client = Client::joined(gateway.port, user, ids[0]).await;
    let entries = json!([
        {"conversation_id": foreign},
        {"conversation_id": ids[0], "after_seq": 1},
        {"conversation_id": ids[1], "after_seq": 3},
        {"conversation_id": ids[2]},
        {"conversation_id": ids[3], "after_id": 1_000_000},
        {"conversation_id": Uuid::nil()},
        {"conversation_id": ids[4]},
        {"conversation_id": ids[5], "after_id": 0},
        {"conversation_id": ids[6]},
        {"conversation_id": ids[7]},
    ]);
    let reply = client.ok(json!({"op": "join", "conversations": entries})).await;
    let told: Vec<Value> = reply["conversations"].as_array().unwrap().clone();
    let codes: Vec<&str> = told.iter().map(|entry| entry["code"].as_str().unwrap_or("ok")).collect();
    let expected = [
        "not_participant",
        "ok",
        "unknown_message",
        "ok",
        "unknown_message",
        "not_participant",
        "ok",
        "ok",
        "ok",
        "too_many_joined",
    ];
    assert_eq!(codes, expected);
    for (asked, entry) in entries.as_array().unwrap().iter().zip(&told) {
        assert_eq!(entry["conversation_id"], asked["conversation_id"]);
        assert_eq!(
            (entry["success"] == true, entry["error"].is_string()),
            (entry["code"].is_null(), entry["code"].is_string())
        );
    }
    // One goes on where it was told to, another from the beginning; the others are live.
    let mut backfilled = Vec::new();
    for _ in 0..3 {
        let event = client.event().await;
        backfilled.push((event["conversation_id"].clone(), event["message"]["seq"].as_i64().unwrap()));
    }
    assert_eq!(backfilled, [(json!(ids[0]), 2), (json!(ids[5]), 1), (json!(ids[5]), 2)]);
    for id in [ids[0], ids[2], ids[4], ids[5], ids[6]] {
        client.say(id, "here").await;
        assert_eq!(client.message().await, ("here".to_owned(), 3));
    }
    // Of what was refused nothing is kept.
    let redis = world.redis.clone();
    let channels = blocking(move || crate::fanout::redis::ask(&redis, "PUBSUB CHANNELS conv:*")).await;
    assert!(channels.contains(&ids[6].to_string()), "{channels}");
    for id in [foreign, ids[1], ids[3], ids[7], Uuid::nil()] {
        assert!(!channels.contains(&id.to_string()), "{channels}");
        assert_eq!(client.code(json!({"op": "leave", "conversation_id": id})).await, "not_joined");
    }
}

#[tokio::test]
async fn a_list_costs_frames_by_its_length_and_is_never_too_long_for_ever() {
    let world = World::new().await;
    // No allowance comes back while the test runs, however slow it is.
    let gateway = world.gateway_with(&[("RATE_LIMIT_PER_SECOND", "1"), ("RATE_LIMIT_BURST", "4")]).await;
    let user = Uuid::new_v4();
    let ids = conversations(&world, user, 90, 0).await;
    let list = |ids: &[Uuid]| {
        let entries: Vec<Value> = ids.iter().map(|id| json!({"conversation_id": id})).collect();
        json!({"op": "join", "conversations": entries})
    };
    let mut client = Client::connect(gateway.port).await;
    let limits = client.ok(json!({"op": "auth", "token": user})).await["limits"].clone();
    let expected = json!({"frames_per_second": 1, "frames_burst": 4, "max_frame_bytes": 65_536,
        "max_body_bytes": 32_768, "max_joined": 1000, "max_join_list": 80, "joins_per_frame": 20});
    assert_eq!(limits, expected);
    let joined = client.ok(list(&ids[..80])).await;
    assert!(joined["conversations"].as_array().unwrap().iter().all(|entry| entry["success"] == true));
    // Four frames' worth takes four seconds to come back.
    let refused = client.request(list(&ids[..80])).await;
    assert_eq!(refused["code"], "rate_limited");
    let wait = refused["retry_after_ms"].as_u64().unwrap();
    assert!((1..=4000).contains(&wait), "{wait}");
    let mut patient = Client::authenticated(gateway.port, Uuid::new_v4()).await;
    let too_long = patient.request(list(&ids[..81])).await;
    assert_eq!(too_long["code"], "invalid_field");
    assert!(too_long["error"].as_str().unwrap().contains("1 to 80 entries"), "{too_long}");
}

/// A renewal of the token goes on with all conversations by one question.
#[tokio::test]
async fn a_fresh_token_goes_on_with_all_conversations_by_one_question() {
    use crate::support::jwt::{Issuer, now};
    let world = World::new().await;
    let issuer = Issuer::new();
    let user = Uuid::new_v4();
    let ids = conversations(&world, user, 30, 1).await;
    let wiretap = Wiretap::start(world.servers.bouncer.port()).await;
    let url =
        world.database_url().replace(&format!(":{}/", world.servers.bouncer.port()), &format!(":{}/", wiretap.port));
    let gateway =
        world.gateway_with(&[("DATABASE_URL", &url), ("JWT_PUBLIC_KEY", &issuer.public), ("AUTH_SECONDS", "60")]).await;
    let _worker = world.worker().await;
    let mut client = Client::connect(gateway.port).await;
    let token = |seconds: f64| issuer.sign(&json!({"sub": user, "exp": now() + seconds}));
    client.ok(json!({"op": "auth", "token": token(4.0)})).await;
    let entries: Vec<Value> = ids.iter().map(|id| json!({"conversation_id": id})).collect();
    client.ok(json!({"op": "join", "conversations": entries})).await;
    assert_eq!(client.next().await["code"], "token_expired");
    client.ok(json!({"op": "auth", "token": token(3600.0)})).await;
    for id in [ids[0], ids[29]] {
        client.say(id, "on").await;
        assert_eq!(client.message().await, ("on".to_owned(), 2));
    }
    assert_eq!(wiretap.count("c.last_seq, c.purged_seq, c.id FROM participants"), 2);
    assert_eq!(wiretap.count("c.last_seq, c.purged_seq FROM participants"), 0);
}
