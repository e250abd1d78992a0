//! PgBouncer and PostgreSQL pausing, cutting off, dying and refusing under people who talk.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use uuid::Uuid;

use super::talk::through;
use super::{Chat, chat};
use crate::support::client::Client;
use crate::support::{World, blocking, connect};

#[tokio::test]
async fn pgbouncer_restarting_costs_nobody_a_message() {
    let Chat { world, gateway, worker: _worker, conversation, mut a, mut b, .. } = chat().await;
    let bouncer = world.bouncer.clone().unwrap();
    for round in 0..3 {
        let keyed = |number: i32| {
            let key = format!("{round}-{number}");
            json!({"op": "send", "conversation_id": conversation, "body": {"text": key}, "idempotency_key": key})
        };
        let restarting = bouncer.clone();
        let restart = tokio::task::spawn_blocking(move || {
            restarting.kill();
            restarting.restart().unwrap();
        });
        for number in 0..10 {
            // What the documentation tells a client to do: the same key again, until there is an answer that is final.
            loop {
                let reply = a.request(keyed(number)).await;
                if reply["success"] == true {
                    break;
                }
                assert!(["unavailable", "outcome_unknown"].contains(&reply["code"].as_str().unwrap()), "{reply}");
            }
        }
        restart.await.unwrap();
    }
    for client in [&mut a, &mut b] {
        for seq in 2..=31 {
            assert_eq!(client.message().await.1, seq);
        }
    }
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 31);
    gateway.ready().await;
}

#[tokio::test]
async fn a_pause_of_pgbouncer_costs_time_and_nothing_else() {
    let world = World::breakable().await;
    let gateway = world.gateway().await;
    let bouncer = world.bouncer.clone().unwrap();
    let log = through(&world, gateway.port, async {
        let paused = bouncer.clone();
        blocking(move || paused.pause().unwrap()).await;
        sleep(Duration::from_secs(2)).await;
        blocking(move || bouncer.resume().unwrap()).await;
        world.connect().await
    });
    assert_eq!(log.await.codes().into_keys().collect::<Vec<_>>(), ["stored"]);
}

#[tokio::test]
async fn pgbouncer_cutting_everybody_off_makes_nobody_lie() {
    let world = World::breakable().await;
    let gateway = world.gateway().await;
    let console = connect(&world.bouncer.as_ref().unwrap().url("pgbouncer")).await;
    through(&world, gateway.port, async {
        for _ in 0..3 {
            sleep(Duration::from_millis(200)).await;
            console.batch_execute(&format!("KILL {}", world.database)).await.unwrap();
            console.batch_execute(&format!("RESUME {}", world.database)).await.unwrap();
            sleep(Duration::from_millis(200)).await;
            console.batch_execute("RECONNECT").await.unwrap();
        }
        world.connect().await
    })
    .await;
}

#[tokio::test]
async fn terminated_backends_make_nobody_lie() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    through(&world, gateway.port, async {
        for _ in 0..10 {
            let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
            world.count(cut).await;
            sleep(Duration::from_millis(100)).await;
        }
        world.connect().await
    })
    .await;
}

#[tokio::test]
async fn a_killed_postgresql_loses_nothing_that_was_acknowledged() {
    let world = World::alone().await;
    let gateway = world.gateway().await;
    let servers = world.servers.clone();
    through(&world, gateway.port, async {
        for _ in 0..2 {
            sleep(Duration::from_millis(200)).await;
            let servers = servers.clone();
            blocking(move || {
                servers.postgres.kill();
                servers.postgres.restart().unwrap();
            })
            .await;
        }
        world.connect().await
    })
    .await;
}

/// PgBouncer gives up on whoever waits for a server: nothing of theirs went anywhere, and they are told so.
#[tokio::test]
async fn what_never_reached_a_server_is_not_called_unknown() {
    let world = World::breakable_with(&[("query_wait_timeout", "1")]).await;
    let gateway = world.gateway().await;
    let (alice, bouncer) = (Uuid::new_v4(), world.bouncer.clone().unwrap());
    let conversation = world.conversation(&[alice]).await;
    let mut client = Client::authenticated(gateway.port, alice).await;
    client.say(conversation, "before").await;
    let paused = bouncer.clone();
    blocking(move || paused.pause().unwrap()).await;
    let send = json!({"op": "send", "conversation_id": conversation, "body": {"text": "during"}});
    assert_eq!(client.code(send).await, "unavailable");
    blocking(move || bouncer.resume().unwrap()).await;
    client.say(conversation, "after").await;
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 2);
}

