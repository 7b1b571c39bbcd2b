//! A socket's beginning and end.
//!
//! Handlers are registered in the connect middleware, before the client hears that it is connected. If they were
//! registered later, the library would drop an event that the client sends at once.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use socketioxide::adapter::LocalAdapter;
use socketioxide::extract::SocketRef;
use socketioxide::handler::{FromConnectParts, MessageHandler};
use socketioxide::socket::{DisconnectReason, Socket};
use socketioxide_core::Value;

use super::engine_sessions::EngineSession;
use super::guests::{self, GuestPlace};
use super::inbox::Incoming;
use super::session::Session;
use super::turn_away::turn_away;
use super::{Realtime, notifications};
use crate::auth::{Claims, TokenError};
use crate::domain::event::to_raw_json;
use crate::domain::{StoreTime, UserId};
use crate::feed::MemberId;
use crate::net::connection::ConnectionHandle;
use crate::telemetry::users::logged;

/// How long a connection may stay open after its socket has left.
const LEFT_OPEN: Duration = Duration::from_secs(5);

/// How often sessions are compared with the library's sockets.
const RECONCILE_EVERY: Duration = Duration::from_secs(5);

/// A socket that asks to be let in, and what its client sent along.
pub(super) struct Connecting {
    socket: Arc<Socket>,
    auth: Option<Value>,
}

impl FromConnectParts<LocalAdapter> for Connecting {
    type Error = Infallible;

    fn from_connect_parts(socket: &Arc<Socket>, auth: &Option<Value>) -> Result<Self, Infallible> {
        Ok(Self { socket: socket.clone(), auth: auth.clone() })
    }
}

/// Why a socket is refused. Its text is the `connect_error` that the client sees, which the origin fixed.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rejection {
    NoToken,
    BadToken,
    NoNamespace,
    /// The token cannot be checked now. The client's connection ends before the client can read this text.
    NoKeys,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Rejection::NoToken => "Token di autenticazione richiesto",
            Rejection::BadToken | Rejection::NoKeys => "Token non valido",
            Rejection::NoNamespace => "Invalid namespace",
        })
    }
}

impl Rejection {
    /// The label in the metric of connects.
    const fn outcome(self) -> &'static str {
        match self {
            Rejection::NoToken => "no_token",
            Rejection::BadToken => "bad_token",
            Rejection::NoNamespace => "foreign_namespace",
            Rejection::NoKeys => "keys_unavailable",
        }
    }
}

/// Checks the token and makes the session. The client does not hear of it yet.
pub(super) async fn admit(realtime: &Realtime, connecting: Connecting) -> Result<(), Rejection> {
    let (claims, place) = match authenticate(realtime, &connecting).await {
        Ok(admitted) => admitted,
        Err(rejection) => {
            realtime.app.metrics.connects.with_label_values(&[rejection.outcome()]).inc();
            if matches!(rejection, Rejection::NoKeys) {
                turn_away(realtime, &connecting.socket).await;
            }
            return Err(rejection);
        }
    };
    let id = realtime.sessions.next_id();
    let socket = connecting.socket;
    if let Some(session) = socket.req_parts().extensions.get::<Arc<EngineSession>>() {
        session.note_known();
    }
    let session = Session::new(id, &socket, claims, realtime.connections.clone(), realtime.app.clone());
    register_handlers(realtime, &socket, Arc::new(session), place);
    Ok(())
}

/// Ends the connection of a client that asks for a namespace which does not exist. The library would keep the connection,
/// and a copy of each name until the client reads it.
pub(super) fn refuse_namespace(realtime: &Realtime, connecting: &Connecting) -> Rejection {
    realtime.app.metrics.connects.with_label_values(&[Rejection::NoNamespace.outcome()]).inc();
    let socket = &connecting.socket;
    realtime.close_connection(&socket.id.to_string(), websocket_of(socket));
    // The library has made the namespace for this client, and would keep it for ever.
    realtime.forget_namespace(socket.ns());
    Rejection::NoNamespace
}

/// The connection of a session that began as a websocket.
pub(super) fn websocket_of(socket: &Socket) -> Option<ConnectionHandle> {
    let request = socket.req_parts();
    request.extensions.get::<ConnectionHandle>().filter(|_| request.headers.contains_key(header::UPGRADE)).cloned()
}

