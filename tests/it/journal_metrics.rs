//! The metrics of the journal: entries that were answered, and calls that wait.

use std::time::Duration;

use serde_json::json;

use crate::support::TestApp;

/// How long a test waits for something that should take milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_wait_and_entries_that_were_answered_are_counted() {
    let app = TestApp::start();
    let staff = app.staff("9", "gestore");
    let metrics = &app.app.metrics;
    assert_eq!((metrics.journal_entries.get(), metrics.journal_waiting.get()), (0, 0));
    let hold = async |slot: u64| {
        let body = json!({"idSpazio": 5, "sedeId": 1, "date": app.tomorrow()});
        assert_eq!(app.post(&format!("/api/slots/{slot}/hold"), &app.user("7"), body).await.status, 200);
    };
    hold(1).await;
    hold(2).await;
    let place = app.get_as("/api/journal", &staff).await.data()["next"].as_str().unwrap().to_owned();
    assert_eq!((metrics.journal_entries.get(), metrics.journal_waiting.get()), (2, 0));
    let path = format!("/api/journal?wait=30&after={place}");
    let acting = async {
        let all_wait = async {
            while metrics.journal_waiting.get() < 3 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, all_wait).await.expect("three calls that wait");
        hold(3).await;
    };
    let waiting = futures_util::future::join_all((0..3).map(|_| app.get_as(&path, &staff)));
    let (answers, ()) = tokio::join!(waiting, acting);
    assert!(answers.iter().all(|answer| answer.data()["entries"].as_array().unwrap().len() == 1));
    assert_eq!((metrics.journal_entries.get(), metrics.journal_waiting.get()), (5, 0));
    // A caller that goes away waits no more.
    let after = answers[0].data()["next"].as_str().unwrap().to_owned();
    let path = format!("/api/journal?wait=30&after={after}");
    {
        let gone = app.get_as(&path, &staff);
        let seen = async {
            while metrics.journal_waiting.get() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            answer = gone => panic!("{answer:?}"),
            seen = tokio::time::timeout(PATIENCE, seen) => seen.expect("a call that waits"),
        }
    }
    assert_eq!(metrics.journal_waiting.get(), 0);
}
