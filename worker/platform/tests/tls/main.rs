//! `sslmode` and `sslrootcert` against a real PostgreSQL with TLS, whose certificate is for the name `localhost` and
//! not for the address 127.0.0.1.
#![allow(clippy::unwrap_used)]

use arcyou_local_services::{Postgres, PostgresOptions, ServerTls};
use arcyou_platform::database::{DatabaseUrl, describe_pool, pool};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn certificate_for(name: &str, authority: &CertifiedIssuer<'static, KeyPair>) -> ServerTls {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    ServerTls { certificate: certificate.pem(), key: key.serialize_pem() }
}

/// Whether a connection by this URL is encrypted, or why there is none.
async fn encrypted(url: &str) -> Result<bool, String> {
    let url: DatabaseUrl = url.parse().map_err(|error| format!("{error}"))?;
    let client =
        pool(&url, 1).map_err(|error| error.to_string())?.get().await.map_err(|error| describe_pool(&error))?;
    let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(client.query_one(query, &[]).await.unwrap().get(0))
}

#[tokio::test]
async fn each_mode_proves_what_it_says_and_no_less() {
    let (trusted, stranger) = (authority("ours"), authority("theirs"));
    let tls = certificate_for("localhost", &trusted);
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    // Several authorities in one file, as operators who change theirs have them.
    let ours = file("ours.pem", format!("{}{}", authority("earlier").pem(), trusted.pem()));
    let theirs = file("theirs.pem", stranger.pem());
    let start = |tls| Postgres::start(PostgresOptions { tls, ..PostgresOptions::default() }).unwrap();
    let (with, without) = tokio::task::spawn_blocking(move || (start(Some(tls)), start(None))).await.unwrap();
    let url = |server: &Postgres, host: &str, query: &str| {
        format!("postgres://{}@{host}:{}/postgres?{query}", server.user(), server.port())
    };
    for (host, query, expected) in [
        ("127.0.0.1", "sslmode=disable".to_owned(), Ok(false)),
        ("127.0.0.1", "sslmode=allow".to_owned(), Ok(true)),
        ("127.0.0.1", "sslmode=prefer".to_owned(), Ok(true)),
        ("127.0.0.1", "sslmode=require".to_owned(), Ok(true)),
        ("127.0.0.1", format!("sslmode=require&sslrootcert={ours}"), Ok(true)),
        ("127.0.0.1", format!("sslmode=require&sslrootcert={theirs}"), Err("UnknownIssuer")),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={ours}"), Ok(true)),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={theirs}"), Err("UnknownIssuer")),
        ("127.0.0.1", "sslmode=verify-ca".to_owned(), Err("certificate")),
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={ours}"), Err("not valid for name")),
        ("localhost", format!("sslmode=verify-full&sslrootcert={ours}"), Ok(true)),
        ("localhost", format!("sslmode=verify-full&sslrootcert={theirs}"), Err("UnknownIssuer")),
        ("localhost", "sslmode=verify-full".to_owned(), Err("certificate")),
        ("localhost", "sslrootcert=system".to_owned(), Err("certificate")),
    ] {
        let got = encrypted(&url(&with, host, &query)).await;
        match expected {
            Ok(expected) => assert_eq!(got, Ok(expected), "{host} {query}"),
            Err(told) => assert!(got.as_ref().is_err_and(|error| error.contains(told)), "{host} {query}: {got:?}"),
        }
    }
    for (query, expected) in [("sslmode=prefer", Some(false)), ("sslmode=require", None), ("sslmode=verify-ca", None)] {
        let got = encrypted(&url(&without, "127.0.0.1", query)).await;
        assert_eq!(got.as_ref().ok().copied(), expected, "{query}: {got:?}");
    }
}
