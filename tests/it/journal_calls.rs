//! `GET /api/journal`: who may read which entries, filters, cursors, and waiting.

use std::time::Duration;

use serde_json::{Value, json};
use slotcast::store::JournalBounds;

use crate::support::TestApp;

/// A node, with acts of two users in two sites.
async fn scene() -> TestApp {
    let app = TestApp::start();
    let (anna, bea, staff) = (app.user("7"), app.user("bea"), app.staff("9", "gestore"));
    for (token, site, space, slot) in [(&anna, 1, 1, 1), (&bea, 1, 2, 1), (&anna, 2, 1, 1)] {
        let body = json!({"idSpazio": space, "sedeId": site, "date": app.tomorrow()});
        let held = app.post(&format!("/api/slots/{slot}/hold"), token, body.clone()).await;
        assert_eq!(held.status, 200, "{held:?}");
        assert_eq!(app.post(&format!("/api/slots/{slot}/book"), token, body).await.status, 200);
    }
    let body = json!({"idSpazio": 1, "sedeId": 1, "date": app.tomorrow(), "status": "blocked"});
    assert_eq!(app.put("/api/slots/1", &staff, body).await.status, 200);
    app
}

async fn entries(app: &TestApp, token: &str, query: &str) -> Vec<Value> {
    let answer = app.get_as(&format!("/api/journal{query}"), token).await;
    assert_eq!(answer.status, 200, "{query}: {answer:?}");
    answer.data()["entries"].as_array().unwrap().clone()
}

/// Act, site and space of each entry.
async fn told(app: &TestApp, token: &str, query: &str) -> Vec<String> {
    let mut told: Vec<String> = entries(app, token, query)
        .await
        .iter()
        .map(|entry| format!("{} {}/{}", entry["act"].as_str().unwrap(), entry["sedeId"], entry["spazioId"]))
        .collect();
    told.sort();
    told
}

#[tokio::test]
async fn an_entry_says_who_did_what() {
    let app = scene().await;
    let staff = app.staff("9", "gestore");
    let of_space = entries(&app, &staff, "?sedeId=1&spazioId=1").await;
    let acts: Vec<&str> = of_space.iter().map(|entry| entry["act"].as_str().unwrap()).collect();
    assert_eq!(acts, ["hold", "book", "update"]);
    let update = &of_space[2];
    assert_eq!(update["actor"], json!({"id": 9, "role": "gestore"}));
    assert_eq!(update["id_utente"], 7);
    assert_eq!(update["taken"], json!([{"id_utente": 7, "slots": [1]}]));
    assert_eq!((&update["slots"], &update["status"]), (&json!([1]), &json!("blocked")));
    assert_eq!(update["date"], app.tomorrow());
    let id = format!("{}-1-1-{}", update["epoch"].as_str().unwrap(), update["version"]);
    assert_eq!(update["id"], id);
    assert_eq!(of_space[0]["actor"], json!({"id": 7, "role": null}));
}

#[tokio::test]
async fn staff_reads_its_sites_and_nobody_else_reads_anything() {
    let app = scene().await;
    let everywhere = app.staff("9", "gestore");
    assert_eq!(told(&app, &everywhere, "").await.len(), 7);
    assert_eq!(told(&app, &everywhere, "?sedeId=2").await, ["book 2/1", "hold 2/1"]);
    for role in ["responsabile", "gestore", "servizio"] {
        let of_two = app.of_sites("9", role, &[2, 3]);
        assert_eq!(told(&app, &of_two, "").await, ["book 2/1", "hold 2/1"], "{role}");
        assert_eq!(told(&app, &of_two, "?spazioId=1").await, ["book 2/1", "hold 2/1"], "{role}");
        assert!(told(&app, &of_two, "?sedeId=3").await.is_empty());
        assert_eq!(app.get_as("/api/journal?sedeId=1", &of_two).await.refusal(), (403, "forbidden".into()), "{role}");
    }
    for token in [app.staff("9", "responsabile"), app.user("7"), app.of_sites("7", "cliente", &[1])] {
        for query in ["", "?sedeId=1"] {
            let refused = app.get_as(&format!("/api/journal{query}"), &token).await.refusal();
            assert_eq!(refused, (403, "forbidden".into()));
        }
    }
    assert_eq!(app.get("/api/journal").await.refusal(), (401, "unauthorized".into()));
    // The caller's rights count, not those in the cursor.
    let place = app.get_as("/api/journal?limit=1", &everywhere).await.data()["next"].as_str().unwrap().to_owned();
    let of_two = app.of_sites("9", "gestore", &[2]);
    let rest = told(&app, &of_two, &format!("?after={place}")).await;
    assert!(rest.iter().all(|entry| entry.ends_with("2/1")), "{rest:?}");
}

