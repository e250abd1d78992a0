//! Clients that mean harm, or are broken in a way that looks like it: each is bounded or sent away, nothing of it
//! stays, and two neighbours who chat meanwhile get every message.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use uuid::Uuid;

use crate::support::World;
use crate::support::client::{Client, as_files_allow, narrow};
use crate::support::gateway::Running;
use crate::support::program::Program;
use crate::support::proxy::Proxy;

/// Long enough for a busy machine; what takes longer stays for ever.
const PATIENCE: Duration = Duration::from_secs(60);
const KIB: u64 = 1024;

/// A gateway process, and two who chat.
pub struct Street {
    world: World,
    pub gateway: Arc<Program>,
    _worker: Running,
    neighbours: [Client; 2],
    conversation: Uuid,
    said: i64,
}

impl Street {
    pub async fn new(variables: &[(&str, &str)]) -> Self {
        let world = World::new().await;
        let (gateway, worker) = (Arc::new(world.program(variables).await), world.worker().await);
        let users = [Uuid::new_v4(), Uuid::new_v4()];
        let conversation = world.conversation(&users).await;
        let neighbours = [
            Client::joined(gateway.port, users[0], conversation).await,
            Client::joined(gateway.port, users[1], conversation).await,
        ];
        Self { world, gateway, _worker: worker, neighbours, conversation, said: 0 }
    }

    /// Somebody else with a conversation.
    pub async fn stranger(&self) -> (Uuid, Uuid) {
        let user = Uuid::new_v4();
        (user, self.world.conversation(&[user]).await)
    }

    /// Lets the neighbours chat for as long as the mischief lasts, and once more after it.
    pub async fn during<T>(&mut self, mischief: impl Future<Output = T>) -> T {
        let (over, before) = (AtomicBool::new(false), self.said);
        let mischief = async {
            let result = mischief.await;
            over.store(true, Ordering::Relaxed);
            result
        };
        let (conversation, said, neighbours) = (self.conversation, &mut self.said, &mut self.neighbours);
        let (mut slowest, mut last) = (Duration::ZERO, false);
        let chat = async {
            while !last {
                last = over.load(Ordering::Relaxed);
                let started = Instant::now();
                *said += 1;
                assert_eq!(neighbours[(*said % 2) as usize].say(conversation, "hello").await["seq"], *said);
                for neighbour in &mut *neighbours {
                    assert_eq!(neighbour.message().await.1, *said);
                }
                slowest = slowest.max(started.elapsed());
                // As people do; and below the rate limit.
                sleep(Duration::from_millis(25)).await;
            }
        };
        let (result, ()) = tokio::join!(mischief, chat);
        println!("the neighbours said {} messages; the slowest took {slowest:?} to both", self.said - before);
        result
    }
}

/// Waits until nobody but the neighbours is left.
async fn alone(gateway: &Program) {
    let left = async {
        while gateway.metric("arcyou_connections ").await > 2.0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, left).await.expect("somebody stays for ever");
}