/// The claims of the socket's token. A socket without a token becomes a guest if guests may watch and there is room.
async fn authenticate(realtime: &Realtime, connecting: &Connecting) -> Result<(Claims, Option<GuestPlace>), Rejection> {
    let token = match &connecting.auth {
        Some(auth) => token_of_auth(auth)?,
        None => None,
    };
    let query = connecting.socket.req_parts().uri.query();
    let Some(token) = token.or_else(|| query.and_then(token_of_query)) else {
        let place = realtime.guests.admit().ok_or(Rejection::NoToken)?;
        return Ok((guests::claims(), Some(place)));
    };
    let claims = realtime.app.verifier.verify(&token).await.map_err(|error| {
        tracing::debug!(%error, "a token was refused");
        if error == TokenError::KeysUnavailable { Rejection::NoKeys } else { Rejection::BadToken }
    })?;
    Ok((claims, None))
}

/// `auth.token`. A token that is not a string, or cannot be read, is a bad token. Its client does not become a guest.
fn token_of_auth(auth: &Value) -> Result<Option<String>, Rejection> {
    #[derive(Deserialize)]
    struct Auth<'a> {
        #[serde(borrow)]
        token: Option<&'a RawValue>,
    }
    let Value::Str(text, _) = auth else { return Ok(None) };
    if !text.trim_start().starts_with('{') {
        // Only an object has a token.
        return Ok(None);
    }
    let auth: Auth<'_> = serde_json::from_str(text).map_err(|_| Rejection::BadToken)?;
    let Some(token) = auth.token else { return Ok(None) };
    let token: String = serde_json::from_str(token.get()).map_err(|_| Rejection::BadToken)?;
    Ok(Some(token).filter(|token| !token.is_empty()))
}

/// Whether a handshake carries a token, in its `auth` or in its query. For the fuzzers.
pub(crate) fn carries_token(auth: &str, query: &str) -> bool {
    let in_auth = token_of_auth(&Value::Str(auth.to_owned().into(), None));
    matches!(in_auth, Ok(Some(_))) || token_of_query(query).is_some()
}

/// The first `token` of a query.
pub(super) fn token_of_query(query: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == "token").map(|(_, token)| token.into_owned()).filter(|token| !token.is_empty())
}

/// Hands every event to the session's inbox, inside the library's own call.
struct Receive {
    realtime: Realtime,
    session: Arc<Session>,
}

impl MessageHandler<LocalAdapter, Receive> for Receive {
    fn call(&self, _: Arc<Socket>, value: Value, ack_id: Option<i64>) {
        super::worker::push(&self.realtime, &self.session, Incoming { value, ack_id });
    }
}

/// Only the library's socket holds this, so the session ends with the socket, whatever happens to the library's other
/// calls. The library removes sockets by their engine's id, which a later socket of the same connection has, too.
struct Tie {
    realtime: Realtime,
    session: Arc<Session>,
    /// A guest's place, which is free again once the socket is gone.
    _place: Option<GuestPlace>,
}

impl Drop for Tie {
    fn drop(&mut self) {
        if !self.session.has_ended() && tokio::runtime::Handle::try_current().is_ok() {
            end_lost(&self.realtime, &self.session);
        }
    }
}

fn register_handlers(realtime: &Realtime, socket: &Arc<Socket>, session: Arc<Session>, place: Option<GuestPlace>) {
    let tie = Tie { realtime: realtime.clone(), session: session.clone(), _place: place };
    socket.extensions.insert(Arc::new(tie));
    socket.on_fallback(Receive { realtime: realtime.clone(), session: session.clone() });
    let realtime = realtime.clone();
    socket.on_disconnect(async move |reason: DisconnectReason| end(&realtime, &session, reason));
}

/// Tells the client that it is connected, and sends the kept messages of its user. Then the client's events take effect.
pub(super) async fn confirm(realtime: &Realtime, socket: &SocketRef) {
    let Some(session) = socket.extensions.get::<Arc<Tie>>().map(|tie| tie.session.clone()) else { return };
    if !realtime.sessions.add(&session) {
        // The session has ended already. The events that its client had sent take effect all the same.
        return super::worker::open(realtime, &session);
    }
    let claims = session.claims();
    let metrics = &realtime.app.metrics;
    metrics.connects.with_label_values(&["accepted"]).inc();
    metrics.connections.inc();
    tracing::info!(user.id = %logged(session.user()), session = session.id(), "connected");
    session.emit("connection_confirmed", &connection_confirmed(&claims, realtime.app.clock.now()));
    if !session.is_guest() {
        realtime.expiry.watch(session.id(), claims.expires);
        notifications::deliver_kept(realtime, &session).await;
    }
    super::worker::open(realtime, &session);
}

fn connection_confirmed(claims: &Claims, now: StoreTime) -> Box<RawValue> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ConnectionConfirmed<'a> {
        message: &'static str,
        user_id: Option<&'a UserId>,
        timestamp: String,
        expires_at: Option<String>,
    }
    let is_known = !claims.user.is_guest();
    to_raw_json(&ConnectionConfirmed {
        message: "Connesso al sistema real-time",
        user_id: is_known.then_some(&claims.user),
        timestamp: now.rfc3339(),
        expires_at: is_known.then(|| claims.expires.rfc3339()),
    })
}

