//! `compose.yaml` and `.env.example`: what somebody gets who copies them and changes as little as possible.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Without these a deployment would trust anybody.
const SECRETS: [&str; 7] = [
    "POSTGRES_PASSWORD",
    "MIGRATE_PASSWORD",
    "GATEWAY_PASSWORD",
    "WORKER_PASSWORD",
    "GATEWAY_REDIS_PASSWORD",
    "WORKER_REDIS_PASSWORD",
    "JWT_PUBLIC_KEY",
];

#[derive(Deserialize)]
struct Compose {
    services: BTreeMap<String, Service>,
    networks: BTreeMap<String, Value>,
    configs: BTreeMap<String, Text>,
}

#[derive(Deserialize)]
struct Text {
    content: String,
}

#[derive(Deserialize)]
struct Service {
    #[serde(default)]
    command: Value,
    #[serde(default)]
    entrypoint: Value,
    #[serde(default)]
    healthcheck: Value,
    #[serde(default)]
    configs: Vec<Value>,
    #[serde(default)]
    read_only: bool,
    #[serde(default)]
    networks: Vec<String>,
    #[serde(default)]
    ports: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, Option<String>>,
}

fn text(name: &str) -> String {
    std::fs::read_to_string(super::root().join(name)).unwrap()
}

fn compose() -> Compose {
    serde_saphyr::from_str(&text("compose.yaml")).unwrap()
}

/// Its assignments, without those in comments.
fn example() -> BTreeMap<String, String> {
    let text = text(".env.example");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[test]
fn a_copied_example_starts_nothing_until_every_secret_is_filled_in() {
    let (example, compose) = (example(), text("compose.yaml"));
    for secret in SECRETS {
        assert_eq!(example.get(secret).map(String::as_str), Some(""), "{secret}");
        // Compose stops, with the message, where a variable is empty or not set.
        let uses = compose.matches(&format!("${{{secret}")).count();
        assert!(uses > 0 && uses == compose.matches(&format!("${{{secret}:?fill it in in .env")).count(), "{secret}");
        assert!(!compose.contains(&format!("${secret}")), "{secret}");
    }
    for weak in ["dev-placeholder", "change-me", "ALLOW_INSECURE_AUTH=1"] {
        assert!(!example.iter().any(|(name, value)| format!("{name}={value}").contains(weak)), "{weak}");
        assert!(!compose.contains(weak), "{weak}");
    }
}

#[test]
fn no_secret_stands_on_a_command_line() {
    for (name, service) in compose().services {
        for line in [&service.command, &service.entrypoint, &service.healthcheck] {
            let line = line.to_string();
            assert!(!SECRETS.iter().any(|secret| line.contains(secret)), "{name}: {line}");
        }
    }
}

/// Compose refuses it: it would have to write them into the container.
#[test]
fn no_read_only_service_has_configs_whose_text_is_in_the_file() {
    let services = compose().services;
    assert!(services.values().any(|service| service.read_only) && !services["pgbouncer"].configs.is_empty());
    for (name, service) in services {
        assert!(!service.read_only || service.configs.is_empty(), "{name}");
    }
}

#[test]
fn only_the_gateways_public_port_is_published_and_no_admin_address_is_outside() {
    let Compose { services, networks, .. } = compose();
    assert_eq!(networks["inside"]["internal"], true);
    for (name, service) in &services {
        let ports: &[&str] = if name == "gateway" { &["${PORT:-8080}:8080"] } else { &[] };
        assert_eq!(service.ports, ports, "{name}");
        if service.networks != ["inside"] {
            assert_eq!(name, "gateway");
            // The default is the container's loopback.
            assert!(!service.environment.contains_key("ADMIN_ADDR") && !service.environment.contains_key("BIND_ADDR"));
        }
    }
    assert!(services["gateway"].environment.contains_key("DATABASE_URL"), "merged settings are read");
}

/// The user and the password's variable in a service's URL.
fn login(service: &Service, variable: &str) -> (String, String) {
    let url = service.environment[variable].clone().unwrap();
    let (user, rest) = url.split_once("://").unwrap().1.split_once(':').unwrap();
    let password = rest.trim_start_matches("${").split(':').next().unwrap();
    (user.to_owned(), password.to_owned())
}

/// A test of `operations` tries these roles and users on real servers.
#[test]
fn each_program_has_a_role_and_a_user_of_its_own_with_the_least_rights() {
    let Compose { services, configs, .. } = compose();
    let [roles, users] = ["postgres-roles", "pgbouncer-users"].map(|name| &configs[name].content);
    assert!(services["postgres"].configs.iter().any(|config| {
        config["source"] == "postgres-roles"
            && config["target"].as_str().unwrap().starts_with("/docker-entrypoint-initdb.d/")
    }));
    // Where all of them exist, `migrate` runs migrations/roles.sql.
    assert_eq!(services["migrate"].command, serde_json::json!(["migrate"]));
    for group in ["arcyou_gateway", "arcyou_worker", "arcyou_service", "arcyou_reader"] {
        assert!(roles.contains(&format!("CREATE ROLE {group} NOLOGIN;")), "{group}");
        assert!(text("migrations/roles.sql").contains(group), "{group}");
    }
    for (name, member) in
        [("migrate", ""), ("gateway", " IN ROLE arcyou_gateway"), ("worker", " IN ROLE arcyou_worker")]
    {
        let (user, password) = login(&services[name], "DATABASE_URL");
        assert_eq!((user.as_str(), password.as_str()), (name, format!("{}_PASSWORD", name.to_uppercase()).as_str()));
        assert!(roles.contains(&format!("\\getenv {user}_password {password}\n")), "{name}");
        assert!(roles.contains(&format!("CREATE ROLE {user} LOGIN PASSWORD :'{user}_password'{member};")), "{name}");
        // Whoever goes through PgBouncer is known there.
        let goes_through = services[name].environment["DATABASE_URL"].as_ref().unwrap().contains("@pgbouncer:");
        assert_eq!(users.contains(&format!("\"{user}\" \"${{{password}:?")), goes_through, "{name}");
    }
    assert!(!users.contains("postgres") && !users.contains("POSTGRES_PASSWORD"));
    let redis = services["redis"].command[2].as_str().unwrap();
    assert!(redis.contains("user default off") && redis.contains("maxmemory ") && redis.contains("maxmemory-policy "));
    for name in ["gateway", "worker"] {
        let (user, password) = login(&services[name], "REDIS_URL");
        assert_eq!((user.as_str(), password), (name, format!("{}_REDIS_PASSWORD", name.to_uppercase())));
        assert!(redis.contains(&format!("user {user} on >$$")) && !redis.contains("+@all") && !redis.contains("~*"));
    }
}
