//! A backend service: a key, and requests with it.

use std::net::{IpAddr, Ipv4Addr};

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Client, Method};
use serde_json::Value;

use crate::support::World;
use crate::support::gateway::Running;

/// Makes a key with the command, and answers its text.
pub async fn key(world: &World, arguments: &[&str]) -> String {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_arcyou-gateway"));
    command.args(["key", "create", "a service"]).args(arguments).env("DATABASE_URL", world.database_url());
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub struct Service {
    client: Client,
    base: String,
    pub key: String,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Service {
    /// One with a key that may do everything.
    pub async fn new(world: &World, gateway: &Running) -> Self {
        Self::with_key(gateway.port, key(world, &[]).await)
    }

    pub fn with_key(port: u16, key: String) -> Self {
        Self::at(Ipv4Addr::LOCALHOST, port, key)
    }

    /// The same on another machine.
    pub fn at(address: Ipv4Addr, port: u16, key: String) -> Self {
        let client = Client::builder().local_address(IpAddr::from(address)).build().unwrap();
        Self { client, base: format!("http://127.0.0.1:{port}/v1"), key }
    }

    /// The same machine with another key.
    pub fn guessing(&self, key: String) -> Self {
        Self { client: self.client.clone(), base: self.base.clone(), key }
    }

    pub async fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key);
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_str(value).unwrap());
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body =
            if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::String(text)) };
        if status >= 400 {
            assert_eq!(headers["content-type"], "application/problem+json", "{body}");
            assert_eq!(body["status"], status, "{body}");
            let kind = format!("urn:arcyou:problem:{}", body["code"].as_str().unwrap());
            assert_eq!((body["type"].as_str(), body["detail"].is_string()), (Some(kind.as_str()), true), "{body}");
        }
        Answer { status, headers, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, &[], Some(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PUT, path, &[], Some(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, &[], None).await
    }
}

impl Answer {
    /// What a request that must succeed was answered with.
    pub fn ok(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    /// The code of a request that must fail.
    pub fn code(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{}", self.body);
        self.body["code"].as_str().unwrap()
    }
}
