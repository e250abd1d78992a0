//! The worker program as a child process.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};

use super::{Bed, in_time, signal};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_arcyou-outbox-worker");

/// A worker process. Dropped, it is killed.
pub(crate) struct Process {
    pub(crate) child: Child,
    admin: String,
    _log: Lines<BufReader<ChildStderr>>,
}

impl Process {
    pub(crate) async fn start(bed: &Bed) -> Self {
        Self::start_with(bed, &[]).await
    }

    /// Starts a worker and waits until its admin listener is open.
    pub(crate) async fn start_with(bed: &Bed, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(PROGRAM);
        command
            .env_clear()
            .env("DATABASE_URL", bed.database_url())
            .env("REDIS_URL", bed.redis.url())
            .env("ADMIN_ADDR", "127.0.0.1:0")
            .env("LOG_FORMAT", "json")
            .envs(environment.iter().copied())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let started = async {
            loop {
                let line = log.next_line().await.unwrap().expect("it goes on");
                let line: Value = serde_json::from_str(&line).expect("every line is JSON");
                if line["message"] == "relaying" {
                    return line["admin"].as_str().unwrap().to_owned();
                }
            }
        };
        let admin = in_time("the start", started).await;
        Self { child, admin, _log: log }
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.child.id().unwrap(), name);
    }

    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        in_time("the end", self.child.wait()).await.unwrap().code()
    }

    /// The status and the body of the answer.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        self.ask(path, "host: localhost").await
    }

    /// The same with these lines of headers alone.
    pub(crate) async fn ask(&self, path: &str, headers: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.admin).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\n{headers}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub(crate) async fn until_ready(&self, expected: bool) -> Value {
        let reached = async {
            loop {
                let (status, body) = self.get("/ready").await;
                let report: Value = serde_json::from_str(&body).unwrap();
                assert_eq!(status == 200, report["ready"] == true);
                let settled = report["parts"].as_object().unwrap().values().all(|part| part["state"] != "starting");
                if settled && (status == 200) == expected {
                    return report;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        in_time("readiness", reached).await
    }
}
