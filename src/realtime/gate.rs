//! Does in front of the Socket.IO library what the library itself cannot do with a request.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use tracing::Instrument;

use super::Realtime;
use super::connect::token_of_query;
use super::engine_ids::Named;
use super::engine_sessions::EngineSession;
use super::owners::Owners;
use super::request::{self, Asked, Unfit};
use super::session::Session;
use crate::auth::verifier::LONGEST_TOKEN;
use crate::domain::Code;
use crate::http::error::ApiError;
use crate::net::connection::ConnectionHandle;
use crate::net::proxy::FORWARDED;
use crate::telemetry;
use crate::telemetry::request::RequestName;

/// The headers of a websocket's handshake that the library and the session read.
const WEBSOCKET_HEADERS: [HeaderName; 2] = [header::UPGRADE, header::SEC_WEBSOCKET_KEY];

/// How long a client may take to send a body of events. The library itself would wait for the rest for ever.
const POST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a client may take to poll all waiting packets before it is upgraded.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);

/// An Engine.IO open packet is shorter than this.
const HANDSHAKE_BYTES: usize = 4_096;

/// Lets a request through to the library, or answers it as an Engine.IO server would.
pub(super) async fn pass(State(realtime): State<Realtime>, mut request: Request, next: Next) -> Response {
    let name = RequestName::of(request.headers());
    // If the request is sent on, the other node serves it under the same id.
    name.write_to(request.headers_mut());
    let span = tracing::info_span!("engine", request.id = &*name.id);
    let passed = pass_named(realtime, request, next).instrument(span.clone());
    let mut response = telemetry::request::serve(name.id.clone(), passed).await;
    if response.status().is_client_error() || response.status().is_server_error() {
        span.in_scope(|| tracing::debug!(http.status = response.status().as_u16(), "a request was refused"));
    }
    name.write_to(response.headers_mut());
    response
}

async fn pass_named(realtime: Realtime, request: Request, next: Next) -> Response {
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
        Asked::BeginPolling | Asked::BeginWebsocket => begin(realtime, &asked, request, next).await,
        Asked::Poll { sid } | Asked::Post { sid } | Asked::Upgrade { sid } => {
            match (realtime.engine_ids.read(sid), &realtime.owners) {
                (Some(Named::Own(engine_id)), _) => pass_here(realtime, &engine_id, &asked, request, next).await,
                // A request that another node has sent on is served here, and never sent on again.
                (Some(Named::Of(node)), Some(owners)) if !request.headers().contains_key(FORWARDED) => {
                    send_on(realtime, owners, &node, &asked, request).await
                }
                _ => unknown_session(),
            }
        }
    }
}

/// Takes a handshake. Nothing is known of the client yet, so nothing is written to the store, and the number of such
/// sessions is bounded.
async fn begin(realtime: &Realtime, asked: &Asked, request: Request, next: Next) -> Response {
    let connects = &realtime.app.metrics.connects;
    if realtime.app.health.is_draining() {
        connects.with_label_values(&["draining"]).inc();
        return not_now(Code::Draining);
    }
    let connection = request.extensions().get::<ConnectionHandle>().cloned();
    match realtime.engine_sessions.begin(connection.clone()) {
        Ok(session) if *asked == Asked::BeginPolling => {
            begin_polling(realtime, &session, keep_little(request, asked), next).await
        }
        Ok(session) => begin_websocket(session, connection, keep_little(request, asked), next).await,
        Err(full) => {
            connects.with_label_values(&[full.outcome()]).inc();
            not_now(Code::Unavailable)
        }
    }
}

async fn begin_polling(
    realtime: &Realtime,
    session: &Arc<EngineSession>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(session.clone());
    let response = next.run(request).await;
    match response.status() {
        StatusCode::OK => tell_name(realtime, session, response).await,
        _ => response,
    }
}

/// Takes a handshake on a websocket, and tells the client the session's id at once.
async fn begin_websocket(
    session: Arc<EngineSession>,
    connection: Option<ConnectionHandle>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(session);
    let response = next.run(request).await;
    if let Some(connection) = connection.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
        connection.gather_handshake();
    }
    response
}

/// Tells the client the id that names this node, instead of the library's.
async fn tell_name(realtime: &Realtime, session: &Arc<EngineSession>, response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let Ok(body) = axum::body::to_bytes(body, HANDSHAKE_BYTES).await else { return not_now(Code::Unavailable) };
    let packet = std::str::from_utf8(&body).unwrap_or_default();
    let Some(engine_id) = engine_id_of(packet) else { return Response::from_parts(parts, Body::from(body)) };
    session.register(&engine_id);
    let packet = packet.replacen(&engine_id, &realtime.engine_ids.name(&engine_id), 1);
    // The body is longer now.
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(packet))
}

/// The session's id in an Engine.IO open packet, `0{"sid":"...",...}`.
fn engine_id_of(packet: &str) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Open {
        sid: String,
    }
    serde_json::from_str::<Open>(packet.strip_prefix('0')?).ok().map(|open| open.sid)
}

/// Sends a request on to the node of its session. If no such node answers, the session is over.
async fn send_on(realtime: &Realtime, owners: &Owners, node: &str, asked: &Asked, request: Request) -> Response {
    let address = match owners.address_of(&realtime.app, node).await {
        Ok(Some(address)) => address,
        Ok(None) => return unknown_session(),
        Err(error) => {
            tracing::warn!(%error, "cannot find the node that has a session");
            return not_now(Code::Unavailable);
        }
    };
    let request = if matches!(asked, Asked::Upgrade { .. }) { request } else { without_upgrade(request) };
    let answered = owners.proxy.forward(request, &path_of(asked, None), &address).await;
    answered.unwrap_or_else(|error| {
        tracing::info!(%error, "cannot reach the node that has a session");
        unknown_session()
    })
}

