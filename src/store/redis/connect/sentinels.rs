//! What the sentinels say about the primary, heard without waiting for a connection to break.
//!
//! A connection to each of them hears their events and asks them for the facts, at once after an event and at intervals.
//! A sentinel that replaces a primary says so a moment before the replica is promoted: from then on nothing is sent, so
//! that nothing is acknowledged that the next primary does not have. As soon as one names the next primary, under a newer
//! configuration epoch than all others, that server is the primary: the sentinels agree among themselves in the same way.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, PushInfo, PushKind, RedisResult, ServerErrorKind, Value};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;

use super::aim::{Aim, Target};
use super::connector::Connector;
use super::keeper::Judge;
use super::misused;
use crate::store::redis::endpoint::{Node, Topology};

/// How often each sentinel is asked while all is well. Its events come at once.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How often each is asked while the primary is being replaced.
const ASK_OFTEN: Duration = Duration::from_millis(100);

/// For how long what a sentinel said counts. One that ends while it replaces a primary has taken that much from the nodes:
/// the others need it to hear of what it did.
const FRESH: Duration = Duration::from_secs(3);

/// The longest wait before a sentinel that cannot be reached is tried again.
const LAST_RETRY: Duration = Duration::from_secs(2);

/// How long those who are asked for a verdict may take.
const VERDICT_TIME: Duration = Duration::from_millis(300);

/// How many sentinels are followed at most, those that REDIS_URL names included.
const MOST: usize = 32;

/// The events that tell of a change, or of a change that is coming.
const EVENTS: &[&str] = &[
    "+switch-master",
    "+try-failover",
    "+elected-leader",
    "+failover-state-select-slave",
    "+selected-slave",
    "+failover-state-send-slaveof-noone",
    "+failover-state-wait-promotion",
    "+promoted-slave",
    "+failover-state-reconf-slaves",
    "+failover-end",
    "+failover-end-for-timeout",
    "-failover-abort-not-elected",
    "-failover-abort-no-good-slave",
    "-failover-abort-slave-timeout",
    "-failover-abort-master-is-down",
    "+config-update-from",
    "+monitor",
];

/// Those among them after which a replica is about to be promoted, or may be already. What tells of the end is asked for.
const WARNINGS: &[&str] = &[
    "+try-failover",
    "+elected-leader",
    "+failover-state-select-slave",
    "+selected-slave",
    "+failover-state-send-slaveof-noone",
    "+failover-state-wait-promotion",
];

/// The states of a failover in which the replica may be, or is about to be, promoted, and is not named yet.
const REPLACING: &[&str] = &["select_slave", "send_slaveof_noone", "wait_promotion"];

/// The state before these. A planned failover leaves it at once; else it takes the others' votes, and may come to nothing.
const ASKING_FOR_VOTES: &str = "wait_start";

/// For how long that counts as a planned failover.
const PLANNED: Duration = Duration::from_secs(1);

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

#[derive(Default)]
struct Heard {
    /// By the sentinel's own id: it may be known under several addresses.
    reports: BTreeMap<String, Report>,
    /// Those who have a task.
    followed: HashSet<Node>,
}

/// What one sentinel said.
#[derive(Clone, Debug)]
struct Report {
    at: Instant,
    primary: Option<Node>,
    /// Of the configuration that it has.
    epoch: u64,
    is_replacing: bool,
    /// How many other sentinels it knows.
    others: usize,
}

/// What the reports come to.
#[derive(Debug, PartialEq, Eq)]
struct Sum {
    /// Named under the newest configuration, by most of those who have it.
    primary: Option<Node>,
    is_replacing: bool,
    /// How many of all name the primary.
    agreeing: usize,
    all: usize,
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
    /// By more than half of the sentinels, none of which replaces it, all of them asked now.
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