/// More than a lane's queue takes, while nothing moves: the rest is refused at once, and what was taken is stored.
#[tokio::test]
async fn a_queue_that_is_full_says_so() {
    const PEOPLE: usize = 150;
    const EACH: usize = 64;
    let world = World::breakable().await;
    let variables = [("RATE_LIMIT_PER_SECOND", "0"), ("MAX_SOCKETS_PER_USER", "150")];
    let gateway = world.program(&variables).await;
    let (alice, bouncer) = (Uuid::new_v4(), world.bouncer.clone().unwrap());
    let mut clients = Vec::new();
    for _ in 0..PEOPLE {
        // Joined, so that nobody has to ask the database whether they may; each to one, so that none has much to hear.
        let conversation = world.conversation(&[alice]).await;
        clients.push((conversation, Client::joined(gateway.port, alice, conversation).await));
    }
    let paused = bouncer.clone();
    blocking(move || paused.pause().unwrap()).await;
    for (conversation, client) in &mut clients {
        let send = json!({"op": "send", "conversation_id": conversation, "body": {"text": "x"}}).to_string();
        for _ in 0..EACH {
            client.send_text(send.clone()).await;
        }
    }
    // The last ones find the queue full; they are answered while everything else still waits.
    while gateway.metric(r#"arcyou_sends_total{outcome="overloaded"} "#).await == 0.0 {
        sleep(Duration::from_millis(20)).await;
    }
    blocking(move || bouncer.resume().unwrap()).await;
    let (mut stored, mut overloaded) = (0, 0);
    for (_, client) in &mut clients {
        for _ in 0..EACH {
            let reply = loop {
                let frame = client.next().await;
                if frame["op"] == "send" {
                    break frame;
                }
            };
            match reply["code"].as_str() {
                None => stored += 1,
                Some("overloaded") => overloaded += 1,
                Some(_) => panic!("{reply}"),
            }
        }
    }
    assert!(overloaded > 0 && stored >= 8192, "{stored} stored, {overloaded} refused");
    assert_eq!(world.count("SELECT count(*) FROM messages").await, stored);
}

/// Fails sends as the text of their `fail` says, the first so many times.
const FAILING: &str = "
    CREATE FUNCTION failing() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        -- What a sequence counts is not rolled back.
        IF nextval(format('%I', 'tries_' || (NEW.body->>'fail'))) <= (NEW.body->>'times')::int THEN
            RAISE 'as the test wants it' USING ERRCODE = NEW.body->>'fail';
        END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER failing BEFORE INSERT ON messages FOR EACH ROW WHEN (NEW.body ? 'fail') EXECUTE FUNCTION failing();";

/// Serialization failure, deadlock, time-out, no lock, no disk, no memory, read-only, a broken disk.
const PASSING: [&str; 8] = ["40001", "40P01", "57014", "55P03", "53100", "53200", "25006", "58030"];

#[tokio::test]
async fn what_passes_is_tried_again_until_it_has_passed() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let alice = Uuid::new_v4();
    world.sql.batch_execute(FAILING).await.unwrap();
    for code in PASSING {
        world.sql.batch_execute(&format!("CREATE SEQUENCE \"tries_{code}\"")).await.unwrap();
        let conversation = world.conversation(&[alice]).await;
        let mut client = Client::authenticated(gateway.port, alice).await;
        let send = json!({"op": "send", "conversation_id": conversation, "body": {"fail": code, "times": 3}});
        assert_eq!(client.ok(send).await["status"], "stored", "{code}");
        assert_eq!(world.count(&format!("SELECT last_value FROM \"tries_{code}\"")).await, 4);
    }
}

