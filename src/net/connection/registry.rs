//! Which connections are open.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use prometheus::IntCounter;

use super::{ConnectionHandle, Guarded};

/// The open connections of this node. The default has no limit.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Registry>);

#[derive(Debug, Default)]
pub(super) struct Registry {
    /// The most connections, and the counter of refused ones.
    limit: Option<(usize, IntCounter)>,
    next_id: AtomicU64,
    /// Held for a map access only, never across an await.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    handles: HashMap<u64, ConnectionHandle>,
    /// The connection that an Engine.IO session was upgraded to. The connection that the session began on is named in the
    /// session's request head.
    upgraded: HashMap<String, u64>,
}

impl Registry {
    /// Forgets a connection that is gone.
    pub(super) fn forget(&self, handle: &ConnectionHandle) {
        let mut open = self.lock();
        let id = handle.0.id;
        open.handles.remove(&id);
        if let Some(engine_id) = handle.0.upgraded.get()
            && open.upgraded.get(engine_id) == Some(&id)
        {
            open.upgraded.remove(engine_id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock()
    }
}

impl Connections {
    /// Allows `limit` connections at once. `refused` counts the others.
    pub fn limited(limit: usize, refused: IntCounter) -> Self {
        Self(Arc::new(Registry { limit: Some((limit, refused)), ..Registry::default() }))
    }

    /// Whether one more connection may be open. Otherwise counts it as refused.
    pub fn admits_one(&self) -> bool {
        let Some((limit, refused)) = &self.0.limit else { return true };
        let admits = self.count() < *limit;
        if !admits {
            refused.inc();
        }
        admits
    }

    /// Wraps a stream, and registers it until the stream is dropped.
    pub fn guard<S>(&self, stream: S) -> Guarded<S> {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let handle = ConnectionHandle::new(id);
        self.0.lock().handles.insert(id, handle.clone());
        Guarded::new(stream, handle, Arc::downgrade(&self.0))
    }

    /// Remembers that an Engine.IO session goes on over this connection.
    pub fn set_upgraded(&self, engine_id: &str, handle: &ConnectionHandle) {
        if handle.0.upgraded.set(engine_id.to_owned()).is_ok() {
            self.0.lock().upgraded.insert(engine_id.to_owned(), handle.0.id);
        }
    }

    /// The open connection that an Engine.IO session was upgraded to.
    pub fn upgraded(&self, engine_id: &str) -> Option<ConnectionHandle> {
        let open = self.0.lock();
        open.handles.get(open.upgraded.get(engine_id)?).cloned()
    }

    /// The connections that carry a Socket.IO session now.
    pub fn with_sockets(&self) -> Vec<ConnectionHandle> {
        let open = self.0.lock();
        open.handles.values().filter(|handle| handle.carries_socket()).cloned().collect()
    }

    /// How many connections are open now.
    pub fn count(&self) -> usize {
        self.0.lock().handles.len()
    }
}