    /// Listens to one sentinel, for ever when REDIS_URL names it, else until it cannot be reached.
    async fn follow(
        self: Arc<Self>,
        node: Node,
        is_named: bool,
        strangers: mpsc::UnboundedSender<(Node, bool)>,
        failure: Arc<Mutex<Option<Arc<str>>>>,
    ) {
        let mut retry = ASK_OFTEN;
        loop {
            let began = Instant::now();
            let error = match self.listen(&node, &strangers).await {
                Ok(never) => match never {},
                Err(error) => error,
            };
            tracing::debug!(sentinel = %node, %error, "a sentinel does not answer");
            let text: Arc<str> = format!("the sentinel {node}: {error}").into();
            *failure.lock() = Some(text);
            self.news.notify_waiters();
            if began.elapsed() > FRESH {
                retry = ASK_OFTEN;
            } else if !is_named && retry >= LAST_RETRY {
                break;
            }
            tokio::time::sleep(retry.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
            retry = (retry * 2).min(LAST_RETRY);
        }
        self.lock().followed.remove(&node);
    }

    /// Listens to one sentinel until it does not answer.
    async fn listen(
        self: &Arc<Self>,
        node: &Node,
        strangers: &mpsc::UnboundedSender<(Node, bool)>,
    ) -> RedisResult<std::convert::Infallible> {
        let event = Arc::new(Notify::new());
        let sentinel: Arc<OnceLock<String>> = Arc::default();
        let on_push = {
            let (event, sentinel, shared) = (event.clone(), sentinel.clone(), self.clone());
            move |push: &PushInfo| {
                if let Some(id) = sentinel.get().filter(|_| is_warning(push, &shared.master)) {
                    shared.warn(id);
                }
                event.notify_one();
            }
        };
        let mut connection = self.connector.connect_to_sentinel(node, on_push).await?;
        let id: String = redis::cmd("SENTINEL").arg("MYID").query_async(&mut connection).await?;
        let _ = sentinel.set(id.clone());
        for channel in EVENTS {
            // Without its events it is asked at intervals.
            if let Err(error) = connection.subscribe(channel).await {
                tracing::warn!(sentinel = %node, %error, "a sentinel does not tell its events");
                break;
            }
        }
        let mut asked = self.asked.subscribe();
        let mut looked_around: Option<Instant> = None;
        let mut votes_since: Option<Instant> = None;
        loop {
            let (mut report, asks_for_votes) = self.ask(&mut connection).await?;
            votes_since = asks_for_votes.then(|| votes_since.unwrap_or(report.at));
            report.is_replacing |= votes_since.is_some_and(|since| since.elapsed() < PLANNED);
            let pause = if report.is_replacing { ASK_OFTEN } else { ASK_EVERY };
            self.lock().take(&id, report);
            self.news.notify_waiters();
            if looked_around.is_none_or(|at| at.elapsed() > FRESH * 3) {
                looked_around = Some(Instant::now());
                self.look_around(&mut connection, strangers).await?;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = event.notified() => {}
                _ = asked.changed() => {}
            }
        }
    }

    /// What a sentinel says, and whether it asks the others for their votes for a failover.
    async fn ask(&self, connection: &mut MultiplexedConnection) -> RedisResult<(Report, bool)> {
        let mut question = redis::pipe();
        // In this order: an address that is older than the epoch would pass for the newest.
        question.cmd("SENTINEL").arg("MASTER").arg(&self.master);
        question.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        let at = Instant::now();
        let (master, address): (HashMap<String, String>, Option<(String, u16)>) =
            question.query_async(connection).await?;
        let asks_for_votes = master.get("failover-state").is_some_and(|state| state == ASKING_FOR_VOTES);
        Ok((report_of(at, &master, address), asks_for_votes))
    }

    /// Has those followed whom a sentinel knows.
    async fn look_around(
        &self,
        connection: &mut MultiplexedConnection,
        strangers: &mpsc::UnboundedSender<(Node, bool)>,
    ) -> RedisResult<()> {
        let mut question = redis::cmd("SENTINEL");
        question.arg("SENTINELS").arg(&self.master);
        let others: Vec<HashMap<String, String>> = match question.query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm) => return Ok(()),
            others => others?,
        };
        for other in others {
            let is_known = other.get("runid").is_some_and(|id| self.lock().reports.contains_key(id));
            let port = other.get("port").and_then(|port| port.parse().ok());
            if let (false, Some(host), Some(port)) = (is_known, other.get("ip"), port) {
                let _ = strangers.send((Node { host: host.clone(), port }, false));
            }
        }
        Ok(())
    }
}

/// Whether a message of a sentinel says that a replica of this primary is about to be promoted.
fn is_warning(push: &PushInfo, master: &str) -> bool {
    let text = |index: usize| match push.data.get(index) {
        Some(Value::BulkString(text)) => std::str::from_utf8(text).unwrap_or_default(),
        _ => "",
    };
    // About the primary, or about a replica `@` it.
    push.kind == PushKind::Message && WARNINGS.contains(&text(0)) && text(1).split(' ').any(|word| word == master)
}