#[tokio::test]
async fn what_does_not_pass_is_refused_truthfully_and_delays_no_neighbour() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let (alice, bob) = (Uuid::new_v4(), Uuid::new_v4());
    world.sql.batch_execute(FAILING).await.unwrap();
    let mut waiting = Vec::new();
    for code in ["40001", "40P01", "55P03"] {
        world.sql.batch_execute(&format!("CREATE SEQUENCE \"tries_{code}\"")).await.unwrap();
        let conversation = world.conversation(&[alice]).await;
        let mut client = Client::authenticated(gateway.port, alice).await;
        let send = json!({"op": "send", "conversation_id": conversation, "body": {"fail": code, "times": 1_000_000}});
        client.send_text(send.to_string()).await;
        waiting.push((client, code));
    }
    let conversations = [world.conversation(&[bob]).await, world.conversation(&[bob]).await];
    let mut neighbour = Client::authenticated(gateway.port, bob).await;
    for number in 1..=50 {
        for conversation in conversations {
            assert_eq!(neighbour.say(conversation, "x").await["seq"], number);
        }
    }
    for (mut client, code) in waiting {
        let reply = client.next().await;
        assert_eq!(reply["code"], "unavailable", "{code}: {reply}");
    }
    assert_eq!(world.count("SELECT count(*) FROM messages").await, 100);
}

#[tokio::test]
async fn a_strict_isolation_by_default_changes_nothing() {
    let world = World::new().await;
    let strict = format!("ALTER DATABASE {} SET default_transaction_isolation = serializable", world.database);
    world.sql.batch_execute(&strict).await.unwrap();
    let gateways = [world.gateway().await, world.gateway().await];
    let workers = [world.worker().await, world.worker().await];
    let users: Vec<Uuid> = (0..8).map(|_| Uuid::new_v4()).collect();
    let conversation = world.conversation(&users).await;
    let mut people = tokio::task::JoinSet::new();
    for (number, user) in users.into_iter().enumerate() {
        let port = gateways[number % gateways.len()].port;
        people.spawn(async move {
            let mut client = Client::joined(port, user, conversation).await;
            for _ in 0..25 {
                let id = client.say(conversation, "x").await["message_id"].clone();
                client.ok(json!({"op": "ack", "conversation_id": conversation, "last_read_id": id})).await;
            }
        });
    }
    while let Some(person) = people.join_next().await {
        person.unwrap();
    }
    world.eventually("SELECT count(*) FROM outbox WHERE NOT processed", 0).await;
    assert_eq!(world.count("SELECT last_seq FROM conversations").await, 200);
    assert_eq!(world.count("SELECT sum(retry_count) FROM outbox").await, 0);
    drop(workers);
}

/// A primary that became a standby, or was fenced off: an outage, and connections to it are no longer used.
#[tokio::test]
async fn a_server_that_takes_no_writes_is_an_outage_and_its_connections_are_left() {
    let world = World::new().await;
    let direct = world.direct_url();
    let gateway = world.gateway_with(&[("DATABASE_URL", &direct)]).await;
    let alice = Uuid::new_v4();
    let conversation = world.conversation(&[alice]).await;
    let mut client = Client::authenticated(gateway.port, alice).await;
    client.say(conversation, "before").await;
    let default = async |setting: &str| {
        let change = format!("ALTER DATABASE {} SET default_transaction_read_only = {setting}", world.database);
        world.sql.batch_execute(&format!("SET default_transaction_read_only = off; {change}")).await.unwrap();
    };
    default("on").await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()";
    world.count(cut).await;
    assert_eq!(gateway.until("database", "down").await, "the database cannot be reached: it is read-only");
    let mut waiting = Client::authenticated(gateway.port, alice).await;
    let send = json!({"op": "send", "conversation_id": conversation, "body": {"text": "patient"}});
    waiting.send_text(send.to_string()).await;
    while !std::fs::read_to_string(world.servers.postgres.log()).unwrap().contains("in a read-only transaction") {
        sleep(Duration::from_millis(20)).await;
    }
    // Only new sessions have the new default, as only new connections reach the new primary.
    default("off").await;
    assert_eq!(waiting.next().await["status"], "stored");
    gateway.until("database", "up").await;
    client.say(conversation, "after").await;
}
