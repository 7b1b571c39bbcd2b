//! One connected socket.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide::socket::Socket;

use super::cursor::Cursor;
use super::emitter::Arguments;
use super::inbox::Inbox;
use super::outbox::{Outbox, REPLAY_BYTES, Sent};
use crate::app::App;
use crate::auth::Claims;
use crate::domain::event::to_raw_json;
use crate::domain::refusal::echo;
use crate::domain::{Refusal, ServerEvent, SpaceKey, StoreTime, UserId};
use crate::feed::{Member, MemberId};
use crate::net::connection::{ConnectionHandle, Connections};
use crate::store::{LOG_LENGTH, UserMessage};
use crate::telemetry::users::logged;

/// How many missed events a socket is sent at once: a whole log.
const REPLAYED_AT_ONCE: NonZeroU32 = NonZeroU32::new(LOG_LENGTH as u32).unwrap();

/// How many more missed events it may be sent each second after that.
const REPLAYED_PER_SECOND: NonZeroU32 = NonZeroU32::new(100).unwrap();

/// One socket: its user, its rooms, and its outbox.
pub struct Session {
    id: MemberId,
    user: UserId,
    /// Weak, because the library's socket holds the session through its handlers.
    socket: Weak<Socket>,
    outbox: Outbox,
    app: Arc<App>,
    pub(super) inbox: Inbox,
    pub(super) cursor: Cursor,
    /// Limits the missed events that it is sent. Several long replays at once would find no room in its queue. A socket
    /// that is closed for that reason comes back and asks for the same replays.
    replays: DefaultDirectRateLimiter,
    /// The store's time at which it connected, as far as this node knew it. It may be a little too early, but never too
    /// late.
    connected_at: StoreTime,
    has_ended: AtomicBool,
    watches_stats: AtomicBool,
    /// Held for a read or a change only, never across an await.
    state: Mutex<State>,
}

struct State {
    claims: Arc<Claims>,
    spaces: HashSet<SpaceKey>,
}

impl Session {
    pub(super) fn new(
        id: MemberId,
        socket: &Arc<Socket>,
        claims: Claims,
        connections: Connections,
        app: Arc<App>,
    ) -> Self {
        Self {
            id,
            user: claims.user.clone(),
            socket: Arc::downgrade(socket),
            outbox: Outbox::new(socket, connections),
            inbox: Inbox::new(app.config.limits.event_rate),
            connected_at: app.clock.now(),
            app,
            cursor: Cursor::new(),
            replays: RateLimiter::direct(Quota::per_second(REPLAYED_PER_SECOND).allow_burst(REPLAYED_AT_ONCE)),
            has_ended: AtomicBool::new(false),
            watches_stats: AtomicBool::new(false),
            state: Mutex::new(State { claims: Arc::new(claims), spaces: HashSet::new() }),
        }
    }

    /// Its name within this node, which logs may show.
    pub fn id(&self) -> MemberId {
        self.id
    }

    /// Its user, who never changes.
    pub fn user(&self) -> &UserId {
        &self.user
    }

    /// Whether the session is a guest's, which has no token and may only watch.
    pub fn is_guest(&self) -> bool {
        self.user.is_guest()
    }

    /// Whether a message to everyone is meant for this socket. Guests hear of freed slots only.
    pub(super) fn hears_broadcast(&self, event: &str) -> bool {
        !self.is_guest() || event == "slots_freed"
    }

    pub(super) fn engine_id(&self) -> &str {
        self.outbox.engine_id()
    }

    /// The claims of its present token.
    pub fn claims(&self) -> Arc<Claims> {
        self.lock().claims.clone()
    }

    pub(super) fn set_claims(&self, claims: Claims) {
        self.lock().claims = Arc::new(claims);
    }

    /// Whether it is in the room of a space.
    pub fn is_in(&self, space: SpaceKey) -> bool {
        self.lock().spaces.contains(&space)
    }

    /// Notes that it joins a room. Answers `false` if it is in `max` other rooms.
    pub(super) fn enter(&self, space: SpaceKey, max: usize) -> bool {
        let mut state = self.lock();
        if !state.spaces.contains(&space) && state.spaces.len() >= max {
            return false;
        }
        state.spaces.insert(space);
        true
    }

    pub(super) fn exit(&self, space: SpaceKey) -> bool {
        self.lock().spaces.remove(&space)
    }

    pub(super) fn spaces(&self) -> Vec<SpaceKey> {
        self.lock().spaces.iter().copied().collect()
    }

    /// Sends an event with ready JSON, and counts it. Answers `false` if the event could not be queued.
    pub fn emit(&self, event: &str, payload: &RawValue) -> bool {
        let is_queued = self.push(event, payload);
        if is_queued {
            self.app.metrics.count_event_out(event, 1);
        }
        is_queued
    }

    /// Like [`Self::emit`], with any number of arguments.
    pub(super) fn emit_all(&self, event: &str, arguments: &Arguments) -> bool {
        let is_queued = self.note(self.outbox.send_event_with(event, arguments));
        if is_queued {
            self.app.metrics.count_event_out(event, 1);
        }
        is_queued
    }

    /// Whether the client must read before its next event is handled.
    pub(super) fn is_crowded(&self) -> bool {
        self.outbox.is_crowded()
    }

    fn push(&self, event: &str, payload: &RawValue) -> bool {
        self.note(self.outbox.send_event(event, payload))
    }

    /// Acknowledges an event.
    pub(super) fn acknowledge(&self, id: i64, answer: &impl Serialize) {
        self.note(self.outbox.send_answer(id, answer));
    }

    fn note(&self, sent: Sent) -> bool {
        if sent == Sent::TooSlow {
            self.note_too_slow();
        }
        sent == Sent::Queued
    }

