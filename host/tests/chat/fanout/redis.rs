//! A Redis of one's own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use arcyou_local_services::Redis;
use arcyou_platform::bus::{Bus, RedisBus};
use arcyou_platform::health::Health;

use crate::support::blocking;

pub(crate) async fn redis_bus() -> (Arc<dyn Bus>, Arc<Redis>) {
    let redis = blocking(|| Redis::start().unwrap()).await;
    let bus = RedisBus::new(&redis.url().parse().unwrap(), &Health::new()).unwrap();
    (Arc::new(bus), Arc::new(redis))
}

/// The answer to one command.
pub(crate) fn ask(redis: &Redis, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "{command}\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

pub(crate) async fn kill(redis: &Arc<Redis>) {
    let redis = redis.clone();
    blocking(move || redis.kill()).await;
}

pub(crate) async fn restart(redis: &Arc<Redis>) {
    let redis = redis.clone();
    blocking(move || redis.restart().unwrap()).await;
}
