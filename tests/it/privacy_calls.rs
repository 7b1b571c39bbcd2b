//! The calls that show or erase what is kept of a user: who may call them, what they answer, what they erase, and why they refuse.

use serde_json::{Value, json};

use crate::support::{TestApp, token};

fn slots(app: &TestApp, space: u64, numbers: &[u64]) -> Value {
    json!({"idSpazio": space, "sedeId": 1, "date": app.tomorrow(), "slots": numbers})
}

async fn hold(app: &TestApp, token: &str, space: u64, numbers: &[u64]) {
    app.post("/api/slots/hold", token, slots(app, space, numbers)).await.data();
}

async fn book(app: &TestApp, token: &str, space: u64, numbers: &[u64]) {
    hold(app, token, space, numbers).await;
    app.post("/api/slots/book", token, slots(app, space, numbers)).await.data();
}

fn refused(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

fn path(user: &str) -> String {
    format!("/api/users/{user}/data")
}

/// Reads all portions of what is kept of a user, and joins them: one list for each name.
async fn export(app: &TestApp, token: &str, user: &str) -> Value {
    let mut whole = app.get_as(&path(user), token).await.data();
    while let Some(next) = whole.as_object_mut().unwrap().remove("next") {
        let portion = app.get_as(&format!("{}?after={}", path(user), next.as_str().unwrap()), token).await.data();
        for name in ["holds", "bookings", "notifications", "calls", "journal"] {
            let more = portion[name].as_array().unwrap().clone();
            whole[name].as_array_mut().unwrap().extend(more);
        }
        if let Some(next) = portion.get("next") {
            whole["next"] = next.clone();
        }
    }
    whole
}

fn count(export: &Value, name: &str) -> usize {
    export[name].as_array().unwrap().len()
}

#[tokio::test]
async fn the_user_and_staff_everywhere_are_told_and_only_the_latter_erase() {
    let app = TestApp::start();
    let (anna, ben) = (app.user("7"), app.user("8"));
    let bound = app.of_sites("9", "gestore", &[1]);
    let all = [
        app.staff("9", "gestore"),
        app.staff("9", "amministratore"),
        app.staff("9", "admin"),
        app.staff("9", "servizio"),
    ];
    for may_not in [&ben, &bound, &app.staff("9", "responsabile")] {
        assert_eq!(app.get_as(&path("7"), may_not).await.refusal(), refused(403, "forbidden"));
    }
    for may_not in [&anna, &ben, &bound, &app.staff("9", "responsabile"), &app.of_sites("7", "admin", &[1])] {
        assert_eq!(app.delete(&path("7"), may_not).await.refusal(), refused(403, "forbidden"));
    }
    assert_eq!(app.get(&path("7")).await.refusal(), refused(401, "unauthorized"));
    assert_eq!(app.delete(&path("7"), "").await.refusal(), refused(401, "unauthorized"));
    assert_eq!(app.get_as(&path("7"), &anna).await.data()["id_utente"], json!(7));
    for staff in &all {
        assert_eq!(app.get_as(&path("7"), staff).await.data()["id_utente"], json!(7));
        assert_eq!(app.delete(&path("7"), staff).await.data(), json!({"released": 0, "cancelled": 0}));
    }
}

#[tokio::test]
async fn what_is_no_user_or_no_place_is_malformed() {
    let app = TestApp::start();
    let admin = app.staff("9", "admin");
    let long = "x".repeat(129);
    for bad in ["%00", "a%0ab", "%01guest", &long, "%ff"] {
        assert_eq!(app.get_as(&path(bad), &admin).await.refusal(), refused(400, "malformed"), "{bad}");
        assert_eq!(app.delete(&path(bad), &admin).await.refusal(), refused(400, "malformed"), "{bad}");
    }
    for bad in ["after=", "after=x", "after=bookings:1", "after=journal:%3f", "after=bookings:01.1.1.1"] {
        assert_eq!(
            app.get_as(&format!("{}?{bad}", path("7")), &admin).await.refusal(),
            refused(400, "malformed"),
            "{bad}"
        );
    }
    for bad in ["force=", "force=yes", "force=1", "force=true&force=true", "Force=true", "forced=true", "force=true&x="]
    {
        assert_eq!(
            app.delete(&format!("{}?{bad}", path("7")), &admin).await.refusal(),
            refused(400, "malformed"),
            "{bad}"
        );
    }
    let strange = "a%2Fb%20%7Bc%7D%3A%C3%BC";
    assert_eq!(app.get_as(&path(strange), &admin).await.data()["id_utente"], json!("a/b {c}:ü"));
    assert_eq!(app.delete(&path(strange), &admin).await.data()["released"], json!(0));
}

#[tokio::test]
async fn everything_that_is_kept_is_told_and_nothing_of_others() {
    let app = TestApp::start();
    let (anna, ben, admin) = (app.user("anna"), app.user("ben"), app.staff("9", "admin"));
    book(&app, &anna, 3, &[1, 2]).await;
    hold(&app, &anna, 4, &[5]).await;
    book(&app, &ben, 3, &[3]).await;
    app.post_with_key("/api/slots/extend", &anna, "a-key", slots(&app, 4, &[5])).await.data();
    app.post("/api/users/anna/notify", &admin, json!({"event": "news", "data": {"n": 1.10}})).await.data();
    // Staff takes the slot that ben has booked.
    app.put("/api/slots/3", &admin, json!({"idSpazio": 3, "sedeId": 1, "date": app.tomorrow(), "status": "blocked"}))
        .await
        .data();

    let told = export(&app, &anna, "anna").await;
    assert_eq!(told, export(&app, &admin, "anna").await, "the same for whoever may ask");
    assert_eq!(
        ["holds", "bookings", "notifications", "calls", "journal"].map(|name| count(&told, name)),
        [1, 2, 1, 1, 4]
    );
    assert_eq!((&told["holds"][0]["slots"], &told["bookings"][1]["slotId"]), (&json!([5]), &json!(2)));
    assert_eq!(told["notifications"][0]["event"], json!("news"));
    assert_eq!(told["sequences"]["lastSent"], told["notifications"][0]["sequence"]);
    assert!(told["calls"][0]["at"].is_string() && told["calls"][0]["version"].is_u64());
    assert!(!told.to_string().contains("ben") && !told.to_string().contains("a-key"), "{told}");

    // The journal of staff's own acts names nobody else.
    let of_staff = export(&app, &admin, "9").await;
    let update = &of_staff["journal"][0];
    assert_eq!((&update["act"], &update["actor"]["id"]), (&json!("update"), &json!(9)));
    assert_eq!((&update["id_utente"], &update["taken"]), (&Value::Null, &json!([{"id_utente": null, "slots": [3]}])));
}

#[tokio::test]
async fn a_user_with_many_bookings_is_told_in_portions() {
    let app = TestApp::start_with(|config| (config.holds.max_held, config.holds.max_holds) = (None, None));
    let (admin, anna) = (app.staff("1", "admin"), app.user("7"));
    let all_day = json!({"opens": "00:00", "closes": "24:00", "slotMinutes": 2});
    app.put("/api/spaces/1/3", &admin, all_day).await.data();
    let wanted: Vec<u64> = (1..=510).collect();
    for part in wanted.chunks(32) {
        book(&app, &anna, 3, part).await;
    }
    let first = app.get_as(&path("7"), &anna).await.data();
    assert_eq!((count(&first, "bookings"), count(&first, "journal")), (500, 0));
    let told = export(&app, &anna, "7").await;
    assert_eq!((count(&told, "bookings"), count(&told, "journal")), (510, 32));
    assert_eq!(app.delete(&path("7"), &admin).await.refusal(), refused(409, "has_bookings"));
    assert_eq!(
        app.delete(&format!("{}?force=true", path("7")), &admin).await.data(),
        json!({"released": 0, "cancelled": 510})
    );
    let told = export(&app, &anna, "7").await;
    assert_eq!((count(&told, "bookings"), count(&told, "journal")), (0, 0));
}

#[tokio::test]
async fn bookings_of_the_future_stand_in_the_way_unless_they_are_to_be_cancelled() {
    let app = TestApp::start();
    let (anna, admin) = (app.user("7"), app.staff("9", "admin"));
    book(&app, &anna, 3, &[1, 2]).await;
    hold(&app, &anna, 3, &[4]).await;
    hold(&app, &anna, 4, &[4, 5]).await;
    for answer in
        [app.delete(&path("7"), &admin).await, app.delete(&format!("{}?force=false", path("7")), &admin).await]
    {
        assert_eq!(answer.refusal(), refused(409, "has_bookings"));
    }
    let told = export(&app, &admin, "7").await;
    assert_eq!((count(&told, "holds"), count(&told, "bookings")), (2, 2), "nothing was done");

    let erased = app.delete(&format!("{}?force=true", path("7")), &admin).await.data();
    assert_eq!(erased, json!({"released": 3, "cancelled": 2}));
    let board = app.get(&format!("/api/slots/3/{}?sedeId=1", app.tomorrow())).await.data();
    assert!(board["slots"].as_array().unwrap().iter().all(|slot| slot["status"] == "available"), "{board}");
    assert_eq!(board["version"], json!(8), "each release is an event");

    let journal = app.get_as("/api/journal?sedeId=1&spazioId=3", &admin).await.data();
    let told: Vec<(String, Value, Value)> = journal["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            (entry["act"].as_str().unwrap().to_owned(), entry["id_utente"].clone(), entry["actor"]["id"].clone())
        })
        .collect();
    let acts: Vec<&str> = told.iter().map(|(act, ..)| act.as_str()).collect();
    assert_eq!(acts, ["hold", "book", "hold", "release", "cancel"]);
    let stand_in = &told[0].1;
    assert!(stand_in.as_str().is_some_and(|id| id.starts_with("erased-")), "{stand_in}");
    assert!(told.iter().all(|(_, user, _)| user == stand_in), "the same everywhere: {told:?}");
    let actors: Vec<&Value> = told.iter().map(|(.., actor)| actor).collect();
    assert_eq!(actors, [stand_in, stand_in, stand_in, &json!(9), &json!(9)]);
    assert!(journal["entries"].as_array().unwrap().iter().all(|entry| entry.get("taken").is_none()), "nobody is told");
    let told = export(&app, &admin, "7").await;
    assert_eq!(["holds", "bookings", "notifications", "calls", "journal"].map(|name| count(&told, name)), [0; 5]);
    assert_eq!(told["sequences"], json!({"lastSent": 0, "lastReceived": 0}));
    let metrics = app.app.metrics.encode();
    assert!(metrics.contains("slotcast_erasures_total{outcome=\"has_bookings\"} 2"), "{metrics}");
}

