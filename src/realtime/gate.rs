//! In front of the Socket.IO library: what it cannot do for itself with a request.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;

use super::Realtime;
use super::owners::{Owners, Place};
use super::request::{self, Asked, Unfit};
use super::session::Session;
use crate::domain::Code;
use crate::http::error::ApiError;
use crate::net::connection::ConnectionHandle;
use crate::net::proxy::FORWARDED;

/// The headers of a websocket's handshake that the library and the session read.
const WEBSOCKET_HEADERS: [HeaderName; 2] = [header::UPGRADE, header::SEC_WEBSOCKET_KEY];

/// How long a client may take to send a body of events. The library itself would wait for the rest for ever.
const POST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client that has much to poll may take to do so before it is upgraded.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// More than an Engine.IO open packet has.
const HANDSHAKE_BYTES: usize = 4_096;

/// Lets a request through to the library, or answers it as an Engine.IO server would.
pub(super) async fn pass(State(realtime): State<Realtime>, request: Request, next: Next) -> Response {
    let asked = match request::read(&request) {
        Ok(asked) => asked,
        Err(unfit) => return unfit.into_response(),
    };
    let connection = request.extensions().get::<ConnectionHandle>().cloned();
    let is_poll = matches!(asked, Asked::BeginPolling | Asked::Poll { .. });
    let _polled = connection.as_ref().filter(|_| is_poll).map(ConnectionHandle::begin_poll);
    let subprotocol = request::subprotocol(request.headers());
    let mut response = answer(&realtime, asked, request, next).await;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        if let Some(connection) = connection {
            connection.mark_websocket();
        }
        if let Some(subprotocol) = subprotocol {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
    }
    response
}

async fn answer(realtime: &Realtime, asked: Asked, request: Request, next: Next) -> Response {
    match &asked {
        Asked::BeginPolling | Asked::BeginWebsocket if realtime.0.app.health.is_draining() => {
            realtime.0.app.metrics.connects.with_label_values(&["draining"]).inc();
            not_now(Code::Draining)
        }
        Asked::BeginPolling => begin_polling(realtime, request, next).await,
        Asked::BeginWebsocket => begin_websocket(request, next).await,
        Asked::Poll { sid } | Asked::Post { sid } | Asked::Upgrade { sid } => {
            pass_session(realtime, sid, &asked, request, next).await
        }
    }
}

/// A handshake by polling. The session is claimed before the client learns its id, and may use it anywhere.
async fn begin_polling(realtime: &Realtime, request: Request, next: Next) -> Response {
    let response = next.run(trim_head(request, &[])).await;
    match &realtime.0.owners {
        Some(owners) if response.status() == StatusCode::OK => claim(owners, response).await,
        _ => response,
    }
}

/// A handshake on a websocket, which is told its id at once.
async fn begin_websocket(request: Request, next: Next) -> Response {
    let connection = request.extensions().get::<ConnectionHandle>().cloned();
    let response = next.run(trim_head(request, &WEBSOCKET_HEADERS)).await;
    if let Some(connection) = connection.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
        connection.gather_handshake();
    }
    response
}

async fn claim(owners: &Owners, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    let Ok(body) = axum::body::to_bytes(body, HANDSHAKE_BYTES).await else { return not_now(Code::Unavailable) };
    if let Some(engine_id) = std::str::from_utf8(&body).ok().and_then(engine_id_of)
        && let Err(error) = owners.claim(&engine_id).await
    {
        tracing::warn!(%error, "a session cannot be claimed");
        return not_now(Code::Unavailable);
    }
    Response::from_parts(parts, Body::from(body))
}

/// The session's id in an Engine.IO open packet, `0{"sid":"...",...}`.
fn engine_id_of(packet: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Open {
        sid: String,
    }
    serde_json::from_str::<Open>(packet.strip_prefix('0')?).ok().map(|open| open.sid)
}

