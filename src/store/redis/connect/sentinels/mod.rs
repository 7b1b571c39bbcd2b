//! The sentinels' word about the primary, which is heard before a connection breaks.
//!
//! A connection to each sentinel hears its events and asks it for the facts, right after an event and at intervals. A
//! sentinel that replaces a primary says so a moment before it promotes the replica. From then on nothing is sent, so that
//! nothing is acknowledged that the next primary lacks. Once a sentinel names the next primary, under a newer configuration
//! epoch than all others, that server is the primary: the sentinels agree among themselves in the same way.
//!
//! - `reports`: the report of each sentinel, and the conclusion from all.
//! - `listener`: listens to one sentinel, and asks it questions.

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

/// How long the sentinels may take to answer a request for a verdict.
const VERDICT_TIME: Duration = Duration::from_millis(300);

/// The most sentinels that are followed, including those that REDIS_URL names.
const MOST: usize = 32;

/// A handle to the sentinels' reports. The sentinels are listened to in the background as long as somebody has the aim.
pub(super) struct Sentinels {
    shared: Arc<Shared>,
}

/// What the tasks share.
struct Shared {
    connector: Arc<Connector>,
    master: String,
    /// Held to read and write, never across an await.
    heard: Mutex<Heard>,
    /// Counts the requests that all sentinels answer at once.
    asked: watch::Sender<u64>,
    /// Notified when `heard` has changed.
    news: Notify,
}

impl Sentinels {
    /// Starts to listen to the sentinels that the endpoint names, and to the sentinels that these know.
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
    /// Asks all sentinels now. True if more than half of them call the node primary, and none of these is replacing it.
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
            // One of them is silent. The others suffice if they are more than half.
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
    /// Listens as long as somebody has the aim.
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

    /// Publishes the conclusion from all reports if it has changed.
    fn publish(&self, aim: &watch::Sender<Aim>, failure: &Mutex<Option<Arc<str>>>) {
        let now = Instant::now();
        let sum = self.lock().sum(now.checked_sub(FRESH).unwrap_or(now));
        let next = match sum {
            Sum { is_replacing: true, .. } => Aim::Replacing,
            Sum { primary: Some(node), .. } => Aim::At(Target::fixed(node)),
            // No sentinel answers, so the last conclusion stays.
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

    /// Notes a sentinel's warning before asking the sentinel, because a busy machine may answer late.
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