/// A masked frame as its bytes; the mask is 0. `promised` may be more than there is.
fn frame(first: u8, promised: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match promised {
        0..=125 => bytes.push(0x80 | promised as u8),
        _ => {
            bytes.push(0x80 | 126);
            bytes.extend(promised.to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

const CONTINUATION: u8 = 0x00;
const TEXT: u8 = 0x81;
const FIRST_OF_TEXT: u8 = 0x01;
const CLOSE: u8 = 0x88;

/// A socket whose bytes the test writes itself, with this said already.
async fn raw(port: u16, requests: &[Value]) -> TcpStream {
    let mut stream = narrow(port).await;
    stream.set_nodelay(true).unwrap();
    let upgrade = "GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    for request in requests {
        let text = request.to_string();
        stream.write_all(&frame(TEXT, text.len() as u16, text.as_bytes())).await.unwrap();
    }
    stream
}

/// Goes on writing until the gateway ends the connection; answers with what came.
async fn until_ended(what: &str, mut stream: TcpStream, every: Duration, bytes: &[u8]) -> Vec<u8> {
    let (mut reader, mut writer) = stream.split();
    let started = Instant::now();
    let mut heard = Vec::new();
    let write = async {
        // A reset is an end, and is heard by the reader.
        while writer.write_all(bytes).await.is_ok() {
            sleep(every).await;
        }
        std::future::pending().await
    };
    tokio::select! {
        _ = reader.read_to_end(&mut heard) => {}
        () = write => {}
        () = sleep(PATIENCE) => panic!("{what}: never ended"),
    }
    println!("{what}: ended after {:?}", started.elapsed());
    heard
}

fn close_code(heard: &[u8]) -> Option<u16> {
    let place = heard.windows(2).rposition(|pair| pair[0] == CLOSE && (2..=125).contains(&pair[1]))?;
    Some(u16::from_be_bytes([*heard.get(place + 2)?, *heard.get(place + 3)?]))
}

#[tokio::test]
async fn connections_that_lead_nowhere_end() {
    let mut street = Street::new(&[("PING_SECONDS", "2"), ("AUTH_SECONDS", "2")]).await;
    let port = street.gateway.port;
    let (user, conversation) = street.stranger().await;
    let hello = [json!({"op": "auth", "token": user}), json!({"op": "join", "conversation_id": conversation})];
    let rarely = Duration::from_millis(300);
    let link = Proxy::start(port).await;
    let mischief = async {
        let plain = async || TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n";
        let mut body = plain().await;
        body.write_all(request).await.unwrap();
        let whole: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let mut answered = plain().await;
        answered.write_all(whole).await.unwrap();
        // The link holds back whatever the gateway says, its end included: the other side has vanished.
        let vanished = Client::joined(link.port, user, conversation).await;
        link.partition();
        tokio::join!(
            until_ended("a connection without a byte", plain().await, rarely, b""),
            until_ended("headers, a byte at a time", plain().await, rarely, b"G"),
            until_ended("a body, a byte at a time", body, rarely, b"x"),
            until_ended("a connection that was answered", answered, rarely, b""),
            until_ended("the same request again and again", plain().await, rarely, whole),
            async {
                let heard = until_ended("a socket without auth", raw(port, &[]).await, rarely, b"").await;
                assert_eq!(close_code(&heard), Some(4500));
            },
            async {
                let heard = until_ended("a socket that says no more", raw(port, &hello).await, rarely, b"").await;
                assert_eq!(close_code(&heard), Some(4002));
            },
            async {
                let mut stream = raw(port, &hello).await;
                stream.write_all(&frame(TEXT, 65_000, b"")).await.unwrap();
                let heard = until_ended("a frame, a byte at a time", stream, rarely, b"x").await;
                assert_eq!(close_code(&heard), Some(4002));
            },
            async {
                let mut stream = raw(port, &hello).await;
                stream.write_all(&frame(CLOSE, 0, b"")).await.unwrap();
                until_ended("a goodbye that stays", stream, rarely, b"").await;
            },
        );
        vanished
    };
    let gateway = street.gateway.clone();
    // The one that vanished goes as well, though nobody tells it.
    street.during(async { (mischief.await, alone(&gateway).await) }).await;
    assert_eq!(gateway.metric(r#"arcyou_closed_total{code="4002"} "#).await, 3.0);
}

#[tokio::test]
async fn a_reader_of_one_byte_a_second_is_closed() {
    let mut street = Street::new(&[("MAX_QUEUE_BYTES", "65536"), ("RATE_LIMIT_PER_SECOND", "0")]).await;
    let (gateway, (user, conversation)) = (street.gateway.clone(), street.stranger().await);
    let mut talker = Client::authenticated(gateway.port, user).await;
    let hello = [json!({"op": "auth", "token": user}), json!({"op": "join", "conversation_id": conversation})];
    let mut slow = raw(gateway.port, &hello).await;
    let over = AtomicBool::new(false);
    let read = async {
        while !over.load(Ordering::Relaxed) {
            // An error is the reset that follows a close which was not read.
            let _ = slow.read_u8().await;
            sleep(Duration::from_secs(1)).await;
        }
    };
    let talk = async {
        let (text, mut sent) = ("x".repeat(30_000), 0);
        while gateway.metric(r#"arcyou_closed_total{code="4000"} "#).await < 1.0 {
            talker.say(conversation, &text).await;
            sent += 1;
            assert!(sent < 5000, "a reader of a byte a second was never closed");
        }
        over.store(true, Ordering::Relaxed);
    };
    street.during(async { tokio::join!(read, talk) }).await;
}

#[tokio::test]
async fn messages_without_end_are_ended() {
    let mut street = Street::new(&[("RATE_LIMIT_PER_SECOND", "0")]).await;
    let port = street.gateway.port;
    let part = |first: bool, bytes: usize| {
        let code = if first { Data::Text } else { Data::Continue };
        Message::Frame(Frame::message(vec![b' '; bytes], OpCode::Data(code), false))
    };
    let mischief = async {
        // Each fragment is small enough, all of them are not.
        let mut client = Client::connect(port).await;
        for number in 0..3 {
            client.send_message(part(number == 0, 30_000)).await;
        }
        assert_eq!(client.next().await["code"], "frame_too_large");
        assert_eq!(client.closed().await, Some(1009));
        // Fragments of no bytes never make a message, whose size or number could be limited.
        let mut stream = raw(port, &[]).await;
        stream.write_all(&frame(FIRST_OF_TEXT, 0, b"")).await.unwrap();
        let fragments = frame(CONTINUATION, 0, b"").repeat(1000);
        let heard = until_ended("fragments of no bytes", stream, Duration::ZERO, &fragments).await;
        assert_eq!(close_code(&heard), Some(4501));
        // A message in a few thousand fragments is a message.
        let mut client = Client::connect(port).await;
        client.send_message(part(true, 1)).await;
        for _ in 0..3000 {
            client.send_message(part(false, 1)).await;
        }
        client.send_message(Message::Frame(Frame::message("{}", OpCode::Data(Data::Continue), true))).await;
        assert_eq!(client.next().await["code"], "missing_field");
    };
    street.during(mischief).await;
}

#[tokio::test]
async fn floods_are_answered_within_bounds_and_closed() {
    // The limits of a deployment: the neighbours keep to them.
    let mut street = Street::new(&[]).await;
    let (port, (user, _)) = (street.gateway.port, street.stranger().await);
    let hello = [json!({"op": "auth", "token": user})];
    let (ping, text) = (frame(0x89, 125, &[7; 125]), frame(TEXT, 2, b"{}"));
    let mischief = async {
        let heard = until_ended("pings", raw(port, &hello).await, Duration::ZERO, &ping.repeat(100)).await;
        assert_eq!(close_code(&heard), Some(4501));
        let heard = until_ended("frames", raw(port, &hello).await, Duration::ZERO, &text.repeat(100)).await;
        assert_eq!(close_code(&heard), Some(4501));
        // Ten times faster than the limit is a flood as well, although some of it is let through.
        let slowly = Duration::from_millis(5);
        let heard = until_ended("frames, not so fast", raw(port, &hello).await, slowly, &text.repeat(5)).await;
        assert_eq!(close_code(&heard), Some(4501));
        // Who is nobody is not listened to for so long.
        let heard = until_ended("frames of nobody", raw(port, &[]).await, Duration::ZERO, &text.repeat(100)).await;
        assert_eq!(close_code(&heard), Some(4501));
        let answers = heard.windows(12).filter(|part| part == b"rate_limited").count();
        assert!(answers <= 20, "{answers}");
    };
    street.during(mischief).await;
}

/// Where no rate is limited, what a flood of pings costs is bounded all the same, also when the answers are not read.
#[tokio::test]
async fn unread_answers_to_pings_do_not_pile_up() {
    const FLOOD: usize = 64;
    let mut street = Street::new(&[("RATE_LIMIT_PER_SECOND", "0"), ("AUTH_SECONDS", "3600")]).await;
    let gateway = street.gateway.clone();
    let mischief = async {
        let before = gateway.resident();
        let pings = frame(0x89, 125, &[7; 125]).repeat(8 * 1024);
        let mut stream = raw(gateway.port, &[]).await;
        let mut taken = 0;
        // The gateway stops reading, or reads all.
        while taken < FLOOD && matches!(timeout(Duration::from_secs(5), stream.write_all(&pings)).await, Ok(Ok(()))) {
            taken += 1;
        }
        let grown = gateway.resident().saturating_sub(before) / KIB;
        println!("{} KiB of pings taken, {grown} KiB more memory", taken * pings.len() / 1024);
        assert!(grown < 16 * KIB, "{grown} KiB");
    };
    street.during(mischief).await;
}

#[tokio::test]
async fn a_thousand_joins_cost_their_sender_and_nobody_else() {
    let mut street = Street::new(&[("RATE_LIMIT_PER_SECOND", "0")]).await;
    let user = Uuid::new_v4();
    let insert = "WITH made AS (INSERT INTO conversations SELECT FROM generate_series(1, 1001) RETURNING id)
        INSERT INTO participants (conversation_id, user_id) SELECT id, $1 FROM made RETURNING conversation_id";
    let sql = street.world.connect().await;
    // Nobody has to be told of them.
    sql.batch_execute("SET session_replication_role = replica").await.unwrap();
    let rows = sql.query(insert, &[&user]).await.unwrap();
    let mut client = Client::authenticated(street.gateway.port, user).await;
    let mischief = async {
        for (number, row) in rows.iter().enumerate() {
            let join = json!({"op": "join", "conversation_id": row.get::<_, Uuid>(0), "after_seq": 0, "ref": number});
            client.send_text(join.to_string()).await;
        }
        for number in 0..rows.len() {
            let reply = client.next().await;
            assert_eq!((&reply["ref"], &reply["success"]), (&json!(number), &json!(number < 1000)), "{reply}");
        }
    };
    street.during(mischief).await;
}

/// One crowd at a time: all tests of this process share its files.
pub static CROWD: Mutex<()> = Mutex::const_new(());

/// For a crowd that comes from one address.
const CROWD_OF_SOCKETS: [(&str, &str); 2] =
    [("MAX_CONNECTIONS_PER_ADDRESS", "10000"), ("MAX_UNAUTHENTICATED_PER_ADDRESS", "10000")];

#[tokio::test]
async fn thousands_who_connect_and_say_nothing_are_borne() {
    let _crowd = CROWD.lock().await;
    let mut street = Street::new(&[("AUTH_SECONDS", "3"), CROWD_OF_SOCKETS[0], CROWD_OF_SOCKETS[1]]).await;
    let (gateway, count) = (street.gateway.clone(), sockets_of_a_test());
    let mischief = async {
        let connect = async || TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
        let (mut idle, mut open) = (Vec::new(), Vec::new());
        for _ in 0..count / 2 {
            idle.push(connect().await);
            open.push(raw(gateway.port, &[]).await);
        }
        println!("{} connections without a word, {} sockets without auth", idle.len(), open.len());
        for mut stream in idle.into_iter().chain(open) {
            timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.expect("somebody stays for ever").unwrap();
        }
        alone(&gateway).await;
    };
    street.during(mischief).await;
}

#[tokio::test]
async fn an_idle_socket_costs_little() {
    let _crowd = CROWD.lock().await;
    let [address, unauthenticated] = CROWD_OF_SOCKETS;
    let user = [("MAX_SOCKETS_PER_USER", "10000"), ("RATE_LIMIT_PER_SECOND", "0")];
    let mut street = Street::new(&[address, unauthenticated, user[0], user[1]]).await;
    let (gateway, (user, conversation)) = (street.gateway.clone(), street.stranger().await);
    let count = sockets_of_a_test() as u64;
    let mischief = async {
        let join = async || Client::joined(gateway.port, user, conversation).await;
        // What the first ones cost once for all.
        let mut sockets = join_all((0..100).map(|_| join())).await;
        let before = gateway.resident();
        for _ in 0..count / 100 {
            sockets.extend(join_all((0..100).map(|_| join())).await);
        }
        let each = gateway.resident().saturating_sub(before) / count;
        println!("{count} idle joined sockets: {each} bytes each");
        assert!(each < 64 * KIB, "{each} bytes");
        // All of them are alive.
        sockets[0].say(conversation, "hello").await;
        for socket in &mut sockets {
            assert_eq!(socket.message().await.1, 1);
        }
        println!("after one event: {} bytes each", gateway.resident().saturating_sub(before) / count);
    };
    street.during(mischief).await;
}

fn sockets_of_a_test() -> usize {
    as_files_allow(2000)
}