    /// Sends `space_error`.
    pub(super) fn emit_error(&self, event: &str, refusal: &Refusal) {
        #[derive(Serialize)]
        struct SpaceError<'a> {
            event: &'a str,
            code: &'static str,
            message: &'a str,
            detail: &'a str,
        }
        let Refusal { code, message, detail, .. } = refusal;
        let error = SpaceError { event: &echo(event), code: code.as_str(), message, detail };
        self.emit(ServerEvent::SpaceError.as_str(), &to_raw_json(&error));
    }

    fn note_too_slow(&self) {
        self.app.metrics.slow_clients_closed.inc();
        tracing::info!(
            user.id = %logged(&self.user), session = self.id,
            "closed a session: its client does not read what it is sent"
        );
    }

    /// Leaves the namespace, after which the client does not come back by itself. Do this only if the token has ended, or
    /// the user is to be disconnected.
    pub fn disconnect(&self) {
        if !self.outbox.disconnect() && self.outbox.close() {
            self.note_too_slow();
        }
    }

    /// The TCP connection of its websocket, or of the websocket to which it is being upgraded; `None` while it polls.
    pub(super) fn connection(&self) -> Option<ConnectionHandle> {
        self.outbox.connection()
    }

    /// The TCP connection of its websocket; `None` while it polls or is being upgraded.
    pub(super) fn websocket(&self) -> Option<ConnectionHandle> {
        self.outbox.websocket()
    }

    /// Notes the packets that left in the answer to a poll.
    pub(super) fn note_polled(&self, answer: &[u8]) {
        self.outbox.note_polled(answer);
    }

    /// Resolves when it may be upgraded to a websocket.
    pub(super) async fn begin_upgrade(&self) {
        self.outbox.begin_upgrade().await;
    }

    /// Whether it lost an event, and is about to be closed.
    pub(super) fn is_broken(&self) -> bool {
        self.outbox.is_broken()
    }

    /// Closes it at once. The client comes back by itself and starts anew.
    pub(super) fn close_to_start_anew(&self) {
        self.outbox.close();
    }

    /// Queues a notification. Answers its place among all queued packets, or `None` if it has to wait in the store.
    pub(super) fn notify(&self, message: &UserMessage) -> Option<u64> {
        if !self.outbox.has_room_to_notify() || !self.emit(&message.event, &message.data) {
            return None;
        }
        Some(self.outbox.last_place())
    }

    /// Whether one more notification may wait for the client.
    pub(super) fn has_room_to_notify(&self) -> bool {
        self.outbox.has_room_to_notify()
    }

    /// How many packets have left for the client.
    pub(super) fn left_packets(&self) -> u64 {
        self.outbox.left_packets()
    }

    /// How many packets the client has confirmed.
    pub(super) fn shown_packets(&self) -> u64 {
        self.outbox.shown_packets()
    }

    /// Asks the client to confirm that it has all packets up to a place.
    pub(super) fn ask_shown(&self, place: u64) {
        self.outbox.ask_shown(place);
    }

    /// Whether it is changing from polling to a websocket.
    pub(super) fn is_changing_transport(&self) -> bool {
        self.outbox.is_changing_transport()
    }

    /// Notes that the client polls again, which confirms what earlier polls brought.
    pub(super) fn note_poll_begins(&self) {
        self.outbox.note_poll_begins();
    }

    /// Resolves when `is_enough` answers `true`. It is called whenever a packet leaves or is confirmed, and after
    /// [`Self::tell_progress`]. One task at a time.
    pub(super) async fn progress(&self, is_enough: impl FnMut() -> bool) {
        self.outbox.progress(is_enough).await;
    }

    /// Wakes the task that waits for progress.
    pub(super) fn tell_progress(&self) {
        self.outbox.tell_progress();
    }

    /// Notes that its upgrade to a websocket was refused, and that it keeps polling.
    pub(super) fn abandon_upgrade(&self) {
        self.outbox.abandon_upgrade();
    }

    /// Notes that it has ended. Answers `false` if it had ended before.
    pub(super) fn end(&self) -> bool {
        let is_first = !self.has_ended.swap(true, Ordering::AcqRel);
        self.outbox.tell_progress();
        is_first
    }

    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Whether the library's socket is gone, or the connection of that socket.
    pub(super) fn is_without_socket(&self) -> bool {
        self.socket.strong_count() == 0 || self.outbox.connection().is_some_and(|connection| connection.is_closed())
    }

    pub(super) fn connected_before(&self, instant: StoreTime) -> bool {
        self.connected_at <= instant
    }

    pub(super) fn set_watches_stats(&self) {
        self.watches_stats.store(true, Ordering::Release);
    }

    pub(super) fn watches_stats(&self) -> bool {
        self.watches_stats.load(Ordering::Acquire) && self.claims().is_staff_everywhere()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // If the session was never let in, the events that came meanwhile still count as queued.
        self.app.metrics.queue_depth.sub(self.inbox.left());
    }
}

impl Member for Session {
    fn id(&self) -> MemberId {
        self.id
    }

    fn user(&self) -> Option<&UserId> {
        Some(&self.user)
    }

    fn send(&self, event: &'static str, payload: &RawValue) {
        self.push(event, payload);
    }

    fn admits_replay(&self, events: usize, bytes: usize) -> bool {
        if bytes > REPLAY_BYTES {
            return false;
        }
        let Some(events) = u32::try_from(events).ok().and_then(NonZeroU32::new) else { return events == 0 };
        matches!(self.replays.check_n(events), Ok(Ok(())))
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.outbox.has_room(bytes)
    }

    fn abandon(&self) {
        self.close_to_start_anew();
    }
}
