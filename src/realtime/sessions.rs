//! The sessions of this node, by their own id, by user and by Engine.IO session.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use super::session::Session;
use crate::domain::UserId;
use crate::feed::MemberId;

/// The sessions of this node.
#[derive(Default)]
pub struct Sessions {
    next_id: AtomicU64,
    /// Held for map accesses only, never across an await.
    maps: Mutex<Maps>,
}

#[derive(Default)]
struct Maps {
    by_id: HashMap<MemberId, Arc<Session>>,
    by_user: HashMap<UserId, Vec<Arc<Session>>>,
    /// The Engine.IO id is a bearer secret: it is looked up and never shown.
    by_engine_id: HashMap<String, Arc<Session>>,
}

impl Sessions {
    /// A name for a new session, never used again by this process.
    pub fn next_id(&self) -> MemberId {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a session, unless it has already ended.
    pub fn add(&self, session: &Arc<Session>) -> bool {
        let mut maps = self.lock();
        // The check runs under the lock. The end of a session first marks it and then removes it under the lock, so the end
        // cannot be missed.
        if session.has_ended() {
            return false;
        }
        maps.by_id.insert(session.id(), session.clone());
        if !session.is_guest() {
            maps.by_user.entry(session.user().clone()).or_default().push(session.clone());
        }
        maps.by_engine_id.insert(session.engine_id().to_owned(), session.clone());
        true
    }

    /// Removes a session. Answers `false` if it was not there.
    pub fn remove(&self, session: &Session) -> bool {
        let mut maps = self.lock();
        // Compared by identity, because a later socket of the same client has the same id.
        if maps.by_engine_id.get(session.engine_id()).is_some_and(|other| other.id() == session.id()) {
            maps.by_engine_id.remove(session.engine_id());
        }
        if let Some(of_user) = maps.by_user.get_mut(session.user()) {
            of_user.retain(|other| other.id() != session.id());
            if of_user.is_empty() {
                maps.by_user.remove(session.user());
            }
        }
        maps.by_id.remove(&session.id()).is_some()
    }

    /// The session with this id.
    pub fn get(&self, id: MemberId) -> Option<Arc<Session>> {
        self.lock().by_id.get(&id).cloned()
    }

    /// The session with this Engine.IO id.
    pub fn of_engine_id(&self, engine_id: &str) -> Option<Arc<Session>> {
        self.lock().by_engine_id.get(engine_id).cloned()
    }

    /// All sessions of a user on this node.
    pub fn of_user(&self, user: &UserId) -> Vec<Arc<Session>> {
        self.lock().by_user.get(user).cloned().unwrap_or_default()
    }

    /// All sessions of this node.
    pub fn all(&self) -> Vec<Arc<Session>> {
        self.lock().by_id.values().cloned().collect()
    }

    /// The number of sockets, and of distinct users.
    pub fn counts(&self) -> (u64, u64) {
        let maps = self.lock();
        (maps.by_id.len() as u64, maps.by_user.len() as u64)
    }

    fn lock(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock()
    }
}
