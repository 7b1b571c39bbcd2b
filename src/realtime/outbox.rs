//! The way to one socket. Packets are sent in the order in which they were queued, or not at all.
//!
//! The library queues packets, each with a copy of its payload, and tells only whether a queue is full. This bounds the
//! bytes of the waiting packets, too. A socket that could not take one packet gets no later one: it is closed, and its
//! client comes back and asks for what it missed.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Poll;

use axum::http::header;
use futures_util::task::AtomicWaker;
use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide::extract::AckSender;
use socketioxide::handler::FromMessageParts;
use socketioxide::socket::Socket;
use socketioxide::{SendError, SocketError, TransportType};
use socketioxide_core::Value;
use tokio::sync::Notify;

use super::MAX_EVENT_BYTES;
use super::emitter::Arguments;
use crate::domain::event::to_raw_json;
use crate::net::connection::{ConnectionHandle, Connections};

/// The most packets that may wait for one socket: a replay of a whole log, and some more. Each takes 250 bytes besides
/// its payload.
pub(super) const OUTBOX_PACKETS: usize = 1_152;

/// The most bytes that may wait for one socket, besides its largest packet and the bytes in the kernel. So a client that
/// does not read costs less than 1 MiB, including the packets' own memory and the library's write buffer. One packet may be
/// larger, such as the board of a day with much data: a client that is closed because of it would come back for the same
/// board.
const OUTBOX_BYTES: u64 = 384 * 1024;

/// With this many waiting bytes the socket's own events wait. So a client that sends much but reads on is slowed down
/// before it has left too many answers unread.
const CROWDED_BYTES: u64 = 16 * 1024;

/// The most bytes of missed events that a socket is sent at once. If there are more, it gets a snapshot.
pub(super) const REPLAY_BYTES: usize = 336 * 1024;

/// With this many waiting bytes notifications stay in the store. Together with the largest notification and the longest
/// replay, they do not exceed the bound.
pub(super) const NOTIFICATION_BYTES: usize = 32 * 1024;

/// With this many waiting packets notifications stay in the store, so that a replay of a whole log has room.
const NOTIFICATION_PACKETS: u64 = 96;

/// The bytes of an event's packet besides its name and payload: `42["",]`.
const EVENT_FRAMING: usize = 7;

/// The bytes of an answer's packet besides its number and payload: `43[]`.
const ANSWER_FRAMING: usize = 4;

/// The separator of packets in an answer to a poll.
const POLLED_SEPARATOR: u8 = 0x1e;

/// The outcome of sending a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The packet waits for the client to read it.
    Queued,
    /// The client reads too slowly. This is answered once. Nothing is sent from then on.
    TooSlow,
    /// The socket is gone, or was given up earlier.
    Gone,
}

/// The library's socket, its connection, and the packets that wait between the two.
pub(super) struct Outbox {
    /// Weak, because the library's socket holds the session through its handlers, and the session holds this.
    socket: Weak<Socket>,
    engine_id: String,
    connections: Connections,
    websocket: OnceLock<ConnectionHandle>,
    /// All packets so far, and their bytes.
    queued_packets: AtomicU64,
    queued: AtomicU64,
    /// Bytes of the largest packet so far.
    largest: AtomicU64,
    /// The packets that left in answers to polls, and their bytes.
    polled_packets: AtomicU64,
    polled: AtomicU64,
    /// How many of these packets the client has confirmed by polling again.
    shown_by_polling: AtomicU64,
    /// Notified after each answer to a poll.
    has_polled: Notify,
    /// The waker of the one task that waits for progress.
    progress: AtomicWaker,
    /// Whether the client asks for an upgrade. It must poll the waiting packets first.
    is_to_upgrade: AtomicBool,
    /// Whether the client was allowed to begin its upgrade to a websocket.
    is_upgrading: AtomicBool,
    /// Whether the socket could not take a packet. Nothing more is sent, so that it never gets a later event without an
    /// earlier one.
    is_broken: AtomicBool,
}

