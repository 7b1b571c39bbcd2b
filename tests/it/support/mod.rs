//! A node's HTTP side on a store of its own, for tests.
//!
//! ```ignore
//! let app = TestApp::start();
//! let anna = app.user("7");
//! let held = app.post("/api/slots/1/hold", &anna, json!({"idSpazio": 1, "sedeId": 1, "date": app.tomorrow()})).await;
//! assert_eq!(held.data()["status"], "occupied");
//! ```
//!
//! Calls go through the whole router, without a socket. [`TestApp::serve`] opens a socket for tests that need one. The
//! store's clock is the machine's and cannot be moved, so tests act on days in the future.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot be set up fails here")]

pub mod faulty_store;
pub mod lateness;
pub mod moving_store;
pub mod scripted_store;
pub mod slot_mover;
pub mod redis;
pub mod redis_server;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use serde_json::{Value, json};
use slotcast::app::{App, AppState, Health, Parts, Presence};
use slotcast::auth::Verifier;
use slotcast::clock;
use slotcast::config::{Config, KeySource, Needs, StoreKind};
use slotcast::domain::{Day, Schedule};
use slotcast::store::embedded::EmbeddedStore;
use slotcast::store::{ActOutcome, NodeReport, SlotStore, Subscriptions};
use slotcast::sweeper::deadlines::Told;
use slotcast::telemetry::metrics::Metrics;
use tower::ServiceExt;

use self::faulty_store::PatientStore;

/// The secret of all test tokens.
const SECRET: &[u8] = b"a secret of tests, 32 bytes or more";

/// A node's HTTP side. Its store is deleted with it.
pub struct TestApp {
    /// The parts of the node.
    pub app: AppState,
    /// How the store is heard.
    pub subscriptions: Arc<dyn Subscriptions>,
    /// The ends of holds that a sweeper would be told. No sweeper runs. The next act or `POST /api/sweep` frees holds
    /// that have ended.
    pub told: Told,
    router: Router,
    /// Deleted when dropped.
    _folder: tempfile::TempDir,
}

impl TestApp {
    /// Starts with the configuration's defaults, without a rate limit.
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// Starts with a changed configuration.
    pub fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        Self::start_as(change, |store| store)
    }

    /// Starts on the store that `through` returns, which may pass calls on to the usual one.
    pub fn start_through(through: impl FnOnce(Arc<dyn SlotStore>) -> Arc<dyn SlotStore>) -> Self {
        Self::start_as(|_| {}, through)
    }

    fn start_as(
        change: impl FnOnce(&mut Config),
        through: impl FnOnce(Arc<dyn SlotStore>) -> Arc<dyn SlotStore>,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = default_config(folder.path());
        change(&mut config);
        let store = Arc::new(EmbeddedStore::open_with(folder.path(), config.journal).expect("a store"));
        let subscriptions: Arc<dyn Subscriptions> = store.clone();
        let store = through(Arc::new(PatientStore(store)));
        let health = Health::default();
        health.set_store_reachable(true);
        health.set_feed_in_step(true);
        let verifier = Verifier::new(config.auth.as_ref().expect("keys")).expect("a verifier");
        let parts = Parts { config, store, verifier, metrics: Metrics::new(), health, presence: Arc::new(Alone) };
        let (app, told) = App::new(parts);
        let app = AppState(Arc::new(app));
        let router = slotcast::http::router(app.clone());
        Self { app, subscriptions, told, router, _folder: folder }
    }

    /// Serves on a free port until the test ends.
    pub async fn serve(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = self.router.clone();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// A token of an ordinary user.
    pub fn user(&self, id: &str) -> String {
        token(json!({"id_utente": id}))
    }

    /// A token of staff.
    pub fn staff(&self, id: &str, role: &str) -> String {
        token(json!({"id_utente": id, "ruolo": role}))
    }

    /// A token that is bound to sites.
    pub fn of_sites(&self, id: &str, role: &str, sites: &[u64]) -> String {
        token(json!({"id_utente": id, "ruolo": role, "sedi": sites}))
    }

    /// Tomorrow in `Europe/Rome`. All its slots are in the future.
    pub fn tomorrow(&self) -> String {
        self.day_ahead(1)
    }

    /// The day `days` after today in `Europe/Rome`.
    pub fn day_ahead(&self, days: i64) -> String {
        let today = Schedule::default().today(clock::wall()).date();
        Day::from(today.saturating_add(jiff::Span::new().days(days))).to_string()
    }

    /// `GET` without a token.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(request("GET", path, "", Body::empty())).await
    }

    /// `GET` with a token.
    pub async fn get_as(&self, path: &str, token: &str) -> Answer {
        self.send(request("GET", path, token, Body::empty())).await
    }

    /// `POST` of JSON. An empty token sends no token.
    pub async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        self.send(request("POST", path, token, Body::from(body.to_string()))).await
    }

    /// `POST` under an `Idempotency-Key`.
    pub async fn post_with_key(&self, path: &str, token: &str, key: &str, body: Value) -> Answer {
        let mut request = request("POST", path, token, Body::from(body.to_string()));
        request.headers_mut().insert("idempotency-key", key.parse().expect("a header"));
        self.send(request).await
    }

    /// `PUT` of JSON.
    pub async fn put(&self, path: &str, token: &str, body: Value) -> Answer {
        self.send(request("PUT", path, token, Body::from(body.to_string()))).await
    }

    /// `DELETE`.
    pub async fn delete(&self, path: &str, token: &str) -> Answer {
        self.send(request("DELETE", path, token, Body::empty())).await
    }

    /// Any request.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.expect("routers do not fail");
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
        let text = String::from_utf8(body.to_vec()).expect("text");
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }
}

