//! The present faults of a store. Its parts note their faults here, and `/readyz` and the feed read them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// Something that a store cannot do, or must not do, until it is mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StoreFault {
    /// The server's user may not run a command that this program needs.
    RightsMissing,
    /// Subscribing fails, so changes would be heard late.
    CannotSubscribe,
    /// All writes are refused: the disk or the memory is full, or replicas are missing. Reads work.
    WritesRefused,
    /// A server with a part of the data cannot be reached. The other servers' data is usable.
    ServerAway,
    /// The data file was removed, or another file has replaced it.
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

/// Unreadable records of at most this many days are remembered.
const MOST_DAYS: usize = 1_000;

/// The faults of one store. All of its parts share it.
#[derive(Debug, Default)]
pub struct StoreHealth {
    /// The reason for each fault, one line. Held for a map access only, never across an await.
    faults: Mutex<BTreeMap<StoreFault, String>>,
    /// The places of unreadable records: the key of a day, and its slots. Held for a map access only.
    unreadable: Mutex<BTreeMap<String, Vec<String>>>,
    unfenced: AtomicBool,
    watched: AtomicBool,
    suspected: Notify,
}

impl StoreHealth {
    /// Notes a fault with its reason. Logs it once for each reason.
    pub fn set(&self, fault: StoreFault, reason: impl Into<String>) {
        // The reason may be a server's answer. `/readyz` has it on one line.
        let reason = reason.into().replace(['\r', '\n'], " ");
        let is_new = {
            let mut faults = self.lock();
            faults.insert(fault, reason.clone()).as_ref() != Some(&reason)
        };
        if is_new {
            tracing::error!(fault = fault.as_str(), reason, "not ready: the store cannot do all that a node needs");
        }
    }

    /// Notes that a call met a fault. The watch over the store then checks at once whether it is there.
    pub fn suspect(&self, fault: StoreFault, reason: impl Into<String>) {
        // The watch's own reason for a known fault is better.
        if !self.has(fault) {
            self.set(fault, reason);
        }
        self.suspected.notify_one();
    }

    /// Notes that a call did not meet a known fault. Other calls may still meet it, for example at another server, so the
    /// watch checks at once.
    pub fn doubt(&self, fault: StoreFault) {
        if self.watched.load(Ordering::Acquire) {
            self.suspected.notify_one();
        } else {
            self.clear(fault);
        }
    }

    /// Notes that something watches over the store as long as the process lives, and decides which faults are there.
    pub fn set_watched(&self) {
        self.watched.store(true, Ordering::Release);
    }

    /// Resolves when a fault has been suspected or doubted since the last time.
    pub async fn suspected(&self) {
        self.suspected.notified().await;
    }

    /// Notes that a fault is mended.
    pub fn clear(&self, fault: StoreFault) {
        let was_there = self.lock().remove(&fault).is_some();
        if was_there {
            tracing::info!(fault = fault.as_str(), "a fault of the store is gone");
        }
    }

    /// Sets the fault if there is a reason, and clears it otherwise.
    pub fn replace(&self, fault: StoreFault, reason: Option<String>) {
        match reason {
            Some(reason) => self.set(fault, reason),
            None => self.clear(fault),
        }
    }

    /// Like [`Self::replace`], for a look that began when the faults `before` were there. A fault that a call met since
    /// then stays, because the look may have been past it. That call has asked for the next look, which will find out.
    pub fn replace_after_look(&self, fault: StoreFault, reason: Option<String>, before: &BTreeSet<StoreFault>) {
        if reason.is_some() || before.contains(&fault) {
            self.replace(fault, reason);
        }
    }

    /// The faults that are there.
    pub fn present(&self) -> BTreeSet<StoreFault> {
        self.lock().keys().copied().collect()
    }

    /// The reason for a fault; `None` if the fault is not there.
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

    /// Notes the unreadable records of a day, and logs each once. Their slots are shown as blocked, and staff can set them
    /// anew. This is no fault, because the rest of the day is usable.
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
                "stored slots cannot be read, so they are shown as blocked: staff can set them anew"
            );
            unreadable.insert(key.to_owned(), slots);
        }
    }

    /// The records that could not be read when their days were last read: key and slot.
    pub fn unreadable(&self) -> Vec<(String, String)> {
        let unreadable = self.unreadable.lock();
        let of_day = |(key, slots): (&String, &Vec<String>)| -> Vec<(String, String)> {
            slots.iter().map(|slot| (key.clone(), slot.clone())).collect()
        };
        unreadable.iter().flat_map(of_day).collect()
    }

    /// Notes whether the store always knows when it has lost writes, in a failover or a restart. If it does not, a version
    /// may name two contents afterwards. The node serves all the same, and says so.
    pub fn set_fenced(&self, fenced: bool) {
        let was_unfenced = self.unfenced.swap(!fenced, Ordering::AcqRel);
        if fenced && was_unfenced {
            tracing::info!("the store notices again when it loses writes");
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
    fn a_look_clears_what_was_there_when_it_began_and_leaves_what_was_suspected_since() {
        let health = StoreHealth::default();
        let before = health.present();
        health.suspect(StoreFault::RightsMissing, "no ZADD");
        health.replace_after_look(StoreFault::RightsMissing, None, &before);
        assert!(health.has(StoreFault::RightsMissing), "the look was past it");
        health.replace_after_look(StoreFault::RightsMissing, Some("no ZADD, no HSET".into()), &before);
        assert_eq!(health.reason(StoreFault::RightsMissing).as_deref(), Some("no ZADD, no HSET"));
        health.replace_after_look(StoreFault::RightsMissing, None, &health.present());
        assert!(!health.has(StoreFault::RightsMissing), "the next look finds nothing");
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
