//! One user with many sockets, and readers of much: what is allowed is allowed to the user, and bounded in bytes.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;
use crate::support::program::Program;

const KIB: usize = 1024;
/// What a page of stored messages may hold with the default queue.
const PAGE: usize = 256 * KIB;

/// Gives a conversation messages 1 to `count` whose texts have these many bytes, in turn.
async fn fill(world: &World, conversation: Uuid, count: i64, sizes: &[i32]) {
    let insert = "WITH counted AS (UPDATE conversations SET last_seq = $2 WHERE id = $1)
        INSERT INTO messages (conversation_id, seq, n, changed_seq, sender_id, body)
        SELECT $1, seq, seq, seq, gen_random_uuid(),
            jsonb_build_object('text', repeat('x', ($3::int[])[1 + seq % cardinality($3)]))
        FROM generate_series(1, $2::bigint) seq";
    world.sql.execute(insert, &[&conversation, &count, &sizes]).await.unwrap();
}

async fn alone(world: &World) -> (Uuid, Uuid) {
    let user = Uuid::new_v4();
    (user, world.conversation(&[user]).await)
}

/// Sends so many messages at once; answers how many were stored.
async fn flood(client: &mut Client, conversation: Uuid, count: usize) -> usize {
    for _ in 0..count {
        client.send_text(json!({"op": "send", "conversation_id": conversation, "body": {}}).to_string()).await;
    }
    let mut stored = 0;
    for _ in 0..count {
        let reply = client.next().await;
        if reply["success"] == true {
            stored += 1;
        } else {
            assert_eq!(reply["code"], "rate_limited", "{reply}");
        }
    }
    stored
}

/// The burst, and what came in while the test ran.
fn allowed(burst: usize, since: Instant) -> usize {
    burst + since.elapsed().as_secs() as usize + 1
}

const SLOW: [(&str, &str); 2] = [("RATE_LIMIT_PER_SECOND", "1"), ("RATE_LIMIT_BURST", "30")];

