//! `compose.yaml` and `.env.example`: what somebody gets who copies them and changes as little as possible.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Without these a deployment would trust anybody.
const SECRETS: [&str; 3] = ["POSTGRES_PASSWORD", "REDIS_PASSWORD", "JWT_PUBLIC_KEY"];

#[derive(Deserialize)]
struct Compose {
    services: BTreeMap<String, Service>,
    networks: BTreeMap<String, Value>,
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
    let Compose { services, networks } = compose();
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
