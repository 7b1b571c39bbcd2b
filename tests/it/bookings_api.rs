//! The calls about spaces and bookings: lists, pages, cancelling, and spaces with a hold length of their own.

use std::time::Duration;

use axum::body::Body;
use serde_json::{Value, json};

use crate::support::{TestApp, request};

/// Slots of tomorrow in a space of site 1.
fn slots(app: &TestApp, space: u64, numbers: &[u64]) -> Value {
    json!({"idSpazio": space, "sedeId": 1, "date": app.tomorrow(), "slots": numbers})
}

async fn book(app: &TestApp, token: &str, space: u64, numbers: &[u64]) {
    for act in ["hold", "book"] {
        app.post(&format!("/api/slots/{act}"), token, slots(app, space, numbers)).await.data();
    }
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn numbers(list: &Value, key: &str) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|entry| entry[key].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn own_bookings_come_in_order_of_their_start() {
    let app = TestApp::start();
    let anna = app.user("7");
    book(&app, &anna, 3, &[5, 2]).await;
    book(&app, &anna, 2, &[4]).await;
    book(&app, &app.user("8"), 3, &[1]).await;
    let data = app.get_as("/api/bookings", &anna).await.data();
    assert_eq!(numbers(&data["bookings"], "slotId"), [2, 4, 5]);
    assert_eq!(numbers(&data["bookings"], "spazioId"), [3, 2, 3]);
    assert_eq!(data.get("next"), None);
    let first = &data["bookings"][0];
    assert_eq!(
        (&first["sedeId"], &first["date"], &first["orario"]),
        (&json!(1), &json!(app.tomorrow()), &json!("10:00"))
    );
    assert!(first["startsAt"].as_str() < first["endsAt"].as_str() && first["bookedAt"].is_string());
    assert_eq!(first["cancelUntil"], Value::Null, "it is said that it cannot be cancelled");
    let day = |from: i64, to: i64| format!("/api/bookings?from={}&to={}", app.day_ahead(from), app.day_ahead(to));
    let count = async |path: String| app.get_as(&path, &anna).await.data()["bookings"].as_array().unwrap().len();
    assert_eq!((count(day(1, 1)).await, count(day(2, 9)).await, count(day(-9, 0)).await), (3, 0, 0));
    assert_eq!(count(format!("/api/bookings?to={}", app.day_ahead(1))).await, 3);
}

#[tokio::test]
async fn a_page_of_bookings_goes_on_where_the_last_one_ended() {
    let app = TestApp::start_with(|config| (config.holds.max_held, config.holds.max_holds) = (None, None));
    let (admin, anna) = (app.staff("1", "admin"), app.user("7"));
    let all_day = json!({"opens": "00:00", "closes": "24:00", "slotMinutes": 2});
    app.put("/api/spaces/1/3", &admin, all_day).await.data();
    let wanted: Vec<u64> = (1..=510).collect();
    for part in wanted.chunks(32) {
        book(&app, &anna, 3, part).await;
    }
    let first = app.get_as("/api/bookings", &anna).await.data();
    let next = first["next"].as_str().unwrap();
    let last = app.get_as(&format!("/api/bookings?after={next}"), &anna).await.data();
    assert_eq!(last.get("next"), None);
    let seen = [numbers(&first["bookings"], "slotId"), numbers(&last["bookings"], "slotId")];
    assert_eq!((seen[0].len(), seen.concat()), (500, wanted.clone()));

    let path = format!("/api/bookings?sedeId=1&date={}", app.tomorrow());
    let first = app.get_as(&path, &admin).await.data();
    let next = first["next"].as_str().unwrap();
    let last = app.get_as(&format!("{path}&after={next}"), &admin).await.data();
    let seen = [numbers(&first["entries"], "slotId"), numbers(&last["entries"], "slotId")].concat();
    assert_eq!((seen, last.get("next")), (wanted, None));
    for bad in ["x", "1.2.3", "1.2.3.4.5", "01.1.1.1", "-"] {
        assert_eq!(app.get_as(&format!("/api/bookings?after={bad}"), &anna).await.refusal(), refused(400, "malformed"));
        assert_eq!(app.get_as(&format!("{path}&after={bad}"), &admin).await.refusal(), refused(400, "malformed"));
    }
}

#[tokio::test]
async fn staff_see_all_that_somebody_has_on_a_day_of_a_site() {
    let app = TestApp::start();
    let admin = app.staff("1", "admin");
    book(&app, &app.user("7"), 3, &[2]).await;
    app.post("/api/slots/hold", &app.user("a"), slots(&app, 30, &[1])).await.data();
    let closed = json!({"idSpazio": 4, "sedeId": 1, "date": app.tomorrow(), "status": "blocked",
        "data": {"note": "x", "spazioId": 9, "slotId": 9}});
    app.put("/api/slots/9", &admin, closed).await.data();
    let free = json!({"idSpazio": 4, "sedeId": 1, "date": app.tomorrow(), "status": "available", "data": {"price": 1}});
    app.put("/api/slots/8", &admin, free).await.data();
    let elsewhere = json!({"idSpazio": 3, "sedeId": 2, "date": app.tomorrow(), "slots": [1]});
    app.post("/api/slots/hold", &app.user("7"), elsewhere).await.data();

    let path = format!("/api/bookings?sedeId=1&date={}", app.tomorrow());
    let data = app.get_as(&path, &admin).await.data();
    let seen: Vec<Value> = data["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| json!([entry["spazioId"], entry["slotId"], entry["id_slot"], entry["status"], entry["id_utente"]]))
        .collect();
    let expected =
        [json!([3, 2, 2, "booked", 7]), json!([4, 9, 9, "blocked", null]), json!([30, 1, 1, "occupied", "a"])];
    assert_eq!(seen, expected);
    assert_eq!((&data["entries"][1]["note"], data.get("next")), (&json!("x"), None));
    assert_eq!(
        app.get_as(&path, &app.of_sites("1", "responsabile", &[1])).await.data()["entries"].as_array().unwrap().len(),
        3
    );
    for other in [app.user("7"), app.of_sites("1", "responsabile", &[2]), app.of_sites("1", "admin", &[2])] {
        assert_eq!(app.get_as(&path, &other).await.refusal(), refused(403, "forbidden"));
    }
    assert_eq!(app.get(&path).await.refusal(), refused(401, "unauthorized"));
    for bad in ["sedeId=1", "date=2026-11-25", "sedeId=1&date=2026-11-25&from=2026-11-25", "sedeId=x&date=2026-11-25"] {
        assert_eq!(
            app.get_as(&format!("/api/bookings?{bad}"), &admin).await.refusal(),
            refused(400, "malformed"),
            "{bad}"
        );
    }
    for bad in ["sedeId=1&date=tomorrow", "from=2026-02-30", "to=1"] {
        assert_eq!(
            app.get_as(&format!("/api/bookings?{bad}"), &admin).await.refusal(),
            refused(422, "bad_date"),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn who_booked_a_slot_cancels_it_where_that_is_allowed() {
    let app = TestApp::start();
    let anna = app.user("7");
    book(&app, &anna, 3, &[2]).await;
    let release = app.post("/api/slots/release", &anna, slots(&app, 3, &[2])).await;
    assert_eq!(release.refusal(), refused(404, "not_held"), "as before, where nothing is set");

    for (minutes, outcome) in [(30, Ok("available")), (60 * 24 * 7, Err("too_late"))] {
        let app = TestApp::start_with(|config| config.holds.cancel_until = Some(Duration::from_secs(minutes * 60)));
        book(&app, &anna, 3, &[2, 3]).await;
        let own = app.get_as("/api/bookings", &anna).await.data()["bookings"][0].clone();
        let [starts, until] = [&own["startsAt"], &own["cancelUntil"]]
            .map(|time| time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap());
        assert_eq!(until.duration_until(starts).as_secs(), i64::try_from(minutes).unwrap() * 60);
        let with_token = json!({"idSpazio": 3, "sedeId": 1, "date": app.tomorrow(), "slots": [2], "holdToken": "x"});
        assert_eq!(app.post("/api/slots/release", &anna, with_token).await.refusal(), refused(410, "hold_expired"));
        let other = app.post("/api/slots/release", &app.user("8"), slots(&app, 3, &[2])).await;
        assert_eq!(other.refusal(), refused(404, "not_held"));
        let answer = app.post("/api/slots/release", &anna, slots(&app, 3, &[2])).await;
        match outcome {
            Ok(status) => assert_eq!(answer.data()["status"], status),
            Err(code) => {
                assert_eq!((answer.refusal(), &answer.json()["conflicts"]), (refused(409, code), &json!([2])));
                let staff = app.post("/api/slots/release", &app.staff("1", "admin"), slots(&app, 3, &[2])).await;
                assert_eq!(staff.data()["status"], "available", "staff are not bound by it");
            }
        }
        let left = app.get_as("/api/bookings", &anna).await.data();
        assert_eq!(numbers(&left["bookings"], "slotId"), [3]);
    }
}

#[tokio::test]
async fn staff_set_several_slots_at_once_and_book_them_for_a_user() {
    let app = TestApp::start();
    let (admin, anna) = (app.staff("1", "admin"), app.user("7"));
    let body = |status: &str, more: Value| {
        let mut body = slots(&app, 3, &[3, 1]);
        body["status"] = status.into();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let answer = app.put("/api/slots", &admin, body("booked", json!({"id_utente": 7, "data": {"price": 1.10}}))).await;
    let data = answer.data();
    assert_eq!((&data["slots"], &data["status"], &data["version"]), (&json!([1, 3]), &json!("booked"), &json!(2)));
    let own = app.get_as("/api/bookings", &anna).await.data();
    assert_eq!(numbers(&own["bookings"], "slotId"), [1, 3]);
    // With both objects the day would have more data than it may, so neither slot gets one.
    let large = json!({"note": "x".repeat(16_000)});
    let all: Vec<u64> = (1..=9).collect();
    let spec = json!({"opens": "00:00", "closes": "24:00", "slotMinutes": 30});
    app.put("/api/spaces/1/4", &admin, spec).await.data();
    let mut too_much = slots(&app, 4, &all);
    (too_much["status"], too_much["data"]) = (json!("blocked"), large);
    app.put("/api/slots", &admin, too_much.clone()).await.data();
    too_much["slots"] = json!((10..=30).collect::<Vec<u64>>());
    assert_eq!(app.put("/api/slots", &admin, too_much).await.refusal(), refused(413, "too_large"));
    let board = app.get(&format!("/api/slots/4/{}?sedeId=1", app.tomorrow())).await.data();
    assert_eq!(board["version"], 10);

    let one = json!({"idSpazio": 3, "sedeId": 1, "date": app.tomorrow(), "status": "booked", "id_utente": "8"});
    assert_eq!(app.put("/api/slots/3", &admin, one.clone()).await.data()["slotId"], 3);
    let own = app.get_as("/api/bookings", &anna).await.data();
    assert_eq!(numbers(&own["bookings"], "slotId"), [1], "the other one is another's now");
    for status in ["available", "blocked"] {
        let bad = app.put("/api/slots", &admin, body(status, json!({"id_utente": 7}))).await;
        assert_eq!(bad.refusal(), refused(400, "malformed"));
    }
    for bad in [json!([]), json!([1, 1]), json!("1")] {
        let bad = app.put("/api/slots", &admin, body("blocked", json!({"slots": bad}))).await;
        assert_eq!(bad.refusal(), refused(400, "malformed"));
    }
    assert_eq!(app.put("/api/slots", &anna, body("blocked", json!({}))).await.refusal(), refused(403, "forbidden"));
    let beyond = app.put("/api/slots", &admin, body("blocked", json!({"slots": [9, 10]}))).await;
    assert_eq!((beyond.refusal(), &beyond.json()["conflicts"]), (refused(422, "slot_out_of_range"), &json!([10])));
}

#[tokio::test]
async fn an_update_under_a_key_is_done_once() {
    let app = TestApp::start();
    let admin = app.staff("1", "admin");
    let put = async |path: &str, key: &str, body: Value| {
        let mut request = request("PUT", path, &admin, Body::from(body.to_string()));
        request.headers_mut().insert("idempotency-key", key.parse().unwrap());
        app.send(request).await
    };
    let body = |data: Value| {
        let mut body = slots(&app, 3, &[1, 2]);
        (body["status"], body["data"]) = (json!("blocked"), data);
        body
    };
    for _ in 0..2 {
        assert_eq!(put("/api/slots", "k", body(json!({"a": 1}))).await.data()["version"], 2);
    }
    let other = put("/api/slots", "k", body(json!({"a": 2}))).await;
    assert_eq!(other.refusal(), refused(422, "idempotency_mismatch"));
    let one = json!({"idSpazio": 3, "sedeId": 1, "date": app.tomorrow(), "status": "available"});
    for _ in 0..2 {
        let answer = put("/api/slots/1", "one", one.clone()).await.data();
        assert_eq!((&answer["version"], &answer["slotId"]), (&json!(3), &json!(1)));
    }
    app.put("/api/slots/1", &admin, one).await.data();
    assert_eq!(app.get(&format!("/api/slots/3/{}?sedeId=1", app.tomorrow())).await.data()["version"], 4);
}

#[tokio::test]
async fn registered_spaces_are_listed_by_site_and_number() {
    let app = TestApp::start();
    let admin = app.staff("1", "admin");
    for (site, space) in [(2, 1), (1, 30), (1, 4)] {
        let spec = json!({"name": format!("Campo {space}"), "opens": "08:00"});
        app.put(&format!("/api/spaces/{site}/{space}"), &admin, spec).await.data();
    }
    book(&app, &app.user("7"), 77, &[1]).await;
    let data = app.get("/api/spaces").await.data();
    let pairs = |data: &Value| numbers(&data["spaces"], "sedeId").into_iter().zip(numbers(&data["spaces"], "spazioId"));
    assert_eq!(pairs(&data).collect::<Vec<_>>(), [(1, 4), (1, 30), (2, 1)]);
    let first = json!({"sedeId": 1, "spazioId": 4, "name": "Campo 4", "timezone": "Europe/Rome", "opens": "08:00",
        "closes": "18:00", "slotMinutes": 60});
    assert_eq!((&data["spaces"][0], data.get("next")), (&first, None));
    let of_site = app.get("/api/spaces?sedeId=2").await.data();
    assert_eq!(pairs(&of_site).collect::<Vec<_>>(), [(2, 1)]);
    let bound = app.get_as("/api/spaces", &app.of_sites("7", "", &[2])).await.data();
    assert_eq!(pairs(&bound).collect::<Vec<_>>(), [(2, 1)]);
    let after = app.get("/api/spaces?after=1.4").await.data();
    assert_eq!(pairs(&after).collect::<Vec<_>>(), [(1, 30), (2, 1)]);
    for bad in ["after=4", "after=1.x", "sedeId=0"] {
        assert_eq!(app.get(&format!("/api/spaces?{bad}")).await.refusal(), refused(400, "malformed"), "{bad}");
    }
    app.delete("/api/spaces/1/4", &admin).await.data();
    assert_eq!(pairs(&app.get("/api/spaces?sedeId=1").await.data()).collect::<Vec<_>>(), [(1, 30)]);
}

/// What holds and extensions with `holdSeconds` of no space tell of the bound.
async fn told_bounds(app: &TestApp, user: &str) -> Vec<String> {
    let mut told = Vec::new();
    for wanted in [json!("x"), json!("60"), json!(1.5), json!(0), json!(-1), json!([]), json!(1_000_000_000)] {
        let body = json!({"idSpazio": 3, "sedeId": 1, "date": app.tomorrow(), "holdSeconds": wanted});
        for act in ["hold", "extend"] {
            let answer = app.post(&format!("/api/slots/2/{act}"), user, body.clone()).await;
            assert_eq!(answer.refusal(), refused(422, "bad_hold_seconds"), "{body}");
            let error = answer.json()["error"].as_str().unwrap().to_owned();
            told.push(error.strip_prefix("holdSeconds non valido: ").unwrap().to_owned());
        }
    }
    told
}

#[tokio::test]
async fn a_space_says_how_long_holds_last_there() {
    let app = TestApp::start();
    let (admin, anna) = (app.staff("1", "admin"), app.user("7"));
    let put = async |minutes: Value| app.put("/api/spaces/1/3", &admin, json!({"holdMinutes": minutes})).await;
    for bad in [json!(0), json!(61), json!(-1), json!("5")] {
        assert_eq!(put(bad).await.refusal(), refused(400, "malformed"));
    }
    let seconds = async |slot: u64, wanted: Option<u64>| {
        let mut body = json!({"idSpazio": 3, "sedeId": 1, "date": app.tomorrow()});
        if let Some(wanted) = wanted {
            body["holdSeconds"] = wanted.into();
        }
        let answer = app.post(&format!("/api/slots/{slot}/hold"), &anna, body).await;
        if answer.status != 200 {
            return Err(answer.refusal());
        }
        let until: jiff::Timestamp = answer.data()["heldUntil"].as_str().unwrap().parse().unwrap();
        Ok((until.as_millisecond() - slotcast::clock::wall().as_millis() + 30_000) / 60_000)
    };
    assert_eq!(put(json!(5)).await.data()["holdMinutes"], 5);
    assert_eq!(app.get("/api/spaces").await.data()["spaces"][0]["holdMinutes"], 5);
    assert_eq!(seconds(1, None).await, Ok(5));
    assert_eq!(seconds(2, Some(301)).await, Err(refused(422, "bad_hold_seconds")));
    assert_eq!(told_bounds(&app, &anna).await, ["1-300"; 14]);
    assert_eq!(put(json!(60)).await.data()["holdMinutes"], 60);
    assert_eq!(seconds(2, Some(3_600)).await, Ok(60));
    assert_eq!(told_bounds(&app, &anna).await, ["1-3600"; 14]);
    assert_eq!(seconds(3, Some(3_601)).await, Err(refused(422, "bad_hold_seconds")));
    assert_eq!(put(Value::Null).await.data().get("holdMinutes"), None);
    assert_eq!(seconds(3, Some(901)).await, Err(refused(422, "bad_hold_seconds")));
    assert_eq!(told_bounds(&app, &anna).await, ["1-900"; 14]);
    assert_eq!(seconds(3, None).await, Ok(15));
}
