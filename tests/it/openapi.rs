//! The OpenAPI document: what it says, and that it says the truth.

use axum::body::Body;

use crate::support::{TestApp, request};

#[test]
fn the_document_is_the_one_that_was_reviewed() {
    let document = slotcast::http::openapi().to_pretty_json().unwrap();
    insta::assert_snapshot!(document);
}

#[tokio::test]
async fn every_documented_call_exists_and_is_served_with_the_document() {
    let app = TestApp::start();
    let document = app.get("/api/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 27, "a call was added or removed: look at the contract, too");
    for (path, methods) in paths {
        let concrete = path.replace("{date}", "2026-11-25").replace(['{', '}'], "");
        for method in methods.as_object().unwrap().keys() {
            let answer = app.send(request(&method.to_uppercase(), &concrete, "", Body::empty())).await;
            let unknown = answer.status == 405 || answer.status == 404;
            assert!(!unknown, "{method} {concrete}: {answer:?}");
        }
    }
}

#[test]
fn every_call_but_the_public_ones_wants_a_token() {
    let document = serde_json::to_value(slotcast::http::openapi()).unwrap();
    let mut open = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, call) in methods.as_object().unwrap() {
            let wants_token = call["security"][0]["bearer"].is_array();
            assert_eq!(wants_token, call["responses"]["403"].is_object() || path == "/api/holds", "{method} {path}");
            if !wants_token {
                open.push(format!("{method} {path}"));
            }
        }
    }
    open.sort();
    let expected = [
        "get /api/openapi.json",
        "get /api/slots/{idSpazio}/{date}",
        "get /api/spaces",
        "get /api/spaces/{sedeId}/{idSpazio}",
        "get /healthz",
        "get /readyz",
    ];
    assert_eq!(open, expected);
}