fn report_of(at: Instant, master: &HashMap<String, String>, address: Option<(String, u16)>) -> Report {
    let number = |name: &str| master.get(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    Report {
        at,
        primary: address.map(|(host, port)| Node { host, port }),
        epoch: number("config-epoch"),
        is_replacing: master.get("failover-state").is_some_and(|state| REPLACING.contains(&state.as_str())),
        others: usize::try_from(number("num-other-sentinels")).unwrap_or(0),
    }
}

impl Heard {
    /// Takes a sentinel's report. A warning that came after it was asked for goes on: the answer may be from before that.
    fn take(&mut self, id: &str, mut report: Report) {
        let warned = self.reports.get(id).is_some_and(|last| last.is_replacing && last.at > report.at);
        report.is_replacing |= warned;
        self.reports.insert(id.to_owned(), report);
    }

    /// The conclusion from the reports since an instant.
    fn sum(&self, since: Instant) -> Sum {
        let fresh: Vec<&Report> = self.reports.values().filter(|report| report.at >= since).collect();
        let all = fresh.iter().map(|report| report.others + 1).max().unwrap_or(0).max(fresh.len());
        let newest = fresh.iter().filter(|report| report.primary.is_some()).map(|report| report.epoch).max();
        let mut votes: BTreeMap<(&str, u16), (usize, &Node)> = BTreeMap::new();
        for report in fresh.iter().filter(|report| Some(report.epoch) == newest) {
            if let Some(node) = &report.primary {
                votes.entry((&node.host, node.port)).or_insert((0, node)).0 += 1;
            }
        }
        let elected = votes.into_values().max_by_key(|(count, _)| *count);
        let primary = elected.map(|(_, node)| node.clone());
        Sum {
            is_replacing: fresh.iter().any(|report| report.is_replacing),
            agreeing: fresh.iter().filter(|report| report.primary.is_some() && report.primary == primary).count(),
            primary,
            all,
        }
    }

    /// Whether everyone who was heard lately has answered since an instant.
    fn all_answered(&self, since: Instant) -> bool {
        let lately = since.checked_sub(FRESH).unwrap_or(since);
        self.reports.values().filter(|report| report.at >= lately).all(|report| report.at >= since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(port: u16) -> Node {
        Node { host: "h".into(), port }
    }

    fn heard(reports: &[(u16, u64, bool)]) -> Heard {
        let report = |(id, (port, epoch, is_replacing)): (usize, &(u16, u64, bool))| {
            let primary = Some(node(*port));
            (
                id.to_string(),
                Report { at: Instant::now(), primary, epoch: *epoch, is_replacing: *is_replacing, others: 2 },
            )
        };
        Heard { reports: reports.iter().enumerate().map(report).collect(), ..Heard::default() }
    }

    fn sum(reports: &[(u16, u64, bool)]) -> (Option<u16>, bool, usize) {
        let now = Instant::now();
        let sum = heard(reports).sum(now.checked_sub(FRESH).unwrap_or(now));
        assert_eq!(sum.all, 3);
        (sum.primary.map(|node| node.port), sum.is_replacing, sum.agreeing)
    }

    #[test]
    fn the_newest_configuration_names_the_primary() {
        assert_eq!(sum(&[(1, 0, false), (1, 0, false), (1, 0, false)]), (Some(1), false, 3));
        // The one that did the failover says it first.
        assert_eq!(sum(&[(1, 0, false), (2, 1, false), (1, 0, false)]), (Some(2), false, 1));
        // One that was away does not know it yet.
        assert_eq!(sum(&[(2, 1, false), (2, 1, false), (1, 0, false)]), (Some(2), false, 2));
        // Within one configuration most are right.
        assert_eq!(sum(&[(1, 0, false), (2, 0, false), (2, 0, false)]), (Some(2), false, 2));
        assert_eq!(sum(&[(1, 3, false)]), (Some(1), false, 1));
    }

    #[test]
    fn a_failover_is_one_whoever_does_it() {
        assert_eq!(sum(&[(1, 0, false), (1, 0, true), (1, 0, false)]), (Some(1), true, 3));
    }

    #[test]
    fn only_what_was_said_lately_counts() {
        let heard = heard(&[(1, 0, true), (1, 0, false), (1, 0, false)]);
        let later = Instant::now() + Duration::from_millis(1);
        assert_eq!(heard.sum(later), Sum { primary: None, is_replacing: false, agreeing: 0, all: 0 });
        assert!(!heard.all_answered(later));
    }

    #[test]
    fn a_report_is_read_from_what_a_sentinel_answers() {
        let master = |state: &[(&str, &str)]| {
            let fields = [("config-epoch", "7"), ("num-other-sentinels", "2")];
            fields.iter().chain(state).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let at = Instant::now();
        let report = report_of(at, &master(&[]), Some(("h".into(), 1)));
        assert_eq!((report.primary, report.epoch, report.is_replacing, report.others), (Some(node(1)), 7, false, 2));
        for (state, expected) in
            [("wait_start", false), ("select_slave", true), ("wait_promotion", true), ("reconf_slaves", false)]
        {
            assert_eq!(report_of(at, &master(&[("failover-state", state)]), None).is_replacing, expected, "{state}");
        }
    }

    #[test]
    fn a_warning_is_of_this_primary() {
        let push = |channel: &str, text: &str| {
            let data = [channel, text].map(|text| Value::BulkString(text.into())).to_vec();
            is_warning(&PushInfo { kind: PushKind::Message, data }, "main")
        };
        assert!(push("+try-failover", "master main 127.0.0.1 6379"));
        assert!(push("+selected-slave", "slave 127.0.0.1:6380 127.0.0.1 6380 @ main 127.0.0.1 6379"));
        assert!(!push("+try-failover", "master other 127.0.0.1 6379"));
        assert!(!push("+promoted-slave", "slave 127.0.0.1:6380 127.0.0.1 6380 @ main 127.0.0.1 6379"));
    }
}