#[tokio::test]
async fn filters_apply_together() {
    let app = scene().await;
    let staff = app.staff("9", "gestore");
    assert_eq!(told(&app, &staff, "?id_utente=bea").await, ["book 1/2", "hold 1/2"]);
    assert_eq!(told(&app, &staff, "?id_utente=7&act=update").await, ["update 1/1"]);
    assert_eq!(told(&app, &staff, "?act=book,update&sedeId=1").await, ["book 1/1", "book 1/2", "update 1/1"]);
    assert_eq!(told(&app, &staff, "?spazioId=1&act=hold").await, ["hold 1/1", "hold 2/1"]);
    let now = slotcast::clock::wall();
    let day = &now.rfc3339()[..10];
    assert_eq!(told(&app, &staff, &format!("?from={day}&to={day}")).await.len(), 7);
    assert!(told(&app, &staff, "?to=2020-01-01").await.is_empty());
    assert!(told(&app, &staff, "?from=2120-01-01").await.is_empty());
    let soon = now.plus_millis(60_000).rfc3339();
    assert_eq!(told(&app, &staff, &format!("?to={soon}")).await.len(), 7);
    assert!(told(&app, &staff, &format!("?from={soon}")).await.is_empty());
}

#[tokio::test]
async fn next_goes_on_where_a_call_stopped() {
    let app = scene().await;
    let staff = app.staff("9", "gestore");
    let (mut query, mut seen) = (String::new(), Vec::new());
    loop {
        let data = app.get_as(&format!("/api/journal?limit=2{query}"), &staff).await.data();
        seen.extend(data["entries"].as_array().unwrap().clone());
        query = format!("&after={}", data["next"].as_str().unwrap());
        if data["more"] == false {
            break;
        }
    }
    let ids: std::collections::BTreeSet<&str> = seen.iter().map(|entry| entry["id"].as_str().unwrap()).collect();
    assert_eq!((seen.len(), ids.len()), (7, 7));
    let end = app.get_as(&format!("/api/journal?{}", &query[1..]), &staff).await.data();
    assert_eq!((end["entries"].as_array().unwrap().len(), &end["more"]), (0, &json!(false)));
}

#[tokio::test]
async fn what_does_not_decode_is_malformed() {
    let app = scene().await;
    let staff = app.staff("9", "gestore");
    for bad in [
        "sedeId=x",
        "sedeId=0",
        "spazioId=-1",
        "id_utente=",
        "act=dance",
        "act=",
        "from=yesterday",
        "to=2026-11-31",
        "after=",
        "after=x",
        "after=%00",
        "limit=0",
        "limit=501",
        "limit=x",
        "wait=31",
        "wait=-1",
        "wait=x",
    ] {
        let answer = app.get_as(&format!("/api/journal?{bad}"), &staff).await;
        assert_eq!(answer.refusal(), (400, "malformed".into()), "{bad}");
        let (name, detail) = (bad.split('=').next().unwrap(), answer.json()["detail"].as_str().unwrap().to_owned());
        assert!(detail.contains(&format!("{name}: ")), "it names what is wrong, and what is allowed: {detail}");
    }
    app.get_as("/api/journal?from=0000-01-01&to=9999-12-31", &staff).await.data();
}

