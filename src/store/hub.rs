//! Delivers announced messages inside a process, to the followers of their topics.
//!
//! The embedded store announces here after each commit. The subscriptions of the Redis store pass on here what they
//! receive. A watcher that falls behind loses messages and hears [`Signal::Lagged`] instead: it then reads the log.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;

use super::{Message, Signal, Topic};

/// How many messages a space's watcher may be behind.
const CAPACITY: usize = 1_024;

/// How many messages a bucket's watcher may be behind. These are more than a bucket's log has, so that a burst of this
/// node's own is not lost to it.
const BUCKET_CAPACITY: usize = 16_384;

/// The watchers of topics on this node, at most one for each topic. A new watcher replaces the old one.
#[derive(Clone, Default)]
pub struct Hub {
    /// Held for a map access only, never across an await.
    topics: Arc<Mutex<HashMap<Topic, Watcher>>>,
    unwatched: Option<mpsc::UnboundedSender<Topic>>,
}

struct Watcher {
    sender: mpsc::Sender<Message>,
    lagged: Arc<AtomicBool>,
    wake: Arc<tokio::sync::Notify>,
}

/// The receiving end of one topic. Dropping it ends the watching.
pub struct Watch {
    topic: Topic,
    receiver: mpsc::Receiver<Message>,
    lagged: Arc<AtomicBool>,
    wake: Arc<tokio::sync::Notify>,
    hub: Weak<Mutex<HashMap<Topic, Watcher>>>,
    unwatched: Option<mpsc::UnboundedSender<Topic>>,
}

impl Hub {
    /// A hub that reports each topic that lost its watcher. The topic may have another watcher by the time that the
    /// report is read; ask [`Self::is_watched`].
    pub fn telling_unwatched(unwatched: mpsc::UnboundedSender<Topic>) -> Self {
        Self { topics: Arc::default(), unwatched: Some(unwatched) }
    }

    /// Starts watching. Messages that are announced after the return are received.
    pub fn watch(&self, topic: Topic) -> Watch {
        let (sender, receiver) = mpsc::channel(match topic {
            Topic::Space(_) => CAPACITY,
            Topic::Bucket(_) => BUCKET_CAPACITY,
        });
        let lagged = Arc::new(AtomicBool::new(false));
        let wake = Arc::new(tokio::sync::Notify::new());
        let watcher = Watcher { sender, lagged: lagged.clone(), wake: wake.clone() };
        self.lock().insert(topic, watcher);
        Watch { topic, receiver, lagged, wake, hub: Arc::downgrade(&self.topics), unwatched: self.unwatched.clone() }
    }

    /// Passes a message to the topic's watcher, if there is one. Never waits.
    pub fn announce(&self, topic: Topic, message: Message) {
        if let Some(watcher) = self.lock().get(&topic)
            && watcher.sender.try_send(message).is_err()
        {
            watcher.lag();
        }
    }

    /// Tells every watcher that something may have been missed.
    pub fn lag_all(&self) {
        self.lock().values().for_each(Watcher::lag);
    }

    /// The topics that are watched now.
    pub fn topics(&self) -> Vec<Topic> {
        self.lock().keys().copied().collect()
    }

    /// Whether somebody watches the topic now.
    pub fn is_watched(&self, topic: Topic) -> bool {
        self.lock().contains_key(&topic)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Topic, Watcher>> {
        self.topics.lock()
    }
}

impl Watcher {
    fn lag(&self) {
        self.lagged.store(true, Ordering::Release);
        self.wake.notify_one();
    }
}

impl Watch {
    /// The next signal. Cancel safe.
    pub async fn next(&mut self) -> Signal {
        loop {
            // Checked first, so that the messages before a lag do not hide it.
            if self.lagged.swap(false, Ordering::AcqRel) {
                return Signal::Lagged;
            }
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                message = self.receiver.recv() => match message {
                    Some(message) => return Signal::Message(message),
                    // The hub is gone, or another watch replaced this one. Only a lag can still come, once.
                    None => std::future::pending().await,
                },
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let Some(topics) = self.hub.upgrade() else { return };
        let mut topics = topics.lock();
        if topics.get(&self.topic).is_some_and(|watcher| Arc::ptr_eq(&watcher.lagged, &self.lagged)) {
            topics.remove(&self.topic);
            if let Some(unwatched) = &self.unwatched {
                // Without the listener there is no subscription to end.
                let _ = unwatched.send(self.topic);
            }
        }
    }
}