/// A request for [`TestApp::send`]. An empty token sends no token.
pub fn request(method: &str, path: &str, token: &str, body: Body) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(body).expect("a request")
}

/// An answer of the node.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("JSON, not {:?}", self.text))
    }

    /// `data` of a success.
    pub fn data(&self) -> Value {
        let json = self.json();
        assert_eq!((self.status, &json["success"]), (200, &Value::Bool(true)), "{json}");
        json["data"].clone()
    }

    /// The status and the code of a failure. Checks the failure's shape.
    pub fn refusal(&self) -> (u16, String) {
        let json = self.json();
        assert_eq!(json["success"], Value::Bool(false), "{json}");
        for text in ["error", "detail"] {
            assert!(json[text].as_str().is_some_and(|text| !text.is_empty()), "{text} of {json}");
        }
        (self.status, json["code"].as_str().unwrap_or_else(|| panic!("a code: {json}")).to_owned())
    }

    /// The header, or an empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// The answer to a repeat of an act.
pub fn repeat_of(first: &ActOutcome) -> ActOutcome {
    ActOutcome { is_repeat: true, ..first.clone() }
}

/// A token with these claims. It is valid for an hour unless the claims say otherwise.
pub fn token(mut claims: Value) -> String {
    if claims["exp"].is_null() {
        claims["exp"] = json!(clock::wall().as_millis() / 1_000 + 3_600);
    }
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET);
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).expect("a token")
}

/// The configuration's defaults, without a rate limit and without a sweeper.
pub fn default_config(folder: &std::path::Path) -> Config {
    let mut config = Config::load(&BTreeMap::new(), Needs::SERVE).expect("the defaults").config;
    config.store.kind = StoreKind::Embedded(folder.into());
    if let Some(auth) = &mut config.auth {
        auth.keys = KeySource::Secret(SECRET.into());
        auth.node_secret = None;
    }
    config.holds.timer_interval = None;
    config.limits.user_rate = None;
    config.limits.anonymous_rate = None;
    config.limits.event_rate = None;
    config
}

/// The presence of a node that has no sockets.
struct Alone;

impl Presence for Alone {
    fn report(&self) -> NodeReport {
        NodeReport {
            id: "test".into(),
            address: "127.0.0.1:0".into(),
            proof: None,
            version: "0".into(),
            started_at: clock::wall().rfc3339(),
            sockets: 0,
            users: 0,
            rooms: BTreeMap::new(),
        }
    }
}
