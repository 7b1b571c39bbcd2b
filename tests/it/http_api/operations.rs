//! Messages, statistics, sweeping and probes.

use super::*;

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
    // One batch each second, in eight buckets at once.
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
