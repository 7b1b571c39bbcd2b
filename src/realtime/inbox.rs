//! The events of one socket, in the order in which they were sent.
//!
//! The library starts a task for each event, in no order and without bound. This queue takes the event in the library's
//! own call. A full queue stops the reading of the connection until it has room again: TCP holds the client back, and
//! nothing is lost. No task waits while a socket is idle; `worker` has the task that handles queued events.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::{Mutex, MutexGuard};
use socketioxide_core::Value;
use tokio::sync::Notify;

use crate::net::connection::ConnectionHandle;

/// With this many waiting events the connection is no longer read.
const HIGH: usize = 64;

/// With this many bytes of waiting events the connection is no longer read. The largest event has as many.
const HIGH_BYTES: usize = 64 * 1024;

/// The connection is read again once at most this many events wait.
const LOW: usize = 16;

/// The connection is read again once the waiting events have at most this many bytes.
const LOW_BYTES: usize = 16 * 1024;

/// How many events a socket may send at once before its rate limits it.
const BURST: u32 = 512;

/// An event as the library passes it on.
pub(super) struct Incoming {
    /// The JSON array of name and arguments, with attachments if the client sent any.
    pub value: Value,
    /// The id of the acknowledgement that the client waits for. The library's sender is not kept: it holds the socket,
    /// which holds this queue.
    pub ack_id: Option<i64>,
}

/// Something that can wait in the queue.
pub(super) trait Weighed {
    /// Its length in bytes.
    fn bytes(&self) -> usize;
}

impl Weighed for Incoming {
    fn bytes(&self) -> usize {
        match &self.value {
            // Attachments are refused before they get here.
            Value::Str(text, _) => text.len(),
            Value::Bytes(bytes) => bytes.len(),
        }
    }
}

/// A connection that is not read while the queue is full.
pub(super) trait Source {
    /// Reads no more from the client.
    fn pause(&self);

    /// Reads again.
    fn resume(&self);
}

impl Source for ConnectionHandle {
    fn pause(&self) {
        self.pause_reading();
    }

    fn resume(&self) {
        self.resume_reading();
    }
}

/// The queue of one socket.
pub(super) struct Inbox<T = Incoming, S: Source = ConnectionHandle> {
    rate: Option<DefaultDirectRateLimiter>,
    has_room: Notify,
    /// Held for a queue access only, never across an await.
    queue: Mutex<Queue<T, S>>,
}

struct Queue<T, S> {
    waiting: VecDeque<T>,
    /// The bytes of all waiting events.
    bytes: usize,
    /// Whether the session is confirmed. Events that come earlier wait.
    is_open: bool,
    is_running: bool,
    /// Whether the queue is full: from [`HIGH`] or [`HIGH_BYTES`] on, until [`LOW`] and [`LOW_BYTES`].
    is_full: bool,
    /// The connection that is not read while the queue is full.
    paused: Option<S>,
}

impl<T: Weighed, S: Source> Inbox<T, S> {
    pub(super) fn new(events_per_second: Option<NonZeroU32>) -> Self {
        let burst = NonZeroU32::new(BURST).unwrap_or(NonZeroU32::MAX);
        let rate =
            events_per_second.map(|rate| RateLimiter::direct(Quota::per_second(rate).allow_burst(burst.max(rate))));
        Self { rate, has_room: Notify::new(), queue: Mutex::default() }
    }

    /// Counts an event, and answers whether the socket keeps within its rate.
    pub(super) fn admits_event(&self) -> bool {
        self.rate.as_ref().is_none_or(|rate| rate.check().is_ok())
    }

    /// Queues an event. A full queue pauses `source`, if there is one, until it has room. Answers whether the caller must
    /// start a worker.
    pub(super) fn push(&self, event: T, source: impl FnOnce() -> Option<S>) -> bool {
        let mut queue = self.lock();
        queue.bytes += event.bytes();
        queue.waiting.push_back(event);
        if queue.waiting.len() >= HIGH || queue.bytes >= HIGH_BYTES {
            queue.is_full = true;
            // The queue may have become full before the socket was upgraded, and so before it had a source.
            if queue.paused.is_none() {
                queue.paused = source();
                queue.paused.iter().for_each(Source::pause);
            }
        }
        queue.starts()
    }

    /// Lets events be handled, the waiting ones and all later ones. Answers whether the caller must start a worker.
    pub(super) fn open(&self) -> bool {
        let mut queue = self.lock();
        queue.is_open = true;
        queue.starts()
    }

    /// The next event for the worker. `None` ends the worker, and the next event needs a new one.
    pub(super) fn pop(&self) -> Option<T> {
        let mut queue = self.lock();
        let next = queue.waiting.pop_front();
        queue.is_running = next.is_some();
        match &next {
            Some(event) => queue.bytes -= event.bytes(),
            // Most sockets send nothing for a long time, so the buffer is given back.
            None => queue.waiting = VecDeque::new(),
        }
        if queue.is_full && queue.waiting.len() <= LOW && queue.bytes <= LOW_BYTES {
            queue.is_full = false;
            self.has_room.notify_waiters();
            queue.paused.take().iter().for_each(Source::resume);
        }
        next
    }

    /// Resolves when the queue has room. A post of a polling client waits here, because it has no connection to pause.
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

    fn lock(&self) -> MutexGuard<'_, Queue<T, S>> {
        self.queue.lock()
    }
}

impl<T, S> Default for Queue<T, S> {
    fn default() -> Self {
        let waiting = VecDeque::new();
        Self { waiting, bytes: 0, is_open: false, is_running: false, is_full: false, paused: None }
    }
}

