use std::collections::HashMap;

use arcyou_platform::env::WhenUnset;

use super::*;

fn minimal() -> HashMap<&'static str, &'static str> {
    HashMap::from([
        ("DATABASE_URL", "postgres://user:hunter2@pgbouncer:6432/db"),
        ("REDIS_URL", "redis://default:hunter2@redis:6379"),
        ("JWT_PUBLIC_KEY", "dev-placeholder"),
        ("BIND_ADDR", "127.0.0.1"),
    ])
}

#[test]
fn the_documented_variables_are_enough() {
    let config = Config::from_source(&minimal(), Mode::Serve).unwrap();
    assert_eq!((config.port, config.admin.address.port()), (8080, 9090));
    assert_eq!(config.limits.max_frame_bytes, 65_536);
    assert!(!format!("{config:?}").contains("hunter2@pgbouncer"));
}

#[test]
fn a_gateway_that_believes_everybody_is_for_its_own_machine() {
    let start = |mode: Mode, variables: &[(&'static str, &'static str)]| {
        let mut source = minimal();
        source.remove("BIND_ADDR");
        source.extend(variables.iter().copied());
        Config::from_source(&source, mode)
    };
    let (loopback, everywhere) = (("BIND_ADDR", "127.0.0.1"), ("BIND_ADDR", "0.0.0.0"));
    let (admin, allowed) = (("ADMIN_ADDR", "0.0.0.0:9090"), ("ALLOW_INSECURE_AUTH", "1"));
    for reachable in [&[][..], &[everywhere], &[("BIND_ADDR", "::")], &[loopback, admin], &[("BIND_ADDR", " ")]] {
        let text = start(Mode::Serve, reachable).unwrap_err().to_string();
        assert_eq!(text.matches("openssl").count(), 2, "{reachable:?}: {text}");
        assert!(text.starts_with("JWT_PUBLIC_KEY") && text.contains("ALLOW_INSECURE_AUTH=1"), "{text}");
        assert!(start(Mode::Serve, &[reachable, &[allowed]].concat()).is_ok(), "{reachable:?}");
        assert!(start(Mode::Serve, &[reachable, &[("ALLOW_INSECURE_AUTH", "0")]].concat()).is_err());
    }
    for address in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
        assert!(start(Mode::Serve, &[("BIND_ADDR", address)]).is_ok(), "{address}");
    }
    assert!(start(Mode::Serve, &[("ALLOW_INSECURE_AUTH", "yes")]).is_err());
    assert!(start(Mode::Dev, &[everywhere]).is_ok());
}