async fn pass_session(realtime: &Realtime, engine_id: &str, asked: &Asked, request: Request, next: Next) -> Response {
    let Some(owners) = &realtime.0.owners else { return pass_here(realtime, engine_id, asked, request, next).await };
    if realtime.0.sessions.of_engine_id(engine_id).is_some() && !owners.is_own(engine_id) {
        // It began on a websocket: nobody else asks for it.
        return pass_here(realtime, engine_id, asked, request, next).await;
    }
    let is_forwarded = request.headers().contains_key(FORWARDED);
    match owners.place(&realtime.0.app, engine_id, is_forwarded).await {
        Ok(Place::Here) => pass_here(realtime, engine_id, asked, request, next).await,
        Ok(Place::Elsewhere(address)) => owners.forward(request, &address).await.unwrap_or_else(unknown_session),
        Err(error) => {
            tracing::warn!(%error, "a session's node cannot be found");
            not_now(Code::Unavailable)
        }
    }
}

async fn pass_here(realtime: &Realtime, engine_id: &str, asked: &Asked, request: Request, next: Next) -> Response {
    let session = realtime.0.sessions.of_engine_id(engine_id);
    if session.as_ref().is_some_and(|session| session.is_broken()) {
        // It lost an event for lack of reading: it must not get a later one. The client starts anew.
        return unknown_session();
    }
    match asked {
        Asked::Post { .. } => {
            if let Some(session) = &session {
                session.inbox.wait_for_room().await;
            }
            tokio::time::timeout(POST_TIMEOUT, next.run(request)).await.unwrap_or_else(|_| too_slow())
        }
        Asked::Upgrade { .. } => upgrade(realtime, engine_id, session, request, next).await,
        _ => {
            let response = next.run(without_upgrade(request)).await;
            // It may have begun while the poll waited.
            match realtime.0.sessions.of_engine_id(engine_id) {
                Some(session) => note_polled(&session, response).await,
                None => response,
            }
        }
    }
}

/// A poll is answered as one, whatever protocol its client would rather speak.
fn without_upgrade(mut request: Request) -> Request {
    request.headers_mut().remove(header::UPGRADE);
    request
}

async fn upgrade(
    realtime: &Realtime,
    engine_id: &str,
    session: Option<Arc<Session>>,
    request: Request,
    next: Next,
) -> Response {
    if let Some(session) = session
        && tokio::time::timeout(UPGRADE_TIMEOUT, session.begin_upgrade()).await.is_err()
    {
        // It goes on polling.
        return not_now(Code::Unavailable);
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

async fn note_polled(session: &Session, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    // The library has it whole, in one piece.
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else { return not_now(Code::Unavailable) };
    session.note_polled(&body);
    Response::from_parts(parts, Body::from(body))
}

/// Not an error that the client gives up on.
fn not_now(code: Code) -> Response {
    ApiError::from(code).into_response()
}

/// The connection ends with it, because its body was not read to the end.
fn too_slow() -> Response {
    (StatusCode::REQUEST_TIMEOUT, "the body took too long").into_response()
}

fn unknown_session() -> Response {
    Unfit::Session.into_response()
}

/// Copies the few parts of the head that are needed. The library keeps the head of a session's first request for life,
/// and each header and the URI would keep the connection's whole 8 KiB read buffer with it.
fn trim_head(request: Request, kept: &[HeaderName]) -> Request {
    let (mut head, body): (Parts, Body) = request.into_parts();
    head.headers = copy_headers(&head.headers, kept);
    head.extensions = move_extensions(&mut head.extensions);
    if let Some(Ok(uri)) = head.uri.path_and_query().map(|path| Uri::try_from(path.as_str())) {
        head.uri = uri;
    }
    Request::from_parts(head, body)
}

fn copy_headers(headers: &HeaderMap, kept: &[HeaderName]) -> HeaderMap {
    let mut copies = HeaderMap::with_capacity(kept.len());
    for name in kept {
        if let Some(Ok(value)) = headers.get(name).map(|value| HeaderValue::from_bytes(value.as_bytes())) {
            copies.insert(name.clone(), value);
        }
    }
    copies
}

/// What the library needs to take the connection over, and the session to close it.
fn move_extensions(extensions: &mut Extensions) -> Extensions {
    let mut moved = Extensions::new();
    extensions.remove::<OnUpgrade>().map(|upgrade| moved.insert(upgrade));
    extensions.remove::<ConnectionHandle>().map(|connection| moved.insert(connection));
    moved
}
