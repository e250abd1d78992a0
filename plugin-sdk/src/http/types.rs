//! What is sent, and what comes back.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What is sent.
///
/// ```
/// let request = arcyou_plugin_sdk::http::Request::get("https://example.com/").header("accept", "text/plain");
/// assert_eq!(request.headers[0].0, "accept");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET`, `POST`, …
    pub method: String,
    /// Absolute, with `https:` or `http:`.
    pub url: String,
    /// Names and values. The gateway sets those that speak of the connection.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Request {
    /// A `GET`.
    ///
    /// ```
    /// assert_eq!(arcyou_plugin_sdk::http::Request::get("https://example.com/").method, "GET");
    /// ```
    pub fn get(url: impl Into<String>) -> Self {
        Self { method: "GET".to_owned(), url: url.into(), headers: Vec::new(), body: Vec::new() }
    }

    /// A `POST`.
    ///
    /// ```
    /// assert_eq!(arcyou_plugin_sdk::http::Request::post("https://example.com/").method, "POST");
    /// ```
    pub fn post(url: impl Into<String>) -> Self {
        Self { method: "POST".to_owned(), ..Self::get(url) }
    }

    /// The same request with one more header.
    ///
    /// ```
    /// let request = arcyou_plugin_sdk::http::Request::get("https://example.com/").header("x-key", "secret");
    /// assert_eq!(request.headers, [("x-key".to_owned(), "secret".to_owned())]);
    /// ```
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same request with this as its body, as JSON.
    ///
    /// ```
    /// let request = arcyou_plugin_sdk::http::Request::post("https://example.com/").json(&[1, 2]);
    /// assert_eq!(request.body, b"[1,2]");
    /// ```
    ///
    /// # Panics
    ///
    /// When `value` cannot be JSON: a map with keys that are no strings, say.
    pub fn json<T: Serialize + ?Sized>(mut self, value: &T) -> Self {
        self.body = serde_json::to_vec(value).unwrap_or_else(|error| panic!("the request's body is no JSON: {error}"));
        self.header("content-type", "application/json")
    }
}

/// What came back.
///
/// ```
/// let response = arcyou_plugin_sdk::http::Response { status: 204, headers: vec![], body: vec![] };
/// assert!(response.is_success());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// 200, 404, …
    pub status: u16,
    /// Those whose values are text; the names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Response {
    /// Whether the status is one of 200 to 299.
    ///
    /// ```
    /// assert!(!arcyou_plugin_sdk::http::Response { status: 302, headers: vec![], body: vec![] }.is_success());
    /// ```
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body, parsed into whatever fits.
    ///
    /// ```
    /// let response = arcyou_plugin_sdk::http::Response { status: 200, headers: vec![], body: b"[1,2]".to_vec() };
    /// assert_eq!(response.json::<Vec<u8>>().unwrap(), [1, 2]);
    /// ```
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// Why there is no response.
///
/// ```
/// assert_eq!(arcyou_plugin_sdk::http::Error::Timeout.to_string(), "no response in time");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The request makes no sense; the text says which part.
    Invalid(String),
    /// The host is not listed, or its name leads into a private network.
    NotAllowed(String),
    /// It took longer than the operator allows.
    Timeout,
    /// The response is larger than the operator allows.
    TooLarge,
    /// This call of the hook has asked often enough.
    Quota,
    /// The host cannot be reached, or broke the connection off; the text says why.
    Unavailable(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(what) => write!(f, "the request makes no sense: {what}"),
            Self::NotAllowed(what) => write!(f, "not allowed: {what}"),
            Self::Timeout => f.write_str("no response in time"),
            Self::TooLarge => f.write_str("the response is too large"),
            Self::Quota => f.write_str("more requests than one message may send"),
            Self::Unavailable(why) => write!(f, "the host cannot be reached: {why}"),
        }
    }
}

impl std::error::Error for Error {}
