//! The way to one socket: what is queued for it is sent in order, or not at all.
//!
//! The library queues packets, each with a copy of its payload, and says no more than whether a queue is full. What waits
//! is bounded in bytes too, and a socket that could not take one packet gets none of the later ones: it is closed, comes
//! back, and asks for what it missed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use axum::http::header;
use serde::Serialize;
use serde_json::value::RawValue;
use socketioxide::extract::AckSender;
use socketioxide::handler::FromMessageParts;
use socketioxide::socket::Socket;
use socketioxide::{SendError, SocketError};
use socketioxide_core::Value;

use crate::net::connection::{ConnectionHandle, Connections};

/// Packets that may wait for one socket: a replay of a whole log, and some.
pub(super) const OUTBOX_PACKETS: usize = 1_280;

/// Bytes that may wait for one socket, besides what the kernel holds.
const OUTBOX_BYTES: u64 = 768 * 1024;

/// What an event's packet has besides its name and payload: `42["",]` and the frame's head.
const EVENT_OVERHEAD: usize = 11;

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// It waits for the client to read it.
    Queued,
    /// The client reads too slowly. It is told once; nothing is sent from then on.
    TooSlow,
    /// Nobody is there any more, or the socket was given up before.
    Gone,
}

/// The library's socket, its connection, and what waits between the two.
pub(super) struct Outbox {
    /// Weak: the library's socket holds the session through its handlers, which holds this.
    socket: Weak<Socket>,
    engine_id: String,
    connections: Connections,
    websocket: OnceLock<Websocket>,
    /// Bytes of all packets so far.
    queued: AtomicU64,
    /// It could not take a packet: nothing more is sent, so that what it has stays true until it is gone.
    is_broken: AtomicBool,
}

/// The connection of a socket that does not poll.
struct Websocket {
    connection: ConnectionHandle,
    /// How much was queued before it: that went by polls.
    queued_before: u64,
}

impl Outbox {
    pub(super) fn new(socket: &Arc<Socket>, connections: Connections) -> Self {
        let outbox = Self {
            socket: Arc::downgrade(socket),
            engine_id: socket.id.to_string(),
            connections,
            websocket: OnceLock::new(),
            queued: AtomicU64::new(0),
            is_broken: AtomicBool::new(false),
        };
        let request = socket.req_parts();
        // A connection that carries polls may be shared with requests of others behind a proxy: it is nobody's to close.
        let began_as_websocket = request.headers.contains_key(header::UPGRADE);
        if let Some(connection) = request.extensions.get::<ConnectionHandle>().filter(|_| began_as_websocket) {
            outbox.set_websocket(connection.clone());
        }
        outbox
    }

    /// The Engine.IO session that it is the way to.
    pub(super) fn engine_id(&self) -> &str {
        &self.engine_id
    }

    /// Queues an event with ready JSON.
    pub(super) fn send_event(&self, event: &str, payload: &RawValue) -> Sent {
        let length = event.len() + payload.get().len() + EVENT_OVERHEAD;
        self.queue(length, |socket| socket.emit(event, payload))
    }

    /// Queues the answer to an event that asked for one.
    pub(super) fn send_answer(&self, id: i64, answer: &impl Serialize) -> Sent {
        let answer = super::json(answer);
        self.queue(answer.get().len() + EVENT_OVERHEAD, |socket| {
            let Ok(ack) = AckSender::from_message_parts(socket, &mut Value::Str("".into(), None), &Some(id));
            ack.send(&answer)
        })
    }

    fn queue(&self, length: usize, send: impl FnOnce(&Arc<Socket>) -> Result<(), SendError>) -> Sent {
        if self.is_broken() {
            return Sent::Gone;
        }
        let Some(socket) = self.socket.upgrade() else { return Sent::Gone };
        let queued = self.queued.fetch_add(length as u64, Ordering::Relaxed) + length as u64;
        if self.waiting_bytes(queued) > OUTBOX_BYTES {
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

    /// How much of what was queued its connection has not taken yet. Of one that polls that is not known: the library
    /// bounds its packets, and closes it when it does not ask for them.
    fn waiting_bytes(&self, queued: u64) -> u64 {
        let Some(websocket) = self.find_websocket() else { return 0 };
        // Rather too little than too much: handshakes and pings are written too, and were not queued here.
        queued.saturating_sub(websocket.queued_before).saturating_sub(websocket.connection.written_bytes())
    }

    fn give_up(&self) -> Sent {
        if self.close() { Sent::TooSlow } else { Sent::Gone }
    }

    /// Closes the socket at once, so that its client comes back and starts anew; `false` when it was closed before. A
    /// client that polls learns it with its next request.
    pub(super) fn close(&self) -> bool {
        let is_first = !self.is_broken.swap(true, Ordering::AcqRel);
        if is_first && let Some(connection) = self.connection() {
            connection.kill();
        }
        is_first
    }

    /// Whether an event was lost on the way to it.
    pub(super) fn is_broken(&self) -> bool {
        self.is_broken.load(Ordering::Acquire)
    }

    /// Leaves the namespace; `false` when there is no room to tell the client.
    pub(super) fn disconnect(&self) -> bool {
        self.socket.upgrade().is_none_or(|socket| socket.disconnect().is_ok())
    }

    /// The TCP connection of its websocket; `None` while it polls.
    pub(super) fn connection(&self) -> Option<ConnectionHandle> {
        self.find_websocket().map(|websocket| websocket.connection.clone())
    }

    fn find_websocket(&self) -> Option<&Websocket> {
        if self.websocket.get().is_none()
            && let Some(connection) = self.connections.upgraded(&self.engine_id)
        {
            self.set_websocket(connection);
        }
        self.websocket.get()
    }

    fn set_websocket(&self, connection: ConnectionHandle) {
        let queued_before = self.queued.load(Ordering::Relaxed);
        // Two that find the upgrade at once find the same connection.
        let _ = self.websocket.set(Websocket { connection, queued_before });
    }
}
