//! PgBouncer, Redis and Redis Cluster.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use arcyou_local_services::{PgBouncer, PgBouncerOptions, Postgres, PostgresOptions, Redis, RedisCluster};

use crate::support::{self, is_alive, open_directory, psql, sql};

fn pool(size: u16) -> (Postgres, PgBouncer) {
    let postgres = Postgres::start(PostgresOptions::default()).unwrap();
    let options = PgBouncerOptions { pool_size: size, ..PgBouncerOptions::default() };
    let pgbouncer = PgBouncer::start(&postgres, options).unwrap();
    (postgres, pgbouncer)
}

#[test]
fn connections_are_shared_by_the_transaction() {
    let (_postgres, pgbouncer) = pool(1);
    let url = pgbouncer.url("postgres");
    let config = sql(&pgbouncer.url("pgbouncer"), "SHOW CONFIG");
    assert!(config.contains("pool_mode|transaction"), "{config}");

    // One server connection, and a client that stays: in session mode the second one would wait for ever.
    let mut first = psql(&url).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = first.stdin.take().unwrap();
    let mut answers = BufReader::new(first.stdout.take().unwrap()).lines();
    writeln!(input, "SELECT 'first ' || pg_backend_pid();").unwrap();
    let backend = answers.next().unwrap().unwrap().replace("first ", "");
    assert_eq!(sql(&url, "SELECT pg_backend_pid()"), backend);
    drop(input);
    assert!(first.wait().unwrap().success());
}

#[test]
fn every_database_is_reached_through_the_pool() {
    let (postgres, pgbouncer) = pool(3);
    sql(&postgres.url("postgres"), "CREATE DATABASE another");
    assert_eq!(sql(&pgbouncer.url("another"), "SELECT current_database()"), "another");
}

#[test]
fn a_killed_pool_comes_back_on_its_port() {
    let (_postgres, pgbouncer) = pool(3);
    let (url, pid) = (pgbouncer.url("postgres"), pgbouncer.pid().unwrap());
    pgbouncer.kill();
    assert!(!is_alive(pid));
    pgbouncer.restart().unwrap();
    assert_eq!(pgbouncer.url("postgres"), url);
    assert_eq!(sql(&url, "SELECT 1"), "1");
}

#[test]
fn the_pool_outlives_a_restart_of_the_server() {
    let (postgres, pgbouncer) = pool(3);
    let url = pgbouncer.url("postgres");
    assert_eq!(sql(&url, "SELECT 1"), "1");
    postgres.kill();
    postgres.restart().unwrap();
    support::until("the pool has found the server again", || {
        psql(&url).args(["-c", "SELECT 1"]).stderr(Stdio::null()).output().unwrap().status.success()
    });
}

#[test]
fn a_paused_pool_holds_its_clients_back() {
    let (_postgres, pgbouncer) = pool(3);
    let url = pgbouncer.url("postgres");
    assert_eq!(sql(&url, "SELECT 1"), "1");
    pgbouncer.pause().unwrap();
    let mut client = psql(&url).args(["-c", "SELECT 2"]).stdout(Stdio::piped()).spawn().unwrap();
    let waiting = || sql(&pgbouncer.url("pgbouncer"), "SHOW CLIENTS").contains("|waiting|");
    support::until("the client waits", waiting);
    assert!(client.try_wait().unwrap().is_none());
    pgbouncer.resume().unwrap();
    assert!(client.wait().unwrap().success());
}

#[test]
fn a_pool_logs_in_to_a_database_with_a_password() {
    let directory = open_directory();
    let options = PostgresOptions { data_dir: Some(directory.path().join("kept")), ..PostgresOptions::default() };
    let postgres = Postgres::start(options).unwrap();
    assert!(postgres.password().is_some());
    let pgbouncer = PgBouncer::start(&postgres, PgBouncerOptions::default()).unwrap();
    assert_eq!(sql(&pgbouncer.url("postgres"), "SELECT 1"), "1");
}

fn ask(redis: &Redis, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "{command}\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn redis_answers_keeps_its_port_and_forgets() {
    let redis = Redis::start_with(&[("client-output-buffer-limit", "pubsub 1mb 1mb 0")]).unwrap();
    assert!(ask(&redis, "CONFIG GET client-output-buffer-limit").contains("pubsub 1048576 1048576 0"));
    assert!(ask(&redis, "SET key value").starts_with("+OK"));
    let (url, pid) = (redis.url(), redis.pid().unwrap());
    redis.kill();
    assert!(!is_alive(pid));
    redis.restart().unwrap();
    assert_eq!(redis.url(), url);
    assert!(ask(&redis, "GET key").starts_with("$-1"));
    redis.stop();
    assert_eq!(redis.pid(), None);
    assert!(TcpStream::connect(("127.0.0.1", redis.port())).is_err());
}

#[test]
fn a_cluster_survives_its_nodes_and_moves_its_slots() {
    let mut cluster = RedisCluster::start(3).unwrap();
    let slot = cluster.slot("channel").unwrap();
    let from = cluster.owner(slot).unwrap();
    let to = (from + 1) % 3;
    cluster.move_slot(slot, to).unwrap();
    assert_eq!(cluster.owner(slot).unwrap(), to);
    let replica = cluster.add_replica(to).unwrap();
    cluster.node(to).kill();
    support::until("the replica has taken over", || cluster.owner(slot).is_ok_and(|owner| owner == replica));
    cluster.node(to).restart().unwrap();
    cluster.until_agreed().unwrap();
    assert_eq!(cluster.owner(slot).unwrap(), replica);
}

#[test]
fn many_servers_start_at_once_each_on_its_own_port() {
    let servers: Vec<Redis> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..8).map(|_| scope.spawn(Redis::start)).collect();
        starting.into_iter().map(|server| server.join().unwrap().unwrap()).collect()
    });
    let ports: std::collections::HashSet<u16> = servers.iter().map(Redis::port).collect();
    assert_eq!(ports.len(), servers.len());
}
