//! The scheduled function, asked through a local server that speaks the Lambda Runtime API.
//!
//! ```ignore
//! let function = Function::start("embedded", folder).await;
//! let answer = function.invoke("{}", Duration::from_secs(10)).await;
//! assert_eq!(answer.outcome, "response");
//! ```
//!
//! The function's runtime reads its environment, which a test cannot change for itself. So the test starts its own
//! binary once more, which runs only [`serve_as_the_function`].

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde_json::{Value, json};
use slotcast::clock;
use slotcast::domain::{Day, HoldToken, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey, UserId};
use slotcast::store::embedded::EmbeddedStore;
use slotcast::store::{SlotStore, StoreError, SweepBatch};
use slotcast::telemetry::log;
use tempfile::TempDir;
use tokio::sync::{Mutex, mpsc};

use crate::support::scripted_store::ScriptedStore;

/// The store of the started function: `embedded`, or a name that [`store_of`] knows.
const STORE: &str = "SLOTCAST_TEST_FUNCTION_STORE";

/// The folder of the embedded store. For a store that may be away, its file `away` says so.
const FOLDER: &str = "SLOTCAST_TEST_FUNCTION_FOLDER";

/// How long a test waits for something that should take milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Enough time for an invocation on a busy machine.
const AMPLE: Duration = Duration::from_secs(20);

/// Too little time for the requested sweep.
const SHORT: Duration = Duration::from_secs(6);

/// An event in the form of EventBridge.
const EVENTBRIDGE: &str = r#"{"version": "0", "id": "89d1a02d-5ec7-412e-82f5-13505f849b41", "detail-type": "Scheduled Event",
    "source": "aws.events", "account": "123456789012", "time": "2026-11-23T12:00:00Z", "region": "eu-south-1",
    "resources": ["arn:aws:events:eu-south-1:123456789012:rule/sweep"], "detail": {}}"#;

/// An event in the form of a function URL.
const FUNCTION_URL: &str = r#"{"version": "2.0", "routeKey": "$default", "rawPath": "/", "rawQueryString": "",
    "headers": {"content-length": "0", "host": "abc.lambda-url.eu-south-1.on.aws", "x-forwarded-for": "192.0.2.7"},
    "requestContext": {"accountId": "anonymous", "apiId": "abc", "domainName": "abc.lambda-url.eu-south-1.on.aws",
      "domainPrefix": "abc", "http": {"method": "POST", "path": "/", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.7",
      "userAgent": "curl"}, "requestId": "e1506fd5", "routeKey": "$default", "stage": "$default",
      "time": "23/Nov/2026:12:00:00 +0000", "timeEpoch": 1795435200000}, "isBase64Encoded": false}"#;

/// An event in the form of a REST API of API Gateway.
const REST_API: &str = r#"{"resource": "/sweep", "path": "/sweep", "httpMethod": "POST", "headers": {"Host": "example.org"},
    "multiValueHeaders": {"Host": ["example.org"]}, "queryStringParameters": null, "pathParameters": null,
    "multiValueQueryStringParameters": null, "stageVariables": null,
    "requestContext": {"resourceId": "r", "resourcePath": "/sweep", "httpMethod": "POST", "path": "/prod/sweep",
      "accountId": "123456789012", "protocol": "HTTP/1.1", "stage": "prod", "requestId": "c6af9ac6", "apiId": "abc",
      "requestTimeEpoch": 1795435200000, "identity": {"sourceIp": "192.0.2.7"}}, "body": null, "isBase64Encoded": false}"#;

/// An event in the form of an application load balancer.
const LOAD_BALANCER: &str = r#"{"requestContext": {"elb": {"targetGroupArn":
      "arn:aws:elasticloadbalancing:eu-south-1:123456789012:targetgroup/sweep/abc"}}, "httpMethod": "POST",
    "path": "/sweep", "queryStringParameters": {}, "headers": {"host": "example.org"}, "body": "",
    "isBase64Encoded": false}"#;

#[tokio::test]
async fn a_scheduled_event_is_answered_with_the_bare_report() {
    let folder = tempfile::tempdir().unwrap();
    leave_ended_holds(folder.path(), &[1, 2, 3]).await;
    let function = Function::start("embedded", folder).await;
    let answer = function.invoke(EVENTBRIDGE, AMPLE).await;
    assert_eq!(answer.outcome, "response", "{}", answer.text);
    let report = answer.report();
    assert_eq!((&report["freed"], &report["spaces"]), (&json!(3), &json!(1)), "{report}");
    assert!(report["oldestLateMs"].as_u64().unwrap() > 0, "{report}");
}

