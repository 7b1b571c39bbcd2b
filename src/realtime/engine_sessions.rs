//! The Engine.IO sessions that the library holds, and how many of them have shown no token yet (strangers).
//!
//! A stranger's session costs memory and tasks before anything is known of its client. So each node and each connection has
//! a bound on them. A session counts as long as the library holds it: its first request carries an [`EngineSession`], which
//! lives as long as the library keeps that request, even if an ended session still waits for its timers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::{Mutex, MutexGuard};

use crate::net::connection::ConnectionHandle;
use crate::telemetry::metrics::Metrics;

/// The most strangers' sessions of a node. They take about 60 MiB. A client that sends its token at once is a stranger
/// for one round trip.
pub(super) const STRANGERS: usize = 4_096;

/// The most strangers' sessions over one connection. Behind a proxy many clients share a connection.
pub(super) const STRANGERS_OF_A_CONNECTION: usize = 256;

/// A connection with this many strangers is a crowd. All crowds together get half of the node's room. Strangers who come
/// one by one get the other half.
const A_CROWD: usize = 8;

/// Why one more stranger is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The node has the most strangers that it may have.
    Node,
    /// The connection has the most strangers that it may have.
    Connection,
}

impl Full {
    /// The label in the metric of attempts to connect.
    pub(super) fn outcome(self) -> &'static str {
        match self {
            Full::Node => "node_full",
            Full::Connection => "connection_full",
        }
    }
}

/// The sessions of this node.
#[derive(Clone)]
pub(crate) struct EngineSessions(Arc<Registry>);

struct Registry {
    metrics: Metrics,
    strangers: AtomicUsize,
    /// The sessions that began by polling, by the library's id. Held for a map access only, never across an await.
    polling: Mutex<HashMap<String, Weak<EngineSession>>>,
}

/// One session, which counts as long as the library holds a part of it.
pub(crate) struct EngineSession {
    of: Arc<Registry>,
    connection: Option<ConnectionHandle>,
    /// Whether it has shown a valid token.
    is_known: AtomicBool,
    /// Whether this node has ended it. No further request of its client reaches the library then.
    is_over: AtomicBool,
    engine_id: OnceLock<String>,
    /// Held by the request whose packets are being handled, so that requests with packets are handled in turn.
    turn: tokio::sync::Mutex<()>,
}

impl EngineSessions {
    /// Starts without sessions.
    pub(super) fn new(metrics: Metrics) -> Self {
        Self(Arc::new(Registry { metrics, strangers: AtomicUsize::new(0), polling: Mutex::default() }))
    }

    /// Makes room for one more session, about which nothing is known.
    pub(super) fn begin(&self, connection: Option<ConnectionHandle>) -> Result<Arc<EngineSession>, Full> {
        let of_connection = connection.as_ref().map_or(0, ConnectionHandle::begin_stranger);
        let strangers = self.0.strangers.fetch_add(1, Ordering::AcqRel);
        self.0.metrics.strangers.inc();
        self.0.metrics.engine_sessions.inc();
        // The session counts from here on. Its drop takes it out of the count.
        let session = EngineSession {
            of: self.0.clone(),
            connection,
            is_known: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            engine_id: OnceLock::new(),
            turn: tokio::sync::Mutex::default(),
        };
        let room = if of_connection < A_CROWD { STRANGERS } else { STRANGERS / 2 };
        match (of_connection < STRANGERS_OF_A_CONNECTION, strangers < room) {
            (false, _) => Err(Full::Connection),
            (_, false) => Err(Full::Node),
            _ => Ok(Arc::new(session)),
        }
    }

    /// A session that began by polling, by the library's id.
    pub(super) fn find(&self, engine_id: &str) -> Option<Arc<EngineSession>> {
        self.0.lock().get(engine_id).and_then(Weak::upgrade)
    }
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Weak<EngineSession>>> {
        self.polling.lock()
    }

    fn forget_stranger(&self, connection: Option<&ConnectionHandle>) {
        self.strangers.fetch_sub(1, Ordering::AcqRel);
        self.metrics.strangers.dec();
        connection.into_iter().for_each(ConnectionHandle::end_stranger);
    }
}

