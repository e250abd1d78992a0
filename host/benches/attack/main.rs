//! What attackers get, and what a bystander notices: `make attack`.
//!
//! The release binaries: one gateway with the limits of a deployment, one worker, PostgreSQL (fsync on) behind PgBouncer
//! in transaction mode, and Redis. Each attack has a gateway and a database of its own. It comes from 127.0.0.2, while
//! two people at 127.0.0.1 say something twenty times a second, one newcomer a second connects, and `/health` is asked
//! as a load balancer asks it. Every latency is counted from the intended moment, so that a stall is not hidden by
//! waiting for it. All of it shares the cores of this machine, the attackers as well.
//!
//! Nothing is asserted: it reports. `GATEWAY_BINARY` names another gateway, to compare with.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

mod bystander;
#[allow(dead_code)]
#[path = "../../tests/support/client.rs"]
mod client;
mod crowd;
mod flood;
mod forger;
mod guest;
#[allow(dead_code)]
#[path = "../figures/load.rs"]
mod load;
#[allow(dead_code)]
#[path = "../figures/pace.rs"]
mod pace;
mod reader;
mod scene;
#[allow(dead_code)]
#[path = "../figures/stack.rs"]
mod stack;
mod table;

use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::bystander::Bystander;
use crate::scene::{Memory, Scene};
use crate::stack::Servers;
use crate::table::Row;

#[derive(Parser)]
struct Options {
    /// Only these attacks; all if none is named
    #[arg(value_enum)]
    attacks: Vec<Attack>,
    /// Shorter ones
    #[arg(long)]
    quick: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Attack {
    /// Nothing, to compare with
    None,
    /// Connections of one address that ask for `/health` and stay
    Askers,
    /// Unfinished requests with headers of 390 KB
    Headers,
    /// Sockets that never authenticate
    Mute,
    /// Sockets of one user that send as fast as they can
    Flood,
    /// A user that reconnects after every 190 frames
    Reconnect,
    /// Bodies that cost a plugin the most
    Bodies,
    /// Readers of large rooms that do not read
    Slow,
    /// Sockets that catch up again and again
    Rejoin,
    /// Tokens that are refused
    Tokens,
    /// A web page that reaches the admin address
    Rebinding,
    /// Events of somebody who may publish to Redis
    Forged,
}

fn main() {
    let options = Options::parse();
    let chosen = if options.attacks.is_empty() { Attack::value_variants() } else { &options.attacks };
    let lasts = Duration::from_secs(if options.quick { 3 } else { 12 });
    let servers = Servers::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    println!("{}", scene::binary().display());
    let rows: Vec<Row> = chosen.iter().map(|attack| runtime.block_on(measure(*attack, &servers, lasts))).collect();
    table::print(&rows);
    println!("\nHostile plugins: make bench-hostile");
}

impl Attack {
    /// In words.
    fn tried(self) -> String {
        match self {
            Self::None => "nothing".to_owned(),
            Self::Askers => format!("{} connections that ask for `/health` every 4 s", crowd::askers()),
            Self::Headers => format!("{} unfinished requests with 390 KB of headers", crowd::REQUESTS),
            Self::Mute => format!("{0} sockets that never `auth`, with `MAX_CONNECTIONS={0}`", crowd::MUTE),
            Self::Flood => format!("{} sockets of one user that send as fast as they can", flood::SOCKETS),
            Self::Reconnect => format!("one socket after the other, {} frames on each", flood::FRAMES),
            Self::Bodies => {
                format!("{} sockets of one user that send {} digits to `pii-mask`", flood::WITH_DIGITS, flood::DIGITS)
            }
            Self::Slow => format!("{} readers of a room of {} MB that read nothing", reader::SLOW, reader::MEGABYTES),
            Self::Rejoin => format!("{} sockets of one user that repeat `join` with `after_seq: 0`", reader::EAGER),
            Self::Tokens => format!("{} refused tokens on a socket, again and again", guest::TOKENS),
            Self::Rebinding => "a web page's requests to the admin address".to_owned(),
            Self::Forged => "forged events of somebody who may `PUBLISH` to Redis".to_owned(),
        }
    }

    /// The settings that it needs, of a deployment's.
    fn variables(self) -> Vec<(&'static str, String)> {
        match self {
            Self::Mute => vec![("MAX_CONNECTIONS", crowd::MUTE.to_string())],
            _ => Vec::new(),
        }
    }

    /// What came of it.
    async fn run(self, scene: &Scene<'_>) -> String {
        match self {
            Self::None => {
                tokio::time::sleep(scene.lasts).await;
                String::new()
            }
            Self::Askers => crowd::ask(scene).await,
            Self::Headers => crowd::send_headers(scene).await,
            Self::Mute => crowd::stay_mute(scene).await,
            Self::Flood => flood::send(scene).await,
            Self::Reconnect => flood::reconnect(scene).await,
            Self::Bodies => flood::send_digits(scene).await,
            Self::Slow => reader::read_nothing(scene).await,
            Self::Rejoin => reader::rejoin(scene).await,
            Self::Tokens => guest::guess(scene).await,
            Self::Rebinding => guest::rebind(scene).await,
            Self::Forged => forger::forge(scene).await,
        }
    }
}

async fn measure(attack: Attack, servers: &Servers, lasts: Duration) -> Row {
    let database = servers.database().await;
    let plugins = (attack == Attack::Bodies).then(|| stack::plugins_dir(&[("pii-mask", "pii-mask", "")]));
    let mut variables = attack.variables();
    variables.extend(plugins.as_ref().map(|dir| ("PLUGINS_DIR", dir.path().display().to_string())));
    let mut gateway = database.deployed(&scene::binary(), &variables).await;
    let _worker = database.worker().await;
    let bystander = Bystander::start(gateway.port, &database.conversations(1, 2).await[0]);
    let memory = Memory::watch(gateway.pid());
    let scene = Scene { database: &database, gateway: &gateway, lasts };
    let got = attack.run(&scene).await;
    let memory = memory.stop();
    let noticed = bystander.stop();
    let row = Row { attack: format!("{attack:?}").to_lowercase(), tried: attack.tried(), got, memory, noticed };
    eprintln!("{}: {}", row.attack, row.got);
    row
}
