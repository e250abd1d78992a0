//! Requests to the hosts that the operator lists: `grants = ["http"]` and `[plugin.http]` with `hosts` in
//! `plugins.toml`.
//!
//! While a plugin is made ([`Plugin::new`](crate::Plugin::new)) every request is [`Error::Unavailable`].
//!
//! ```
//! use arcyou_plugin_sdk::{http, testing};
//!
//! testing::answer_http(|request| {
//!     assert_eq!(request.url, "https://moderation.example.com/check");
//!     Ok(http::Response { status: 200, headers: vec![], body: br#"{"toxic":false}"#.to_vec() })
//! });
//! let response = http::Request::post("https://moderation.example.com/check")
//!     .json(&serde_json::json!({"text": "hi"}))
//!     .send()
//!     .unwrap();
//! assert_eq!(response.json::<serde_json::Value>().unwrap()["toxic"], false);
//! ```

pub(crate) mod types;

pub use types::{Error, Request, Response};

impl Request {
    /// Sends it and waits for the whole response. Redirections are not followed: they are responses. In native tests
    /// the answer is what [`testing::answer_http`](crate::testing::answer_http) says.
    ///
    /// ```
    /// use arcyou_plugin_sdk::http::{Error, Request};
    ///
    /// // Nobody answers unless the test says so.
    /// assert!(matches!(Request::get("https://example.com/").send(), Err(Error::Unavailable(_))));
    /// ```
    pub fn send(self) -> Result<Response, Error> {
        transport(self)
    }
}

#[cfg(not(target_arch = "wasm32"))]
fn transport(request: Request) -> Result<Response, Error> {
    crate::testing::doubles::send(&request)
}

#[cfg(target_arch = "wasm32")]
fn transport(request: Request) -> Result<Response, Error> {
    use crate::bindings::http as wire;
    let Request { method, url, headers, body } = request;
    let headers = headers.into_iter().map(|(name, value)| wire::Header { name, value }).collect();
    let response = wire::send(&wire::Request { method, url, headers, body }).map_err(|error| match error {
        wire::Error::Invalid(what) => Error::Invalid(what),
        wire::Error::NotAllowed(what) => Error::NotAllowed(what),
        wire::Error::Timeout => Error::Timeout,
        wire::Error::TooLarge => Error::TooLarge,
        wire::Error::Quota => Error::Quota,
        wire::Error::Unavailable(why) => Error::Unavailable(why),
    })?;
    let wire::Response { status, headers, body } = response;
    let headers = headers.into_iter().map(|wire::Header { name, value }| (name, value)).collect();
    Ok(Response { status, headers, body })
}