#[tokio::test]
async fn where_no_journal_is_kept_there_is_none() {
    let app = TestApp::start_with(|config| config.journal = JournalBounds { days: 0, max: 5_000 });
    let staff = app.staff("9", "gestore");
    assert_eq!(app.get_as("/api/journal", &staff).await.refusal(), (404, "not_found".into()));
    assert_eq!(app.get_as("/api/journal", &app.user("7")).await.refusal(), (403, "forbidden".into()));
}

#[tokio::test]
async fn a_place_that_is_no_longer_kept_is_gone_and_says_where_to_begin() {
    let app = TestApp::start_with(|config| config.journal = JournalBounds { days: 90, max: 100 });
    let staff = app.staff("9", "gestore");
    let body = json!({"idSpazio": 1, "sedeId": 1, "date": app.tomorrow(), "status": "blocked"});
    let act = async |times: usize| {
        for _ in 0..times {
            assert_eq!(app.put("/api/slots/1", &staff, body.clone()).await.status, 200);
        }
    };
    act(1).await;
    let place = app.get_as("/api/journal", &staff).await.data()["next"].as_str().unwrap().to_owned();
    act(150).await;
    let gone = app.get_as(&format!("/api/journal?after={place}"), &staff).await;
    assert_eq!(gone.refusal(), (410, "gone".into()));
    let begin = gone.json()["next"].as_str().unwrap().to_owned();
    assert_eq!(entries(&app, &staff, &format!("?limit=500&after={begin}")).await.len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_waits_for_the_first_entry() {
    let app = scene().await;
    let staff = app.staff("9", "gestore");
    let place = app.get_as("/api/journal", &staff).await.data()["next"].as_str().unwrap().to_owned();
    // There are entries already, so nobody waits.
    assert_eq!(entries(&app, &staff, "?wait=30").await.len(), 7);
    let path = format!("/api/journal?wait=30&act=book&after={place}");
    let waiting = app.get_as(&path, &staff);
    let acting = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let body = json!({"idSpazio": 5, "sedeId": 1, "date": app.tomorrow()});
        for act in ["hold", "book"] {
            assert_eq!(app.post(&format!("/api/slots/3/{act}"), &app.user("7"), body.clone()).await.status, 200);
        }
        slotcast::clock::instant()
    };
    let (answer, acted) = tokio::join!(waiting, acting);
    let data = answer.data();
    assert_eq!(data["entries"].as_array().unwrap().len(), 1, "{data}");
    assert_eq!(data["entries"][0]["spazioId"], 5);
    assert!(slotcast::clock::instant().duration_since(acted) < Duration::from_secs(20));
    // Without new entries the call ends by itself, with a cursor.
    let data =
        app.get_as(&format!("/api/journal?wait=1&after={}", data["next"].as_str().unwrap()), &staff).await.data();
    assert_eq!(data["entries"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_calls_wait_as_may_and_a_drain_ends_them() {
    let app = scene().await;
    let staff = app.staff("9", "gestore");
    let place = app.get_as("/api/journal", &staff).await.data()["next"].as_str().unwrap().to_owned();
    let path = format!("/api/journal?wait=30&after={place}");
    let waiting = futures_util::future::join_all((0..256).map(|_| app.get_as(&path, &staff)));
    let others = async {
        // A caller comes when all others have begun to wait, so it takes none of their places.
        let all_wait = async {
            while app.app.metrics.journal_waiting.get() < 256 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all_wait).await.expect("all others wait");
        let refused = app.get_as(&format!("/api/journal?wait=1&after={place}"), &staff).await;
        assert_eq!(refused.refusal(), (429, "rate_limited".into()));
        // A call that does not wait is answered.
        assert_eq!(app.get_as("/api/journal", &staff).await.status, 200);
        app.app.health.start_draining();
        slotcast::clock::instant()
    };
    let (answers, drained) = tokio::join!(waiting, others);
    assert!(slotcast::clock::instant().duration_since(drained) < Duration::from_secs(20));
    assert!(answers.iter().all(|answer| answer.status == 200));
}