impl Outbox {
    pub(super) fn new(socket: &Arc<Socket>, connections: Connections) -> Self {
        let outbox = Self {
            socket: Arc::downgrade(socket),
            engine_id: socket.id.to_string(),
            connections,
            websocket: OnceLock::new(),
            queued_packets: AtomicU64::new(0),
            queued: AtomicU64::new(0),
            largest: AtomicU64::new(0),
            polled_packets: AtomicU64::new(0),
            polled: AtomicU64::new(0),
            shown_by_polling: AtomicU64::new(0),
            has_polled: Notify::new(),
            progress: AtomicWaker::new(),
            is_to_upgrade: AtomicBool::new(false),
            is_upgrading: AtomicBool::new(false),
            is_broken: AtomicBool::new(false),
        };
        let request = socket.req_parts();
        // A proxy may send other clients' requests over a connection that carries polls, so that connection is not kept
        // here.
        let began_as_websocket = request.headers.contains_key(header::UPGRADE);
        if let Some(connection) = request.extensions.get::<ConnectionHandle>().filter(|_| began_as_websocket) {
            // The cell is empty, because nobody else has the outbox yet.
            let _ = outbox.websocket.set(connection.clone());
        }
        outbox
    }

    /// The Engine.IO session of the socket.
    pub(super) fn engine_id(&self) -> &str {
        &self.engine_id
    }

    /// Queues an event with ready JSON.
    pub(super) fn send_event(&self, event: &str, payload: &RawValue) -> Sent {
        self.queue(event.len() + payload.get().len() + EVENT_FRAMING, |socket| socket.emit(event, payload))
    }

    /// Queues an event with any number of arguments.
    pub(super) fn send_event_with(&self, event: &str, arguments: &Arguments) -> Sent {
        self.queue(event.len() + arguments.length() + EVENT_FRAMING, |socket| socket.emit(event, arguments))
    }

    /// Queues the answer to an event that asked for one.
    pub(super) fn send_answer(&self, id: i64, answer: &impl Serialize) -> Sent {
        let answer = to_raw_json(answer);
        let digits = id.checked_ilog10().unwrap_or_default() as usize + 1;
        self.queue(answer.get().len() + digits + ANSWER_FRAMING, |socket| {
            let Ok(ack) = AckSender::from_message_parts(socket, &mut Value::Str("".into(), None), &Some(id));
            ack.send(&answer)
        })
    }

    /// Queues a packet of `length` bytes.
    fn queue(&self, length: usize, send: impl FnOnce(&Arc<Socket>) -> Result<(), SendError>) -> Sent {
        if self.is_broken() {
            return Sent::Gone;
        }
        let Some(socket) = self.socket.upgrade() else { return Sent::Gone };
        let length = length as u64 + head_of_frame(length);
        let largest = self.largest.fetch_max(length, Ordering::Relaxed).max(length);
        self.queued_packets.fetch_add(1, Ordering::AcqRel);
        let queued = self.queued.fetch_add(length, Ordering::Relaxed) + length;
        if self.waiting_bytes(queued) > OUTBOX_BYTES + largest {
            return self.give_up();
        }
        match send(&socket) {
            Ok(()) => Sent::Queued,
            Err(SendError::Socket(SocketError::Closed)) => Sent::Gone,
            Err(SendError::Socket(SocketError::InternalChannelFull)) => self.give_up(),
            Err(SendError::Serialize(error)) => {
                tracing::error!(%error, "an event cannot be sent");
                Sent::Gone
            }
        }
    }

    /// How many of the queued bytes have not left yet. On a websocket this may be a little too low, because handshakes and
    /// pings leave too, and are not queued here.
    fn waiting_bytes(&self, queued: u64) -> u64 {
        let written = self.find_websocket().map_or(0, ConnectionHandle::written_bytes);
        queued.saturating_sub(written).saturating_sub(self.polled.load(Ordering::Relaxed))
    }

