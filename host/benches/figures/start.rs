//! From a gateway's start to its first answer, five plugins included.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use arcyou_local_services::Program;
use tokio::net::TcpStream;

use crate::Options;
use crate::report::{Figure, Goal, Round};
use crate::stack::{Servers, free_port, gateway_binary, plugins_dir};

const FIVE_PLUGINS: &[(&str, &str, &str)] = &[
    ("body-shape", "body-shape", ""),
    ("word-filter", "word-filter", "[plugin.config]\nmask = [\"badword\"]\n"),
    ("word-filter", "word-filter-2", "[plugin.config]\nmask = [\"darn\"]\n"),
    ("trivial", "trivial", ""),
    ("trivial", "trivial-2", ""),
];

pub fn figure(options: &Options) -> Figure {
    let servers = Servers::start();
    let runtime = crate::runtime();
    let plugins = plugins_dir(FIVE_PLUGINS);
    let home = tempfile::tempdir().unwrap();
    let bouncer = runtime.block_on(async { servers.database().await.url() });
    let gateway = || {
        let port = free_port();
        let environment = [
            ("DATABASE_URL", bouncer.clone()),
            ("REDIS_URL", servers.redis.url()),
            ("JWT_PUBLIC_KEY", "dev-placeholder".to_owned()),
            ("BIND_ADDR", "127.0.0.1".to_owned()),
            ("PORT", port.to_string()),
            ("ADMIN_ADDR", format!("127.0.0.1:{}", free_port())),
            ("RUST_LOG", "warn".to_owned()),
            ("HOME", home.path().display().to_string()),
            ("PLUGINS_DIR", plugins.path().display().to_string()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let mut program = Program::new(gateway_binary(), environment, home.path(), "log").unwrap();
        let started = Instant::now();
        program.start().unwrap();
        runtime.block_on(async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        started.elapsed().as_secs_f64() * 1000.0
    };
    // The first one compiles.
    let cold = gateway();
    let rounds = (0..options.rounds.max(5)).map(|_| Round { product: gateway(), ceiling: bare() }).collect();
    Figure {
        name: "start with five plugins",
        unit: "ms",
        ceiling: "the same binary that prints its version",
        shares: "PgBouncer, PostgreSQL, Redis, idle; compiled code cached",
        goal: Goal::Within(150.0),
        rounds,
        notes: vec![format!("{cold:.0} ms when the plugins have to be compiled")],
    }
}

fn bare() -> f64 {
    let started = Instant::now();
    let status = Command::new(gateway_binary()).arg("--version").stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
    started.elapsed().as_secs_f64() * 1000.0
}
