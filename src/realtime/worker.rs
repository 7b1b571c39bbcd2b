//! Handles the events of a socket, one after the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::inbox::Incoming;
use super::session::Session;
use super::{Realtime, events};

/// The first and the longest pause before the worker checks again whether a client has read what waits for it.
const CROWDED_PAUSE: Duration = Duration::from_millis(2);
const CROWDED_PAUSE_MAX: Duration = Duration::from_millis(64);

/// The longest that one event waits for its client to read. The unread packets may come from other users' acts.
const CROWDED_AT_MOST: Duration = Duration::from_secs(1);

/// Queues an event. The library calls this in the order of arrival. It never waits.
pub(super) fn push(realtime: &Realtime, session: &Arc<Session>, incoming: Incoming) {
    realtime.app.metrics.queue_depth.inc();
    // A polling socket has no websocket to pause. Its next post waits instead.
    if session.inbox.push(incoming, || session.websocket()) {
        start(realtime, session);
    }
}

/// Lets events take effect, the waiting ones and all later ones.
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

/// Gives a client with many unread packets time to read.
async fn wait_for_reader(session: &Session) {
    let until = Instant::now() + CROWDED_AT_MOST;
    let mut pause = CROWDED_PAUSE;
    while session.is_crowded() && Instant::now() < until {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(CROWDED_PAUSE_MAX);
    }
}

/// Closes a session whose task panicked, because nothing continues the task's work.
pub(super) struct CloseOnPanic(pub(super) Arc<Session>);

impl Drop for CloseOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close_to_start_anew();
        }
    }
}
