//! The examples for load balancers, run by the real ones: two gateways behind one, of which one is told to stop while
//! people talk and arrive. Nobody is turned away, and nothing that was said is lost.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::support::World;
use crate::support::client::Client;
use crate::support::program::{Program, free_port};

const TALKERS: usize = 12;
/// What each says before the stop, and after it, at least.
const SENDS: usize = 5;
/// With the defaults of the examples, of which each notices in less.
const VARIABLES: &[(&str, &str)] = &[
    ("DRAIN_DELAY_SECONDS", "4"),
    ("DRAIN_SECONDS", "3"),
    ("TRUSTED_PROXIES", "127.0.0.1"),
    ("RATE_LIMIT_PER_SECOND", "0"),
];

/// A balancer in front of two gateways.
struct Balancer {
    port: u16,
    _process: Child,
    _folder: TempDir,
}

impl Balancer {
    /// Runs an example, with our addresses in the places of those that it names.
    async fn start(example: &str, listen: &str, gateways: [(String, String); 2], run: fn(&Path) -> Command) -> Self {
        let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
        let places = [(listen.to_owned(), listen.replace("80", &port.to_string()))];
        let config = places.into_iter().chain(gateways).fold(example.to_owned(), |text, (theirs, ours)| {
            assert!(text.contains(&theirs), "the example has no {theirs:?}");
            text.replace(&theirs, &ours)
        });
        std::fs::write(folder.path().join("balancer.conf"), config).unwrap();
        let path = format!("{}:/usr/local/sbin:/usr/sbin", std::env::var("PATH").unwrap());
        let process = run(folder.path()).env("PATH", path).stdin(Stdio::null()).kill_on_drop(true).spawn();
        let process = process.expect("the balancer is installed by host/local-services/setup.sh test");
        let balancer = Self { port, _process: process, _folder: folder };
        for _ in 0..1500 {
            if balancer.connect().await.is_some() {
                return balancer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the balancer never let anybody in");
    }

    async fn haproxy(gateways: [&Program; 2]) -> Self {
        let place = |number: usize, gateway: &Program| {
            let theirs = format!("10.0.0.1{number}:8080 check port 9090");
            (theirs, format!("127.0.0.1:{} check port {}", gateway.port, gateway.admin_port))
        };
        let places = [place(1, gateways[0]), place(2, gateways[1])];
        let run = |folder: &Path| {
            let mut haproxy = Command::new("haproxy");
            haproxy.arg("-q").arg("-db").arg("-f").arg(folder.join("balancer.conf"));
            haproxy
        };
        Self::start(include_str!("../../../docs/examples/haproxy.cfg"), "bind :80\n", places, run).await
    }

    async fn nginx(gateways: [&Program; 2]) -> Self {
        let place = |number: usize, gateway: &Program| {
            (format!("10.0.0.1{number}:8080"), format!("127.0.0.1:{}", gateway.port))
        };
        let places = [place(1, gateways[0]), place(2, gateways[1])];
        let run = |folder: &Path| {
            let mut nginx = Command::new("nginx");
            let here = "daemon off; master_process off; pid nginx.pid; error_log stderr crit;";
            nginx.arg("-p").arg(folder).arg("-c").arg(folder.join("balancer.conf")).args(["-e", "stderr", "-g", here]);
            nginx
        };
        // Where it may write in a test.
        let example = include_str!("../../../docs/examples/nginx.conf");
        let ours = "http {\n access_log off;\n client_body_temp_path body;\n proxy_temp_path proxy;\n \
            fastcgi_temp_path fastcgi;\n uwsgi_temp_path uwsgi;\n scgi_temp_path scgi;\n";
        Self::start(&example.replace("http {\n", ours), "listen 80;", places, run).await
    }

    /// A socket; none: turned away.
    async fn connect(&self) -> Option<Client> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        Client::try_over(stream).await
    }
}

/// What everybody sees and does.
struct Scene {
    balancer: Balancer,
    turned_away: AtomicUsize,
    resumed: AtomicUsize,
    is_over: AtomicBool,
}

impl Scene {
    /// Comes in, however often it has to knock; each time that it was turned away counts.
    async fn arrive(&self, user: Uuid) -> Client {
        loop {
            if let Some(mut client) = self.balancer.connect().await {
                client.send_text(json!({"op": "auth", "token": user, "ref": "auth"}).to_string()).await;
                // It may be sent elsewhere at once: then it comes again.
                if client.next_or_close().await.is_ok_and(|reply| reply["success"] == true) {
                    return client;
                }
                continue;
            }
            self.turned_away.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Comes and goes until it is over.
    async fn newcomer(&self) -> usize {
        let mut arrived = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            self.arrive(Uuid::new_v4()).await;
            arrived += 1;
        }
        arrived
    }
}

/// Somebody in a conversation, on one socket after another.
struct Talker {
    scene: Arc<Scene>,
    user: Uuid,
    conversation: Uuid,
    client: Client,
    /// The newest message that was heard; each is the one after it.
    heard: i64,
    acknowledged: BTreeSet<String>,
}

impl Talker {
    async fn new(scene: Arc<Scene>, user: Uuid, conversation: Uuid) -> Self {
        let client = scene.arrive(user).await;
        let mut talker = Self { scene, user, conversation, client, heard: 0, acknowledged: BTreeSet::new() };
        talker.join().await;
        talker
    }