#[test]
fn every_error_is_reported_at_once() {
    let mut source = minimal();
    source.remove("DATABASE_URL");
    source.extend([
        ("PORT", "eighty"),
        ("PUBSUB_MODE", "carrier pigeon"),
        ("PLUGINS_DIR", "/no/such/folder"),
        ("JWT_PUBLIC_KEY", "-----BEGIN PRIVATE KEY-----\\nhunter2"),
        ("MAX_BODY_BYTES", "65536"),
        ("MAX_QUEUE_BYTES", "131071"),
        ("JWT_USER_CLAIM", "/a~2"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, balancer.internal"),
        ("MAX_CONNECTIONS_PER_ADDRESS", "0"),
        ("MAX_UNAUTHENTICATED_PER_ADDRESS", "0"),
        ("MAX_HANDSHAKES", "15"),
        ("MAX_REFUSED_TOKENS_PER_MINUTE", "0"),
        ("BIND_ADDR", "localhost"),
        ("RATE_LIMIT_BURST", "0"),
        ("ADMIN_ADDR", "9098"),
        ("RUST_LOG", "(("),
        ("JWT_ISSUER", "https://a.example, https://b.example"),
        ("PLUGIN_RECORDS_DIR", "none"),
        ("ALLOWED_ORIGINS", "chat.example.com"),
        ("ADMIN_TOKEN", "hunter2"),
        ("ADMIN_HOSTS", "http://gateway"),
        ("MAX_SESSION_SECONDS", "0"),
    ]);
    let text = Config::from_source(&source, Mode::Serve).unwrap_err().to_string();
    source.insert("DATABASE_URL", "");
    for name in source.keys().filter(|name| **name != "REDIS_URL") {
        assert!(text.lines().any(|line| line.starts_with(name)), "{name} is missing in:\n{text}");
    }
    assert!(!text.contains("hunter2"));
    for told in [
        "PORT must be a whole number from 1 to 65535, not eighty",
        "RATE_LIMIT_BURST must be a whole number from 1 to 1000000, not 0",
        "BIND_ADDR must be an IP address, such as 127.0.0.1 (0.0.0.0: every one of this machine), not localhost",
        "MAX_QUEUE_BYTES must be at least twice MAX_BODY_BYTES",
        "JWT_USER_CLAIM is not valid: it is a JSON Pointer (RFC 6901)",
        "not 9098",
        "write https://chat.example.com",
    ] {
        assert!(text.contains(told), "{told} is missing in:\n{text}");
    }
}

#[test]
fn a_slip_is_noted_with_the_errors_and_without_them() {
    let mut source = minimal();
    source.extend([("MAX_CONECTIONS", "5"), ("JWT_AUDIENCES", "chat"), ("POLL_INTERVAL_MS", "5"), ("HOME", "/")]);
    let notes = Config::from_source(&source, Mode::Serve).unwrap().notes;
    assert!(notes.len() == 2 && notes[0].contains("is JWT_AUDIENCE meant"), "{notes:?}");
    source.remove("DATABASE_URL");
    source.insert("DATABASE_URI", "postgres://user:hunter2@pgbouncer/db");
    for text in [
        Config::from_source(&source, Mode::Serve).unwrap_err().to_string(),
        review(&source).unwrap_err().to_string(),
        migration_database(&source).unwrap_err().to_string(),
    ] {
        assert!(text.contains("DATABASE_URI is set, and nothing reads it; is DATABASE_URL meant?"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn claims_that_do_nothing_are_noted() {
    let mut source = minimal();
    source.insert("JWT_ALGORITHMS", "ES256");
    let notes = Config::from_source(&source, Mode::Serve).unwrap().notes;
    assert_eq!(notes, ["JWT_ALGORITHMS does nothing while JWT_PUBLIC_KEY is dev-placeholder"]);
    source.extend([("JWT_ALGORITHMS", "RS256"), ("JWT_ISSUER", "us"), ("USER_ID_NAMESPACE", "default")]);
    let notes = Config::from_source(&source, Mode::Serve).unwrap().notes;
    assert_eq!(notes, ["JWT_ISSUER, USER_ID_NAMESPACE do nothing while JWT_PUBLIC_KEY is dev-placeholder"]);
}

#[test]
fn a_folder_without_plugins_is_noted() {
    let folder = tempfile::tempdir().unwrap();
    let mut source = minimal();
    source.insert("PLUGINS_DIR", folder.path().to_str().unwrap());
    let config = Config::from_source(&source, Mode::Serve).unwrap();
    assert_eq!(config.plugins_dir.as_deref(), Some(folder.path()));
    assert!(config.notes.len() == 1 && config.notes[0].starts_with("PLUGINS_DIR holds no"), "{:?}", config.notes);
    std::fs::write(folder.path().join("one.wasm"), "").unwrap();
    assert_eq!(Config::from_source(&source, Mode::Serve).unwrap().notes, Vec::<String>::new());
}

/// What this program reads: each variable that is asked for is listed, with the default that counts.
#[test]
fn the_list_of_variables_is_whole_and_its_defaults_are_true() {
    struct Asked<'a>(HashMap<&'a str, &'a str>, std::cell::RefCell<Vec<String>>);
    impl Source for Asked<'_> {
        fn get(&self, name: &str) -> Option<String> {
            self.1.borrow_mut().push(name.to_owned());
            self.0.get(name).map(|value| (*value).to_owned())
        }
    }
    let asked = Asked(minimal(), Default::default());
    let default = format!("{:?}", Config::from_source(&asked, Mode::Serve).unwrap());
    let mut asked = asked.1.into_inner();
    // Read by those who load certificates.
    asked.extend(["SSL_CERT_FILE".to_owned(), "SSL_CERT_DIR".to_owned()]);
    let listed: std::collections::BTreeSet<&str> = VARIABLES.iter().map(|variable| variable.name).collect();
    assert_eq!(asked.iter().map(String::as_str).collect::<std::collections::BTreeSet<_>>(), listed);
    for variable in VARIABLES {
        let mut source = minimal();
        match variable.default {
            WhenUnset::Required => {
                source.remove(variable.name);
                let text = Config::from_source(&source, Mode::Serve).unwrap_err().to_string();
                assert!(text.starts_with(&format!("{} is not set", variable.name)), "{text}");
            }
            WhenUnset::Value(value) => {
                source.insert(variable.name, value);
                assert_eq!(
                    format!("{:?}", Config::from_source(&source, Mode::Serve).unwrap()),
                    default,
                    "{variable:?}"
                );
            }
            WhenUnset::Other(_) => {}
        }
    }
}
