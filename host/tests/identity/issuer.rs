//! Issuers of tokens as processes of their own, which a test commands.

use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::program::free_port;

/// Longer than Node takes to start on a busy machine; a test that waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// It ends with the test.
pub struct Issuer {
    port: u16,
    /// How its keys are reached.
    scheme: &'static str,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Issuer {
    /// One that has an RSA key, named `a`.
    pub async fn start() -> Self {
        let mut issuer = Self::without_keys().await;
        issuer.generate("RS256", "a").await;
        issuer
    }

    pub async fn without_keys() -> Self {
        let port = free_port();
        Self::run("issuer.mjs", port, &[&format!("http://127.0.0.1:{port}")]).await
    }

    /// One with a key, whose keys come over TLS with the key and the certificate of these files.
    pub async fn secured(key: &str, certificate: &str) -> Self {
        let port = free_port();
        let mut issuer = Self::run("issuer.mjs", port, &[&format!("http://127.0.0.1:{port}"), key, certificate]).await;
        issuer.scheme = "https";
        issuer.generate("RS256", "a").await;
        issuer
    }

    /// A certified OpenID provider.
    pub async fn open_id() -> Self {
        Self::run("oidc-issuer.mjs", free_port(), &[]).await
    }

    async fn run(script: &str, port: u16, arguments: &[&str]) -> Self {
        let script = format!("{}/tests/js/{script}", env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new("node")
            .args([&script, &port.to_string()])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut issuer = Self { port, scheme: "http", commands, answers, _child: child };
        assert_eq!(issuer.answer().await["ready"], true);
        issuer
    }

    async fn answer(&mut self) -> Value {
        loop {
            let line = timeout(PATIENCE, self.answers.next_line()).await.expect("the issuer is stuck").unwrap();
            // Libraries may say something of their own.
            if let Ok(answer) = serde_json::from_str(&line.expect("the issuer has ended")) {
                return answer;
            }
        }
    }

    pub async fn ask(&mut self, command: Value) -> Value {
        self.commands.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        self.answer().await["result"].take()
    }

    /// What `iss` says in its tokens.
    pub fn name(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn jwks_url(&self) -> String {
        format!("{}://127.0.0.1:{}/jwks", self.scheme, self.port)
    }

    pub async fn generate(&mut self, alg: &str, kid: &str) {
        self.ask(json!({"do": "generate", "alg": alg, "kid": kid})).await;
    }

    /// A token of its key `kid` with these claims besides the usual ones.
    pub async fn token(&mut self, kid: &str, claims: Value) -> String {
        let token = self.ask(json!({"do": "token", "kid": kid, "claims": claims})).await;
        token.as_str().expect("a token").to_owned()
    }

    /// How often its keys were asked for.
    pub async fn requests(&mut self) -> u64 {
        self.ask(json!({"do": "requests"})).await.as_u64().unwrap()
    }

    /// Answers this instead of the keys.
    pub async fn answer_instead(&mut self, what: Value) {
        self.ask(json!({"do": "answer", "with": what})).await;
    }
}

/// A token whose header names another key than the one that signed it.
pub fn with_kid(token: &str, kid: &str) -> String {
    use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
    let (_, rest) = token.split_once('.').unwrap();
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": kid}).to_string();
    format!("{}.{rest}", BASE64_URL_SAFE_NO_PAD.encode(header))
}
