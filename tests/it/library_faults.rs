//! Faults of the Socket.IO library (socketioxide 0.18.9, engineioxide 0.17.9) that this product works around. Each test
//! shows one fault, and fails when a newer version of the library no longer has it. Then the work-around that the test
//! names can go, and so can the fault's line in `src/README.md`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, StatusCode, Version, header};
use serde_json::Value;
use socketioxide::extract::{AckSender, SocketRef};
use socketioxide::{ParserConfig, SocketIo};
use tokio::sync::Notify;
use tower::ServiceExt;

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// How long something that must happen may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// The bare library, without the gate.
fn library() -> (SocketIo, Router) {
    let parser = ParserConfig::common().max_incoming_binaries(0);
    let (service, io) = SocketIo::builder().with_parser(parser).build_svc();
    (io, Router::new().route_service("/socket.io/", service))
}

fn with_root() -> Router {
    let (io, routes) = library();
    io.ns("/", async |socket: SocketRef| socket.on_fallback(async || {}));
    routes
}

async fn ask(routes: &Router, request: Request<Body>) -> Response<Body> {
    routes.clone().oneshot(request).await.unwrap()
}

async fn text(response: Response<Body>) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn begin(routes: &Router) -> String {
    let opened = text(ask(routes, Request::get(POLLING).body(Body::empty()).unwrap()).await).await;
    let open: Value = serde_json::from_str(&opened[1..]).unwrap();
    open["sid"].as_str().unwrap().to_owned()
}

async fn post(routes: &Router, sid: &str, packets: &str) -> StatusCode {
    let request = Request::post(format!("{POLLING}&sid={sid}")).body(Body::from(packets.to_owned())).unwrap();
    ask(routes, request).await.status()
}

/// The waiting packets of a session, up to the first one with this beginning.
async fn poll_until(routes: &Router, sid: &str, beginning: &str) -> String {
    let polls = async {
        loop {
            let request = Request::get(format!("{POLLING}&sid={sid}")).body(Body::empty()).unwrap();
            let answer = text(ask(routes, request).await).await;
            if let Some(packet) = answer.split('\u{1e}').find(|packet| packet.starts_with(beginning)) {
                return packet.to_owned();
            }
        }
    };
    tokio::time::timeout(PATIENCE, polls).await.unwrap()
}

async fn connect(routes: &Router) -> String {
    let sid = begin(routes).await;
    assert_eq!(post(routes, &sid, "40").await, StatusCode::OK);
    poll_until(routes, &sid, "40").await;
    sid
}

async fn is_over(routes: &Router, sid: &str) -> bool {
    let ends = async {
        while post(routes, sid, "3").await == StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ends).await.is_ok()
}