    /// Whether a missed event of this many bytes fits beside the waiting packets, with some room left for new events.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.waiting_bytes(self.queued.load(Ordering::Relaxed)) + bytes as u64 <= REPLAY_BYTES as u64
    }

    /// Whether the client must read before its next event is handled; `false` if the client will not come back. It is
    /// always `false` for a polling client, which may not poll for the waiting packets before its own packets were
    /// taken. A websocket that reads nothing is closed.
    pub(super) fn is_crowded(&self) -> bool {
        self.waiting_bytes(self.queued.load(Ordering::Relaxed)) > CROWDED_BYTES
            && !self.is_broken()
            && self.socket.upgrade().is_some_and(|socket| socket.connected() && is_on_websocket(&socket))
    }

    /// Notes the packets that left in the answer to a poll, as the library joins them.
    pub(super) fn note_polled(&self, answer: &[u8]) {
        let packets = answer.split(|byte| *byte == POLLED_SEPARATOR);
        // Only events and answers count, because no other packets are queued here.
        for packet in packets.filter(|packet| packet.starts_with(b"42") || packet.starts_with(b"43")) {
            self.polled.fetch_add(packet.len() as u64 + head_of_frame(packet.len()), Ordering::Relaxed);
            self.polled_packets.fetch_add(1, Ordering::AcqRel);
        }
        self.has_polled.notify_waiters();
        self.tell_progress();
        let with_one_more = answer.len() as u64 + self.largest.load(Ordering::Relaxed);
        if self.is_upgrading() && with_one_more >= MAX_EVENT_BYTES as u64 && self.has_waiting() {
            // The library keeps a packet for the next poll if this answer had no room. Now it keeps none.
            self.close();
        }
    }

    /// Resolves once polls have taken all waiting packets. From then on the client is upgrading. The library keeps a packet
    /// for the next poll if one poll could not take it, and an upgrade would lose that packet.
    pub(super) async fn begin_upgrade(&self) {
        let _asks = AsksForUpgrade::begin(self);
        loop {
            let polled = self.has_polled.notified();
            if !self.has_waiting() {
                self.is_upgrading.store(true, Ordering::Release);
                return;
            }
            polled.await;
        }
    }

    /// Notes that the client keeps polling.
    pub(super) fn abandon_upgrade(&self) {
        self.is_upgrading.store(false, Ordering::Release);
    }

    /// Whether an upgrade has begun and not ended. Its end shows that the client has what it polled before.
    pub(super) fn is_changing_transport(&self) -> bool {
        self.is_upgrading.load(Ordering::Acquire) && !self.is_on_websocket()
    }

    /// Whether one more notification may wait for the client. None may while the client polls the waiting packets for its
    /// upgrade, because the polling would never end.
    pub(super) fn has_room_to_notify(&self) -> bool {
        let waiting = self.waiting_bytes(self.queued.load(Ordering::Relaxed));
        let packets = self.last_place().saturating_sub(self.left_packets());
        waiting < NOTIFICATION_BYTES as u64
            && packets < NOTIFICATION_PACKETS
            && !self.is_broken()
            && !self.is_to_upgrade.load(Ordering::Acquire)
    }

    /// The place of the packet that was queued last, counted from 1. If another packet is being queued at the same time,
    /// this may be its place.
    pub(super) fn last_place(&self) -> u64 {
        self.queued_packets.load(Ordering::Acquire)
    }

    /// How many packets have left for the client, in answers to polls or over its websocket.
    pub(super) fn left_packets(&self) -> u64 {
        let over_websocket = self.find_websocket().map_or(0, ConnectionHandle::left_packets);
        self.polled_packets.load(Ordering::Acquire) + over_websocket
    }

    /// How many packets the client has confirmed.
    pub(super) fn shown_packets(&self) -> u64 {
        match self.find_websocket().filter(|_| self.is_on_websocket()) {
            // The client ends its polling before it ends its upgrade, so it has everything that was polled.
            Some(websocket) => self.polled_packets.load(Ordering::Acquire) + websocket.shown_packets(),
            None => self.shown_by_polling.load(Ordering::Acquire),
        }
    }

    /// Asks a websocket's client to confirm all packets up to a place. A polling client confirms by polling again.
    pub(super) fn ask_shown(&self, place: u64) {
        if let Some(websocket) = self.find_websocket().filter(|_| self.is_on_websocket()) {
            websocket.ask_shown(place.saturating_sub(self.polled_packets.load(Ordering::Acquire)));
        }
    }

    /// Notes that the client polls again, which confirms what its earlier polls brought.
    pub(super) fn note_poll_begins(&self) {
        let polled = self.polled_packets.load(Ordering::Acquire);
        self.shown_by_polling.store(polled, Ordering::Release);
        self.tell_progress();
    }

    /// Resolves when `is_enough` answers `true`; see [`super::session::Session::progress`].
    pub(super) async fn progress(&self, mut is_enough: impl FnMut() -> bool) {
        poll_fn(|cx| {
            // The waiter registers before it asks, so that a change in between wakes it.
            self.progress.register(cx.waker());
            if let Some(websocket) = self.find_websocket() {
                websocket.register_progress(cx.waker());
            }
            if is_enough() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Wakes the task that waits for progress.
    pub(super) fn tell_progress(&self) {
        self.progress.wake();
    }

    fn is_on_websocket(&self) -> bool {
        self.socket.upgrade().is_some_and(|socket| is_on_websocket(&socket))
    }

    fn has_waiting(&self) -> bool {
        self.queued_packets.load(Ordering::Acquire) > self.polled_packets.load(Ordering::Acquire)
    }

    fn is_upgrading(&self) -> bool {
        self.is_upgrading.load(Ordering::Acquire) || self.find_websocket().is_some()
    }

    fn give_up(&self) -> Sent {
        if self.close() { Sent::TooSlow } else { Sent::Gone }
    }

    /// Closes the socket at once, so that its client comes back and starts anew. Answers `false` if it was closed before. A
    /// polling client learns of it at its next request.
    pub(super) fn close(&self) -> bool {
        let is_first = !self.is_broken.swap(true, Ordering::AcqRel);
        if is_first && let Some(connection) = self.connection() {
            connection.kill();
        }
        is_first
    }

    /// Whether an event to the socket was lost.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    /// Leaves the namespace. Answers `false` if there is no room to tell the client.
    pub(super) fn disconnect(&self) -> bool {
        self.socket.upgrade().is_none_or(|socket| socket.disconnect().is_ok())
    }

    /// The TCP connection of its websocket, or of the websocket to which it is being upgraded; `None` while it polls.
    pub(super) fn connection(&self) -> Option<ConnectionHandle> {
        self.find_websocket().cloned()
    }

    /// The TCP connection of its websocket, once packets come and go there. The client ends an upgrade over this
    /// connection, so it must be read until then.
    pub(super) fn websocket(&self) -> Option<ConnectionHandle> {
        self.socket.upgrade().filter(|socket| is_on_websocket(socket)).and_then(|_| self.connection())
    }

    fn find_websocket(&self) -> Option<&ConnectionHandle> {
        if self.websocket.get().is_none()
            && let Some(connection) = self.connections.upgraded(&self.engine_id)
        {
            // If two tasks find the upgrade at once, both find the same connection.
            let _ = self.websocket.set(connection);
        }
        self.websocket.get()
    }
}

/// Marks, while it lives, that a polling client waits to be upgraded.
struct AsksForUpgrade<'a>(&'a Outbox);

impl<'a> AsksForUpgrade<'a> {
    fn begin(outbox: &'a Outbox) -> Self {
        outbox.is_to_upgrade.store(true, Ordering::Release);
        Self(outbox)
    }
}

impl Drop for AsksForUpgrade<'_> {
    fn drop(&mut self) {
        self.0.is_to_upgrade.store(false, Ordering::Release);
        self.0.tell_progress();
    }
}

fn is_on_websocket(socket: &Socket) -> bool {
    socket.transport_type() == TransportType::Websocket
}

/// The length of the head of a server's websocket frame.
fn head_of_frame(payload: usize) -> u64 {
    match payload {
        0..=125 => 2,
        126..=65_535 => 4,
        _ => 10,
    }
}