#[tokio::test]
async fn the_token_of_an_erased_user_goes_on_and_a_forgotten_key_is_a_new_call() {
    let app = TestApp::start();
    let (anna, admin) = (app.user("7"), app.staff("9", "admin"));
    let body = |slot: u64| slots(&app, 3, &[slot]);
    let first = app.post_with_key("/api/slots/hold", &anna, "key", body(1)).await.data();
    assert_eq!(
        app.post_with_key("/api/slots/hold", &anna, "key", body(2)).await.refusal(),
        refused(422, "idempotency_mismatch")
    );
    app.delete(&path("7"), &admin).await.data();
    let second = app.post_with_key("/api/slots/hold", &anna, "key", body(1)).await.data();
    assert_ne!((&first["holdToken"], &first["version"]), (&second["holdToken"], &second["version"]));
    assert_eq!(export(&app, &anna, "7").await["holds"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn staff_may_erase_themselves() {
    let app = TestApp::start();
    let admin = app.staff("9", "admin");
    hold(&app, &admin, 3, &[1]).await;
    assert_eq!(app.delete(&path("9"), &admin).await.data(), json!({"released": 1, "cancelled": 0}));
    let journal = app.get_as("/api/journal?sedeId=1", &admin).await.text;
    assert!(!journal.contains("\"id\":9") && !journal.contains("\"id_utente\":9"), "{journal}");
    let other_name = token(json!({"id_utente": "09", "ruolo": "admin"}));
    assert_eq!(export(&app, &other_name, "9").await["journal"].as_array().unwrap().len(), 0);
}

#[tokio::test]
async fn a_users_own_export_counts_against_the_users_rate() {
    let app = TestApp::start_with(|config| config.limits.user_rate = std::num::NonZeroU32::new(1));
    let (anna, admin) = (app.user("7"), app.staff("9", "admin"));
    for _ in 0..2 {
        app.get_as(&path("7"), &anna).await.data();
    }
    assert_eq!(app.get_as(&path("7"), &anna).await.refusal(), refused(429, "rate_limited"));
    for _ in 0..4 {
        app.get_as(&path("7"), &admin).await.data();
    }
}
