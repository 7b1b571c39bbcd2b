//! The OpenAPI document: its content, and that the content is true.

use axum::body::Body;

use serde_json::{Value, json};

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

/// Every call in the document: its method, its path with numbers in it, and the names of its parameters. The probes are
/// left out.
fn calls_of_the_document() -> Vec<(String, String, Vec<String>)> {
    let document = serde_json::to_value(slotcast::http::openapi()).unwrap();
    let mut calls = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap().iter().filter(|(path, _)| path.starts_with("/api/")) {
        let concrete = path.replace("{date}", "2090-05-05").replace("{", "").replace("}", "");
        let concrete = ["sedeId", "idSpazio", "id"].iter().fold(concrete, |path, name| {
            path.split('/').map(|part| if part == *name { "7" } else { part }).collect::<Vec<_>>().join("/")
        });
        for (method, call) in methods.as_object().unwrap() {
            let parameters = call["parameters"].as_array().into_iter().flatten();
            let names = parameters.filter(|parameter| parameter["in"] == "query");
            let names = names.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect();
            calls.push((method.to_uppercase(), concrete.clone(), names));
        }
    }
    calls
}

#[tokio::test]
async fn a_parameter_that_a_call_does_not_have_is_malformed_and_named() {
    let app = TestApp::start();
    let staff = app.staff("1", "admin");
    for (method, path, names) in calls_of_the_document() {
        let misspelt = names.iter().flat_map(|name| [name.to_uppercase(), format!("{name}s"), format!("{name}[]")]);
        for unknown in ["dryrun", "x", "id_Utente", "sede_id", "token"].map(str::to_owned).into_iter().chain(misspelt) {
            let known = names.first().map_or(String::new(), |name| format!("{name}=1&"));
            for query in [format!("{unknown}=1"), unknown.clone(), format!("{known}{unknown}=1")] {
                let request = request(&method, &format!("{path}?{query}"), &staff, Body::from("{}"));
                let answer = app.send(request).await;
                let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
                assert_eq!(answer.status, 400, "{method} {path}?{query}: {answer:?}");
                assert_eq!(answer.json()["code"], "malformed", "{method} {path}?{query}: {answer:?}");
                let is_named = detail.starts_with(&format!("{unknown}: the call has no such parameter"));
                assert!(
                    is_named && names.iter().all(|name| detail.contains(name)),
                    "{method} {path}?{query}: {detail}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_call_takes_each_parameter_that_the_document_gives_it_and_one_against_caches_where_it_reads() {
    let app = TestApp::start();
    let staff = app.staff("1", "admin");
    for (method, path, mut names) in calls_of_the_document() {
        names.extend((method == "GET").then(|| "_".to_owned()));
        for name in names {
            let request = request(&method, &format!("{path}?{name}=1"), &staff, Body::from("{}"));
            let answer = app.send(request).await;
            assert!(!answer.text.contains("no such parameter"), "{method} {path}?{name}=1: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_parameter_that_an_act_does_not_have_keeps_it_from_being_done() {
    let app = TestApp::start();
    let (staff, user) = (app.staff("1", "admin"), app.user("7"));
    let body = |more: Value| {
        let mut body = json!({"idSpazio": 3, "sedeId": 1, "date": app.tomorrow()});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let blocked = body(json!({"status": "blocked"}));
    let several = body(json!({"status": "blocked", "slots": [1, 2]}));
    for answer in [
        app.put("/api/slots/1?dryRun=true", &staff, blocked).await,
        app.put("/api/slots?dryRun=true", &staff, several).await,
        app.post("/api/slots/1/hold?dryRun=true", &user, body(json!({}))).await,
        app.post("/api/slots/hold?dryRun=true", &user, body(json!({"slots": [1]}))).await,
        app.post("/api/broadcast?sedeId=1", &staff, json!({"event": "x", "data": {}})).await,
    ] {
        assert_eq!(answer.refusal(), (400, "malformed".into()));
    }
    let board = app.get(&format!("/api/slots/3/{}?sedeId=1", app.tomorrow())).await.data();
    assert_eq!(board["version"], 0, "{board}");
}

#[tokio::test]
async fn a_probe_takes_what_a_watcher_appends() {
    let app = TestApp::start();
    for path in ["/healthz", "/readyz"] {
        assert_eq!(app.get(path).await.status, app.get(&format!("{path}?from=balancer&t=1")).await.status, "{path}");
    }
}
