//! Registering spaces, and listing what changed in them.

use super::*;

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
    // Changes the store behind this node's back, as another node would.
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
        (json!({"closures": ["2026-02-30"]}), "a closure is a day"),
        (json!({"closures": [{"weekday": "domenica"}]}), "{weekday}, in English"),
        (json!({"closures": [{"weekday": "sunday", "from": "2027-01-01", "to": "2027-01-02"}]}), "closures[0]"),
        (json!({"closures": ["2027-01-01", {"from": "2027-03-02", "to": "2027-03-01"}]}), "closures[1]: from"),
        (json!({"timezone": "Etc/Unknown"}), "timezone"),
        (json!({"timezone": "factory"}), "timezone"),
        (json!({"color": "red"}), "color"),
        // A list of the fields' values in order is no object.
        (json!([]), "object"),
        (json!([null, "Europe/London"]), "object"),
    ] {
        let answer = app.put("/api/spaces/1/3", &admin, body.clone()).await;
        assert_eq!(answer.refusal(), refused(400, "malformed"), "{body}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(field), "{body}: {}", answer.text);
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
    // Changes the store behind this node's back, as another node would.
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
