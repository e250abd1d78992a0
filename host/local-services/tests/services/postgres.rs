//! PostgreSQL, temporary and kept.

use std::net::TcpStream;

use arcyou_local_services::{Postgres, PostgresOptions, ServiceError};

use crate::support::{self, is_alive, open_directory, sql, until};

fn temporary() -> Postgres {
    Postgres::start(PostgresOptions::default()).unwrap()
}

fn kept(directory: &std::path::Path) -> PostgresOptions {
    PostgresOptions { data_dir: Some(directory.to_owned()), durable: true, ..PostgresOptions::default() }
}

#[test]
fn a_temporary_server_answers_and_leaves_nothing() {
    let postgres = temporary();
    assert_eq!(sql(&postgres.url("postgres"), "SELECT 1"), "1");
    assert_eq!(sql(&postgres.url("postgres"), "SHOW max_connections"), "200");
    assert_eq!(sql(&postgres.url("postgres"), "SHOW listen_addresses"), "127.0.0.1");
    assert_eq!(sql(&postgres.url("postgres"), "SHOW unix_socket_directories"), "");

    let (pid, directory, port) =
        (postgres.pid().unwrap(), postgres.log().parent().unwrap().to_owned(), postgres.port());
    assert!(directory.exists());
    drop(postgres);
    assert!(!is_alive(pid));
    assert!(!directory.exists());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn two_servers_at_once_know_nothing_of_each_other() {
    let (one, two) = std::thread::scope(|scope| {
        let one = scope.spawn(temporary);
        let two = scope.spawn(temporary);
        (one.join().unwrap(), two.join().unwrap())
    });
    // The threads that started them are gone; the servers are not.
    assert_ne!(one.port(), two.port());
    sql(&one.url("postgres"), "CREATE DATABASE only_here");
    assert_eq!(sql(&two.url("postgres"), "SELECT count(*) FROM pg_database WHERE datname = 'only_here'"), "0");
}

#[test]
fn a_kept_database_is_there_again_and_fresh_empties_it() {
    let directory = open_directory();
    let place = directory.path().join("postgres");
    let first = Postgres::start(kept(&place)).unwrap();
    sql(&first.url("postgres"), "CREATE TABLE kept AS SELECT 7 AS number");
    let refused = Postgres::start(kept(&place));
    assert!(
        matches!(&refused, Err(ServiceError::InUse { pid, .. }) if *pid == std::process::id().to_string()),
        "{refused:?}"
    );
    drop(first);

    let second = Postgres::start(kept(&place)).unwrap();
    assert_eq!(sql(&second.url("postgres"), "SELECT number FROM kept"), "7");
    let without_password = format!("postgres://postgres@127.0.0.1:{}/postgres", second.port());
    assert!(!support::psql(&without_password).args(["-w", "-c", "SELECT 1"]).output().unwrap().status.success());
    drop(second);

    std::fs::write(place.join("mine"), "not PostgreSQL's").unwrap();
    let third = Postgres::start(PostgresOptions { fresh: true, ..kept(&place) }).unwrap();
    assert_eq!(sql(&third.url("postgres"), "SELECT to_regclass('kept') IS NULL"), "t");
    assert!(place.join("mine").exists());
}

#[test]
fn a_killed_server_comes_back_on_its_port_with_what_it_had_committed() {
    let postgres = temporary();
    let (url, pid) = (postgres.url("postgres"), postgres.pid().unwrap());
    sql(&url, "CREATE TABLE kept AS SELECT 7 AS number");
    postgres.kill();
    assert!(!is_alive(pid));
    assert_eq!(postgres.pid(), None);
    postgres.restart().unwrap();
    assert_eq!(postgres.url("postgres"), url);
    assert_eq!(sql(&url, "SELECT number FROM kept"), "7");

    postgres.stop();
    postgres.restart().unwrap();
    assert_eq!(sql(&url, "SELECT number FROM kept"), "7");
}

#[test]
fn a_kept_database_of_a_killed_run_is_recovered() {
    let directory = open_directory();
    let postgres = Postgres::start(kept(directory.path())).unwrap();
    sql(&postgres.url("postgres"), "CREATE TABLE kept AS SELECT 7 AS number");
    postgres.kill();
    drop(postgres);
    // As if the number had been given to another process since: this one.
    let pid_file = directory.path().join("data/postmaster.pid");
    let text = std::fs::read_to_string(&pid_file).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    std::fs::write(&pid_file, format!("{}\n{rest}", std::process::id())).unwrap();

    let again = Postgres::start(kept(directory.path())).unwrap();
    assert_eq!(sql(&again.url("postgres"), "SELECT number FROM kept"), "7");
}

#[test]
fn data_of_another_version_are_refused_with_the_way_out() {
    let directory = open_directory();
    drop(Postgres::start(kept(directory.path())).unwrap());
    std::fs::write(directory.path().join("data/PG_VERSION"), "9\n").unwrap();
    let error = Postgres::start(kept(directory.path())).unwrap_err();
    assert!(matches!(&error, ServiceError::VersionMismatch { found, .. } if found == "9"), "{error}");
    assert!(error.to_string().contains("--fresh"));

    std::fs::remove_file(directory.path().join("data/PG_VERSION")).unwrap();
    let error = Postgres::start(kept(directory.path())).unwrap_err();
    assert!(matches!(error, ServiceError::NotACluster(_)), "{error}");
}

#[test]
fn a_server_that_cannot_start_shows_its_log() {
    let settings = vec![("shared_buffers".to_owned(), "none".to_owned())];
    let error = Postgres::start(PostgresOptions { settings, ..PostgresOptions::default() }).unwrap_err();
    assert!(error.to_string().contains("invalid value for parameter \"shared_buffers\""), "{error}");
}

#[test]
fn a_port_that_is_taken_is_said_to_be() {
    let first = temporary();
    let error =
        Postgres::start(PostgresOptions { port: Some(first.port()), ..PostgresOptions::default() }).unwrap_err();
    assert!(matches!(error, ServiceError::PortTaken { port, .. } if port == first.port()), "{error}");
}

#[test]
fn root_is_told_when_the_directory_is_private() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let directory = open_directory();
    if directory.path().metadata().unwrap().uid() != 0 {
        return;
    }
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let error = Postgres::start(kept(&directory.path().join("inside"))).unwrap_err();
    assert!(matches!(error, ServiceError::Unreachable { .. }), "{error}");
}

