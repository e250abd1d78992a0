//! Clients that do not read, or read slowly: bounded, closed with their own code, and nobody else's trouble.

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;

#[tokio::test]
async fn a_reader_that_does_not_read_is_closed_and_resumes_and_others_notice_nothing() {
    let world = World::new().await;
    let variables = [("MAX_QUEUE_BYTES", "65536"), ("RATE_LIMIT_PER_SECOND", "0")];
    let (gateway, _worker) = (world.program(&variables).await, world.worker().await);
    let [sender, lazy] = [Uuid::new_v4(), Uuid::new_v4()];
    let conversation = world.conversation(&[sender, lazy]).await;
    let mut active = Client::joined(gateway.port, sender, conversation).await;
    let mut idle = Client::joined(gateway.port, lazy, conversation).await;
    let text = "x".repeat(30_000);
    let mut sent = 0;
    // Until the kernel's buffers and the queue are full.
    while gateway.metric(r#"arcyou_closed_total{code="4000"} "#).await == 0.0 {
        sent += 1;
        assert_eq!(active.say(conversation, &text).await["seq"], sent);
        assert_eq!(active.message().await.1, sent);
        assert!(sent < 5000, "a reader that reads nothing was never closed");
    }
    // What it got has no hole; the rest it gets by resuming.
    let (seqs, code) = until_closed(&mut idle).await;
    assert_eq!(code, Some(4000));
    let last = seqs.len() as i64;
    assert_eq!(seqs, (1..=last).collect::<Vec<_>>());
    let mut again = Client::authenticated(gateway.port, lazy).await;
    again.ok(json!({"op": "join", "conversation_id": conversation, "after_seq": last})).await;
    for seq in last + 1..=sent {
        assert_eq!(again.message().await.1, seq);
    }
}

/// Live, from the history and after a join; of a service that lets itself send more than clients may.
#[tokio::test]
async fn a_message_that_is_larger_than_the_queue_is_read_like_any_other() {
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway_with(&[("MAX_QUEUE_BYTES", "65536")]).await, world.worker().await);
    let user = Uuid::new_v4();
    let conversation = world.conversation(&[user]).await;
    let mut joined = Client::joined(gateway.port, user, conversation).await;
    world.sql.batch_execute("SET arcyou.max_body_bytes = 9000000").await.unwrap();
    let send = "SELECT arcyou_send($1, $2, jsonb_build_object('text', repeat('x', $3)))";
    // The third is too large for workers too, and comes with the next one, out of the database.
    let sizes = [60_000, 150_000, 3_000_000, 10];
    for (place, size) in sizes.into_iter().enumerate() {
        world.sql.query(send, &[&conversation, &user, &size]).await.unwrap();
        for seen in [&[0][..], &[1], &[], &[2, 3]][place] {
            assert_eq!(joined.message().await, ("x".repeat(sizes[*seen] as usize), *seen as i64 + 1));
        }
    }
    let mut again = Client::authenticated(gateway.port, user).await;
    again.ok(json!({"op": "join", "conversation_id": conversation, "after_seq": 0})).await;
    for (size, seq) in sizes.into_iter().zip(1..) {
        assert_eq!(again.message().await, ("x".repeat(size as usize), seq));
    }
    let page = again.ok(json!({"op": "history", "conversation_id": conversation, "after_seq": 2})).await;
    assert_eq!(page["messages"][0]["body"]["text"].as_str().unwrap().len(), 3_000_000);
}

/// While one reads slowly what it missed, its right ends, so that no room has it as a member then: it is told all the
/// same, and reads nothing that was not on its way already.
#[tokio::test]
async fn a_participant_removed_in_the_middle_of_a_catch_up_is_told_and_reads_no_further() {
    let world = World::new().await;
    let (gateway, _worker) = (world.gateway().await, world.worker().await);
    // Once between the pages, which are of one message each and far more than the kernel keeps for a socket, once after
    // the only page.
    for (stored, bytes) in [(150_i64, 250_000), (50, 4000)] {
        let [reader, neighbour] = [Uuid::new_v4(), Uuid::new_v4()];
        let conversation = world.conversation(&[reader, neighbour]).await;
        let insert = "WITH counted AS (UPDATE conversations SET last_seq = $2 WHERE id = $1)
            INSERT INTO messages (conversation_id, seq, n, changed_seq, sender_id, body)
            SELECT $1, seq, seq, seq, $3, jsonb_build_object('text', repeat('x', $4)) FROM generate_series(1, $2::bigint) seq";
        world.sql.execute(insert, &[&conversation, &stored, &neighbour, &bytes]).await.unwrap();
        let mut friend = Client::joined(gateway.port, neighbour, conversation).await;
        let mut slow = Client::connect_narrowly(gateway.port).await;
        slow.ok(json!({"op": "auth", "token": reader})).await;
        slow.ok(json!({"op": "join", "conversation_id": conversation, "after_seq": 0})).await;
        assert_eq!(slow.message().await.1, 1);
        world.sql.execute("DELETE FROM participants WHERE user_id = $1", &[&reader]).await.unwrap();
        assert_eq!(friend.event().await["type"], "participant.removed");
        // What was on its way comes, without a hole; after it perhaps the event, if it had gone live.
        let (mut last, mut frame) = (1, slow.next().await);
        while frame["type"] == "message.created" {
            last += 1;
            assert_eq!(frame["message"]["seq"], last);
            frame = slow.next().await;
        }
        assert!(last < stored || bytes == 4000, "all {last} were sent");
        let lost = if frame["type"] == "participant.removed" { slow.next().await } else { frame };
        assert_eq!((&lost["op"], &lost["code"]), (&json!("join"), &json!("not_participant")), "{lost}");
        assert_eq!(lost["conversation_id"], json!(conversation));
        assert_eq!(slow.code(json!({"op": "leave", "conversation_id": conversation})).await, "not_joined");
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_ended_and_does_not_hold_up_a_drain() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ").await.unwrap();
        slow.push(stream);
    }
    let mut answer = Vec::new();
    slow.remove(0).read_to_end(&mut answer).await.unwrap();
    let mut another = tokio::net::TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
    another.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    gateway.stop().await;
}

/// The `seq` of each message up to the end, and the code of the end.
async fn until_closed(client: &mut Client) -> (Vec<i64>, Option<u16>) {
    let mut seqs = Vec::new();
    loop {
        match client.next_or_close().await {
            Ok(frame) => seqs.extend(frame["message"]["seq"].as_i64()),
            Err(code) => return (seqs, code),
        }
    }
}