/// Forgets the session. A task of its own leaves the rooms, so that the library's clean-up does not wait for that.
fn end(realtime: &Realtime, session: &Arc<Session>, reason: DisconnectReason) {
    if !session.end() {
        return;
    }
    if realtime.sessions.remove(session) {
        realtime.app.metrics.connections.dec();
    }
    realtime.expiry.forget(session.id());
    realtime.app.metrics.disconnects.with_label_values(&[reason_name(reason)]).inc();
    tracing::info!(user.id = %logged(session.user()), session = session.id(), reason = reason_name(reason), "disconnected");
    tokio::spawn(leave_all(realtime.clone(), session.clone()));
    if matches!(reason, DisconnectReason::ClientNSDisconnect | DisconnectReason::ServerNSDisconnect) {
        let (engine_id, connection) = (session.engine_id().to_owned(), session.connection());
        tokio::spawn(close_connection_left_open(realtime.clone(), engine_id, connection));
    }
}

/// Ends a session whose socket the library has lost. Its client may believe that it is connected, so the connection is
/// closed, too.
fn end_lost(realtime: &Realtime, session: &Arc<Session>) {
    let was_in = realtime.sessions.get(session.id()).is_some();
    let (engine_id, connection) = (session.engine_id().to_owned(), session.connection());
    end(realtime, session, DisconnectReason::TransportClose);
    if was_in {
        realtime.app.metrics.sockets_lost.inc();
        realtime.close_connection(&engine_id, connection);
    }
}

/// Looks every few seconds for sessions whose socket or connection is gone, and ends each session that it finds twice
/// in a row. Nothing else would end them. Runs as long as the node.
pub(super) async fn reconcile(realtime: Realtime) {
    let mut suspects: HashSet<MemberId> = HashSet::new();
    loop {
        tokio::time::sleep(RECONCILE_EVERY).await;
        let gone: Vec<Arc<Session>> =
            realtime.sessions.all().into_iter().filter(|session| session.is_without_socket()).collect();
        for session in gone.iter().filter(|session| suspects.contains(&session.id())) {
            tracing::warn!(session = session.id(), "ended a session whose socket was gone without a word");
            end_lost(&realtime, session);
        }
        suspects = gone.iter().map(|session| session.id()).collect();
    }
}

async fn leave_all(realtime: Realtime, session: Arc<Session>) {
    for space in session.spaces() {
        realtime.feed.leave(space, session.id()).await;
    }
}

/// Closes a connection that has no socket any more, as stock clients do themselves. The library would keep the
/// connection for clients that do not. A session that waits here holds only what closing needs.
async fn close_connection_left_open(realtime: Realtime, engine_id: String, connection: Option<ConnectionHandle>) {
    tokio::time::sleep(LEFT_OPEN).await;
    // The client may have opened another socket over the same connection meanwhile.
    if realtime.sessions.of_engine_id(&engine_id).is_none() {
        realtime.close_connection(&engine_id, connection);
    }
}

fn reason_name(reason: DisconnectReason) -> &'static str {
    match reason {
        DisconnectReason::TransportClose => "transport_close",
        DisconnectReason::MultipleHttpPollingError => "multiple_polls",
        DisconnectReason::PacketParsingError => "bad_packet",
        DisconnectReason::TransportError => "transport_error",
        DisconnectReason::HeartbeatTimeout => "no_pong",
        DisconnectReason::ClientNSDisconnect => "client_left",
        DisconnectReason::ServerNSDisconnect => "disconnected_by_server",
        DisconnectReason::ClosingServer => "closing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_cannot_be_read_is_bad_and_not_missing() {
        let read = |auth: &str| token_of_auth(&Value::Str(auth.to_owned().into(), None));
        for none in [r#"{}"#, r#"{"token":null}"#, r#"{"token":""}"#, "[1]", "7", "null", "", r#"["x"]"#] {
            assert!(matches!(read(none), Ok(None)), "{none}");
        }
        assert!(matches!(read(r#" {"x": [1e400], "token": "a.b"}"#), Ok(Some(token)) if token == "a.b"));
        let deep = format!(r#"{{"token":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
        for bad in [
            r#"{"token":7}"#,
            r#"{"token":1e400}"#,
            r#"{"token":"\ud800"}"#,
            r#"{"token":["a.b"]}"#,
            r#"{"token":"a.b","token":"c.d"}"#,
            r#"{"token":"a.b""#,
            &deep,
        ] {
            assert!(matches!(read(bad), Err(Rejection::BadToken)), "{bad}");
        }
    }
}
