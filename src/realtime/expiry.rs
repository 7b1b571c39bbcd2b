//! Tokens that end during a connection. The socket is warned before the end, and disconnected after it.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::StreamExt;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

use super::Realtime;
use crate::domain::event::to_raw_json;
use crate::domain::{ServerEvent, StoreTime};
use crate::feed::MemberId;
use crate::telemetry::users::logged;

/// How long before its token's end a socket is warned. A socket whose token ends sooner is warned at once.
const WARN_BEFORE: i64 = 60_000;

/// How long after the token's end its socket is disconnected.
const CLOSE_AFTER: i64 = 10_000;

/// The deadlines of all sockets, in one task.
pub(crate) struct Timers(mpsc::UnboundedSender<Told>);

/// A message to the task.
pub(super) enum Told {
    /// The token of a socket ends at the given time.
    Watch(MemberId, StoreTime),
    /// The socket has ended.
    Forget(MemberId),
}

#[derive(Clone, Copy)]
enum Stage {
    Warn,
    Close,
}

impl Stage {
    fn due(self, expires: StoreTime) -> StoreTime {
        match self {
            Stage::Warn => expires.plus_millis(-WARN_BEFORE),
            Stage::Close => expires.plus_millis(CLOSE_AFTER),
        }
    }
}

impl Timers {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Told>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Watches a socket's token. A newer token of the same socket replaces its deadlines.
    pub(super) fn watch(&self, session: MemberId, expires: StoreTime) {
        self.tell(Told::Watch(session, expires));
    }

    /// Stops watching a socket. Call this after the socket has left the sessions.
    pub(super) fn forget(&self, session: MemberId) {
        self.tell(Told::Forget(session));
    }

    fn tell(&self, told: Told) {
        // The send cannot fail: the task lives as long as the node.
        let _ = self.0.send(told);
    }
}

/// Acts at each deadline, as long as the node lives.
pub(super) async fn run(realtime: Realtime, mut told: mpsc::UnboundedReceiver<Told>) {
    let mut deadlines = Deadlines::default();
    loop {
        tokio::select! {
            Some(told) = told.recv() => match told {
                // A session that is missing here has ended, and `forget` removes its deadline.
                Told::Watch(session, expires) if realtime.sessions.get(session).is_some() => {
                    deadlines.set(session, expires, Stage::Warn);
                }
                Told::Watch(..) => {}
                Told::Forget(session) => deadlines.remove(session),
            },
            Some(due) = deadlines.queue.next(), if !deadlines.queue.is_empty() => {
                act(&realtime, due.into_inner(), &mut deadlines);
            }
        }
    }
}

/// The deadlines, at most one for each socket, so that refreshed tokens and returning sockets do not pile up.
#[derive(Default)]
struct Deadlines {
    queue: DelayQueue<Deadline>,
    keys: HashMap<MemberId, Key>,
}

#[derive(Clone, Copy)]
struct Deadline {
    session: MemberId,
    expires: StoreTime,
    stage: Stage,
}

impl Deadlines {
    fn set(&mut self, session: MemberId, expires: StoreTime, stage: Stage) {
        self.remove(session);
        let left = crate::clock::wall().until(stage.due(expires));
        let key = self.queue.insert(Deadline { session, expires, stage }, cap(left));
        self.keys.insert(session, key);
    }

    fn remove(&mut self, session: MemberId) {
        if let Some(key) = self.keys.remove(&session) {
            self.queue.try_remove(&key);
        }
    }
}

/// The queue's longest delay is about two years. A token that lives longer is checked again after that.
fn cap(delay: Duration) -> Duration {
    delay.min(Duration::from_secs(365 * 24 * 60 * 60))
}

fn act(realtime: &Realtime, deadline: Deadline, deadlines: &mut Deadlines) {
    let Deadline { session: id, expires, stage } = deadline;
    deadlines.keys.remove(&id);
    let Some(session) = realtime.sessions.get(id) else { return };
    if session.claims().expires != expires {
        // A newer token has come, and will set its own deadline.
        return;
    }
    let left = crate::clock::wall().until(stage.due(expires));
    if left > Duration::from_secs(1) {
        deadlines.set(id, expires, stage);
        return;
    }
    match stage {
        Stage::Warn => {
            session.emit(ServerEvent::TokenExpiring.as_str(), &token_expiring(expires));
            deadlines.set(id, expires, Stage::Close);
        }
        Stage::Close => {
            tracing::info!(
                user.id = %logged(session.user()), session = session.id(),
                "disconnected a session: its token has expired"
            );
            session.disconnect();
        }
    }
}

fn token_expiring(expires: StoreTime) -> Box<serde_json::value::RawValue> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct TokenExpiring {
        expires_at: String,
    }
    to_raw_json(&TokenExpiring { expires_at: expires.rfc3339() })
}