impl EngineSession {
    /// Registers the session under the library's id. Only a session that begins by polling needs this: a websocket is one
    /// connection and sends no further requests.
    pub(super) fn register(self: &Arc<Self>, engine_id: &str) {
        if self.engine_id.set(engine_id.to_owned()).is_ok() {
            self.of.lock().insert(engine_id.to_owned(), Arc::downgrade(self));
        }
    }

    /// Notes that its client has shown a valid token, and is no longer a stranger.
    pub(super) fn note_known(&self) {
        if !self.is_known.swap(true, Ordering::AcqRel) {
            self.of.forget_stranger(self.connection.as_ref());
        }
    }

    /// Keeps further requests of its client from the library.
    pub(super) fn note_over(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// Waits until no other request with packets is being handled. Others wait until the guard is dropped.
    pub(super) async fn take_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turn.lock().await
    }
}

impl Drop for EngineSession {
    fn drop(&mut self) {
        if let Some(engine_id) = self.engine_id.get() {
            self.of.lock().remove(engine_id);
        }
        self.of.metrics.engine_sessions.dec();
        if !*self.is_known.get_mut() {
            self.of.forget_stranger(self.connection.as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::connection::Connections;

    fn begin(sessions: &EngineSessions, handle: &ConnectionHandle, count: usize) -> Vec<Arc<EngineSession>> {
        (0..count).map(|_| sessions.begin(Some(handle.clone())).ok().unwrap()).collect()
    }

    // Attack 1.
    #[test]
    fn strangers_are_bounded_and_make_room_when_they_are_known_or_gone() {
        let (sessions, connections) = (EngineSessions::new(Metrics::new()), Connections::default());
        let guarded: Vec<_> = (0..STRANGERS).map(|_| connections.guard(())).collect();
        let crowd = begin(&sessions, &guarded[0].handle(), STRANGERS_OF_A_CONNECTION);
        assert_eq!(sessions.begin(Some(guarded[0].handle())).err(), Some(Full::Connection));
        let mut others = Vec::new();
        for guard in &guarded[1..] {
            if sessions.0.strangers.load(Ordering::Relaxed) < STRANGERS {
                others.extend(begin(&sessions, &guard.handle(), 1));
            }
        }
        assert_eq!(sessions.begin(Some(guarded[1].handle())).err(), Some(Full::Node));
        assert_eq!(sessions.0.metrics.strangers.get(), STRANGERS as i64);
        others[0].note_known();
        others[0].note_known();
        let one = begin(&sessions, &guarded[2].handle(), 1);
        assert_eq!(sessions.begin(Some(guarded[3].handle())).err(), Some(Full::Node));
        drop((crowd, others, one));
        assert_eq!((sessions.0.metrics.strangers.get(), sessions.0.metrics.engine_sessions.get()), (0, 0));
        assert_eq!(guarded[0].handle().begin_stranger(), 0, "the connection's own count went back, too");
    }

    #[test]
    fn crowds_leave_room_for_those_who_come_one_by_one() {
        let (sessions, connections) = (EngineSessions::new(Metrics::new()), Connections::default());
        let guarded: Vec<_> = (0..STRANGERS / 32).map(|_| connections.guard(())).collect();
        let mut held = Vec::new();
        for guard in &guarded {
            while let Ok(session) = sessions.begin(Some(guard.handle())) {
                held.push(session);
            }
        }
        assert!(held.len() <= STRANGERS / 2 + guarded.len() * A_CROWD, "{}", held.len());
        let newcomer = connections.guard(());
        assert!(sessions.begin(Some(newcomer.handle())).is_ok());
    }

    #[test]
    fn a_polling_session_is_found_while_the_library_holds_it() {
        let sessions = EngineSessions::new(Metrics::new());
        let session = sessions.begin(None).ok().unwrap();
        session.register("id");
        assert!(sessions.find("id").is_some_and(|found| Arc::ptr_eq(&found, &session)));
        drop(session);
        assert!(sessions.find("id").is_none());
        assert!(sessions.0.lock().is_empty());
    }
}
