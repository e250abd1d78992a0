//! Where the API is, and for which pages.

use reqwest::{Client, Method};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::service::{Service, key};
use crate::support::World;
use crate::support::http_get;
use crate::support::program::free_port;

#[tokio::test]
async fn an_address_of_its_own_is_the_only_one() {
    let world = World::new().await;
    let port = free_port();
    let gateway = world.gateway_with(&[("API_ADDR", &format!("127.0.0.1:{port}"))]).await;
    let key = key(&world, &[]).await;
    let service = Service::with_key(port, key.clone());
    service.get("/conversations").await.ok(200);
    assert_eq!(service.get("/nothing").await.code(404), "not_found");
    assert_eq!(Service::with_key(gateway.port, key).get("/conversations").await.code(404), "not_found");
    let other = http_get(port, "/ws").await;
    assert!(other.starts_with("HTTP/1.1 404"), "{other}");
}

#[tokio::test]
async fn pages_ask_only_where_they_are_named() {
    let world = World::new().await;
    let closed = world.gateway().await;
    let open = world.gateway_with(&[("API_ALLOWED_ORIGINS", "https://app.example")]).await;
    let preflight = async |port: u16, origin: &str| {
        let url = format!("http://127.0.0.1:{port}/v1/conversations");
        let request = Client::new().request(Method::OPTIONS, url).header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        let answer = request.header("access-control-request-headers", "authorization").send().await.unwrap();
        answer.headers().get("access-control-allow-origin").map(|origin| origin.to_str().unwrap().to_owned())
    };
    assert_eq!(preflight(open.port, "https://app.example").await.as_deref(), Some("https://app.example"));
    assert_eq!(preflight(open.port, "https://evil.example").await, None);
    assert_eq!(preflight(closed.port, "https://app.example").await, None);
}

#[tokio::test]
async fn the_admin_address_has_a_page_for_people() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let page = http_get(gateway.admin_port, "/api/").await;
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("swagger-ui"), "{page}");
    let document = http_get(gateway.admin_port, "/api/openapi.json").await;
    assert!(document.contains("/v1/conversations"), "{document}");
}

/// A service with a key goes on over its connection after others would have been cut for new ones.
#[tokio::test]
async fn a_service_keeps_its_connection_when_handshakes_are_many() {
    let world = World::new().await;
    let gateway = world.gateway_with(&[("MAX_HANDSHAKES", "16")]).await;
    let key = key(&world, &[]).await;
    // No client that connects again by itself.
    let mut connection = TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap();
    let request = format!("GET /v1/held HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {key}\r\n\r\n");
    let mut answer = vec![0; 4096];
    let mut strangers = Vec::new();
    for round in 0..20 {
        connection.write_all(request.as_bytes()).await.unwrap();
        let read = connection.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "round {round}: {read} bytes");
        strangers.push(TcpStream::connect(("127.0.0.1", gateway.port)).await.unwrap());
        // When it is answered, those that came before have their places.
        assert!(http_get(gateway.port, "/health").await.starts_with("HTTP/1.1 200"));
    }
}