/// The path and query of a session's request, reduced to what is needed. `engine_id` replaces the client's id.
fn path_of(asked: &Asked, engine_id: Option<&str>) -> String {
    let (transport, sid) = match asked {
        Asked::BeginPolling => ("polling", None),
        Asked::BeginWebsocket => ("websocket", None),
        Asked::Poll { sid } | Asked::Post { sid } => ("polling", Some(sid.as_str())),
        Asked::Upgrade { sid } => ("websocket", Some(sid.as_str())),
    };
    let sid = engine_id.or(sid).map(|sid| format!("&sid={sid}")).unwrap_or_default();
    format!("/socket.io/?EIO=4&transport={transport}{sid}")
}

async fn pass_here(realtime: &Realtime, engine_id: &str, asked: &Asked, mut request: Request, next: Next) -> Response {
    let Some(engine_session) = realtime.engine_sessions.find(engine_id) else { return unknown_session() };
    let Ok(uri) = Uri::try_from(path_of(asked, Some(engine_id))) else { return unknown_session() };
    *request.uri_mut() = uri;
    if matches!(asked, Asked::Upgrade { .. }) {
        // The library keeps this head, too, for the websocket's life.
        request = trim_head(request, &WEBSOCKET_HEADERS);
    }
    // The queue has room for one post. Several posts at once would all pass it.
    let _turn = match asked {
        Asked::Post { .. } => Some(engine_session.take_turn().await),
        _ => None,
    };
    let session = realtime.sessions.of_engine_id(engine_id);
    if engine_session.is_over() || session.as_ref().is_some_and(|session| session.is_broken()) {
        // The session was ended, or lost an event because its client did not read. It must not get a later event, so the
        // client has to start anew.
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
            session.iter().for_each(|session| session.note_poll_begins());
            let response = next.run(without_upgrade(request)).await;
            // The session may have begun during the poll.
            match realtime.sessions.of_engine_id(engine_id) {
                Some(session) => note_polled(&session, response).await,
                // The client was turned away during the poll, whose answer may be a refusal. After a refusal a stock
                // client would not come back.
                None if engine_session.is_over() => unknown_session(),
                None => response,
            }
        }
    }
}

/// Removes the offer of another protocol. A poll is answered as a poll.
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
    if let Some(session) = &session
        && tokio::time::timeout(UPGRADE_TIMEOUT, session.begin_upgrade()).await.is_err()
    {
        // The client keeps polling.
        return not_now(Code::Unavailable);
    }
    let connection = request.extensions().get::<ConnectionHandle>().cloned();
    let response = next.run(request).await;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(connection) = connection
    {
        realtime.connections.set_upgraded(engine_id, &connection);
        session.iter().for_each(|session| session.tell_progress());
    } else if let Some(session) = session {
        session.abandon_upgrade();
    }
    response
}

async fn note_polled(session: &Session, response: Response) -> Response {
    let (parts, body) = response.into_parts();
    // The library's body is complete and in one piece.
    let Ok(body) = axum::body::to_bytes(body, usize::MAX).await else { return not_now(Code::Unavailable) };
    session.note_polled(&body);
    Response::from_parts(parts, Body::from(body))
}

/// An answer after which stock clients try again.
fn not_now(code: Code) -> Response {
    ApiError::from(code).into_response()
}

/// Closes the connection after this answer, because the request's body was not read to its end.
fn too_slow() -> Response {
    (StatusCode::REQUEST_TIMEOUT, "the body took too long").into_response()
}

fn unknown_session() -> Response {
    Unfit::Session.into_response()
}

/// A handshake, reduced to what the library and the session read.
fn keep_little(mut request: Request, asked: &Asked) -> Request {
    if let Ok(uri) = Uri::try_from(handshake_path(asked, request.uri().query().unwrap_or_default())) {
        *request.uri_mut() = uri;
    }
    let kept: &[HeaderName] = if *asked == Asked::BeginWebsocket { &WEBSOCKET_HEADERS } else { &[] };
    trim_head(request, kept)
}

/// The path and query of a handshake, reduced to what is needed. A token that is too long is cut just above the limit, so
/// that it is still too long.
fn handshake_path(asked: &Asked, query: &str) -> String {
    let path = path_of(asked, None);
    let Some(token) = token_of_query(query) else { return path };
    let end = token.floor_char_boundary(LONGEST_TOKEN + 4);
    let token: String = form_urlencoded::byte_serialize(&token.as_bytes()[..end.min(token.len())]).collect();
    format!("{path}&token={token}")
}

/// Copies the few parts of the head that are needed. The library keeps the head of a session's first request for life, and
/// each header and the URI would keep the connection's whole read buffer of up to 48 KiB alive.
fn trim_head(request: Request, kept: &[HeaderName]) -> Request {
    let (mut head, body): (Parts, Body) = request.into_parts();
    head.headers = copy_headers(&head.headers, kept);
    head.extensions = move_extensions(&mut head.extensions);
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

/// The extensions that the library needs to take over the connection, and the session needs to close it.
fn move_extensions(extensions: &mut Extensions) -> Extensions {
    let mut moved = Extensions::new();
    extensions.remove::<OnUpgrade>().map(|upgrade| moved.insert(upgrade));
    extensions.remove::<ConnectionHandle>().map(|connection| moved.insert(connection));
    moved
}
