//! The roles and users of `compose.yaml`, on real servers.

use std::collections::BTreeMap;

use arcyou_platform::contract::PubSubMode;
use arcyou_platform::health::Health;
use serde::Deserialize;

use super::path::command;
use super::redis::{ask, talk, tell, url};
use crate::support::{World, connect};

#[derive(Deserialize)]
struct Compose {
    services: BTreeMap<String, Service>,
    configs: BTreeMap<String, Text>,
}

#[derive(Deserialize)]
struct Service {
    #[serde(default)]
    command: serde_json::Value,
}

#[derive(Deserialize)]
struct Text {
    content: String,
}

fn compose() -> Compose {
    serde_saphyr::from_str(include_str!("../../../../compose.yaml")).unwrap()
}

/// What psql makes of the file: its variables come from the environment.
fn as_psql_reads_it(text: &str) -> String {
    let (settings, mut statements): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with("\\getenv "));
    statements.retain(|line| !line.starts_with("--"));
    settings.iter().fold(statements.join("\n"), |statements, setting| {
        let variable = setting.split(' ').nth(1).unwrap();
        statements.replace(&format!(":'{variable}'"), "'password'")
    })
}

#[tokio::test]
async fn the_roles_and_users_of_the_compose_file_suffice() {
    let Compose { services, configs } = compose();
    // Its own server, since roles belong to all databases of one.
    let world = World::alone().await;
    let server = connect(&world.servers.postgres.url("postgres")).await;
    server.batch_execute("CREATE DATABASE arcyou").await.unwrap();
    let sql = connect(&world.servers.postgres.url("arcyou")).await;
    for statement in as_psql_reads_it(&configs["postgres-roles"].content).split_inclusive(";\n") {
        sql.batch_execute(statement).await.unwrap();
    }
    let database_port = world.servers.postgres.port();
    let login = |role: &str| format!("postgres://{role}@127.0.0.1:{database_port}/arcyou");
    let said = command(&login("migrate"), &["migrate"]).await;
    assert!(said.contains("applied V1__chat") && said.contains("have their rights"), "{said}");
    let world = World { database: "arcyou".to_owned(), sql, ..world };

    let port = world.redis.port();
    let redis = services["redis"].command[2].as_str().unwrap();
    let users: Vec<&str> = redis.lines().map(str::trim).filter(|line| line.starts_with("user ")).collect();
    assert_eq!(users.len(), 3, "{redis}");
    for line in &users[1..] {
        let words = line.split(' ').map(|word| if word.starts_with(">$$") { ">password" } else { word });
        let line: Vec<&str> = words.skip(1).collect();
        tell(port, &format!("ACL SETUSER {}", line.join(" ")));
    }
    for mode in [PubSubMode::Global, PubSubMode::PerConversation] {
        let (gateway_database, gateway_redis, mode_name) = (login("gateway"), url("gateway", port), mode.to_string());
        let variables = [
            ("DATABASE_URL", gateway_database.as_str()),
            ("REDIS_URL", gateway_redis.as_str()),
            ("PUBSUB_MODE", mode_name.as_str()),
        ];
        let gateway = world.gateway_with(&variables).await;
        let health = Health::new();
        let worker = world.worker_with(&login("worker"), &url("worker", port), mode, &health);
        talk(&world, gateway.port).await;
        gateway.ready().await;
        assert!(health.report().ready, "{:?}", health.report());
        gateway.stop().await;
        worker.stop().await;
    }
    assert_eq!(ask(port, "ACL LOG"), "*0");
}
