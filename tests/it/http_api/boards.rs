//! What a board shows, and to whom.

use super::*;

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
