//! Tokens that end while their socket is connected: a warning before, the end of the connection after.

use std::time::Duration;

use futures_util::StreamExt;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_util::time::DelayQueue;

use super::{Realtime, json};
use crate::domain::StoreTime;
use crate::feed::MemberId;

/// How long before its end a token's socket is warned; at once when less is left.
const WARN_BEFORE: i64 = 60_000;

/// How long after its end a token's socket is disconnected.
const CLOSE_AFTER: i64 = 10_000;

/// The deadlines of all sockets, in one task.
pub(crate) struct Timers(mpsc::UnboundedSender<Watched>);

/// A socket whose token ends.
#[derive(Clone, Copy)]
pub(super) struct Watched {
    session: MemberId,
    expires: StoreTime,
}

#[derive(Clone, Copy)]
enum Stage {
    Warn,
    Close,
}

impl Timers {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Watched>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Watches a socket's token. A newer token of the same socket makes the deadlines of the older one void.
    pub(super) fn watch(&self, session: MemberId, expires: StoreTime) {
        // The task lives as long as the node does.
        let _ = self.0.send(Watched { session, expires });
    }
}

/// Acts at each deadline; never returns while the node lives.
pub(super) async fn run(realtime: Realtime, mut watched: mpsc::UnboundedReceiver<Watched>) {
    let mut deadlines = DelayQueue::new();
    loop {
        tokio::select! {
            Some(new) = watched.recv() => {
                let now = crate::clock::wall();
                let warning = now.until(new.expires.plus_millis(-WARN_BEFORE));
                let closing = now.until(new.expires.plus_millis(CLOSE_AFTER));
                deadlines.insert((new, Stage::Warn), cap(warning));
                deadlines.insert((new, Stage::Close), cap(closing));
            }
            Some(due) = deadlines.next(), if !deadlines.is_empty() => {
                let (socket, stage) = due.into_inner();
                act(&realtime, socket, stage, &mut deadlines);
            }
        }
    }
}

/// The queue's longest delay is about two years; a token may live longer, and is looked at again then.
fn cap(delay: Duration) -> Duration {
    delay.min(Duration::from_secs(365 * 24 * 60 * 60))
}

fn act(realtime: &Realtime, socket: Watched, stage: Stage, deadlines: &mut DelayQueue<(Watched, Stage)>) {
    let Some(session) = realtime.0.sessions.get(socket.session) else { return };
    if session.claims().expires != socket.expires {
        return;
    }
    let due = match stage {
        Stage::Warn => socket.expires.plus_millis(-WARN_BEFORE),
        Stage::Close => socket.expires.plus_millis(CLOSE_AFTER),
    };
    let left = crate::clock::wall().until(due);
    if left > Duration::from_secs(1) {
        deadlines.insert((socket, stage), cap(left));
        return;
    }
    match stage {
        Stage::Warn => session.emit("token_expiring", &token_expiring(socket.expires)),
        Stage::Close => {
            tracing::info!(user.id = %session.user(), session = session.id(), "disconnected: its token has ended");
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
    json(&TokenExpiring { expires_at: expires.rfc3339() })
}
