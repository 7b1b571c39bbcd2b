//! Listens to one sentinel, and asks it questions.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, PushInfo, PushKind, RedisResult, ServerErrorKind, Value};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use super::Shared;
use super::reports::{FRESH, Report, report_of};
use crate::store::redis::endpoint::Node;

/// How often each sentinel is asked while all is well. Its events come at once.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How often each is asked while the primary is being replaced.
const ASK_OFTEN: Duration = Duration::from_millis(100);

/// The longest pause before a sentinel that cannot be reached is tried again.
const LAST_RETRY: Duration = Duration::from_secs(2);

/// The events that tell of a change, besides [`WARNINGS`].
const NEWS: &[&str] = &[
    "+switch-master",
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

/// The events after which a replica may be promoted at any moment. The end of the failover is found by asking.
const WARNINGS: &[&str] = &[
    "+try-failover",
    "+elected-leader",
    "+failover-state-select-slave",
    "+selected-slave",
    "+failover-state-send-slaveof-noone",
    "+failover-state-wait-promotion",
];

/// The state in which a sentinel asks the others for their votes. A planned failover leaves it at once; an unplanned one
/// waits for the votes, and may come to nothing.
const ASKING_FOR_VOTES: &str = "wait_start";

/// For this long the state counts as a planned failover.
const PLANNED: Duration = Duration::from_secs(1);

impl Shared {
    /// Listens to one sentinel: for ever if REDIS_URL names it, else until it cannot be reached.
    pub(super) async fn follow(
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
        subscribe(&mut connection, node).await;
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

    /// The sentinel's report, and whether it is asking the others for their votes for a failover.
    async fn ask(&self, connection: &mut MultiplexedConnection) -> RedisResult<(Report, bool)> {
        let mut question = redis::pipe();
        // The order matters: an address that is older than its epoch would count as the newest.
        question.cmd("SENTINEL").arg("MASTER").arg(&self.master);
        question.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master);
        let at = Instant::now();
        let (master, address): (HashMap<String, String>, Option<(String, u16)>) =
            question.query_async(connection).await?;
        let asks_for_votes = master.get("failover-state").is_some_and(|state| state == ASKING_FOR_VOTES);
        Ok((report_of(at, &master, address), asks_for_votes))
    }

    /// Starts to listen to the other sentinels that this one knows.
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

/// Subscribes to a sentinel's events. If that fails, the sentinel is only asked at intervals.
async fn subscribe(connection: &mut MultiplexedConnection, node: &Node) {
    for channel in WARNINGS.iter().chain(NEWS) {
        if let Err(error) = connection.subscribe(channel).await {
            tracing::warn!(sentinel = %node, %error, "cannot subscribe to the events of a sentinel");
            break;
        }
    }
}

/// Whether a sentinel's message says that a replica of this primary is about to be promoted.
fn is_warning(push: &PushInfo, master: &str) -> bool {
    let text = |index: usize| match push.data.get(index) {
        Some(Value::BulkString(text)) => std::str::from_utf8(text).unwrap_or_default(),
        _ => "",
    };
    // The message is about the primary itself, or, after `@`, about a replica of it.
    push.kind == PushKind::Message && WARNINGS.contains(&text(0)) && text(1).split(' ').any(|word| word == master)
}

#[cfg(test)]
mod tests {
    use super::*;

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