impl<T, S> Queue<T, S> {
    /// Whether a worker must be started. If so, it counts as running from now on.
    fn starts(&mut self) -> bool {
        let starts = self.is_open && !self.is_running && !self.waiting.is_empty();
        self.is_running |= starts;
        starts
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::FutureExt;

    use super::*;

    /// A connection that tells a test whether it is read.
    #[derive(Clone, Default)]
    struct Connection(Arc<AtomicBool>);

    impl Connection {
        fn is_paused(&self) -> bool {
            self.0.load(Ordering::Acquire)
        }
    }

    impl Source for Connection {
        fn pause(&self) {
            assert!(!self.0.swap(true, Ordering::AcqRel), "it is paused once");
        }

        fn resume(&self) {
            assert!(self.0.swap(false, Ordering::AcqRel), "it was paused");
        }
    }

    type TestInbox = Inbox<usize, Connection>;

    /// In tests, events from this number on have as many bytes. Smaller numbers have few bytes.
    const LARGE: usize = 1_000;

    impl Weighed for usize {
        fn bytes(&self) -> usize {
            if *self < LARGE { 1 } else { *self }
        }
    }

    #[test]
    fn events_wait_until_the_queue_is_open_and_one_worker_handles_them_in_order() {
        let (inbox, connection) = (TestInbox::new(None), Connection::default());
        for event in 1..=3 {
            assert!(!inbox.push(event, || Some(connection.clone())), "not open");
        }
        assert!(inbox.open(), "somebody has to handle what waits");
        assert!(!inbox.open(), "somebody does");
        assert_eq!(inbox.pop(), Some(1));
        assert!(!inbox.push(4, || Some(connection.clone())), "the worker takes it, too");
        assert_eq!([inbox.pop(), inbox.pop(), inbox.pop()], [Some(2), Some(3), Some(4)]);
        assert!(!inbox.push(5, || None), "the worker still handles the last one");
        assert_eq!([inbox.pop(), inbox.pop()], [Some(5), None]);
        assert!(inbox.push(6, || None), "the worker has ended");
        assert_eq!(inbox.left(), 1);
    }

    #[test]
    fn a_full_queue_pauses_the_connection_until_few_events_wait() {
        let (inbox, connection) = (TestInbox::new(None), Connection::default());
        inbox.open();
        for event in 1..HIGH {
            inbox.push(event, || panic!("there is room"));
        }
        inbox.push(HIGH, || Some(connection.clone()));
        assert!(connection.is_paused());
        // Events that were read before the pause still come.
        inbox.push(HIGH + 1, || panic!("it is paused already"));
        for event in 1..=HIGH - LOW {
            assert_eq!(inbox.pop(), Some(event));
            assert!(connection.is_paused(), "{} wait", inbox.left());
        }
        assert_eq!(inbox.pop(), Some(HIGH - LOW + 1));
        assert!(!connection.is_paused(), "{LOW} wait");
        // The queue is full again only once as many events wait again.
        for event in 0..HIGH - LOW {
            assert!(!connection.is_paused());
            inbox.push(event, || Some(connection.clone()));
        }
        assert!(connection.is_paused());
    }

    #[test]
    fn few_large_events_are_a_full_queue() {
        let (inbox, connection) = (TestInbox::new(None), Connection::default());
        inbox.open();
        inbox.push(HIGH_BYTES - LOW_BYTES, || panic!("there is room"));
        inbox.push(LOW_BYTES - LARGE, || panic!("there is room"));
        inbox.push(LARGE, || Some(connection.clone()));
        assert!(connection.is_paused());
        inbox.push(LARGE, || panic!("it is paused already"));
        inbox.pop();
        assert!(connection.is_paused(), "{} bytes wait", LOW_BYTES + LARGE);
        inbox.pop();
        assert!(!connection.is_paused());
        inbox.push(HIGH_BYTES, || Some(connection.clone()));
        assert!(connection.is_paused(), "the largest event fills the queue");
        while inbox.pop().is_some() {}
        assert!(!connection.is_paused());
        assert_eq!(inbox.lock().bytes, 0);
    }

    #[test]
    fn a_socket_that_polls_waits_for_room_and_its_websocket_is_paused_once_it_is_there() {
        let (inbox, connection) = (TestInbox::new(None), Connection::default());
        inbox.open();
        assert_eq!(inbox.wait_for_room().now_or_never(), Some(()));
        for event in 0..HIGH {
            inbox.push(event, || None);
        }
        assert_eq!(inbox.wait_for_room().now_or_never(), None, "its next poll waits");
        inbox.push(HIGH, || Some(connection.clone()));
        assert!(connection.is_paused(), "it was upgraded meanwhile");
        while inbox.left() > LOW as i64 {
            inbox.pop();
        }
        assert!(!connection.is_paused());
        assert_eq!(inbox.wait_for_room().now_or_never(), Some(()));
    }

    #[tokio::test]
    async fn whoever_waits_for_room_is_told() {
        let inbox = Arc::new(TestInbox::new(None));
        for event in 0..HIGH {
            inbox.push(event, || None);
        }
        let waiting = tokio::spawn({
            let inbox = inbox.clone();
            async move { inbox.wait_for_room().await }
        });
        tokio::task::yield_now().await;
        for _ in 0..HIGH - LOW {
            inbox.pop();
        }
        waiting.await.unwrap();
    }

    #[test]
    fn a_burst_is_admitted_and_then_the_rate_counts() {
        let inbox = TestInbox::new(NonZeroU32::new(1));
        assert!((0..BURST).all(|_| inbox.admits_event()));
        assert!(!inbox.admits_event());
        assert!((0..2 * BURST).all(|_| TestInbox::new(None).admits_event()));
    }
}
