//! The events of one socket, handled one after the other in the order in which they were sent.
//!
//! The library starts a task for each event, in no order and without bound. Here an event is queued in the library's
//! own call, and a full queue stops the reading of the connection until it has room again: TCP holds the client back,
//! and nothing is lost. No task waits while a socket is idle.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use socketioxide_core::Value;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::session::Session;
use super::{Realtime, events};
use crate::net::connection::ConnectionHandle;

/// How many events may wait before the connection is no longer read.
const HIGH: usize = 64;

/// How few must wait for the connection to be read again.
const LOW: usize = 16;

/// After how long it is looked again whether a client that leaves much unread reads on: at first, and at most.
const CROWDED_PAUSE: Duration = Duration::from_millis(2);
const CROWDED_PAUSE_MAX: Duration = Duration::from_millis(64);

/// The longest that one event waits for the client to read: what it leaves unread may be others' doing.
const CROWDED_AT_MOST: Duration = Duration::from_secs(1);

/// How many events a socket may send at once before its rate counts.
const BURST: u32 = 512;

/// An event as it came.
pub(super) struct Incoming {
    /// The JSON array of name and arguments, with attachments if the client sent any.
    pub value: Value,
    /// Which answer the client waits for, if any. Not the library's sender: that holds its socket, which holds this queue.
    pub ack_id: Option<i64>,
}

/// The queue of one socket.
pub(super) struct Inbox {
    rate: Option<DefaultDirectRateLimiter>,
    has_room: Notify,
    /// Held for a queue access only, never across an await.
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Incoming>,
    /// Events may come before the session is confirmed; they wait.
    is_open: bool,
    is_running: bool,
    /// From [`HIGH`] until [`LOW`].
    is_full: bool,
    /// The connection that is not read meanwhile.
    paused: Option<ConnectionHandle>,
}

impl Inbox {
    pub(super) fn new(events_per_second: Option<NonZeroU32>) -> Self {
        let burst = NonZeroU32::new(BURST).unwrap_or(NonZeroU32::MAX);
        let rate =
            events_per_second.map(|rate| RateLimiter::direct(Quota::per_second(rate).allow_burst(burst.max(rate))));
        Self { rate, has_room: Notify::new(), queue: Mutex::default() }
    }

    /// Whether the socket keeps within its rate with one more event.
    pub(super) fn admits_event(&self) -> bool {
        self.rate.as_ref().is_none_or(|rate| rate.check().is_ok())
    }

    /// Resolves when the queue has room: what came by polling waits here instead of at a connection.
    pub(super) async fn wait_for_room(&self) {
        loop {
            let room = self.has_room.notified();
            if !self.lock().is_full {
                return;
            }
            room.await;
        }
    }

    /// How many events wait.
    pub(super) fn left(&self) -> i64 {
        i64::try_from(self.lock().waiting.len()).unwrap_or(i64::MAX)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Queues an event. Called by the library in the order of arrival; never waits.
pub(super) fn push(realtime: &Realtime, session: &Arc<Session>, incoming: Incoming) {
    let mut queue = session.inbox.lock();
    queue.waiting.push_back(incoming);
    realtime.0.app.metrics.queue_depth.inc();
    if queue.waiting.len() >= HIGH {
        queue.is_full = true;
        if queue.paused.is_none() {
            // While it polls there is none: its next poll waits instead. It may have been upgraded since it got full.
            queue.paused = session.websocket();
            queue.paused.iter().for_each(ConnectionHandle::pause_reading);
        }
    }
    start_if_needed(realtime, session, &mut queue);
}

/// Lets events take effect: those that wait, and all that come.
pub(super) fn open(realtime: &Realtime, session: &Arc<Session>) {
    let mut queue = session.inbox.lock();
    queue.is_open = true;
    start_if_needed(realtime, session, &mut queue);
}

fn start_if_needed(realtime: &Realtime, session: &Arc<Session>, queue: &mut Queue) {
    if queue.is_open && !queue.is_running && !queue.waiting.is_empty() {
        queue.is_running = true;
        tokio::spawn(drain(realtime.clone(), session.clone()));
    }
}

async fn drain(realtime: Realtime, session: Arc<Session>) {
    let _guard = CloseOnPanic(session.clone());
    while let Some(incoming) = pop(&session) {
        realtime.0.app.metrics.queue_depth.dec();
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

/// Nobody goes on with what a task did for a session that made this node panic.
pub(super) struct CloseOnPanic(pub(super) Arc<Session>);

impl Drop for CloseOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.close_to_start_anew();
        }
    }
}

fn pop(session: &Session) -> Option<Incoming> {
    let mut queue = session.inbox.lock();
    let next = queue.waiting.pop_front();
    queue.is_running = next.is_some();
    if next.is_none() {
        // Most sockets say nothing again for a long time.
        queue.waiting = VecDeque::new();
    }
    if queue.is_full && queue.waiting.len() <= LOW {
        queue.is_full = false;
        session.inbox.has_room.notify_waiters();
        queue.paused.take().iter().for_each(ConnectionHandle::resume_reading);
    }
    next
}
