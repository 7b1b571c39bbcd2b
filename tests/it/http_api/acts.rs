//! Holding, booking, releasing, extending and setting slots.

use super::*;

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
    assert_eq!(error(r#"{"idSpazio": 3, "sedeId": -1}"#).await, "Richiesta non valida: sedeId");
    assert_eq!(error(r#"{"idSpazio": 3, "sedeId": 1, "slots": [1]}"#).await, "Richiesta non valida: date");
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
    // Without `sedi` a `responsabile` is staff nowhere.
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

/// Alerts and the dashboard tell repeats from acts that changed something.
#[tokio::test]
async fn acts_that_were_done_before_are_counted_as_repeats() {
    let app = TestApp::start();
    let (anna, staff) = (app.user("7"), app.staff("1", "admin"));
    for _ in 0..2 {
        app.post("/api/slots/hold", &anna, slots(&app, &[1, 2])).await.data();
    }
    for _ in 0..3 {
        app.post("/api/slots/1/book", &anna, slot(&app)).await.data();
        app.post_with_key("/api/slots/2/release", &anna, "k", slot(&app)).await.data();
    }
    let block = || request_with_key(&app, &staff, json!("blocked"));
    for _ in 0..2 {
        app.send(block()).await.data();
    }
    let outcomes = |act: &str| {
        let count = |outcome: &str| app.app.metrics.acts.with_label_values(&[act, outcome]).get();
        (count("ok"), count("repeat"))
    };
    let counted = ["hold", "book", "release", "update"].map(outcomes);
    assert_eq!(counted, [(1, 1), (1, 2), (1, 2), (1, 1)]);
}

fn request_with_key(app: &TestApp, token: &str, status: Value) -> axum::http::Request<axum::body::Body> {
    let body = with(slot(app), "status", status);
    let mut put = request("PUT", "/api/slots/5", token, body.to_string().into());
    put.headers_mut().insert("idempotency-key", "k".parse().unwrap());
    put
}