#[tokio::test]
async fn many_sockets_of_one_user_share_one_allowance() {
    let world = World::new().await;
    let gateway = world.program(&SLOW).await;
    let (user, conversation) = alone(&world).await;
    let started = Instant::now();
    let mut sockets = join_all((0..20).map(|_| Client::authenticated(gateway.port, user))).await;
    let stored: usize =
        join_all(sockets.iter_mut().map(|socket| flood(socket, conversation, 30))).await.into_iter().sum();
    assert!((30..=allowed(30, started)).contains(&stored), "{stored}");
    assert_eq!(world.count("SELECT count(*) FROM messages").await, stored as i64);
    assert_eq!(gateway.metric(r#"arcyou_refused_users_total{bound="frames"} "#).await, (600 - stored) as f64);
    // Another user has an allowance of their own.
    let (other, theirs) = alone(&world).await;
    assert_eq!(flood(&mut Client::authenticated(gateway.port, other).await, theirs, 30).await, 30);
}

#[tokio::test]
async fn a_reconnect_does_not_renew_the_allowance() {
    let world = World::new().await;
    let gateway = world.gateway_with(&SLOW).await;
    let (user, conversation) = alone(&world).await;
    let (started, mut stored) = (Instant::now(), 0);
    for _ in 0..20 {
        stored += flood(&mut Client::authenticated(gateway.port, user).await, conversation, 30).await;
    }
    assert!((30..=allowed(30, started)).contains(&stored), "{stored}");
}

#[tokio::test]
async fn one_user_cannot_take_all_places() {
    let world = World::new().await;
    let gateway = world.program(&[("MAX_SOCKETS_PER_USER", "3"), ("RATE_LIMIT_PER_SECOND", "0")]).await;
    let (user, _) = alone(&world).await;
    let auth = json!({"op": "auth", "token": user});
    let mut sockets = join_all((0..3).map(|_| Client::authenticated(gateway.port, user))).await;
    for _ in 0..5 {
        let mut further = Client::connect(gateway.port).await;
        assert_eq!(further.code(auth.clone()).await, "too_many_sockets");
        assert_eq!(further.closed().await, Some(4503));
    }
    assert_eq!(gateway.metric(r#"arcyou_refused_users_total{bound="sockets"} "#).await, 5.0);
    assert_eq!(gateway.metric(r#"arcyou_closed_total{code="4503"} "#).await, 5.0);
    // Nobody else is concerned, and neither are those that are open.
    Client::authenticated(gateway.port, Uuid::new_v4()).await;
    for socket in &mut sockets {
        socket.ok(auth.clone()).await;
    }
    // A place that is given back is free.
    drop(sockets.pop());
    while Client::connect(gateway.port).await.request(auth.clone()).await["success"] != true {}
}

/// The seqs of a page, and whether there is more; it must not be larger than a page may be.
async fn page(client: &mut Client, conversation: Uuid, extra: (&str, i64)) -> (Vec<i64>, bool) {
    let request = json!({"op": "history", "conversation_id": conversation, "limit": 200, extra.0: extra.1});
    let reply = client.ok(request).await;
    let messages = reply["messages"].as_array().unwrap();
    let bytes: usize = messages.iter().map(|message| message.to_string().len()).sum();
    assert!(bytes <= PAGE || messages.len() == 1, "{bytes} bytes in {} messages", messages.len());
    (messages.iter().map(|message| message["seq"].as_i64().unwrap()).collect(), reply["has_more"] == true)
}

#[tokio::test]
async fn a_history_of_large_messages_is_paged_whole_in_pieces_of_bounded_bytes() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let (user, conversation) = alone(&world).await;
    // Some fill a page by themselves, and some are larger than one.
    fill(&world, conversation, 200, &[10, 32_000, 100, 255_000, 0, 400_000, 5000, 90_000]).await;
    // A hole, as an operator may leave it.
    world.sql.batch_execute("DELETE FROM messages WHERE seq IN (1, 77, 78, 200)").await.unwrap();
    let mut client = Client::authenticated(gateway.port, user).await;
    let all: Vec<i64> = (2..200).filter(|seq| ![77, 78].contains(seq)).collect();
    let (mut forth, mut pages) = (Vec::new(), 0);
    loop {
        let (seqs, more) = page(&mut client, conversation, ("after_seq", forth.last().copied().unwrap_or(0))).await;
        forth.extend(seqs);
        pages += 1;
        if !more {
            break;
        }
    }
    assert_eq!(forth, all);
    assert!(pages > 50, "{pages}");
    let mut back: Vec<i64> = Vec::new();
    loop {
        let (seqs, more) = page(&mut client, conversation, ("before_seq", back.last().copied().unwrap_or(500))).await;
        back.extend(seqs);
        if !more {
            break;
        }
    }
    back.reverse();
    assert_eq!(back, all);
}

#[tokio::test]
async fn a_catch_up_over_messages_of_all_sizes_has_no_hole_and_goes_live() {
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    let (user, conversation) = alone(&world).await;
    fill(&world, conversation, 350, &[10, 32_000, 100, 255_000, 0, 400_000, 5000, 10, 10, 10, 10]).await;
    world.sql.batch_execute("DELETE FROM messages WHERE seq IN (1, 77, 78, 350)").await.unwrap();
    let mut client = Client::authenticated(gateway.port, user).await;
    client.ok(json!({"op": "join", "conversation_id": conversation, "after_seq": 0})).await;
    // While it catches up others speak.
    let mut friend = Client::authenticated(gateway.port, user).await;
    for seq in 351..=360 {
        assert_eq!(friend.say(conversation, "hello").await["seq"], seq);
    }
    for seq in (2..=360).filter(|seq| ![77, 78, 350].contains(seq)) {
        assert_eq!(client.message().await.1, seq);
    }
}

#[tokio::test]
async fn a_user_who_has_read_too_much_waits_and_the_socket_works_meanwhile() {
    let world = World::new().await;
    // What one page costs takes minutes to come back.
    let gateway = world.program(&[("READ_BYTES_PER_SECOND", "1024"), ("DRAIN_SECONDS", "1")]).await;
    let (user, conversation) = alone(&world).await;
    let other = world.conversation(&[user]).await;
    fill(&world, conversation, 200, &[4000]).await;
    let mut reader = Client::authenticated(gateway.port, user).await;
    let join = json!({"op": "join", "conversation_id": conversation, "after_seq": 0});
    reader.ok(join.clone()).await;
    assert_eq!(reader.message().await.1, 1);
    until(&gateway, "arcyou_backfill_waits_total ", 1.0).await;
    // It is answered, may write, and may give up.
    reader.ok(json!({"op": "ping"})).await;
    assert_eq!(reader.say(other, "still here").await["seq"], 1);
    // The user's other sockets have no more to read.
    let mut second = Client::authenticated(gateway.port, user).await;
    let refused = second.request(json!({"op": "history", "conversation_id": conversation})).await;
    assert_eq!(refused["code"], "rate_limited", "{refused}");
    assert!(refused["retry_after_ms"].as_u64().is_some_and(|wait| wait > 1000), "{refused}");
    assert_eq!(gateway.metric(r#"arcyou_refused_users_total{bound="read_bytes"} "#).await, 1.0);
    // Neither have new ones.
    drop(second);
    let mut third = Client::authenticated(gateway.port, user).await;
    third.ok(join.clone()).await;
    third.ok(json!({"op": "leave", "conversation_id": conversation})).await;
    third.ok(json!({"op": "join", "conversation_id": conversation})).await;
    reader.ok(json!({"op": "leave", "conversation_id": conversation})).await;
    reader.ok(join).await;
    // Others read what they like, and a drain waits for nobody.
    let friend = Uuid::new_v4();
    world.old_participant(conversation, friend).await;
    let mut friend = Client::authenticated(gateway.port, friend).await;
    assert_eq!(page(&mut friend, conversation, ("after_seq", 0)).await.0[0], 1);
    gateway.begin_stop().await;
    assert_eq!(reader.closed().await, Some(1012));
}

#[tokio::test]
async fn a_catch_up_that_waits_goes_on_and_misses_nothing() {
    let world = World::new().await;
    let gateway = world.program(&[("READ_BYTES_PER_SECOND", "131072")]).await;
    let (user, conversation) = alone(&world).await;
    fill(&world, conversation, 400, &[4000]).await;
    let mut reader = Client::authenticated(gateway.port, user).await;
    reader.ok(json!({"op": "join", "conversation_id": conversation, "after_seq": 0})).await;
    for seq in 1..=400 {
        assert_eq!(reader.message().await.1, seq);
    }
    assert!(gateway.metric("arcyou_backfill_waits_total ").await >= 1.0);
    assert!(read(&gateway).await >= 400.0 * 4000.0);
}

/// Waits until a metric has come to this value.
async fn until(gateway: &Program, metric: &str, value: f64) {
    while gateway.metric(metric).await < value {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn read(gateway: &Program) -> f64 {
    gateway.metric("arcyou_stored_bytes_read_total ").await
}

/// Those who ask for much and read nothing: what is read for them is what the kernel takes, and a page.
#[tokio::test]
async fn slow_readers_cost_a_page_each_however_much_they_ask_for() {
    const READERS: usize = 10;
    const BODY: usize = 100_000;
    /// What the kernel may keep for a connection, and a page.
    const EACH: usize = 6 * 1024 * KIB + PAGE;
    let world = World::new().await;
    let gateway = world.program(&[("READ_BYTES_PER_SECOND", "0"), ("PING_SECONDS", "3600")]).await;
    let (user, conversation) = alone(&world).await;
    fill(&world, conversation, 300, &[BODY as i32]).await;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut slow = Client::connect_narrowly(gateway.port).await;
        slow.ok(json!({"op": "auth", "token": user})).await;
        slow.ok(json!({"op": "join", "conversation_id": conversation, "after_seq": 0})).await;
        readers.push(slow);
    }
    // Each is given up after a while.
    until(&gateway, r#"arcyou_closed_total{code="4000"} "#, READERS as f64).await;
    let bytes = read(&gateway).await as usize;
    println!("{READERS} readers of {} bytes each: {bytes} were read for them", 300 * BODY);
    assert!(bytes <= READERS * EACH, "{bytes}");
    drop(readers);
    let mut fast = Client::authenticated(gateway.port, user).await;
    let reply: Value = fast.ok(json!({"op": "join", "conversation_id": conversation, "after_seq": 290})).await;
    assert_eq!(reply["resumed"], true);
    assert_eq!(fast.message().await.1, 291);
}
