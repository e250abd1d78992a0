//! Those who have no right at all: guessed tokens, and a web page that reaches the admin address.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use crate::crowd::tally;
use crate::flood::code;
use crate::scene::{Scene, frame};

/// As many as a flood may have before it is closed.
pub const TOKENS: usize = 949;

/// A socket's guesses, then the next socket's.
pub async fn guess(scene: &Scene<'_>) -> String {
    let (end, guess) = (scene.end(), frame(&json!({"op": "auth", "token": "guess"})));
    let (mut answers, mut sockets) = (Vec::new(), 0);
    let forever = async {
        loop {
            let Ok(mut socket) = scene.open().await else {
                sleep(std::time::Duration::from_millis(20)).await;
                continue;
            };
            sockets += 1;
            for _ in 0..TOKENS {
                if socket.feed(guess.clone()).await.is_err() {
                    break;
                }
            }
            let _ = socket.flush().await;
            for _ in 0..TOKENS {
                match socket.next().await {
                    Some(Ok(Message::Close(close))) => {
                        answers.extend(close.map(|close| format!("closed ({})", u16::from(close.code))));
                        break;
                    }
                    Some(Ok(message)) => answers.extend(code(&message)),
                    _ => break,
                }
            }
        }
    };
    let _: Result<(), _> = timeout_at(end, forever).await;
    let lines = scene.gateway.log().lines().filter(|line| line.contains("token")).count();
    format!("{sockets} sockets: {}; {lines} lines in the log", tally(answers))
}

/// What a page of an attacker sends once its name leads to the admin address, and what one sends that asks it directly.
pub async fn rebind(scene: &Scene<'_>) -> String {
    let mut told = Vec::new();
    for (what, headers) in [
        ("`Host: evil.example`", "Host: evil.example"),
        ("`Origin`", "Host: localhost\r\nOrigin: https://evil.example"),
        ("`Sec-Fetch-Site: cross-site`", "Host: localhost\r\nSec-Fetch-Site: cross-site"),
    ] {
        let mut statuses = Vec::new();
        for request in ["GET /held", "POST /held/1/release", "GET /plugins", "GET /metrics"] {
            statuses.push(status(scene.gateway.admin, request, headers).await);
        }
        told.push(format!("{what}: {}", tally(statuses)));
    }
    told.join("; ")
}

/// The status of the answer.
async fn status(port: u16, request: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!("{request} HTTP/1.1\r\nConnection: close\r\n{headers}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    format!("× {}", answer.split(' ').nth(1).unwrap_or("nothing"))
}
