//! What stands in for the gateway's capabilities in native tests. Each test's thread has its own.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::http::types::{Error as HttpError, Request, Response};
use crate::kv::error::Error as KvError;

type Answers = Box<dyn Fn(&Request) -> Result<Response, HttpError>>;

#[derive(Default)]
struct Doubles {
    clock: Cell<Option<Duration>>,
    random: Cell<u64>,
    values: RefCell<HashMap<String, (Vec<u8>, Duration)>>,
    kv_failure: Cell<Option<KvError>>,
    answers: RefCell<Option<Answers>>,
}

thread_local! {
    static DOUBLES: Doubles = Doubles::default();
}

/// Sets the clock that [`clock::now`](crate::clock::now) shows, and that values of [`kv`](crate::kv) expire by. Until
/// then it is the machine's.
///
/// ```
/// use std::time::Duration;
/// use arcyou_plugin_sdk::{kv, testing};
///
/// testing::set_clock(Duration::from_secs(100));
/// kv::set("seen", b"yes", Duration::from_secs(10)).unwrap();
/// testing::set_clock(Duration::from_secs(110));
/// assert_eq!(kv::get("seen"), Ok(None));
/// ```
pub fn set_clock(since_1970: Duration) {
    DOUBLES.with(|doubles| doubles.clock.set(Some(since_1970)));
}

/// Lets every call of [`kv`](crate::kv) fail, or work again.
///
/// ```
/// use arcyou_plugin_sdk::{kv, testing};
///
/// testing::fail_kv(Some(kv::Error::Quota));
/// assert_eq!(kv::get("x"), Err(kv::Error::Quota));
/// ```
pub fn fail_kv(error: Option<KvError>) {
    DOUBLES.with(|doubles| doubles.kv_failure.set(error));
}

/// Answers the requests of [`http`](crate::http).
///
/// ```
/// use arcyou_plugin_sdk::{http, testing};
///
/// testing::answer_http(|_| Err(http::Error::Timeout));
/// assert_eq!(http::Request::get("https://example.com/").send(), Err(http::Error::Timeout));
/// ```
pub fn answer_http(answer: impl Fn(&Request) -> Result<Response, HttpError> + 'static) {
    DOUBLES.with(|doubles| *doubles.answers.borrow_mut() = Some(Box::new(answer)));
}

pub(crate) fn now() -> Duration {
    let machine = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = DOUBLES.with(|doubles| doubles.clock.get()).unwrap_or_else(machine);
    Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

/// Sebastiano Vigna's SplitMix64, from the same seed in each test.
pub(crate) fn random() -> u64 {
    DOUBLES.with(|doubles| {
        let state = doubles.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        doubles.random.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

/// Works on the values that have not expired.
fn values<T>(work: impl FnOnce(&mut HashMap<String, (Vec<u8>, Duration)>) -> T) -> Result<T, KvError> {
    let now = now();
    DOUBLES.with(|doubles| {
        if let Some(error) = doubles.kv_failure.get() {
            return Err(error);
        }
        let mut values = doubles.values.borrow_mut();
        values.retain(|_, (_, until)| *until > now);
        Ok(work(&mut values))
    })
}

fn until(ttl_ms: u64) -> Duration {
    now() + Duration::from_millis(ttl_ms.max(1))
}

pub(crate) fn get(key: &str) -> Result<Option<Vec<u8>>, KvError> {
    values(|values| values.get(key).map(|(value, _)| value.clone()))
}

pub(crate) fn set(key: &str, value: &[u8], ttl_ms: u64) -> Result<(), KvError> {
    let until = until(ttl_ms);
    values(|values| drop(values.insert(key.to_owned(), (value.to_owned(), until))))
}

pub(crate) fn delete(key: &str) -> Result<bool, KvError> {
    values(|values| values.remove(key).is_some())
}

pub(crate) fn increment(key: &str, by: i64, ttl_ms: u64) -> Result<i64, KvError> {
    let until = until(ttl_ms);
    values(|values| {
        let (value, _) = values.entry(key.to_owned()).or_insert_with(|| (b"0".to_vec(), until));
        let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
        let sum = number.and_then(|number| number.checked_add(by)).ok_or(KvError::NotANumber)?;
        *value = sum.to_string().into_bytes();
        Ok(sum)
    })?
}

pub(crate) fn send(request: &Request) -> Result<Response, HttpError> {
    DOUBLES.with(|doubles| match &*doubles.answers.borrow() {
        Some(answer) => answer(request),
        None => Err(HttpError::Unavailable("the test says nothing about http: see testing::answer_http".to_owned())),
    })
}