#[tokio::test]
async fn invocations_after_the_first_find_what_it_left() {
    let folder = tempfile::tempdir().unwrap();
    leave_ended_holds(folder.path(), &[1]).await;
    let function = Function::start("embedded", folder).await;
    let freed = [function.invoke("{}", AMPLE).await, function.invoke("{}", AMPLE).await]
        .map(|answer| answer.report()["freed"].clone());
    assert_eq!(freed, [json!(1), json!(0)]);
}

#[tokio::test]
async fn any_event_that_is_not_http_is_a_schedule() {
    let function = Function::start("empty", tempfile::tempdir().unwrap()).await;
    let by_scheduler = r#"{"<aws.scheduler.schedule-arn>": "arn", "<aws.scheduler.attempt-number>": "1"}"#;
    for event in
        [by_scheduler, EVENTBRIDGE, "{}", "null", "[1]", r#""sweep""#, r#"{"requestContext": {}, "path": "/"}"#]
    {
        let answer = function.invoke(event, AMPLE).await;
        assert_eq!(answer.outcome, "response", "{event}: {}", answer.text);
        assert_eq!(answer.report()["freed"], 0, "{event}");
    }
}

#[tokio::test]
async fn an_http_event_is_answered_with_200_and_the_report() {
    let function = Function::start("empty", tempfile::tempdir().unwrap()).await;
    for event in [FUNCTION_URL, REST_API, LOAD_BALANCER] {
        let answer = function.invoke(event, AMPLE).await;
        assert_eq!(answer.outcome, "response", "{}", answer.text);
        let (status, body) = answer.http();
        assert_eq!(status, 200, "{}", answer.text);
        assert_is_report(&body);
    }
}

#[tokio::test]
async fn a_failed_sweep_is_a_failed_invocation_and_the_next_one_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let away = folder.path().join("away");
    fs::write(&away, "").unwrap();
    let function = Function::start("away", folder).await;
    let failed = function.invoke(EVENTBRIDGE, AMPLE).await;
    assert_eq!(
        (failed.outcome.as_str(), &failed.json()["errorType"]),
        ("error", &json!("SweepFailed")),
        "{}",
        failed.text
    );
    assert_eq!(failed.json()["errorMessage"], "the store is away");
    let refused = function.invoke(FUNCTION_URL, AMPLE).await;
    assert_eq!(refused.outcome, "response", "{}", refused.text);
    let (status, body) = refused.http();
    assert_eq!((status, &body["success"], &body["code"]), (503, &json!(false), &json!("unavailable")));
    assert!(!refused.text.contains("away"), "the cause is not for clients: {}", refused.text);
    assert_eq!(refused.json()["headers"]["retry-after"], "1", "{}", refused.text);
    fs::remove_file(away).unwrap();
    let swept = function.invoke(EVENTBRIDGE, AMPLE).await;
    assert_eq!(swept.outcome, "response", "{}", swept.text);
    let errors = function.logged("ERROR");
    assert_eq!(errors.len(), 2, "each failure is logged once: {errors:?}");
    assert!(errors.iter().all(|line| line.to_string().contains("the store is away")), "{errors:?}");
}

#[tokio::test]
async fn what_is_not_json_is_a_failed_invocation() {
    let function = Function::start("empty", tempfile::tempdir().unwrap()).await;
    let answer = function.invoke("not json", AMPLE).await;
    assert_eq!(answer.outcome, "error", "{}", answer.text);
    assert_eq!(function.invoke("{}", AMPLE).await.outcome, "response");
}

#[tokio::test]
async fn a_sweep_that_has_too_little_time_reports_what_it_did() {
    let function = Function::start("endless", tempfile::tempdir().unwrap()).await;
    let answer = function.invoke(EVENTBRIDGE, SHORT).await;
    assert_eq!(answer.outcome, "response", "{}", answer.text);
    assert!(answer.time_left > Duration::ZERO, "the platform would have ended it");
    let report = answer.report();
    assert!(report["freed"].as_u64().unwrap() > 0, "{report}");
    let warnings = function.logged("WARN");
    assert!(warnings.iter().any(|line| line["buckets_left"] == 128), "{warnings:?}");
}