#[test]
fn a_server_that_dies_by_itself_is_noticed() {
    let postgres = temporary();
    support::send_kill(postgres.pid().unwrap());
    until("the server is known to be gone", || postgres.pid().is_none());
    postgres.restart().unwrap();
    assert_eq!(sql(&postgres.url("postgres"), "SELECT 1"), "1");
}

#[test]
fn a_folder_that_is_not_ours_is_refused_and_left_as_it_is() {
    use std::os::unix::fs::MetadataExt;
    let directory = open_directory();
    let mine = directory.path().join("data");
    std::fs::create_dir(&mine).unwrap();
    std::fs::write(mine.join("thesis.tex"), "all of it").unwrap();
    let state = || {
        let owner = |path: &std::path::Path| path.metadata().unwrap().uid();
        let names: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        (owner(directory.path()), owner(&mine), owner(&mine.join("thesis.tex")), names)
    };
    let before = state();
    for fresh in [false, true] {
        let error = Postgres::start(PostgresOptions { fresh, ..kept(directory.path()) }).unwrap_err();
        assert!(matches!(&error, ServiceError::NotOurs { .. }), "{error}");
        assert!(error.to_string().contains("nothing in it was touched"), "{error}");
        assert_eq!(state(), before);
    }
    // A mark that leads elsewhere is none.
    let elsewhere = open_directory();
    std::fs::write(elsewhere.path().join("ARCYOU_DATA"), "").unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("ARCYOU_DATA"), directory.path().join("ARCYOU_DATA")).unwrap();
    let error = Postgres::start(kept(directory.path())).unwrap_err();
    assert!(matches!(error, ServiceError::NotOurs { .. }), "{error}");
}
