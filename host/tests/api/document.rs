//! The document that describes the API.

use serde_json::Value;

use crate::support::World;
use crate::support::http_get;

#[tokio::test]
async fn the_document_is_served_and_describes_every_operation() {
    let world = World::new().await;
    let gateway = world.gateway().await;
    let answer = http_get(gateway.port, "/v1/openapi.json").await;
    let document: Value = serde_json::from_str(&answer[answer.find('{').unwrap()..]).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{document}");
    let operations =
        document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values());
    let operations: Vec<&Value> = operations.collect();
    assert_eq!(operations.len(), 28);
    for operation in operations {
        assert!(operation["summary"].is_string() && operation["responses"]["default"].is_object(), "{operation}");
    }
}
