//! One connected socket.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide::socket::Socket;
use socketioxide::{SendError, SocketError};

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
    /// The connection that its first request came on.
    first_connection: Option<ConnectionHandle>,
    connections: Connections,
    app: Arc<App>,
    pub(super) inbox: Inbox,
    pub(super) cursor: Cursor,
    /// The store's time at which it connected.
    connected_at: OnceLock<StoreTime>,
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
        Self {
            id,
            user: claims.user.clone(),
            engine_id: socket.id.to_string(),
            socket: Arc::downgrade(socket),
            first_connection: socket.req_parts().extensions.get::<ConnectionHandle>().cloned(),
            inbox: Inbox::new(app.config.limits.event_rate),
            connections,
            app,
            cursor: Cursor::default(),
            connected_at: OnceLock::new(),
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

    /// Sends an event with ready JSON, and counts it.
    pub fn emit(&self, event: &str, payload: &RawValue) {
        self.push(event, payload);
        self.app.metrics.count_event_out(event, 1);
    }

    /// Queues an event. A socket whose queue is full is closed: it will come back and ask for what it missed, rather
    /// than miss it silently.
    fn push(&self, event: &str, payload: &RawValue) {
        if self.is_broken.load(Ordering::Acquire) {
            return;
        }
        let Some(socket) = self.socket.upgrade() else { return };
        match socket.emit(event, payload) {
            Ok(()) | Err(SendError::Socket(SocketError::Closed)) => {}
            Err(SendError::Socket(SocketError::InternalChannelFull)) => self.close_as_too_slow(),
            Err(SendError::Serialize(error)) => tracing::error!(event.name = event, %error, "an event cannot be sent"),
        }
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

    /// An acknowledgement that finds no room is an event lost like any other.
    pub(super) fn close_if_full(&self, error: &SendError) {
        if matches!(error, SendError::Socket(SocketError::InternalChannelFull)) {
            self.close_as_too_slow();
        }
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

    /// The TCP connection that it lives on now; for a polling session, the one of its first request.
    pub(crate) fn connection(&self) -> Option<ConnectionHandle> {
        self.connections.upgraded(&self.engine_id).or_else(|| self.first_connection.clone())
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

    pub(super) fn set_connected_at(&self, at: StoreTime) {
        // The first reading counts: it is the closest to the connect.
        let _ = self.connected_at.set(at);
    }

    pub(super) fn connected_before(&self, instant: StoreTime) -> bool {
        self.connected_at.get().is_none_or(|at| *at <= instant)
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
