//! What a store cannot do now, as it found out itself: its parts say so here, `/readyz` and the feed read it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// Something that a store cannot do, or must not do, until it is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreFault {
    /// The server refuses a command that this program needs: the rights of its user do not suffice.
    RightsMissing,
    /// Nothing can be subscribed to, so that changes would be heard late.
    CannotSubscribe,
    /// All writes are refused: the disk or the memory is full, or replicas are missing. Reads go on.
    WritesRefused,
    /// A server that has a part of the data cannot be reached. What the others have goes on.
    ServerAway,
    /// The data file was removed, or another one is in its place.
    FileGone,
}

impl StoreFault {
    /// Its name in the answers of `/readyz`.
    pub const fn as_str(self) -> &'static str {
        match self {
            StoreFault::RightsMissing => "store_rights_missing",
            StoreFault::CannotSubscribe => "store_cannot_subscribe",
            StoreFault::WritesRefused => "store_refuses_writes",
            StoreFault::ServerAway => "store_server_away",
            StoreFault::FileGone => "data_file_gone",
        }
    }
}

/// Of how many days unreadable records are kept in mind.
const MOST_DAYS: usize = 1_000;

/// The faults of one store; its parts share it.
#[derive(Debug, Default)]
pub struct StoreHealth {
    /// The reason of each, one line. Held for a map access only, never across an await.
    faults: Mutex<BTreeMap<StoreFault, String>>,
    /// Where records are that cannot be read: of each day's key their slots. Held for a map access only.
    unreadable: Mutex<BTreeMap<String, Vec<String>>>,
    unfenced: AtomicBool,
    watched: AtomicBool,
    suspected: Notify,
}

impl StoreHealth {
    /// Says that there is a fault, and why; in the log once for each reason.
    pub fn set(&self, fault: StoreFault, reason: impl Into<String>) {
        // The reason may be a server's answer, and is one line of `/readyz`.
        let reason = reason.into().replace(['\r', '\n'], " ");
        let is_new = {
            let mut faults = self.lock();
            faults.insert(fault, reason.clone()).as_ref() != Some(&reason)
        };
        if is_new {
            tracing::error!(fault = fault.as_str(), reason, "not ready: the store cannot do all that it must");
        }
    }

    /// Says that a call came upon a fault: who watches over the store looks at once whether it is there.
    pub fn suspect(&self, fault: StoreFault, reason: impl Into<String>) {
        // The watch has better words.
        if !self.has(fault) {
            self.set(fault, reason);
        }
        self.suspected.notify_one();
    }

    /// Says that a call did not come upon a fault that is known. It may be there for other calls, such as those to another
    /// server: where there is a watch, that looks at once.
    pub fn doubt(&self, fault: StoreFault) {
        if self.watched.load(Ordering::Acquire) {
            self.suspected.notify_one();
        } else {
            self.clear(fault);
        }
    }

    /// Says that something watches over the store for as long as the process lives, and says which faults are there.
    pub fn set_watched(&self) {
        self.watched.store(true, Ordering::Release);
    }

    /// Resolves when a fault was suspected or doubted since the last time.
    pub async fn suspected(&self) {
        self.suspected.notified().await;
    }

    /// Says that a fault is mended.
    pub fn clear(&self, fault: StoreFault) {
        let was_there = self.lock().remove(&fault).is_some();
        if was_there {
            tracing::info!(fault = fault.as_str(), "the store can do again what it could not");
        }
    }

    /// Sets the fault with a reason, or clears it without one.
    pub fn replace(&self, fault: StoreFault, reason: Option<String>) {
        match reason {
            Some(reason) => self.set(fault, reason),
            None => self.clear(fault),
        }
    }

    /// The reason of a fault; `None` when it is not there.
    pub fn reason(&self, fault: StoreFault) -> Option<String> {
        self.lock().get(&fault).cloned()
    }

    /// Whether a fault is there.
    pub fn has(&self, fault: StoreFault) -> bool {
        self.lock().contains_key(&fault)
    }

    /// All faults with their reasons.
    pub fn faults(&self) -> Vec<(StoreFault, String)> {
        self.lock().iter().map(|(fault, reason)| (*fault, reason.clone())).collect()
    }

    /// Says which records of a day cannot be read; in the log once. Their slots are shown as blocked, and staff can set them
    /// anew. The rest of the day is not concerned, so that this is no fault.
    pub fn set_unreadable(&self, key: &str, slots: Vec<String>) {
        let mut unreadable = self.unreadable.lock();
        if unreadable.get(key).is_none_or(Vec::is_empty) && slots.is_empty() {
            return;
        }
        if slots.is_empty() {
            unreadable.remove(key);
        } else if unreadable.get(key) != Some(&slots) && unreadable.len() < MOST_DAYS {
            tracing::error!(
                key,
                slots = slots.join(", "),
                "stored slots cannot be read and are shown as blocked: staff may set them anew"
            );
            unreadable.insert(key.to_owned(), slots);
        }
    }

    /// The records that could not be read when their day was last read: key and slot.
    pub fn unreadable(&self) -> Vec<(String, String)> {
        let unreadable = self.unreadable.lock();
        let of_day = |(key, slots): (&String, &Vec<String>)| -> Vec<(String, String)> {
            slots.iter().map(|slot| (key.clone(), slot.clone())).collect()
        };
        unreadable.iter().flat_map(of_day).collect()
    }

    /// Says whether the store always knows when it has lost writes, in a failover or a restart. Where it does not, a version
    /// may name two contents afterwards; the node serves all the same, and says so.
    pub fn set_fenced(&self, fenced: bool) {
        let was_unfenced = self.unfenced.swap(!fenced, Ordering::AcqRel);
        if fenced && was_unfenced {
            tracing::info!("the store can tell again when it has lost writes");
        }
    }

    /// Whether the store may lose writes without telling.
    pub fn is_unfenced(&self) -> bool {
        self.unfenced.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<StoreFault, String>> {
        self.faults.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_lasts_until_it_is_cleared_and_bears_its_last_reason() {
        let health = StoreHealth::default();
        assert_eq!(health.faults(), []);
        health.set(StoreFault::WritesRefused, "MISCONF: the disk\r\nis full");
        health.set(StoreFault::RightsMissing, "no HSET");
        assert_eq!(health.reason(StoreFault::WritesRefused).as_deref(), Some("MISCONF: the disk  is full"));
        health.replace(StoreFault::RightsMissing, Some("no ZADD".into()));
        let names: Vec<&str> = health.faults().into_iter().map(|(fault, _)| fault.as_str()).collect();
        assert_eq!(names, ["store_rights_missing", "store_refuses_writes"]);
        health.replace(StoreFault::RightsMissing, None);
        health.clear(StoreFault::WritesRefused);
        assert!(!health.has(StoreFault::WritesRefused) && health.faults().is_empty());
    }

    #[test]
    fn a_store_is_fenced_unless_it_says_otherwise() {
        let health = StoreHealth::default();
        assert!(!health.is_unfenced());
        health.set_fenced(false);
        assert!(health.is_unfenced());
        health.set_fenced(true);
        assert!(!health.is_unfenced());
    }
}
