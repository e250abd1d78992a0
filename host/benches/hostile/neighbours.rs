//! People who chat at a steady rate, and how soon each message is acknowledged.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;

/// 200 messages a second, by people in conversations of their own.
const PEOPLE: u32 = 20;
const EVERY: Duration = Duration::from_millis(100);

pub struct Neighbours {
    latencies: Arc<Mutex<Vec<Duration>>>,
    people: Vec<JoinHandle<u64>>,
    ends: CancellationToken,
}

impl Neighbours {
    pub async fn start(world: &World, port: u16) -> Self {
        let (latencies, ends) = (Arc::<Mutex<Vec<Duration>>>::default(), CancellationToken::new());
        let mut people = Vec::new();
        for number in 0..PEOPLE {
            let user = Uuid::new_v4();
            let conversation = world.conversation(&[user]).await;
            let client = Client::authenticated(port, user).await;
            let first = Instant::now() + EVERY * number / PEOPLE;
            people.push(tokio::spawn(chat(client, conversation, first, latencies.clone(), ends.clone())));
        }
        Self { latencies, people, ends }
    }

    /// Since the last time.
    pub fn since(&self) -> Latency {
        let mut latencies = std::mem::take(&mut *self.latencies.lock().unwrap());
        latencies.sort();
        Latency(latencies)
    }

    /// How many messages were acknowledged in all.
    pub async fn stop(self) -> u64 {
        self.ends.cancel();
        let mut said = 0;
        for person in self.people {
            said += person.await.unwrap();
        }
        said
    }
}

async fn chat(
    mut client: Client,
    conversation: Uuid,
    mut due: Instant,
    latencies: Arc<Mutex<Vec<Duration>>>,
    ends: CancellationToken,
) -> u64 {
    let mut said = 0;
    while ends.run_until_cancelled(sleep_until(due)).await.is_some() {
        // A refusal ends the whole run.
        client.say(conversation, "hello").await;
        latencies.lock().unwrap().push(due.elapsed());
        said += 1;
        due += EVERY;
    }
    said
}

/// In the order of size.
pub struct Latency(Vec<Duration>);

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |share: f64| {
            let index = (self.0.len() as f64 * share) as usize;
            self.0
                .get(index.min(self.0.len().saturating_sub(1)))
                .map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
        };
        write!(f, "{} acks, ms: p50 {:.1}, p99 {:.1}, max {:.1}", self.0.len(), at(0.5), at(0.99), at(1.0))
    }
}
