//! People who go on talking through an outage, and the truth of every answer that they got.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_postgres::Client as Database;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::support::client::Client;
use crate::support::{World, count};

/// The longest that the documentation lets a client wait for an answer.
const LONGEST: Duration = Duration::from_secs(40);
/// Conversations, each with one who gives keys and one who does not.
const PAIRS: usize = 3;

/// Everything that was said, and the last answer to each.
#[derive(Default)]
pub struct Log {
    said: Vec<Said>,
}

struct Said {
    text: String,
    reply: Value,
}

impl Log {
    /// How many sends were answered with each code; `stored` for those that were acknowledged.
    pub fn codes(&self) -> HashMap<&str, usize> {
        let mut codes = HashMap::new();
        for Said { reply, .. } in &self.said {
            *codes.entry(reply["code"].as_str().unwrap_or("stored")).or_default() += 1;
        }
        codes
    }
}

/// Lets people talk, each message following the answer to the one before, while `outage` happens and until each of them
/// was heard after it. Then every answer must turn out to be true, in the database that the outage left.
pub async fn through(world: &World, port: u16, outage: impl Future<Output = Database>) -> Log {
    let (people, after) = (TaskTracker::new(), CancellationToken::new());
    let mut tasks = Vec::new();
    for pair in 0..PAIRS {
        let users = [Uuid::new_v4(), Uuid::new_v4()];
        let conversation = world.conversation(&users).await;
        for (user, keyed) in users.into_iter().zip([true, false]) {
            let client = Client::authenticated(port, user).await;
            let name = format!("{pair}{}", if keyed { "k" } else { "u" });
            tasks.push(people.spawn(talk(client, conversation, name, keyed, after.clone())));
        }
    }
    let database = outage.await;
    after.cancel();
    let mut log = Log::default();
    for task in tasks {
        log.said.extend(task.await.unwrap());
    }
    assert_true(&database, &log).await;
    log
}

/// Talks until something was stored that was said after the outage.
async fn talk(
    mut client: Client,
    conversation: Uuid,
    name: String,
    keyed: bool,
    after: CancellationToken,
) -> Vec<Said> {
    let mut said = Vec::new();
    loop {
        let last = after.is_cancelled();
        let text = format!("{name}-{}", said.len());
        let mut request = json!({"op": "send", "conversation_id": conversation, "body": {"text": text}});
        if keyed {
            request["idempotency_key"] = json!(text);
        }
        let reply = loop {
            let asked = Instant::now();
            let reply = client.request(request.clone()).await;
            assert!(asked.elapsed() < LONGEST, "{reply} after {:?}", asked.elapsed());
            // What the documentation tells a client to do: the same key again, until there is an answer that is final.
            if !keyed || reply["success"] == true {
                break reply;
            }
            assert_passing(&reply);
        };
        let stored = reply["success"] == true;
        said.push(Said { text, reply });
        if last && stored {
            return said;
        }
    }
}

fn assert_passing(reply: &Value) {
    assert!(["unavailable", "outcome_unknown", "overloaded"].contains(&reply["code"].as_str().unwrap()), "{reply}");
}

/// What was acknowledged is stored once, under the `seq` that was told; what was refused is not stored.
async fn assert_true(database: &Database, log: &Log) {
    let rows = database.query("SELECT body->>'text', seq FROM messages", &[]).await.unwrap();
    let mut stored: HashMap<String, Vec<i64>> = HashMap::new();
    for row in rows {
        stored.entry(row.get(0)).or_default().push(row.get(1));
    }
    for Said { text, reply } in &log.said {
        let found = stored.get(text).map_or(&[][..], Vec::as_slice);
        match reply["code"].as_str() {
            None => assert_eq!(found, [reply["seq"].as_i64().unwrap()], "{text} was answered {reply}"),
            Some("outcome_unknown") => assert!(found.len() <= 1, "{text} is stored {} times", found.len()),
            Some(_) => {
                assert_passing(reply);
                assert!(found.is_empty(), "{text} was answered {reply}, and is stored");
            }
        }
    }
    let holes = "SELECT count(*) FROM conversations c
        WHERE last_seq <> (SELECT count(*) FROM messages WHERE conversation_id = c.id)";
    assert_eq!(count(database, holes).await, 0);
}
