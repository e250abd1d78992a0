//! One address that takes as many places as it can.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::client::as_files_allow;
use crate::scene::{NoSocket, Scene};

/// Unfinished requests.
pub const REQUESTS: usize = 1000;
const HEADER_BYTES: usize = 390_000;
/// Sockets that say nothing, and all that the gateway has.
pub const MUTE: usize = 200;

const EVERY: Duration = Duration::from_secs(4);
const HEALTH: &[u8] = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Connections that ask for `/health` and stay.
pub fn askers() -> usize {
    as_files_allow(4300)
}

/// Each asks every four seconds, and comes again if it was cut.
pub async fn ask(scene: &Scene<'_>) -> String {
    let (begin, end, count) = (Instant::now(), scene.end(), askers());
    let asker = async |number: usize| {
        let mut connection = None;
        let (mut answered, mut cut) = (0, 0);
        // All have come after a quarter of the time.
        let mut due = begin + scene.lasts.mul_f64(number as f64 / count as f64 / 4.0);
        while due < end {
            sleep_until(due).await;
            if connection.is_none() {
                connection = scene.connect().await.ok();
            }
            let is_answered = match &mut connection {
                Some(stream) => asked(stream, end).await,
                None => false,
            };
            if is_answered {
                answered += 1;
            } else {
                connection = None;
                cut += 1;
            }
            due = Instant::now().max(due) + EVERY;
        }
        // It stays to the end.
        sleep_until(end).await;
        (answered, cut)
    };
    let (mut answered, mut cut) = (0, 0);
    for (some, others) in join_all((0..count).map(asker)).await {
        answered += some;
        cut += others;
    }
    format!("{answered} requests answered, {cut} cut")
}

async fn asked(stream: &mut TcpStream, end: Instant) -> bool {
    let question = async {
        stream.write_all(HEALTH).await.ok()?;
        let read = stream.read(&mut [0; 1024]).await.ok()?;
        (read > 0).then_some(())
    };
    timeout_at(end, question).await.ok().flatten().is_some()
}

/// Each writes as much of its headers as is taken.
pub async fn send_headers(scene: &Scene<'_>) -> String {
    let end = scene.end();
    let headers = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX-Endless: {}", "x".repeat(HEADER_BYTES));
    let request = async || {
        let Ok(mut stream) = scene.connect().await else { return "cut" };
        let (mut reader, mut writer) = stream.split();
        let mut answer = [0; 12];
        let exchange = async {
            let (written, read) = tokio::join!(writer.write_all(headers.as_bytes()), reader.read_exact(&mut answer));
            written.and(read.map(|_| ())).is_ok()
        };
        let ended = timeout_at(end, exchange).await;
        match &answer {
            b"HTTP/1.1 431" => "answered 431",
            _ if ended.is_ok() => "cut",
            _ => "held to the end",
        }
    };
    let outcomes = join_all((0..REQUESTS).map(|_| request())).await;
    sleep_until(end).await;
    tally(outcomes)
}

/// How often each of these happened.
pub fn tally<T: Ord + std::fmt::Display>(what: impl IntoIterator<Item = T>) -> String {
    let mut counts = std::collections::BTreeMap::<T, usize>::new();
    for one in what {
        *counts.entry(one).or_default() += 1;
    }
    counts.iter().map(|(one, count)| format!("{count} {one}")).collect::<Vec<_>>().join(", ")
}

/// They hold what places they get.
pub async fn stay_mute(scene: &Scene<'_>) -> String {
    let mut held = Vec::new();
    let mut outcomes = Vec::new();
    for _ in 0..MUTE {
        match scene.open().await {
            Ok(socket) => {
                held.push(socket);
                outcomes.push("let in".to_owned());
            }
            Err(NoSocket::Refused(status)) => outcomes.push(format!("refused ({status})")),
            Err(NoSocket::Cut) => outcomes.push("cut".to_owned()),
        }
    }
    sleep(scene.lasts).await;
    tally(outcomes)
}
