//! Writes rows at a steady rate as gateways do, and receives what workers publish.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arcyou_platform::bus::{Bus as _, Publication, Signal, Subscriber};
use arcyou_platform::contract::{Envelope, GLOBAL_CHANNEL, WAKE_CHANNEL};
use bytes::Bytes;
use serde::Deserialize;
use tokio::task::{JoinHandle, JoinSet};
use tokio_postgres::Client;
use tokio_postgres::types::Type;
use tokio_util::sync::CancellationToken;

use crate::report::Report;
use crate::system::{PAYLOAD, System, connect};

/// Connections that write: the number of gateways.
const WRITERS: u64 = 4;
/// Interval between transactions: gateways store messages that arrive together in one.
const TICK: Duration = Duration::from_millis(5);
/// The longest that the last row may take to arrive.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Load {
    stop: CancellationToken,
    writers: JoinSet<()>,
    written: Arc<AtomicI64>,
    heard: Arc<Mutex<Heard>>,
    listener: JoinHandle<()>,
}

#[derive(Default)]
struct Heard {
    /// How often each row was heard.
    times: Vec<u8>,
    rows: i64,
    lags: Vec<Duration>,
}

impl Load {
    pub async fn start(system: &System<'_>, rate: u32) -> Self {
        let (stop, written, heard) = (CancellationToken::new(), Arc::<AtomicI64>::default(), Arc::default());
        let mut subscriber = system.bus.subscriber();
        subscriber.subscribe(GLOBAL_CHANNEL.to_owned());
        assert!(matches!(subscriber.next().await, Signal::Subscribed { .. }));
        let begin = Instant::now() + Duration::from_millis(100);
        let listener = tokio::spawn(listen(subscriber, begin, Arc::clone(&heard)));
        let mut writers = JoinSet::new();
        for first in 0..WRITERS {
            let client = connect(&system.pooled_url()).await;
            let (bus, stop, written) = (Arc::clone(&system.bus), stop.clone(), Arc::clone(&written));
            writers.spawn(async move {
                let hint = [Publication { channel: WAKE_CHANNEL.to_owned(), payload: Bytes::from_static(b"1") }];
                for tick in (first..).step_by(WRITERS as usize) {
                    tokio::time::sleep_until((begin + TICK * tick as u32).into()).await;
                    if stop.is_cancelled() {
                        return;
                    }
                    let rows = write(&client, tick, rate).await;
                    written.fetch_add(rows, Ordering::Relaxed);
                    bus.publish(&hint).await.unwrap();
                }
            });
        }
        Self { stop, writers, written, heard, listener }
    }

    /// The lags of the rows that have arrived since the last call.
    pub fn take_lags(&self) -> Vec<Duration> {
        std::mem::take(&mut self.heard.lock().unwrap().lags)
    }

    /// Rows that were committed and not heard.
    pub fn backlog(&self) -> i64 {
        let heard = self.heard.lock().unwrap().rows;
        (self.written.load(Ordering::Relaxed) - heard).max(0)
    }

    /// Stops writing, waits until every row has arrived, and reports repetitions.
    pub async fn finish(mut self, report: &mut Report) {
        self.stop.cancel();
        while self.writers.join_next().await.transpose().unwrap().is_some() {}
        let deadline = Instant::now() + PATIENCE;
        while self.backlog() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.listener.abort();
        let heard = self.heard.lock().unwrap();
        report.written += self.written.load(Ordering::Relaxed);
        report.never_heard += self.backlog_of(&heard);
        report.heard_again += heard.times.iter().map(|times| i64::from(times.saturating_sub(1))).sum::<i64>();
    }

    fn backlog_of(&self, heard: &Heard) -> i64 {
        self.written.load(Ordering::Relaxed) - heard.rows
    }
}

/// The rows of a tick, in one transaction.
async fn write(client: &Client, tick: u64, rate: u32) -> i64 {
    let until = |tick: u64| (u128::from(tick) * u128::from(rate) * TICK.as_nanos() / 1_000_000_000) as i64;
    let (first, last) = (until(tick), until(tick + 1) - 1);
    let insert = format!(
        "INSERT INTO outbox (type, conversation_id, payload, internal)
         SELECT 'message.created', md5((number % 1000)::text)::uuid, {PAYLOAD}, true
         FROM (SELECT number, $3 AS tick FROM generate_series($1, $2) AS number) AS row RETURNING id"
    );
    let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 3] =
        [(&first, Type::INT8), (&last, Type::INT8), (&(tick as i64), Type::INT8)];
    client.query_typed(&insert, &parameters).await.unwrap().len() as i64
}

async fn listen(mut subscriber: Box<dyn Subscriber>, begin: Instant, heard: Arc<Mutex<Heard>>) {
    #[derive(Deserialize)]
    struct Payload {
        message: Message,
    }
    #[derive(Deserialize)]
    struct Message {
        id: usize,
        seq: u32,
    }
    loop {
        let payload = match subscriber.next().await {
            Signal::Message { payload, .. } => payload,
            other => panic!("Redis must stay: {other:?}"),
        };
        let at = Instant::now();
        let envelope: Envelope<'_> = serde_json::from_slice(&payload).unwrap();
        let Payload { message } = serde_json::from_str(envelope.payload.get()).unwrap();
        let mut heard = heard.lock().unwrap();
        if heard.times.len() <= message.id {
            heard.times.resize(message.id + 1, 0);
        }
        heard.times[message.id] = heard.times[message.id].saturating_add(1);
        if heard.times[message.id] == 1 {
            heard.rows += 1;
            heard.lags.push(at.saturating_duration_since(begin + TICK * message.seq));
        }
    }
}
