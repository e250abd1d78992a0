//! Two members for each conversation, one on either gateway: the first writes, both listen.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};
use uuid::Uuid;

use crate::record::{Record, Side};
use crate::system::System;

type Socket = WebSocketStream<TcpStream>;

/// A conversation's writer, and its partner's half that keeps the socket open.
pub struct Writer {
    conversation: Uuid,
    sink: SplitSink<Socket, Message>,
    _partner: SplitSink<Socket, Message>,
}

/// Makes the conversations. Every second one is written to on the other gateway.
pub async fn join(system: &System, conversations: usize, record: &Arc<Mutex<Record>>) -> Vec<Writer> {
    let mut writers = Vec::new();
    for number in 0..conversations {
        let users = [Uuid::new_v4(), Uuid::new_v4()];
        let row = system.sql.query_one("INSERT INTO conversations DEFAULT VALUES RETURNING id", &[]).await.unwrap();
        let conversation: Uuid = row.get(0);
        let insert = "INSERT INTO participants (conversation_id, user_id) VALUES ($1, $2), ($1, $3)";
        system.sql.execute(insert, &[&conversation, &users[0], &users[1]]).await.unwrap();
        let here = number % 2;
        let (sink, stream) = member(system.gateways[here], users[0], conversation).await.split();
        tokio::spawn(listen(stream, Side::Same, Arc::clone(record)));
        let (partner, stream) = member(system.gateways[1 - here], users[1], conversation).await.split();
        tokio::spawn(listen(stream, Side::Other, Arc::clone(record)));
        writers.push(Writer { conversation, sink, _partner: partner });
    }
    writers
}

async fn member(port: u16, user: Uuid, conversation: Uuid) -> Socket {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut socket, _) = client_async(format!("ws://127.0.0.1:{port}/"), stream).await.unwrap();
    for frame in [json!({"op": "auth", "token": user}), json!({"op": "join", "conversation_id": conversation})] {
        socket.send(Message::text(frame.to_string())).await.unwrap();
        let reply = socket.next().await.unwrap().unwrap();
        assert!(reply.to_text().unwrap().contains("\"success\":true"), "{reply}");
    }
    socket
}

/// Sends every message at its time, or at once if that has passed.
pub async fn send(mut writers: Vec<Writer>, total: usize, begin: Instant, gap: Duration) -> Vec<Writer> {
    for number in 0..total {
        tokio::time::sleep_until((begin + gap * number as u32).into()).await;
        let place = number % writers.len();
        let Writer { conversation, sink, .. } = &mut writers[place];
        let body = json!({"text": format!("{number:<80}")});
        let frame = json!({"op": "send", "conversation_id": conversation, "body": body, "temp_id": number});
        sink.send(Message::text(frame.to_string())).await.unwrap();
    }
    writers
}

async fn listen(mut stream: SplitStream<Socket>, side: Side, record: Arc<Mutex<Record>>) {
    let mut last_seq = 0;
    while let Some(Ok(message)) = stream.next().await {
        let at = Instant::now();
        // A ping is answered by the library.
        let Message::Text(text) = message else { continue };
        let frame: Value = serde_json::from_str(&text).unwrap();
        let mut record = record.lock().unwrap();
        if frame["op"] == "send" {
            let number = frame["temp_id"].as_u64().unwrap() as usize;
            record.answered(number, frame["success"] == true && frame["status"] == "stored", at);
        } else if frame["type"] == "message.created" {
            let number = frame["message"]["body"]["text"].as_str().unwrap().trim_end().parse().unwrap();
            let seq = frame["message"]["seq"].as_i64().unwrap();
            record.heard(side, number, seq < last_seq, at);
            last_seq = last_seq.max(seq);
        } else {
            panic!("nobody asked for {frame}");
        }
    }
    record.lock().unwrap().closed += 1;
}