/// Worked around by `realtime::request`, which requires what makes a websocket.
#[tokio::test]
async fn a_websocket_is_answered_whatever_is_asked_for() {
    let routes = with_root();
    let key =
        |request: axum::http::request::Builder| request.header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==");
    for request in [
        key(Request::get(WEBSOCKET)),
        key(Request::get(WEBSOCKET)).version(Version::HTTP_10),
        key(Request::get(WEBSOCKET)).header(header::UPGRADE, "h2c"),
        key(Request::get(WEBSOCKET)).header(header::SEC_WEBSOCKET_VERSION, "8"),
        Request::get(WEBSOCKET).header(header::SEC_WEBSOCKET_KEY, "x"),
    ] {
        let response = ask(&routes, request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    }
}

/// Worked around by `realtime::gate`, which answers with the first subprotocol.
#[tokio::test]
async fn a_subprotocol_is_not_answered() {
    let request = Request::get(WEBSOCKET)
        .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
        .header(header::SEC_WEBSOCKET_PROTOCOL, "v1.app");
    let response = ask(&with_root(), request.body(Body::empty()).unwrap()).await;
    assert!(!response.headers().contains_key(header::SEC_WEBSOCKET_PROTOCOL));
}

/// Worked around by `realtime::request`, which refuses a query that has two readings.
#[tokio::test]
async fn the_query_is_not_decoded() {
    let routes = with_root();
    let sid = begin(&routes).await;
    let request = Request::get(format!("{POLLING}&s%69d={sid}")).body(Body::empty()).unwrap();
    assert!(text(ask(&routes, request).await).await.starts_with("0{"), "a second session");
}

/// Worked around by `realtime::connect`, which ends the connection.
#[tokio::test]
async fn a_namespace_that_does_not_exist_is_echoed_whole_and_the_session_stays() {
    let routes = with_root();
    let sid = begin(&routes).await;
    let name = "a".repeat(50_000);
    for _ in 0..10 {
        assert_eq!(post(&routes, &sid, &format!("40/{name},")).await, StatusCode::OK);
    }
    assert!(poll_until(&routes, &sid, "44/").await.len() > name.len());
    assert_eq!(post(&routes, &sid, "3").await, StatusCode::OK);
}

/// This has no workaround: the connection is closed as `bad_packet`, and the client comes back.
#[tokio::test]
async fn an_event_whose_name_is_escaped_closes_the_connection() {
    for event in [r#"42["join\u005fspace",{}]"#, r#"427["caff\u00e8",{}]"#, r#"427["a\/b",{}]"#] {
        let routes = with_root();
        let sid = connect(&routes).await;
        assert_eq!(post(&routes, &sid, event).await, StatusCode::OK);
        assert!(is_over(&routes, &sid).await, "{event}");
    }
}

/// This has no workaround: the connection is closed as `bad_packet`, and the client comes back.
#[tokio::test]
async fn an_event_with_an_attachment_closes_the_connection_where_none_are_taken() {
    let routes = with_root();
    let sid = connect(&routes).await;
    assert_eq!(post(&routes, &sid, r#"451-7["x",{"_placeholder":true,"num":0}]"#).await, StatusCode::OK);
    assert!(is_over(&routes, &sid).await);
}

/// Not worked around: stock clients count from 0, and the digits are gone when the event is heard. The event is done, and is
/// answered as one without an acknowledgement.
#[tokio::test]
async fn an_acknowledgement_id_above_the_largest_integer_is_taken_as_none() {
    let (io, routes) = library();
    io.ns("/", async |socket: SocketRef| {
        socket.on("ask", async |socket: SocketRef, ack: AckSender| {
            let _ = ack.send("answered");
            let _ = socket.emit("heard", "");
        });
    });
    let sid = connect(&routes).await;
    assert_eq!(post(&routes, &sid, r#"429223372036854775807["ask"]"#).await, StatusCode::OK);
    assert_eq!(poll_until(&routes, &sid, "4").await, r#"439223372036854775807["answered"]"#);
    let sid = connect(&routes).await;
    assert_eq!(post(&routes, &sid, r#"429223372036854775808["ask"]"#).await, StatusCode::OK);
    assert_eq!(poll_until(&routes, &sid, "4").await, r#"42["heard",""]"#);
}

/// Worked around by `realtime::connect`, which registers handlers in the connect middleware.
#[tokio::test]
async fn an_event_that_comes_before_its_handler_is_dropped() {
    let (io, routes) = library();
    let (register, registered, heard) =
        (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let count = heard.clone();
    let (wait, done) = (register.clone(), registered.clone());
    io.ns("/", async move |socket: SocketRef| {
        wait.notified().await;
        socket.on("early", async move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        done.notify_one();
    });
    let sid = connect(&routes).await;
    assert_eq!(post(&routes, &sid, r#"42["early"]"#).await, StatusCode::OK);
    register.notify_one();
    registered.notified().await;
    assert_eq!(post(&routes, &sid, r#"42["early"]"#).await, StatusCode::OK);
    let second = async {
        while heard.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, second).await.unwrap();
    assert_eq!(heard.load(Ordering::Relaxed), 1, "the first one is lost");
}

/// Worked around by `realtime::connect`: a session is tied to the library's socket itself.
#[tokio::test]
async fn a_socket_that_leaves_takes_the_next_one_of_its_connection_with_it() {
    let (io, routes) = library();
    let (leave, ended) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (waits, counts) = (leave.clone(), ended.clone());
    io.ns("/", async move |socket: SocketRef| {
        socket.on_disconnect(async move || {
            waits.notified().await;
            counts.fetch_add(1, Ordering::Relaxed);
        });
    });
    let sid = connect(&routes).await;
    // The second message removes the socket at once, and the first message's handler goes on.
    assert_eq!(post(&routes, &sid, "41").await, StatusCode::OK);
    assert_eq!(post(&routes, &sid, "41").await, StatusCode::OK);
    assert_eq!(post(&routes, &sid, "40").await, StatusCode::OK);
    poll_until(&routes, &sid, "40").await;
    assert_eq!(io.sockets().len(), 1, "it is connected again");
    leave.notify_one();
    let gone = async {
        while !io.sockets().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the second socket is forgotten with the first");
    assert_eq!(ended.load(Ordering::Relaxed), 1, "and nobody is told");
}
