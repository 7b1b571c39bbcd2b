//! One connected socket.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::http::header;
use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide::extract::AckSender;
use socketioxide::handler::FromMessageParts;
use socketioxide::socket::Socket;
use socketioxide::{SendError, SocketError};
use socketioxide_core::Value;

use super::inbox::Inbox;
use super::notifications::Cursor;
use crate::app::App;
use crate::auth::Claims;
use crate::domain::{Refusal, SpaceKey, StoreTime, UserId};
use crate::feed::{Member, MemberId};
use crate::net::connection::{ConnectionHandle, Connections};

/// One socket: who it is, where it listens, and the way to it.
///
/// The library's socket holds the session through its handlers, so the session holds the socket weakly.
pub struct Session {
    id: MemberId,
    user: UserId,
    engine_id: String,
    socket: Weak<Socket>,
    /// The connection that it began on, if that is a websocket. One that carries polls may be shared with requests of
    /// others behind a proxy: it is nobody's to close or to hold back.
    first_websocket: Option<ConnectionHandle>,
    connections: Connections,
    app: Arc<App>,
    pub(super) inbox: Inbox,
    pub(super) cursor: Cursor,
    /// The store's time at which it connected, as this node knew it: rather too early than too late.
    connected_at: StoreTime,
    has_ended: AtomicBool,
    /// It could not take an event: nothing more is sent, so that what it has stays true until it is gone.
    is_broken: AtomicBool,
    watches_stats: AtomicBool,
    /// Held for a read or a change only, never across an await.
    state: Mutex<State>,
}

struct State {
    claims: Arc<Claims>,
    spaces: HashSet<SpaceKey>,
}

impl Session {
    pub(super) fn new(
        id: MemberId,
        socket: &Arc<Socket>,
        claims: Claims,
        connections: Connections,
        app: Arc<App>,
    ) -> Self {
        let request = socket.req_parts();
        let began_as_websocket = request.headers.contains_key(header::UPGRADE);
        let connection = request.extensions.get::<ConnectionHandle>().filter(|_| began_as_websocket).cloned();
        Self {
            id,
            user: claims.user.clone(),
            engine_id: socket.id.to_string(),
            socket: Arc::downgrade(socket),
            first_websocket: connection,
            inbox: Inbox::new(app.config.limits.event_rate),
            connections,
            connected_at: app.catalog.store_now(),
            app,
            cursor: Cursor::new(),
            has_ended: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
            watches_stats: AtomicBool::new(false),
            state: Mutex::new(State { claims: Arc::new(claims), spaces: HashSet::new() }),
        }
    }

    /// Its name within this node, fit for logs.
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// Whose it is; never changes.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    pub(super) fn engine_id(&self) -> &str {
        &self.engine_id
    }

    /// What its token allows now.
    pub fn claims(&self) -> Arc<Claims> {
        self.lock().claims.clone()
    }

    pub(super) fn set_claims(&self, claims: Claims) {
        self.lock().claims = Arc::new(claims);
    }

    /// Whether it is in the room of a space.
    pub fn is_in(&self, space: SpaceKey) -> bool {
        self.lock().spaces.contains(&space)
    }

    /// Notes that it joins a room; `false` when it is in `max` others already.
    pub(super) fn enter(&self, space: SpaceKey, max: usize) -> bool {
        let mut state = self.lock();
        if !state.spaces.contains(&space) && state.spaces.len() >= max {
            return false;
        }
        state.spaces.insert(space);
        true
    }

    pub(super) fn exit(&self, space: SpaceKey) -> bool {
        self.lock().spaces.remove(&space)
    }

    pub(super) fn spaces(&self) -> Vec<SpaceKey> {
        self.lock().spaces.iter().copied().collect()
    }

    /// Sends an event with ready JSON, and counts it; `false` when it could not be queued.
    pub fn emit(&self, event: &str, payload: &RawValue) -> bool {
        let is_queued = self.push(event, payload);
        if is_queued {
            self.app.metrics.count_event_out(event, 1);
        }
        is_queued
    }

    /// Queues an event. A socket whose queue is full is closed: it will come back and ask for what it missed, rather
    /// than miss it silently.
    fn push(&self, event: &str, payload: &RawValue) -> bool {
        if self.is_broken() {
            return false;
        }
        let Some(socket) = self.socket.upgrade() else { return false };
        self.was_queued(socket.emit(event, payload))
    }

    /// Answers an event that asked for it.
    pub(super) fn acknowledge(&self, id: i64, answer: &impl Serialize) {
        if self.is_broken() {
            return;
        }
        let Some(socket) = self.socket.upgrade() else { return };
        let Ok(ack) = AckSender::from_message_parts(&socket, &mut Value::Str("".into(), None), &Some(id));
        self.was_queued(ack.send(answer));
    }

    /// What finds no room is lost, and with it all that comes after.
    fn was_queued(&self, queued: Result<(), SendError>) -> bool {
        match &queued {
            Ok(()) | Err(SendError::Socket(SocketError::Closed)) => {}
            Err(SendError::Socket(SocketError::InternalChannelFull)) => self.close_as_too_slow(),
            Err(SendError::Serialize(error)) => tracing::error!(%error, "an event cannot be sent"),
        }
        queued.is_ok()
    }

    /// Sends `space_error`.
    pub(super) fn emit_error(&self, event: &str, refusal: &Refusal) {
        #[derive(Serialize)]
        struct SpaceError<'a> {
            event: &'a str,
            code: &'static str,
            message: &'a str,
        }
        let error = SpaceError { event, code: refusal.code.as_str(), message: &refusal.message };
        self.emit("space_error", &super::json(&error));
    }

    fn close_as_too_slow(&self) {
        if self.is_broken.swap(true, Ordering::AcqRel) {
            return;
        }
        self.app.metrics.slow_clients_closed.inc();
        tracing::info!(user.id = %self.user, session = self.id, "closed: it does not read what it is sent");
        if let Some(connection) = self.connection() {
            connection.kill();
        }
    }

    /// Leaves the namespace: the client does not come back by itself. Right only for an ended token or a user who is to
    /// be gone.
    pub fn disconnect(&self) {
        let Some(socket) = self.socket.upgrade() else { return };
        if socket.disconnect().is_err() {
            self.close_as_too_slow();
        }
    }

    /// The TCP connection of its websocket; `None` while it polls.
    pub(crate) fn connection(&self) -> Option<ConnectionHandle> {
        self.first_websocket.clone().or_else(|| self.connections.upgraded(&self.engine_id))
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    pub(super) fn end(&self) {
        self.has_ended.store(true, Ordering::Release);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    pub(super) fn connected_before(&self, instant: StoreTime) -> bool {
        self.connected_at <= instant
    }

    pub(super) fn set_watches_stats(&self) {
        self.watches_stats.store(true, Ordering::Release);
    }

    pub(super) fn watches_stats(&self) -> bool {
        self.watches_stats.load(Ordering::Acquire) && self.claims().is_staff_everywhere()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member for Session {
    fn id(&self) -> MemberId {
        self.id
    }

    fn send(&self, event: &'static str, payload: &RawValue) {
        self.push(event, payload);
    }
}
