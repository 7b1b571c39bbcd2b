//! The HTTP calls of the contract, each with its refusals.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use slotcast::config::{AuthConfig, KeySource};
use slotcast::domain::{Day, Schedule};
use slotcast::store::{SpaceChange, SweepBatch};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::scripted_store::ScriptedStore;
use crate::support::{TestApp, request};

/// Slots of tomorrow in space 3 of site 1.
fn slots(app: &TestApp, numbers: &[u64]) -> Value {
    json!({"idSpazio": 3, "sedeId": 1, "date": app.tomorrow(), "slots": numbers})
}

/// One slot of tomorrow in space 3 of site 1, named by the path.
fn slot(app: &TestApp) -> Value {
    json!({"idSpazio": 3, "sedeId": 1, "date": app.tomorrow()})
}

fn with(mut body: Value, key: &str, value: impl Into<Value>) -> Value {
    body[key] = value.into();
    body
}

/// The entry of one slot of tomorrow, as the holder of the token sees it.
async fn entry(app: &TestApp, number: usize, token: &str) -> Value {
    let path = format!("/api/slots/3/{}?sedeId=1", app.tomorrow());
    let board = if token.is_empty() { app.get(&path).await } else { app.get_as(&path, token).await };
    board.data()["slots"][number - 1].clone()
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

// --- Boards

#[tokio::test]
async fn a_board_shows_every_slot_of_the_day() {
    let app = TestApp::start();
    let answer = app.get(&format!("/api/slots/3/{}?sedeId=1", app.tomorrow())).await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let data = answer.data();
    assert_eq!((&data["idSpazio"], &data["sedeId"], &data["count"]), (&json!(3), &json!(1), &json!(9)));
    assert_eq!((&data["date"], &data["version"]), (&json!(app.tomorrow()), &json!(0)));
    assert!(!data["epoch"].as_str().unwrap().is_empty());
    assert_eq!(data["timeZone"], "Europe/Rome");
    let times = Schedule::default().slots(Day::parse(&app.tomorrow()).unwrap());
    let first = json!({"id_slot": 1, "orario": "09:00", "startsAt": times[0].start.rfc3339(),
        "endsAt": times[1].start.rfc3339(), "status": "available", "title": "Slot disponibile"});
    assert_eq!(data["slots"][0], first);
    assert_eq!(data["slots"].as_array().unwrap().len(), 9);
}

#[tokio::test]
async fn slots_of_yesterday_are_past() {
    let app = TestApp::start();
    let yesterday = app.day_ahead(-1);
    let data = app.get(&format!("/api/slots/3/{yesterday}?sedeId=1")).await.data();
    assert_eq!((&data["slots"][8]["status"], &data["slots"][8]["title"]), (&json!("past"), &json!("Orario passato")));
    let hold = json!({"idSpazio": 3, "sedeId": 1, "date": yesterday, "slots": [9, 1]});
    let answer = app.post("/api/slots/hold", &app.user("7"), hold).await;
    assert_eq!((answer.refusal(), &answer.json()["conflicts"]), (refused(422, "past"), &json!([1, 9])));
}

#[tokio::test]
async fn a_board_shows_whose_a_slot_is_only_to_its_owner_and_to_staff() {
    let app = TestApp::start();
    let anna = app.user("7");
    app.post("/api/slots/2/hold", &anna, slot(&app)).await.data();
    let seen = entry(&app, 2, "").await;
    assert_eq!((&seen["status"], &seen["minutes_remaining"]), (&json!("occupied"), &json!(15)));
    assert_eq!(seen["held_until"], seen["expires_at"]);
    assert_eq!((&seen["mine"], &seen["id_utente"]), (&Value::Null, &Value::Null));
    let own = entry(&app, 2, &anna).await;
    assert_eq!((&own["mine"], &own["id_utente"]), (&json!(true), &Value::Null));
    let other = entry(&app, 2, &app.user("8")).await;
    assert_eq!((&other["mine"], &other["id_utente"]), (&Value::Null, &Value::Null));
    let staff = entry(&app, 2, &app.staff("1", "admin")).await;
    assert_eq!((&staff["mine"], &staff["id_utente"]), (&Value::Null, &json!(7)));
    let manager_of_another_site = entry(&app, 2, &app.of_sites("1", "responsabile", &[2])).await;
    assert_eq!(manager_of_another_site["id_utente"], Value::Null);
}

#[tokio::test]
async fn the_site_may_be_left_out_where_one_registered_space_has_the_id() {
    let app = TestApp::start();
    let admin = app.staff("1", "admin");
    let path = format!("/api/slots/3/{}", app.tomorrow());
    assert_eq!(app.get(&path).await.refusal(), refused(400, "sede_required"));
    app.put("/api/spaces/5/3", &admin, json!({})).await.data();
    assert_eq!(app.get(&path).await.data()["sedeId"], 5);
    app.put("/api/spaces/6/3", &admin, json!({})).await.data();
    assert_eq!(app.get(&path).await.refusal(), refused(400, "sede_required"));
}

#[tokio::test]
async fn a_bad_board_is_refused_by_its_part() {
    let app = TestApp::start();
    let tomorrow = app.tomorrow();
    for (path, status, code) in [
        (format!("/api/slots/0/{tomorrow}?sedeId=1"), 400, "malformed"),
        (format!("/api/slots/x/{tomorrow}?sedeId=1"), 400, "malformed"),
        (format!("/api/slots/%FF/{tomorrow}?sedeId=1"), 400, "malformed"),
        (format!("/api/slots/3/{tomorrow}?sedeId=-1"), 400, "malformed"),
        (format!("/api/slots/3/{tomorrow}?sedeId=1&sedeId=2"), 400, "malformed"),
        ("/api/slots/3/2026-02-30?sedeId=1".into(), 422, "bad_date"),
        ("/api/slots/3/tomorrow?sedeId=1".into(), 422, "bad_date"),
        (format!("/api/slots/3/{}?sedeId=1", app.day_ahead(401)), 422, "bad_date"),
        ("/api/slots/3/9999-12-31?sedeId=1".into(), 422, "bad_date"),
    ] {
        assert_eq!(app.get(&path).await.refusal(), refused(status, code), "{path}");
    }
    assert_eq!(app.get(&format!("/api/slots/3/{}?sedeId=1", app.day_ahead(400))).await.status, 200);
    let board = format!("/api/slots/3/{tomorrow}?sedeId=1");
    assert_eq!(app.get_as(&board, "not.a.token").await.refusal(), refused(401, "unauthorized"));
}

// --- Acts

#[tokio::test]
async fn a_slot_is_held_booked_and_released_by_staff() {
    let app = TestApp::start();
    let anna = app.user("7");
    let held = app.post("/api/slots/4/hold", &anna, slot(&app)).await.data();
    assert_eq!((&held["slotId"], &held["status"], &held["version"]), (&json!(4), &json!("occupied"), &json!(1)));
    assert_eq!(held["heldUntil"], held["expires_at"]);
    assert_eq!(held["holdToken"].as_str().unwrap().len(), 32);
    let body = with(slot(&app), "holdToken", held["holdToken"].clone());
    let booked = app.post("/api/slots/4/book", &anna, body).await.data();
    let epoch = held["epoch"].clone();
    assert_eq!(booked, json!({"slotId": 4, "status": "booked", "epoch": epoch, "version": 2}));
    assert_eq!(app.post("/api/slots/4/release", &anna, slot(&app)).await.refusal(), refused(404, "not_held"));
    let service = app.staff("1", "servizio");
    let released = app.post("/api/slots/4/release", &service, slot(&app)).await.data();
    assert_eq!(released, json!({"slotId": 4, "status": "available", "epoch": epoch, "version": 3}));
    assert_eq!(entry(&app, 4, "").await["status"], "available");
}

#[tokio::test]
async fn staff_releases_what_anybody_booked_and_not_what_others_hold() {
    let app = TestApp::start();
    let anna = app.user("7");
    let not_held = refused(404, "not_held");
    for staff in [app.staff("1", "admin"), app.staff("1", "gestore"), app.of_sites("1", "responsabile", &[1])] {
        app.post("/api/slots/hold", &anna, slots(&app, &[1, 2])).await.data();
        let both = app.post("/api/slots/release", &staff, slots(&app, &[1, 2])).await;
        assert_eq!((both.refusal(), &both.json()["conflicts"]), (not_held.clone(), &json!([1, 2])));
        app.post("/api/slots/1/book", &anna, slot(&app)).await.data();
        let both = app.post("/api/slots/release", &staff, slots(&app, &[1, 2])).await;
        assert_eq!((both.refusal(), &both.json()["conflicts"]), (not_held.clone(), &json!([2])));
        let in_own_name = with(slot(&app), "id_utente", 1);
        assert_eq!(app.post("/api/slots/1/release", &staff, in_own_name).await.refusal(), not_held);
        app.post("/api/slots/1/release", &staff, slot(&app)).await.data();
        assert_eq!(entry(&app, 1, "").await["status"], "available");
        app.post("/api/slots/2/release", &anna, slot(&app)).await.data();
    }
    let set = json!({"idSpazio": 3, "sedeId": 1, "date": app.tomorrow(), "status": "booked"});
    app.put("/api/slots/1", &app.staff("1", "admin"), set).await.data();
    for other in [app.user("8"), app.staff("8", "responsabile"), app.of_sites("8", "responsabile", &[2])] {
        assert!([403, 404].contains(&app.post("/api/slots/1/release", &other, slot(&app)).await.refusal().0));
    }
    app.post("/api/slots/1/release", &app.staff("2", "gestore"), slot(&app)).await.data();
}

#[tokio::test]
async fn several_slots_are_all_held_or_none() {
    let app = TestApp::start();
    let (anna, bruno) = (app.user("7"), app.user("8"));
    let held = app.post("/api/slots/hold", &anna, slots(&app, &[5, 3, 4])).await.data();
    assert_eq!((&held["slots"], &held["version"], &held["slotId"]), (&json!([3, 4, 5]), &json!(3), &Value::Null));
    let answer = app.post("/api/slots/hold", &bruno, slots(&app, &[6, 5, 4])).await;
    assert_eq!(answer.refusal(), refused(409, "slot_unavailable"));
    assert_eq!(answer.json()["conflicts"], json!([4, 5]));
    assert_eq!(entry(&app, 6, "").await["status"], "available", "nothing was held of a refused act");
    let extended = app.post("/api/slots/extend", &anna, slots(&app, &[3, 4])).await.data();
    assert_eq!((&extended["slots"], &extended["version"]), (&json!([3, 4]), &json!(5)));
    assert_eq!(app.post("/api/slots/book", &anna, slots(&app, &[3, 4, 5])).await.data()["version"], 8);
}

#[tokio::test]
async fn repeats_answer_as_the_first_time() {
    let app = TestApp::start();
    let anna = app.user("7");
    let first = app.post("/api/slots/hold", &anna, slots(&app, &[1, 2])).await.data();
    assert_eq!(app.post("/api/slots/hold", &anna, slots(&app, &[2, 1])).await.data(), first);
    let booked = app.post("/api/slots/book", &anna, slots(&app, &[1, 2])).await.data();
    assert_eq!(app.post("/api/slots/book", &anna, slots(&app, &[1, 2])).await.data(), booked);
    let held = app.post("/api/slots/5/hold", &anna, slot(&app)).await.data();
    assert_eq!(held["version"], 5, "the repeats took no version");
    app.post("/api/slots/5/release", &anna, slot(&app)).await.data();
    assert_eq!(app.post("/api/slots/5/release", &anna, slot(&app)).await.refusal(), refused(404, "not_held"));
}

#[tokio::test]
async fn a_stale_hold_token_is_hold_expired() {
    let app = TestApp::start();
    let anna = app.user("7");
    app.post("/api/slots/1/hold", &anna, slot(&app)).await.data();
    let wrong = with(slot(&app), "holdToken", "0".repeat(32));
    for act in ["book", "release", "extend"] {
        let answer = app.post(&format!("/api/slots/1/{act}"), &anna, wrong.clone()).await;
        assert_eq!(
            (answer.refusal(), &answer.json()["conflicts"]),
            (refused(410, "hold_expired"), &json!([1])),
            "{act}"
        );
    }
}

#[tokio::test]
async fn a_hold_may_be_extended_up_to_its_limit() {
    let app = TestApp::start_with(|config| config.holds.max = Duration::from_secs(1_000));
    let anna = app.user("7");
    app.post("/api/slots/1/hold", &anna, with(slot(&app), "holdSeconds", 60)).await.data();
    assert_eq!(entry(&app, 1, "").await["minutes_remaining"], 1);
    app.post("/api/slots/1/extend", &anna, with(slot(&app), "holdSeconds", 600)).await.data();
    assert_eq!(entry(&app, 1, "").await["minutes_remaining"], 10);
    let app = TestApp::start_with(|config| config.holds.max = Duration::from_secs(100));
    app.post("/api/slots/1/hold", &anna, with(slot(&app), "holdSeconds", 60)).await.data();
    let answer = app.post("/api/slots/1/extend", &anna, with(slot(&app), "holdSeconds", 200)).await;
    assert_eq!(answer.refusal(), refused(409, "hold_limit"));
}

#[tokio::test]
async fn what_is_wrong_with_an_act_is_told_by_its_code() {
    let app = TestApp::start();
    let anna = app.user("7");
    let good = slots(&app, &[1]);
    let cases = [
        (json!([]), 400, "malformed"),
        (json!({}), 400, "malformed"),
        (with(good.clone(), "slots", json!([])), 400, "malformed"),
        (with(good.clone(), "slots", json!([1, 1])), 400, "malformed"),
        (with(good.clone(), "slots", json!((1..=33).collect::<Vec<u64>>())), 400, "malformed"),
        (with(good.clone(), "slots", json!([0])), 400, "malformed"),
        (with(good.clone(), "slots", json!([-1])), 400, "malformed"),
        (with(good.clone(), "slots", json!([1.5])), 400, "malformed"),
        (with(good.clone(), "slots", json!(1)), 400, "malformed"),
        (with(good.clone(), "idSpazio", 0), 400, "malformed"),
        (with(good.clone(), "idSpazio", "03"), 400, "malformed"),
        (with(good.clone(), "sedeId", 9_007_199_254_740_992_u64), 400, "malformed"),
        (with(good.clone(), "date", 20_261_125), 400, "malformed"),
        (with(good.clone(), "holdToken", ""), 400, "malformed"),
        (with(good.clone(), "id_utente", json!([7])), 400, "malformed"),
        (with(good.clone(), "date", "2026-02-30"), 422, "bad_date"),
        (with(good.clone(), "date", "26-2-3"), 422, "bad_date"),
        (with(good.clone(), "date", app.day_ahead(401)), 422, "bad_date"),
        (with(good.clone(), "slots", json!([10])), 422, "slot_out_of_range"),
        (with(good.clone(), "slots", json!([1_000_000_000])), 422, "slot_out_of_range"),
        (with(good.clone(), "holdSeconds", 0), 422, "bad_hold_seconds"),
        (with(good.clone(), "holdSeconds", 1_000_000_000), 422, "bad_hold_seconds"),
        (with(good.clone(), "holdSeconds", 1.5), 422, "bad_hold_seconds"),
        (with(good.clone(), "holdSeconds", "60"), 422, "bad_hold_seconds"),
        (with(good.clone(), "id_utente", 8), 403, "forbidden"),
    ];
    for (body, status, code) in cases {
        let answer = app.post("/api/slots/hold", &anna, body.clone()).await;
        assert_eq!(answer.refusal(), refused(status, code), "{body}");
    }
    assert_eq!(entry(&app, 1, "").await["status"], "available");
    let both = with(good, "slots", json!([9, 11, 1, 10]));
    assert_eq!(app.post("/api/slots/hold", &anna, both).await.json()["conflicts"], json!([10, 11]));
}

#[tokio::test]
async fn a_malformed_body_is_told_with_its_field() {
    let app = TestApp::start();
    let anna = app.user("7");
    let error = async |body: &str| {
        let request = request("POST", "/api/slots/hold", &anna, Body::from(body.to_owned()));
        let answer = app.send(request).await;
        assert_eq!(answer.refusal(), refused(400, "malformed"), "{body}");
        answer.json()["error"].as_str().unwrap().to_owned()
    };
    assert!(error(r#"{"idSpazio": 3, "sedeId": -1}"#).await.contains("sedeId"));
    assert!(error(r#"{"idSpazio": 3, "sedeId": 1, "slots": [1]}"#).await.contains("date"));
    for body in ["", "{", "\"", "nul", "[1,", "\u{0}", "{\"a\":1}}"] {
        error(body).await;
    }
}

#[tokio::test]
async fn a_slot_in_the_path_is_a_number_of_the_day() {
    let app = TestApp::start();
    let anna = app.user("7");
    for (number, status, code) in [
        ("0", 400, "malformed"),
        ("-1", 400, "malformed"),
        ("1.5", 400, "malformed"),
        ("x", 400, "malformed"),
        ("10", 422, "slot_out_of_range"),
        ("70000", 422, "slot_out_of_range"),
        ("9007199254740993", 400, "malformed"),
    ] {
        let answer = app.post(&format!("/api/slots/{number}/hold"), &anna, slot(&app)).await;
        assert_eq!(answer.refusal(), refused(status, code), "{number}");
    }
}

#[tokio::test]
async fn acts_need_a_token_that_allows_the_site() {
    let app = TestApp::start();
    for act in ["hold", "book", "release", "extend"] {
        let path = format!("/api/slots/{act}");
        let answer = app.post(&path, "", slots(&app, &[1])).await;
        assert_eq!(answer.refusal(), refused(401, "unauthorized"), "{act}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        let elsewhere = app.of_sites("7", "cliente", &[2]);
        assert_eq!(app.post(&path, &elsewhere, slots(&app, &[1])).await.refusal(), refused(403, "forbidden"), "{act}");
    }
    let here = app.of_sites("7", "cliente", &[1, 2]);
    app.post("/api/slots/hold", &here, slots(&app, &[1])).await.data();
}

#[tokio::test]
async fn a_token_that_cannot_be_checked_now_is_not_called_bad() {
    let app = TestApp::start_with(|config| {
        let url = "http://127.0.0.1:1/keys".into();
        let keys = KeySource::Jwks { algorithm: jsonwebtoken::Algorithm::RS256, url };
        config.auth = config.auth.take().map(|auth| AuthConfig { keys, ..auth });
    });
    // {"alg":"RS256","kid":"k"} . {} . a signature
    let unknown = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ.e30.AAAA";
    assert_eq!(app.get_as("/api/holds", unknown).await.refusal(), refused(503, "unavailable"));
    assert_eq!(app.get_as("/api/holds", &app.user("7")).await.refusal(), refused(401, "unauthorized"), "HS256");
}

#[tokio::test]
async fn a_service_acts_for_a_user_and_for_anyone() {
    let app = TestApp::start();
    let (service, anna) = (app.staff("99", "servizio"), app.user("7"));
    app.post("/api/slots/1/hold", &service, with(slot(&app), "id_utente", 7)).await.data();
    assert_eq!(entry(&app, 1, &anna).await["mine"], true);
    let for_another = with(slot(&app), "id_utente", 8);
    assert_eq!(app.post("/api/slots/1/book", &service, for_another).await.refusal(), refused(404, "not_held"));
    let extended = app.post("/api/slots/1/extend", &service, slot(&app)).await;
    assert_eq!(extended.refusal(), refused(404, "not_held"), "the token is its holder's alone");
    app.post("/api/slots/1/extend", &service, with(slot(&app), "id_utente", 7)).await.data();
    app.post("/api/slots/1/book", &service, slot(&app)).await.data();
    assert_eq!(entry(&app, 1, &anna).await["mine"], true, "booked for who held it");
    app.post("/api/slots/2/hold", &service, slot(&app)).await.data();
    assert_eq!(entry(&app, 2, &service).await["id_utente"], 99);
}

#[tokio::test]
async fn an_idempotency_key_repeats_the_answer_and_nothing_else() {
    let app = TestApp::start();
    let (anna, bruno) = (app.user("7"), app.user("8"));
    app.post("/api/slots/1/hold", &anna, slot(&app)).await.data();
    let first = app.post_with_key("/api/slots/1/extend", &anna, "k1", slot(&app)).await.data();
    assert_eq!(app.post_with_key("/api/slots/1/extend", &anna, "k1", slot(&app)).await.data(), first);
    let other = with(slot(&app), "holdSeconds", 30);
    let answer = app.post_with_key("/api/slots/1/extend", &anna, "k1", other).await;
    assert_eq!(answer.refusal(), refused(422, "idempotency_mismatch"));
    let answer = app.post_with_key("/api/slots/1/release", &anna, "k1", slot(&app)).await;
    assert_eq!(answer.refusal(), refused(422, "idempotency_mismatch"), "another call is another content");
    app.post_with_key("/api/slots/2/hold", &bruno, "k1", slot(&app)).await.data();
    for bad in ["", "a b", &"x".repeat(256)] {
        let answer = app.post_with_key("/api/slots/1/extend", &anna, bad, slot(&app)).await;
        assert_eq!(answer.refusal(), refused(400, "malformed"), "{bad}");
    }
}

#[tokio::test]
async fn a_user_has_a_rate_and_staff_has_none() {
    let app = TestApp::start_with(|config| config.limits.user_rate = NonZeroU32::new(1));
    let (anna, admin) = (app.user("7"), app.staff("1", "admin"));
    for _ in 0..2 {
        app.post("/api/slots/1/hold", &anna, slot(&app)).await.data();
    }
    let answer = app.post("/api/slots/1/hold", &anna, slot(&app)).await;
    assert_eq!(answer.refusal(), refused(429, "rate_limited"));
    assert_eq!(answer.header("retry-after"), "1");
    for _ in 0..5 {
        app.post("/api/slots/2/hold", &admin, slot(&app)).await.data();
    }
    // Without `sedi` it is staff nowhere.
    let nowhere = app.staff("9", "responsabile");
    for _ in 0..2 {
        app.post("/api/slots/3/hold", &nowhere, slot(&app)).await.data();
    }
    assert_eq!(app.post("/api/slots/3/hold", &nowhere, slot(&app)).await.refusal(), refused(429, "rate_limited"));
}

#[tokio::test]
async fn a_user_has_a_number_of_holds_in_a_space() {
    let app = TestApp::start_with(|config| config.holds.max_holds = Some(2));
    let anna = app.user("7");
    app.post("/api/slots/hold", &anna, slots(&app, &[1, 2])).await.data();
    app.post("/api/slots/3/hold", &anna, slot(&app)).await.data();
    assert_eq!(app.post("/api/slots/4/hold", &anna, slot(&app)).await.refusal(), refused(429, "too_many_holds"));
}

#[tokio::test]
async fn own_holds_are_listed_by_token() {
    let app = TestApp::start();
    let (anna, bruno) = (app.user("7"), app.user("8"));
    let both = app.post("/api/slots/hold", &anna, slots(&app, &[1, 2])).await.data();
    app.post("/api/slots/5/hold", &anna, slot(&app)).await.data();
    app.post("/api/slots/6/hold", &bruno, slot(&app)).await.data();
    let holds = app.get_as("/api/holds", &anna).await.data()["holds"].clone();
    let first = json!({
        "holdToken": both["holdToken"], "sedeId": 1, "spazioId": 3, "date": app.tomorrow(), "slots": [1, 2],
        "heldUntil": both["heldUntil"], "expires_at": both["heldUntil"],
    });
    assert_eq!((&holds[0], &holds[1]["slots"], holds.as_array().unwrap().len()), (&first, &json!([5]), 2));
    assert_eq!(app.get("/api/holds").await.refusal(), refused(401, "unauthorized"));
}

#[tokio::test]
async fn staff_sets_a_slot_with_data_digit_for_digit() {
    let app = TestApp::start();
    let admin = app.staff("1", "admin");
    let body = format!(
        r#"{{"idSpazio": 3, "sedeId": 1, "date": "{}", "status": "blocked", "data": {{"why": "lavori", "cost": 1.10, "id": 9}}}}"#,
        app.tomorrow()
    );
    let data = app.send(request("PUT", "/api/slots/3", &admin, Body::from(body))).await.data();
    assert_eq!((&data["slotId"], &data["status"], &data["version"]), (&json!(3), &json!("blocked"), &json!(1)));
    let board = app.get(&format!("/api/slots/3/{}?sedeId=1", app.tomorrow())).await;
    assert!(board.text.contains(r#""why":"lavori","cost":1.10}"#), "{}", board.text);
    let free = with(slot(&app), "status", "available");
    assert_eq!(app.put("/api/slots/3", &admin, free.clone()).await.data()["version"], 2);
    assert_eq!(app.put("/api/slots/3", &admin, free.clone()).await.data()["version"], 3, "always takes a version");
    for token in [app.user("7"), app.of_sites("7", "responsabile", &[2]), app.staff("7", "responsabile")] {
        assert_eq!(app.put("/api/slots/3", &token, free.clone()).await.refusal(), refused(403, "forbidden"));
    }
    app.put("/api/slots/3", &app.of_sites("7", "responsabile", &[1]), free).await.data();
    let occupied = with(slot(&app), "status", "occupied");
    assert_eq!(app.put("/api/slots/3", &admin, occupied).await.refusal(), refused(400, "malformed"));
    let long = with(with(slot(&app), "status", "blocked"), "data", json!({"a": "x".repeat(16 * 1024)}));
    assert_eq!(app.put("/api/slots/3", &admin, long).await.refusal(), refused(413, "too_large"));
}

// --- Spaces

#[tokio::test]
async fn a_space_is_registered_changed_and_removed() {
    let app = TestApp::start();
    let admin = app.staff("1", "admin");
    let default = app.get("/api/spaces/1/3").await.data();
    assert_eq!((&default["registered"], &default["version"]), (&json!(false), &json!(0)));
    let body = json!({"name": "Sala", "opens": "08:00", "closes": "20:00", "slotMinutes": 30,
        "closures": ["2026-12-25", {"weekday": "sunday"}]});
    let put = app.put("/api/spaces/1/3", &admin, body.clone()).await.data();
    let expected = json!({
        "sedeId": 1, "spazioId": 3, "name": "Sala", "timezone": "Europe/Rome", "opens": "08:00", "closes": "20:00",
        "slotMinutes": 30, "closures": ["2026-12-25", {"weekday": "sunday"}], "registered": true,
        "epoch": put["epoch"], "version": 1,
    });
    assert_eq!(put, expected);
    assert_eq!(app.get("/api/spaces/1/3").await.data(), expected);
    assert_eq!(app.put("/api/spaces/1/3", &admin, body).await.data(), expected, "nothing changed");
    let deleted = app.delete("/api/spaces/1/3", &admin).await.data();
    assert_eq!((&deleted["registered"], &deleted["version"]), (&json!(false), &json!(2)));
    assert_eq!(app.delete("/api/spaces/1/3", &admin).await.refusal(), refused(404, "space_not_found"));
    assert_eq!(app.get("/api/spaces/1/3").await.data()["version"], 2, "the version stays");
}

#[tokio::test]
async fn a_new_schedule_holds_for_the_next_act_and_board() {
    let app = TestApp::start();
    let (admin, anna) = (app.staff("1", "admin"), app.user("7"));
    assert_eq!(app.post("/api/slots/12/hold", &anna, slot(&app)).await.refusal(), refused(422, "slot_out_of_range"));
    app.put("/api/spaces/1/3", &admin, json!({"closes": "23:00"})).await.data();
    app.post("/api/slots/12/hold", &anna, slot(&app)).await.data();
    assert_eq!(entry(&app, 12, "").await["orario"], "20:00");
}

#[tokio::test]
async fn a_change_that_another_node_made_is_found_by_acts_and_boards() {
    let app = TestApp::start();
    let anna = app.user("7");
    app.post("/api/slots/1/hold", &anna, slot(&app)).await.data();
    // Past this node's memory, as another node would.
    let space = slotcast::domain::SpaceKey { site: "1".parse().unwrap(), space: "3".parse().unwrap() };
    let put = async |schedule| {
        let revised_at = app.app.store.read_space(space).await.unwrap().revised_at();
        let spec = serde_json::from_value(schedule).unwrap();
        app.app.store.put_space(SpaceChange::new(space, Some(spec), revised_at).unwrap()).await.unwrap();
    };
    put(json!({"closes": "23:00"})).await;
    app.post("/api/slots/12/hold", &anna, slot(&app)).await.data();
    put(json!({"closes": "22:00"})).await;
    let board = app.get(&format!("/api/slots/3/{}?sedeId=1", app.tomorrow())).await.data();
    assert_eq!(board["count"], 13);
    put(json!({"closes": "22:00", "name": "Sala"})).await;
    app.post("/api/slots/2/hold", &anna, slot(&app)).await.data();
}

#[tokio::test]
async fn a_schedule_that_moves_a_taken_slot_is_space_in_use() {
    let app = TestApp::start();
    let (admin, anna) = (app.staff("1", "admin"), app.user("7"));
    app.post("/api/slots/2/hold", &anna, slot(&app)).await.data();
    let answer = app.put("/api/spaces/1/3", &admin, json!({"opens": "08:00"})).await;
    assert_eq!((answer.refusal(), &answer.json()["conflicts"]), (refused(409, "space_in_use"), &json!([2])));
    app.put("/api/spaces/1/3", &admin, json!({"closes": "20:00"})).await.data();
    app.delete("/api/spaces/1/3", &admin).await.data();
    app.post("/api/slots/2/release", &anna, slot(&app)).await.data();
    app.put("/api/spaces/1/3", &admin, json!({"opens": "08:00"})).await.data();
}

#[tokio::test]
async fn a_schedule_that_does_not_hold_together_is_malformed() {
    let app = TestApp::start();
    let admin = app.staff("1", "admin");
    for (body, field) in [
        (json!({"timezone": "Europe/Atlantis"}), "timezone"),
        (json!({"opens": "19:00"}), "opens"),
        (json!({"opens": "9:00"}), "opens"),
        (json!({"slotMinutes": 0}), "slotMinutes"),
        (json!({"slotMinutes": -5}), "slotMinutes"),
        (json!({"closures": ["2026-02-30"]}), "closures"),
        (json!({"color": "red"}), "color"),
        // Fields in order are no object.
        (json!([]), "object"),
        (json!([null, "Europe/London"]), "object"),
    ] {
        let answer = app.put("/api/spaces/1/3", &admin, body.clone()).await;
        assert_eq!(answer.refusal(), refused(400, "malformed"), "{body}");
        assert!(answer.json()["error"].as_str().unwrap().contains(field), "{body}: {}", answer.text);
    }
    let default = json!({});
    assert_eq!(app.put("/api/spaces/1/3", &app.user("7"), default.clone()).await.refusal(), refused(403, "forbidden"));
    assert_eq!(app.put("/api/spaces/1/x", &admin, default).await.refusal(), refused(400, "malformed"));
}

#[tokio::test]
async fn in_a_closed_catalog_only_registered_spaces_exist() {
    let app = TestApp::start_with(|config| config.catalog.open = false);
    let (admin, anna) = (app.staff("1", "admin"), app.user("7"));
    let unknown = refused(404, "space_not_found");
    let day = app.tomorrow();
    assert_eq!(app.get(&format!("/api/slots/3/{day}?sedeId=1")).await.refusal(), unknown);
    assert_eq!(app.get(&format!("/api/slots/3/{day}")).await.refusal(), refused(400, "sede_required"));
    assert_eq!(app.get("/api/spaces/1/3").await.refusal(), unknown);
    assert_eq!(app.post("/api/slots/1/hold", &anna, slot(&app)).await.refusal(), unknown);
    let show = json!({"date": day});
    assert_eq!(app.post("/api/spaces/1/3/broadcast", &admin, show).await.refusal(), unknown);
    app.put("/api/spaces/1/3", &admin, json!({})).await.data();
    app.post("/api/slots/1/hold", &anna, slot(&app)).await.data();
    assert_eq!(app.delete("/api/spaces/1/3", &admin).await.refusal(), refused(409, "space_in_use"));
    app.post("/api/slots/1/release", &anna, slot(&app)).await.data();
    app.delete("/api/spaces/1/3", &admin).await.data();
    assert_eq!(app.post("/api/slots/1/hold", &anna, slot(&app)).await.refusal(), unknown);
}

#[tokio::test]
async fn the_board_of_a_space_that_another_node_removed_is_not_shown() {
    let app = TestApp::start_with(|config| config.catalog.open = false);
    let admin = app.staff("1", "admin");
    app.put("/api/spaces/1/3", &admin, json!({})).await.data();
    let show = json!({"date": app.tomorrow()});
    app.post("/api/spaces/1/3/broadcast", &admin, show.clone()).await.data();
    // Past this node's memory, as another node would.
    let space = slotcast::domain::SpaceKey { site: "1".parse().unwrap(), space: "3".parse().unwrap() };
    let revised_at = app.app.store.read_space(space).await.unwrap().revised_at();
    app.app.store.put_space(SpaceChange::new(space, None, revised_at).unwrap()).await.unwrap();
    assert_eq!(app.post("/api/spaces/1/3/broadcast", &admin, show).await.refusal(), refused(404, "space_not_found"));
}

#[tokio::test]
async fn changes_are_listed_from_a_version_or_gone() {
    let app = TestApp::start();
    let (admin, anna) = (app.staff("1", "admin"), app.user("7"));
    let epoch = app.post("/api/slots/1/hold", &anna, slot(&app)).await.data()["epoch"].clone();
    let epoch = epoch.as_str().unwrap();
    app.put("/api/spaces/1/3", &admin, json!({"name": "Sala"})).await.data();
    let path = |epoch: &str, version: &str| format!("/api/spaces/1/3/changes?epoch={epoch}&version={version}");
    let data = app.get_as(&path(epoch, "0"), &admin).await.data();
    assert_eq!((&data["epoch"], &data["version"]), (&json!(epoch), &json!(2)));
    let first = &data["changes"][0];
    assert_eq!((&first["event"], &first["version"]), (&json!("slot_update"), &json!(1)));
    assert_eq!((&first["payload"]["slotId"], &first["payload"]["status"]), (&json!(1), &json!("occupied")));
    assert_eq!(data["changes"][1], json!({"version": 2, "event": "space_changed", "payload": null}));
    let none = app.get_as(&path(epoch, "2"), &admin).await.data();
    assert_eq!((&none["version"], &none["changes"]), (&json!(2), &json!([])));
    for (epoch, version, status, code) in [
        ("another", "0", 410, "gone"),
        (epoch, "3", 410, "gone"),
        (epoch, "-1", 400, "malformed"),
        (epoch, "", 400, "malformed"),
    ] {
        let answer = app.get_as(&path(epoch, version), &admin).await;
        assert_eq!(answer.refusal(), refused(status, code), "{version}");
    }
    assert_eq!(app.get_as(&path(epoch, "0"), &anna).await.refusal(), refused(403, "forbidden"));
}

// --- Messages and operations

#[tokio::test]
async fn staff_notifies_and_broadcasts() {
    let app = TestApp::start();
    let (service, anna) = (app.staff("1", "servizio"), app.user("7"));
    let offer = json!({"event": "offer", "data": {"price": 1}});
    let data = app.post("/api/users/7/notify", &service, offer.clone()).await.data();
    assert_eq!(data, json!({"id_utente": 7, "event": "offer"}));
    let waiting = app
        .app
        .store
        .messages_of(&slotcast::domain::UserId::new("7").unwrap(), None, usize::MAX)
        .await
        .unwrap()
        .messages;
    assert_eq!((waiting.len(), waiting[0].event.as_str(), waiting[0].data.get()), (1, "offer", r#"{"price":1}"#));
    assert_eq!(app.post("/api/broadcast", &service, offer.clone()).await.data(), json!({"event": "offer"}));
    assert_eq!(app.post("/api/users/7/disconnect", &service, json!({})).await.data(), json!({"id_utente": 7}));
    let show = json!({"date": app.tomorrow()});
    let shown = app.post("/api/spaces/1/3/broadcast", &service, show.clone()).await.data();
    assert_eq!(shown, json!({"idSpazio": 3, "sedeId": 1, "date": app.tomorrow()}));
    let reserved = json!({"event": "slot_update", "data": 1});
    for path in ["/api/users/7/notify", "/api/broadcast"] {
        let answer = app.post(path, &service, reserved.clone()).await;
        assert_eq!(answer.refusal(), refused(422, "reserved_event"), "{path}");
    }
    for token in [anna, app.of_sites("2", "responsabile", &[2])] {
        for path in ["/api/users/7/notify", "/api/broadcast", "/api/users/7/disconnect", "/api/spaces/1/3/broadcast"] {
            let body = if path.starts_with("/api/spaces") { show.clone() } else { offer.clone() };
            assert_eq!(app.post(path, &token, body).await.refusal(), refused(403, "forbidden"), "{path}");
        }
    }
}

#[tokio::test]
async fn statistics_and_sweeping_are_for_staff_of_everything() {
    let app = TestApp::start();
    let admin = app.staff("1", "admin");
    let stats = app.get_as("/api/stats", &admin).await.data();
    assert_eq!((&stats["totalSockets"], &stats["roomCount"], &stats["rooms"]), (&json!(0), &json!(0), &json!([])));
    assert_eq!(stats["nodes"].as_array().unwrap().len(), 1);
    app.post("/api/slots/1/hold", &app.user("7"), with(slot(&app), "holdSeconds", 1)).await.data();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    let report = app.post("/api/sweep", &admin, json!({})).await.data();
    assert_eq!((&report["freed"], &report["spaces"]), (&json!(1), &json!(1)));
    assert_eq!(app.post("/api/sweep", &admin, json!({})).await.data()["freed"], 0);
    for token in [app.user("7"), app.of_sites("7", "responsabile", &[1])] {
        assert_eq!(app.get_as("/api/stats", &token).await.refusal(), refused(403, "forbidden"));
        assert_eq!(app.post("/api/sweep", &token, json!({})).await.refusal(), refused(403, "forbidden"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweep_that_would_take_too_long_answers_what_it_did() {
    let sweep = |_| Ok(SweepBatch { freed: 2, more: true, ..SweepBatch::default() });
    let app = TestApp::start_through(|_| Arc::new(ScriptedStore::new(Duration::from_secs(1), sweep)));
    let report = app.post("/api/sweep", &app.staff("1", "admin"), json!({})).await.data();
    // A batch a second, in eight buckets at a time.
    assert_eq!((&report["freed"], &report["tookMs"]), (&json!(20 * 8 * 2), &json!(20_000)));
}

#[tokio::test]
async fn a_hold_that_ended_is_free_at_that_instant() {
    let app = TestApp::start();
    app.post("/api/slots/1/hold", &app.user("7"), with(slot(&app), "holdSeconds", 1)).await.data();
    tokio::time::sleep(Duration::from_millis(1_050)).await;
    assert_eq!(entry(&app, 1, "").await["status"], "available", "nobody swept");
    let data = app.post("/api/slots/1/hold", &app.user("8"), slot(&app)).await.data();
    assert_eq!(data["version"], 3, "one version freed it");
}

#[tokio::test]
async fn probes_say_what_stands_in_the_way() {
    let app = TestApp::start();
    let ready = app.get("/readyz").await;
    assert_eq!((ready.status, ready.json()), (200, json!({"status": "ok", "obstacles": []})));
    app.app.health.set_store_reachable(false);
    app.app.health.start_draining();
    let ready = app.get("/readyz").await;
    let expected = json!({"status": "unavailable", "obstacles": ["store_unreachable", "draining"]});
    assert_eq!((ready.status, ready.json()), (503, expected));
    assert_eq!(app.get("/healthz").await.status, 200, "the store was reached once");
}

// --- What surrounds every call

#[tokio::test]
async fn unknown_paths_and_wrong_methods_have_the_one_shape() {
    let app = TestApp::start();
    for path in ["/api", "/api/", "/api/nothing", "/nothing"] {
        assert_eq!(app.get(path).await.refusal(), refused(404, "not_found"), "{path}");
    }
    let answer = app.get("/api/slots").await;
    assert_eq!((answer.refusal(), answer.header("allow")), (refused(405, "not_found"), "PUT"));
    let answer = app.delete("/api/slots/hold", "").await;
    assert_eq!((answer.refusal(), answer.header("allow")), (refused(405, "not_found"), "POST"));
    let answer = app.post("/api/spaces/1/3", "", json!({})).await;
    assert_eq!(answer.refusal(), refused(405, "not_found"));
    let mut allowed: Vec<&str> = answer.header("allow").split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["DELETE", "GET", "HEAD", "PUT"]);
}

#[tokio::test]
async fn a_call_has_a_request_id() {
    let app = TestApp::start();
    let with_id = async |id: &str| {
        let request = Request::get("/api/nothing").header("x-request-id", id).body(Body::empty()).unwrap();
        app.send(request).await.header("x-request-id").to_owned()
    };
    assert_eq!(with_id("trace-1").await, "trace-1");
    let made = with_id(&"x".repeat(500)).await;
    assert!((1..=64).contains(&made.len()), "{made}");
    assert_eq!(app.get("/api/nothing").await.header("x-request-id").len(), 32);
}

#[tokio::test]
async fn cors_allows_exactly_the_configured_origins() {
    let app = TestApp::start();
    let preflight = async |origin: &str| {
        let request = Request::options("/api/slots/1/hold")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type,idempotency-key");
        app.send(request.body(Body::empty()).unwrap()).await
    };
    let allowed = preflight("http://localhost:3000").await;
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.header("access-control-allow-origin"), "http://localhost:3000");
    assert_eq!(allowed.header("access-control-allow-credentials"), "true");
    assert_eq!(allowed.header("access-control-allow-methods"), "GET,POST,PUT,DELETE");
    assert_eq!(allowed.header("access-control-allow-headers"), "authorization,content-type,idempotency-key");
    for other in ["http://localhost:3001", "https://localhost:3000", "http://localhost:3000.evil.example", "null"] {
        assert_eq!(preflight(other).await.header("access-control-allow-origin"), "", "{other}");
    }
    let answer = Request::get("/api/holds").header("origin", "http://localhost:3000").body(Body::empty()).unwrap();
    let answer = app.send(answer).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("access-control-allow-origin"), "http://localhost:3000", "refusals can be read, too");
}

#[tokio::test]
async fn a_client_that_sends_five_mebibytes_slowly_reads_the_413() {
    let app = TestApp::start();
    let (address, token) = (app.serve().await, app.user("7"));
    for authorization in [format!("authorization: Bearer {token}\r\n"), String::new()] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (chunks, chunk) = (80, vec![b' '; 64 * 1024]);
        let length = chunks * chunk.len();
        let head =
            format!("POST /api/slots/hold HTTP/1.1\r\nhost: x\r\n{authorization}content-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..chunks {
            stream.write_all(&chunk).await.expect("what is still sent is taken");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            assert_ne!(stream.read_buf(&mut answer).await.expect("no reset"), 0, "an answer");
        }
        let answer = String::from_utf8(answer).unwrap();
        let expected = if authorization.is_empty() { "HTTP/1.1 401 " } else { "HTTP/1.1 413 " };
        assert!(answer.starts_with(expected), "{answer}");
    }
}

#[tokio::test]
async fn five_hundred_holds_of_one_slot_at_once_are_one() {
    let app = std::sync::Arc::new(TestApp::start());
    let calls: Vec<_> = (0..500)
        .map(|user| {
            let app = app.clone();
            tokio::spawn(
                async move { app.post("/api/slots/1/hold", &app.user(&user.to_string()), slot(&app)).await.status },
            )
        })
        .collect();
    let mut statuses = Vec::new();
    for call in calls {
        statuses.push(call.await.unwrap());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 499);
    let board = app.get(&format!("/api/slots/3/{}?sedeId=1", app.tomorrow())).await.data();
    assert_eq!(board["version"], 1);
}
