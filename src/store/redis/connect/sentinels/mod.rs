//! What the sentinels say about the primary, heard without waiting for a connection to break.
//!
//! A connection to each of them hears their events and asks them for the facts, at once after an event and at intervals.
//! A sentinel that replaces a primary says so a moment before the replica is promoted: from then on nothing is sent, so
//! that nothing is acknowledged that the next primary does not have. As soon as one names the next primary, under a newer
//! configuration epoch than all others, that server is the primary: the sentinels agree among themselves in the same way.
//!
//! - `reports`: what each said, and what all of it comes to.
//! - `listener`: listens to one, and asks it.

mod listener;
mod reports;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use redis::RedisResult;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::aim::{Aim, Target};
use super::connector::Connector;
use super::keeper::Judge;
use super::misused;
use crate::store::redis::endpoint::{Node, Topology};
use reports::{FRESH, Heard, Sum};

/// How long those who are asked for a verdict may take.
const VERDICT_TIME: Duration = Duration::from_millis(300);

/// How many sentinels are followed at most, those that REDIS_URL names included.
const MOST: usize = 32;

/// A handle on what the sentinels say. They are listened to in the background for as long as somebody has the aim.
pub(super) struct Sentinels {
    shared: Arc<Shared>,
}

/// What the tasks share.
struct Shared {
    connector: Arc<Connector>,
    master: String,
    /// Held to read and write, never across an await.
    heard: Mutex<Heard>,
    /// Counts how often all sentinels were asked to look at the same time.
    asked: watch::Sender<u64>,
    /// Rung when there is something new in `heard`.
    news: Notify,
}

impl Sentinels {
    /// Starts to listen to the sentinels that the endpoint names, and to those that they know.
    pub(super) fn start(connector: Arc<Connector>) -> RedisResult<(Self, watch::Receiver<Aim>)> {
        let Topology::Sentinel { master, .. } = &connector.endpoint.topology else {
            return Err(misused("REDIS_URL names no sentinels"));
        };
        let (aim, listener) = watch::channel(Aim::Unknown { failure: None });
        let shared = Arc::new(Shared {
            master: master.clone(),
            connector: connector.clone(),
            heard: Mutex::default(),
            asked: watch::channel(0).0,
            news: Notify::new(),
        });
        let (strangers, found) = mpsc::unbounded_channel();
        connector.endpoint.nodes.iter().for_each(|node| {
            let _ = strangers.send((node.clone(), true));
        });
        tokio::spawn(shared.clone().run(aim, strangers, found));
        Ok((Self { shared }, listener))
    }
}

#[async_trait]
impl Judge for Sentinels {
    /// Asks all sentinels now. True when more than half of them call the node primary, and none of these is replacing it.
    async fn is_primary(&self, node: &Node) -> bool {
        let since = Instant::now();
        self.shared.asked.send_modify(|count| *count += 1);
        let confirmed = async {
            loop {
                let news = self.shared.news.notified();
                let sum = self.shared.lock().sum(since);
                if sum.is_replacing || (sum.primary.is_some() && sum.primary.as_ref() != Some(node)) {
                    return false;
                }
                if sum.agreeing * 2 > sum.all && self.shared.lock().all_answered(since) {
                    return true;
                }
                let _ = tokio::time::timeout(VERDICT_TIME / 10, news).await;
            }
        };
        match tokio::time::timeout(VERDICT_TIME, confirmed).await {
            Ok(is_primary) => is_primary,
            // One of them is silent: the others are enough, if they are more than half.
            Err(_) => {
                let sum = self.shared.lock().sum(since);
                !sum.is_replacing && sum.primary.as_ref() == Some(node) && sum.agreeing * 2 > sum.all
            }
        }
    }

    fn names_primaries(&self) -> bool {
        true
    }
}

impl Shared {
    /// Listens until nobody has the aim any more.
    async fn run(
        self: Arc<Self>,
        aim: watch::Sender<Aim>,
        strangers: mpsc::UnboundedSender<(Node, bool)>,
        mut found: mpsc::UnboundedReceiver<(Node, bool)>,
    ) {
        let mut tasks = tokio::task::JoinSet::new();
        let failure = Arc::new(Mutex::new(None));
        loop {
            let news = self.news.notified();
            self.publish(&aim, &failure);
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep(FRESH / 4) => {}
                () = aim.closed() => return,
                Some((node, is_named)) = found.recv() => {
                    let is_new = { let mut heard = self.lock(); heard.followed.len() < MOST && heard.followed.insert(node.clone()) };
                    if is_new {
                        tasks.spawn(self.clone().follow(node, is_named, strangers.clone(), failure.clone()));
                    }
                }
                Some(_) = tasks.join_next() => {}
            }
        }
    }

    /// Tells what all reports come to, if that is something else than before.
    fn publish(&self, aim: &watch::Sender<Aim>, failure: &Mutex<Option<Arc<str>>>) {
        let now = Instant::now();
        let sum = self.lock().sum(now.checked_sub(FRESH).unwrap_or(now));
        let next = match sum {
            Sum { is_replacing: true, .. } => Aim::Replacing,
            Sum { primary: Some(node), .. } => Aim::At(Target::fixed(node)),
            // Nobody says anything: what was said last is all that there is to go by.
            Sum { primary: None, .. } => match &*aim.borrow() {
                Aim::At(target) => Aim::At(target.clone()),
                Aim::Replacing | Aim::Unknown { .. } => Aim::Unknown { failure: failure.lock().clone() },
            },
        };
        aim.send_if_modified(|old| {
            let is_new = *old != next;
            *old = next;
            is_new
        });
    }

    /// Takes a sentinel's warning before it is asked: a busy machine may be late with the answer.
    fn warn(&self, id: &str) {
        if let Some(report) = self.lock().reports.get_mut(id) {
            (report.at, report.is_replacing) = (Instant::now(), true);
        }
        self.news.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock()
    }
}