#[tokio::test]
async fn a_store_that_does_not_answer_fails_the_invocation_in_time() {
    let function = Function::start("hanging", tempfile::tempdir().unwrap()).await;
    let answer = function.invoke(EVENTBRIDGE, SHORT).await;
    assert_eq!(
        (answer.outcome.as_str(), &answer.json()["errorType"]),
        ("error", &json!("SweepFailed")),
        "{}",
        answer.text
    );
    assert!(answer.time_left > Duration::ZERO, "the platform would have ended it");
    assert!(answer.text.contains("did not answer"), "{}", answer.text);
}

#[tokio::test]
async fn logs_are_json_and_name_the_request() {
    let function = Function::start("empty", tempfile::tempdir().unwrap()).await;
    function.invoke("{}", AMPLE).await;
    let lines = function.logged("INFO");
    let swept = lines.iter().find(|line| line["message"] == "swept").unwrap_or_else(|| panic!("{lines:?}"));
    assert_eq!((&swept["freed"], &swept["span"]["requestId"]), (&json!(0), &json!("request-1")), "{swept}");
}

#[tokio::test]
async fn a_failed_start_is_told_to_the_platform() {
    let function = Function::start("none", tempfile::tempdir().unwrap()).await;
    let answer = function.next_answer().await;
    let expected = json!({"errorType": "Runtime.FailedStart", "errorMessage": "REDIS_URL must be set"});
    assert_eq!((answer.outcome.as_str(), answer.json()), ("init/error", expected));
}

/// This is not a test. [`Function::start`] starts it.
#[tokio::test]
#[ignore = "the other tests start it, as the function"]
async fn serve_as_the_function() {
    let Ok(kind) = std::env::var(STORE) else { return };
    if kind == "none" {
        slotcast::function::report_failed_start("REDIS_URL must be set").await.unwrap();
        return;
    }
    log::init(log::Format::Json, "info").unwrap();
    slotcast::function::run(store_of(&kind)).await.unwrap();
}

fn store_of(kind: &str) -> Arc<dyn SlotStore> {
    const NOW: Duration = Duration::ZERO;
    match kind {
        "embedded" => {
            let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
            Arc::new(EmbeddedStore::open(&folder).unwrap())
        }
        "empty" => Arc::new(ScriptedStore::new(NOW, |_| Ok(SweepBatch::default()))),
        "away" => {
            let away = PathBuf::from(std::env::var_os(FOLDER).unwrap()).join("away");
            let sweep = move |_| match away.exists() {
                true => Err(StoreError("the store is away".into())),
                false => Ok(SweepBatch::default()),
            };
            Arc::new(ScriptedStore::new(NOW, sweep))
        }
        "endless" => {
            let batch_takes = Duration::from_millis(20);
            let sweep = |_| Ok(SweepBatch { freed: 1, more: true, ..SweepBatch::default() });
            Arc::new(ScriptedStore::new(batch_takes, sweep))
        }
        "hanging" => Arc::new(ScriptedStore::new(PATIENCE, |_| Ok(SweepBatch::default()))),
        other => panic!("no store is called {other:?}"),
    }
}

/// Holds slots of one space for a millisecond, and closes the store.
async fn leave_ended_holds(folder: &Path, slots: &[u64]) {
    let store = EmbeddedStore::open(folder).unwrap();
    let start = clock::wall().plus_millis(3_600_000);
    let slot = |number: &u64| SlotTime {
        number: SlotNumber::new(*number).unwrap(),
        start,
        end: start.plus_millis(1),
        label: "09:00".into(),
    };
    let kind = SlotActKind::Hold {
        user: UserId::new("7").unwrap(),
        token: HoldToken::from_random([7; 16]),
        millis: 1,
        max_holds: None,
        max_held: None,
    };
    let space = SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(1).unwrap() };
    let day = Day::parse("2090-05-05").unwrap();
    let slots = slots.iter().map(slot).collect();
    store.apply(SlotAct { space, day, slots, revision: None, kind, idempotency: None, origin: None }).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// A running function with its Runtime API, which ends with it.
struct Function {
    process: Child,
    events: mpsc::Sender<Event>,
    answers: Mutex<mpsc::Receiver<Answer>>,
    folder: TempDir,
}

/// An invocation for the function.
struct Event {
    body: String,
    time: Duration,
}

