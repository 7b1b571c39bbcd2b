//! Lets the events of a socket take effect, one after the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::inbox::Incoming;
use super::session::Session;
use super::{Realtime, events};

/// After how long the worker looks again whether a client reads on that leaves much unread: at first, and at most.
const CROWDED_PAUSE: Duration = Duration::from_millis(2);
const CROWDED_PAUSE_MAX: Duration = Duration::from_millis(64);

/// The longest that one event waits for its client to read. What the client leaves unread may come from other users'
/// acts.
const CROWDED_AT_MOST: Duration = Duration::from_secs(1);

/// Queues an event. Called by the library in the order of arrival; never waits.
pub(super) fn push(realtime: &Realtime, session: &Arc<Session>, incoming: Incoming) {
    realtime.app.metrics.queue_depth.inc();
    // A socket that polls has no websocket. Its next post waits instead.
    if session.inbox.push(incoming, || session.websocket()) {
        start(realtime, session);
    }
}

/// Lets events take effect, those that wait and all that come.
pub(super) fn open(realtime: &Realtime, session: &Arc<Session>) {
    if session.inbox.open() {
        start(realtime, session);
    }
}

fn start(realtime: &Realtime, session: &Arc<Session>) {
    tokio::spawn(drain(realtime.clone(), session.clone()));
}

async fn drain(realtime: Realtime, session: Arc<Session>) {
    let _guard = CloseOnPanic(session.clone());
    while let Some(incoming) = session.inbox.pop() {
        realtime.app.metrics.queue_depth.dec();
        wait_for_reader(&session).await;
        events::handle(&realtime, &session, incoming).await;
    }
}

/// Gives a client that leaves much unread the time to read on.
async fn wait_for_reader(session: &Session) {
    let until = Instant::now() + CROWDED_AT_MOST;
    let mut pause = CROWDED_PAUSE;
    while session.is_crowded() && Instant::now() < until {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(CROWDED_PAUSE_MAX);
    }
}

/// Closes a session whose task panicked, since nothing goes on with the task's work.
pub(super) struct CloseOnPanic(pub(super) Arc<Session>);

impl Drop for CloseOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close_to_start_anew();
        }
    }
}
