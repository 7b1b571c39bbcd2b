//! In front of the Socket.IO library: what it cannot do for itself with a request.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Realtime;
use crate::net::connection::ConnectionHandle;

/// The request headers that the library and the handshake need; the rest would stay in memory as long as the session.
const KEPT_HEADERS: [HeaderName; 9] = [
    header::HOST,
    header::UPGRADE,
    header::CONNECTION,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
];

/// Lets a request through to the library, or answers it as an Engine.IO server would.
pub(super) async fn pass(State(realtime): State<Realtime>, request: Request, next: Next) -> Response {
    if let Some(connection) = request.extensions().get::<ConnectionHandle>() {
        connection.mark_socket();
    }
    match session_id(&request) {
        None if realtime.0.app.health.is_draining() => {
            realtime.0.app.metrics.connects.with_label_values(&["draining"]).inc();
            // Not an error that the client gives up on: it tries again, and reaches another node.
            (StatusCode::SERVICE_UNAVAILABLE, "draining").into_response()
        }
        None => next.run(trim_head(request)).await,
        Some(engine_id) => pass_session(&realtime, &engine_id, request, next).await,
    }
}

async fn pass_session(realtime: &Realtime, engine_id: &str, request: Request, next: Next) -> Response {
    let session = realtime.0.sessions.of_engine_id(engine_id);
    if let Some(session) = &session {
        if session.is_broken() {
            // It lost an event for lack of reading: it must not get a later one. The client starts anew.
            return unknown_session();
        }
        if request.method() == Method::POST {
            session.inbox.wait_for_room().await;
        }
    }
    let connection = request.extensions().get::<ConnectionHandle>().cloned();
    let response = next.run(request).await;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(connection) = connection
    {
        realtime.0.connections.set_upgraded(engine_id, &connection);
    }
    response
}

fn session_id(request: &Request) -> Option<String> {
    let query = request.uri().query()?;
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "sid").map(|(_, value)| value.into_owned())
}

fn unknown_session() -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    (StatusCode::BAD_REQUEST, headers, r#"{"code":1,"message":"Session ID unknown"}"#).into_response()
}

/// Copies the few parts of the head that are needed. The library keeps the head of a session's first request for life,
/// and each header and the URI would keep the connection's whole 8 KiB read buffer with it.
fn trim_head(request: Request) -> Request {
    let (mut parts, body): (_, Body) = request.into_parts();
    parts.headers = copy_headers(&parts.headers);
    if let Ok(uri) = parts.uri.to_string().parse::<Uri>() {
        parts.uri = uri;
    }
    Request::from_parts(parts, body)
}

fn copy_headers(headers: &HeaderMap) -> HeaderMap {
    let kept = KEPT_HEADERS.into_iter().filter_map(|name| {
        let value = headers.get(&name)?;
        Some((name, HeaderValue::from_bytes(value.as_bytes()).ok()?))
    });
    kept.collect()
}
