//! Services learn which user somebody is whom an issuer calls by an id of its own.

use reqwest::Url;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::rotation::auth;
use crate::service::{Answer, Service, key};
use crate::support::World;
use crate::support::jwt;

async fn find(service: &Service, query: &[(&str, &str)]) -> Answer {
    let url = Url::parse_with_params("http://x/users", query).unwrap();
    service.get(&format!("/users?{}", url.query().unwrap_or_default())).await
}

#[tokio::test]
async fn a_service_learns_which_user_an_issuers_subject_is() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let (staff, guests) = (jwt::Issuer::new(), jwt::Issuer::new());
    std::fs::write(folder.path().join("staff.pem"), &staff.public).unwrap();
    std::fs::write(folder.path().join("guests.pem"), &guests.public).unwrap();
    let file = folder.path().join("issuers.toml");
    let list = "[[issuer]]\nissuer = \"https://login.example/?a=b&c\"\naudience = \"any\"\npublic_key = \"staff.pem\"\n\
         users = \"shared\"\nuser_claim = \"sub\"\nuser_id_namespace = \"default\"\n\
         [[issuer]]\nissuer = \"guests\"\naudience = \"any\"\npublic_key = \"guests.pem\"\nusers = \"own\"\n";
    std::fs::write(&file, list).unwrap();
    let gateway = world.program(&[("JWT_PUBLIC_KEY", ""), ("JWT_ISSUERS", file.to_str().unwrap())]).await;
    let service = Service::with_key(gateway.port, key(&world, &["--scope", "messages:read"]).await);
    let uuid = Uuid::new_v4().to_string();
    for (issuer, name) in [(&staff, "https://login.example/?a=b&c"), (&guests, "guests")] {
        for subject in ["auth0|507f1f77", "ü & co", &uuid] {
            let claims = json!({"sub": subject, "iss": name, "exp": jwt::now() + 600.0});
            let user = auth(gateway.port, &issuer.sign(&claims)).await["userId"].clone();
            assert!(user.is_string(), "{name}: {subject}");
            let found = find(&service, &[("issuer", name), ("subject", subject)]).await.ok(200);
            assert_eq!(found, json!({"user_id": user}), "{name}: {subject}");
        }
    }
    let several = find(&service, &[("subject", "x")]).await;
    assert_eq!(several.code(404), "unknown_issuer");
    assert!(several.body["detail"].as_str().unwrap().contains("several"), "{}", several.body);
    assert_eq!(find(&service, &[("issuer", "nobody"), ("subject", "x")]).await.code(404), "unknown_issuer");
    let long = "x".repeat(1025);
    for subject in ["", long.as_str()] {
        assert_eq!(find(&service, &[("issuer", "guests"), ("subject", subject)]).await.code(422), "unfit_subject");
    }
    assert_eq!(find(&service, &[("issuer", "guests")]).await.code(400), "invalid_field");
    let stranger = Service::with_key(gateway.port, String::new());
    assert_eq!(find(&stranger, &[("subject", "x")]).await.code(401), "invalid_api_key");
}

#[tokio::test]
async fn the_only_issuer_need_not_be_named() {
    let world = World::new().await;
    let issuer = jwt::Issuer::new();
    let gateway = world.program(&[("JWT_PUBLIC_KEY", &issuer.public), ("JWT_ISSUER", "ours")]).await;
    let service = Service::with_key(gateway.port, key(&world, &[]).await);
    let user = Uuid::new_v4().to_string();
    for query in [vec![("subject", user.as_str())], vec![("issuer", "ours"), ("subject", user.as_str())]] {
        assert_eq!(find(&service, &query).await.ok(200), json!({"user_id": user}));
    }
    assert_eq!(find(&service, &[("issuer", "theirs"), ("subject", &user)]).await.code(404), "unknown_issuer");
    // Without USER_ID_NAMESPACE no token names such a user.
    let unfit = find(&service, &[("subject", "auth0|507f1f77")]).await;
    assert_eq!((unfit.code(422), &unfit.body["user_id"]), ("unfit_subject", &Value::Null));
}