/// What the function told the Runtime API.
#[derive(Debug)]
struct Answer {
    /// `response`, `error` or `init/error`.
    outcome: String,
    text: String,
    /// The time until the invocation's deadline.
    time_left: Duration,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("JSON, not {:?}", self.text))
    }

    fn report(&self) -> Value {
        let report = self.json();
        assert_is_report(&report);
        report
    }

    /// Status and body, if the answer is an HTTP answer.
    fn http(&self) -> (u64, Value) {
        let response = self.json();
        let headers = [&response["headers"]["content-type"], &response["multiValueHeaders"]["content-type"][0]];
        assert!(headers.contains(&&json!("application/json")), "{response}");
        let body = response["body"].as_str().unwrap_or_else(|| panic!("a body: {response}"));
        (response["statusCode"].as_u64().unwrap(), serde_json::from_str(body).unwrap())
    }
}

fn assert_is_report(report: &Value) {
    let fields: Vec<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["freed", "oldestLateMs", "spaces", "tookMs"]);
}

impl Function {
    async fn start(kind: &str, folder: TempDir) -> Self {
        let (events, to_ask) = mpsc::channel(1);
        let (told, answers) = mpsc::channel(16);
        let address = RuntimeApi::serve(to_ask, told).await;
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "function::serve_as_the_function", "--ignored", "--nocapture"])
            .env(STORE, kind)
            .env(FOLDER, folder.path())
            .env("AWS_LAMBDA_RUNTIME_API", address.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "sweeper")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .stdout(Stdio::null())
            .stderr(File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { process, events, answers: Mutex::new(answers), folder }
    }

    /// Invokes the function, and waits for its answer.
    async fn invoke(&self, event: &str, time: Duration) -> Answer {
        self.events.send(Event { body: event.into(), time }).await.unwrap();
        self.next_answer().await
    }

    async fn next_answer(&self) -> Answer {
        let mut answers = self.answers.lock().await;
        let answer = tokio::time::timeout(PATIENCE, answers.recv()).await;
        answer.unwrap_or_else(|_| panic!("no answer; log: {}", self.log())).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// The lines of one level that were logged so far.
    fn logged(&self, level: &str) -> Vec<Value> {
        let lines = self.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>();
        lines.into_iter().filter(|line| line["level"] == level).collect()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The side of the platform: <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>.
struct RuntimeApi {
    state: Mutex<(mpsc::Receiver<Event>, u32, i64)>,
    told: mpsc::Sender<Answer>,
}

impl RuntimeApi {
    async fn serve(events: mpsc::Receiver<Event>, told: mpsc::Sender<Answer>) -> SocketAddr {
        let api = Arc::new(RuntimeApi { state: Mutex::new((events, 0, i64::MAX)), told });
        let routes = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(Self::next))
            .route("/2018-06-01/runtime/invocation/{id}/{outcome}", post(Self::finish))
            .route("/2018-06-01/runtime/init/error", post(Self::fail_start))
            .with_state(api);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    async fn next(State(api): State<Arc<Self>>) -> impl IntoResponse {
        let mut state = api.state.lock().await;
        let Some(event) = state.0.recv().await else { return Err(StatusCode::GONE) };
        state.1 += 1;
        // The time counts from when the function takes the event, as on the platform, so the function's start does not
        // count.
        let deadline_ms = clock::wall().as_millis() + i64::try_from(event.time.as_millis()).unwrap();
        state.2 = deadline_ms;
        let headers = [
            ("lambda-runtime-aws-request-id", format!("request-{}", state.1)),
            ("lambda-runtime-deadline-ms", deadline_ms.to_string()),
            ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-south-1:123456789012:function:sweeper".into()),
        ];
        Ok((headers, event.body))
    }

    async fn finish(
        State(api): State<Arc<Self>>,
        UrlPath((id, outcome)): UrlPath<(String, String)>,
        text: String,
    ) -> StatusCode {
        let (request, deadline_ms) = {
            let state = api.state.lock().await;
            (format!("request-{}", state.1), state.2)
        };
        assert_eq!(id, request, "the answer is to the event that was asked");
        api.tell(outcome, deadline_ms, text).await
    }

    async fn fail_start(State(api): State<Arc<Self>>, text: String) -> StatusCode {
        api.tell("init/error".into(), i64::MAX, text).await
    }

    async fn tell(&self, outcome: String, deadline_ms: i64, text: String) -> StatusCode {
        let left = deadline_ms.saturating_sub(clock::wall().as_millis());
        let time_left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        let answer = Answer { outcome, text, time_left };
        self.told.send(answer).await.unwrap();
        StatusCode::ACCEPTED
    }
}