    /// Joins after what it has heard, on a new socket if this one has ended.
    async fn join(&mut self) {
        let join = json!({"op": "join", "conversation_id": self.conversation, "after_seq": self.heard, "ref": "join"});
        while !self.client.try_send(join.to_string()).await || !self.until("join").await {
            self.client = self.scene.arrive(self.user).await;
        }
    }

    /// Hears everything up to the answer to `reference`. Whether that came before the socket's end.
    async fn until(&mut self, reference: &str) -> bool {
        loop {
            match self.client.next_or_close().await {
                Ok(frame) if frame["ref"] == reference => {
                    assert_eq!(frame["success"], true, "{frame}");
                    return true;
                }
                Ok(frame) => self.hear(&frame),
                Err(code) => {
                    assert!(code.is_none_or(|code| code == 1012), "closed with {code:?}");
                    return false;
                }
            }
        }
    }

    fn hear(&mut self, event: &Value) {
        if event["type"] == "message.created" {
            self.heard += 1;
            assert_eq!(event["message"]["seq"], self.heard, "{event}");
        }
    }

    /// Says something, again and again with the same key, until it is acknowledged.
    async fn say(&mut self) {
        let key = Uuid::new_v4().to_string();
        let send = json!({
            "op": "send", "conversation_id": self.conversation, "body": {"text": key}, "idempotency_key": key, "ref": key
        });
        while !self.client.try_send(send.to_string()).await || !self.until(&key).await {
            self.scene.resumed.fetch_add(1, Ordering::Relaxed);
            self.client = self.scene.arrive(self.user).await;
            self.join().await;
        }
        self.acknowledged.insert(key);
    }

    /// Hears what is still missing.
    async fn listen(&mut self, up_to: usize) {
        while self.heard < up_to as i64 {
            match self.client.next_or_close().await {
                Ok(event) => self.hear(&event),
                Err(_) => self.join().await,
            }
        }
    }
}

async fn talk(talkers: Vec<Talker>, least: usize, until: impl Fn() -> bool + Copy) -> Vec<Talker> {
    join_all(talkers.into_iter().map(|mut talker| async move {
        let mut said = 0;
        while said < least || !until() {
            talker.say().await;
            said += 1;
        }
        talker
    }))
    .await
}

/// Stops the first of two gateways behind this balancer.
async fn nobody_notices_a_stop(world: &World, mut gateways: [Program; 2], balancer: Balancer) {
    let _worker = world.worker().await;
    let scene = Scene {
        balancer,
        turned_away: AtomicUsize::new(0),
        resumed: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
    };
    let scene = Arc::new(scene);
    let mut talkers = Vec::new();
    for _ in 0..TALKERS {
        let user = Uuid::new_v4();
        talkers.push(Talker::new(scene.clone(), user, world.conversation(&[user]).await).await);
    }
    for gateway in &gateways {
        gateway.until_metric("arcyou_connections ", 1.0).await;
    }
    let [first, _second] = &mut gateways;
    let newcomers = {
        let scene = scene.clone();
        tokio::spawn(async move { scene.newcomer().await })
    };
    let talkers = talk(talkers, SENDS, || true).await;
    let stopped = AtomicBool::new(false);
    let stop = async {
        first.begin_stop().await;
        let status = first.ended().await;
        stopped.store(true, Ordering::Relaxed);
        status
    };
    let (status, mut talkers) = tokio::join!(stop, talk(talkers, SENDS, || stopped.load(Ordering::Relaxed)));
    assert!(status.success());
    // And without it.
    talkers = talk(talkers, SENDS, || true).await;
    scene.is_over.store(true, Ordering::Relaxed);
    let arrived = newcomers.await.unwrap();
    let (mut said, mut acknowledged) = (0, BTreeSet::new());
    for mut talker in talkers {
        talker.listen(talker.acknowledged.len()).await;
        said += talker.acknowledged.len();
        acknowledged.extend(talker.acknowledged);
    }
    let resumed = scene.resumed.load(Ordering::Relaxed);
    println!("{arrived} newcomers, {said} messages, {resumed} resumed");
    assert_eq!(scene.turned_away.load(Ordering::Relaxed), 0, "connects failed");
    assert!(resumed > 0, "nobody was on the gateway that stopped");
    let rows = world.sql.query("SELECT idempotency_key FROM messages", &[]).await.unwrap();
    assert_eq!(rows.len(), said);
    assert_eq!(rows.into_iter().map(|row| row.get(0)).collect::<BTreeSet<String>>(), acknowledged);
}

#[tokio::test]
async fn nobody_behind_haproxy_notices_that_a_gateway_stops() {
    let world = World::new().await;
    let gateways = [world.program(VARIABLES).await, world.program(VARIABLES).await];
    let balancer = Balancer::haproxy([&gateways[0], &gateways[1]]).await;
    nobody_notices_a_stop(&world, gateways, balancer).await;
}

#[tokio::test]
async fn nobody_behind_nginx_notices_that_a_gateway_stops() {
    let world = World::new().await;
    let gateways = [world.program(VARIABLES).await, world.program(VARIABLES).await];
    let balancer = Balancer::nginx([&gateways[0], &gateways[1]]).await;
    nobody_notices_a_stop(&world, gateways, balancer).await;
}
