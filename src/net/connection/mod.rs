//! One TCP connection with a kill handle, a read gate and a write-stall deadline.
//!
//! A handshake of several writes leaves as one.
//!
//! The Socket.IO library can neither close a connection whose peer stopped reading (its writer waits for ever) nor stop
//! reading from a peer that sends faster than its events can be handled. Both are done here, below it.

mod guarded;
mod registry;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use futures_util::task::AtomicWaker;

pub use guarded::{Guarded, WRITE_STALL};
pub use registry::Connections;

/// A way to reach a connection from elsewhere. It is cheap to clone, and harmless when the connection is gone.
#[derive(Clone, Debug)]
pub struct ConnectionHandle(Arc<Control>);

#[derive(Debug, Default)]
struct Control {
    id: u64,
    /// The Engine.IO session that was upgraded to this connection.
    upgraded: OnceLock<String>,
    killed: AtomicBool,
    paused: AtomicBool,
    /// It is a websocket now.
    is_websocket: AtomicBool,
    /// It carries a long-poll now. Before and after that, a proxy may send anybody's requests over it.
    is_polled: AtomicBool,
    /// Its handshake is being written: see [`ConnectionHandle::gather_handshake`].
    gathers: AtomicBool,
    /// Bytes that the kernel has taken so far.
    written: AtomicU64,
    /// Sessions that began over it and have shown no token yet.
    strangers: AtomicUsize,
    /// It is gone.
    is_closed: AtomicBool,
    /// Socket.IO events and answers that the kernel has taken whole, of a websocket.
    left: AtomicU64,
    /// How many of them the peer is asked to confirm, how many the last ping asked about, and how many it has confirmed.
    asked: AtomicU64,
    pinged: AtomicU64,
    shown: AtomicU64,
    reader: AtomicWaker,
    writer: AtomicWaker,
    /// Wakes the one task that waits for packets to leave, or for the peer to confirm them.
    progress: AtomicWaker,
}

impl ConnectionHandle {
    fn new(id: u64) -> Self {
        Self(Arc::new(Control { id, ..Control::default() }))
    }

    /// Closes the connection: every read and write of it fails from now on.
    pub fn kill(&self) {
        self.0.killed.store(true, Ordering::Release);
        self.0.reader.wake();
        self.0.writer.wake();
    }

    /// Stops reading from the peer, which TCP then holds back.
    pub fn pause_reading(&self) {
        self.0.paused.store(true, Ordering::Release);
    }

    /// Reads again.
    pub fn resume_reading(&self) {
        self.0.paused.store(false, Ordering::Release);
        self.0.reader.wake();
    }

    /// Notes that it is a websocket from now on.
    pub fn mark_websocket(&self) {
        self.0.is_websocket.store(true, Ordering::Release);
    }

    /// Gathers what is written from now on into one segment: the head that makes it a websocket, and the packet that
    /// follows at once. The gathering ends when the node waits for the peer, or when the peer has sent something.
    pub fn gather_handshake(&self) {
        self.0.gathers.store(true, Ordering::Release);
    }

    fn gathers_handshake(&self) -> bool {
        self.0.gathers.load(Ordering::Acquire)
    }

    /// Notes that it carries a long-poll, until the answer is dropped.
    pub fn begin_poll(&self) -> Polled {
        self.0.is_polled.store(true, Ordering::Release);
        Polled(self.clone())
    }

    /// Closes the connection if it carries a Socket.IO session at this moment.
    pub fn kill_socket(&self) {
        if self.carries_socket() {
            self.kill();
        }
    }

    fn carries_socket(&self) -> bool {
        self.0.is_websocket.load(Ordering::Acquire) || self.0.is_polled.load(Ordering::Acquire)
    }

    /// Counts one more session without a token that began over it, and tells how many there were.
    pub fn begin_stranger(&self) -> usize {
        self.0.strangers.fetch_add(1, Ordering::AcqRel)
    }

    /// One of these sessions is gone, or has shown its token.
    pub fn end_stranger(&self) {
        self.0.strangers.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether the connection is gone: nobody holds its stream any more.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed.load(Ordering::Acquire)
    }

    /// How many bytes were written to the peer so far. The kernel may still hold the last of them.
    pub fn written_bytes(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// How many Socket.IO events and answers have left over it as a websocket, which is when the kernel has taken each
    /// as a whole.
    pub fn left_packets(&self) -> u64 {
        self.0.left.load(Ordering::SeqCst)
    }

    /// How many of them the peer has shown to have read.
    pub fn shown_packets(&self) -> u64 {
        self.0.shown.load(Ordering::SeqCst)
    }

    /// Has the peer confirm that it has read this many events and answers. It is asked as soon as they have left, by a ping
    /// of the websocket itself, which neither applications nor the Socket.IO library see.
    pub fn ask_shown(&self, packets: u64) {
        self.0.asked.fetch_max(packets, Ordering::SeqCst);
        if self.is_ping_due() {
            // The events have left already, and nothing else may be written for a long time.
            self.0.reader.wake();
        }
    }

    /// Has a task woken whenever something leaves, or the peer shows what it has. One task at a time.
    pub fn register_progress(&self, waker: &Waker) {
        self.0.progress.register(waker);
    }

    fn is_ping_due(&self) -> bool {
        let asked = self.0.asked.load(Ordering::SeqCst);
        asked > self.0.pinged.load(Ordering::SeqCst) && self.left_packets() >= asked
    }

    fn check_alive(&self) -> io::Result<()> {
        if self.0.killed.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "closed by this node"));
        }
        Ok(())
    }
}

/// A long-poll under way on a connection, which carries one request at a time.
#[derive(Debug)]
pub struct Polled(ConnectionHandle);

impl Drop for Polled {
    fn drop(&mut self) {
        self.0.0.is_polled.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
