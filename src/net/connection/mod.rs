//! One TCP connection with a kill handle, a read gate and a write-stall deadline.
//!
//! A handshake of several writes leaves as one.
//!
//! The Socket.IO library can neither close a connection whose peer stopped reading (its writer waits for ever) nor stop
//! reading from a peer that sends faster than its events can be handled. This module does both, below the library.

mod guarded;
mod registry;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use futures_util::task::AtomicWaker;

pub use guarded::{Guarded, WRITE_STALL};
pub use registry::Connections;

/// A handle to a connection for other tasks. It is cheap to clone, and does nothing once the connection is gone.
#[derive(Clone, Debug)]
pub struct ConnectionHandle(Arc<Control>);

#[derive(Debug, Default)]
struct Control {
    id: u64,
    /// The Engine.IO session that was upgraded to this connection.
    upgraded: OnceLock<String>,
    killed: AtomicBool,
    paused: AtomicBool,
    /// Whether it is a websocket now.
    is_websocket: AtomicBool,
    /// Whether it carries a long-poll now. At other times it may be a proxy's connection, and carry anybody's requests.
    is_polled: AtomicBool,
    /// Whether its handshake is being written: see [`ConnectionHandle::gather_handshake`].
    gathers: AtomicBool,
    /// Bytes that the kernel has taken so far.
    written: AtomicU64,
    /// Sessions without a token that began over it.
    strangers: AtomicUsize,
    /// Whether its stream is gone.
    is_closed: AtomicBool,
    /// Socket.IO events and answers of a websocket that the kernel has taken whole.
    left: AtomicU64,
    /// How many packets the peer is asked to confirm, how many the last ping asked about, and how many the peer has
    /// confirmed.
    asked: AtomicU64,
    pinged: AtomicU64,
    shown: AtomicU64,
    reader: AtomicWaker,
    writer: AtomicWaker,
    /// Wakes the one task that waits for packets to leave or to be confirmed.
    progress: AtomicWaker,
}

impl ConnectionHandle {
    fn new(id: u64) -> Self {
        Self(Arc::new(Control { id, ..Control::default() }))
    }

    /// Closes the connection: every later read or write of it fails.
    pub fn kill(&self) {
        self.0.killed.store(true, Ordering::Release);
        self.0.reader.wake();
        self.0.writer.wake();
    }

    /// Stops reading from the peer. TCP then holds the peer back.
    pub fn pause_reading(&self) {
        self.0.paused.store(true, Ordering::Release);
    }

    /// Reads from the peer again.
    pub fn resume_reading(&self) {
        self.0.paused.store(false, Ordering::Release);
        self.0.reader.wake();
    }

    /// Notes that it is a websocket from now on.
    pub fn mark_websocket(&self) {
        self.0.is_websocket.store(true, Ordering::Release);
    }

    /// Gathers what is written from now on into one segment: the head of the answer that makes it a websocket, and the
    /// packet right after it. The gathering ends when the node waits for the peer, or the peer has sent something.
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

    /// Counts one more session without a token that began over it, and answers how many there were before.
    pub fn begin_stranger(&self) -> usize {
        self.0.strangers.fetch_add(1, Ordering::AcqRel)
    }

    /// Notes that one of these sessions is gone or has shown its token.
    pub fn end_stranger(&self) {
        self.0.strangers.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether the connection is gone, and nobody holds its stream.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed.load(Ordering::Acquire)
    }

    /// How many bytes were written to the peer so far. The last of them may still be in the kernel.
    pub fn written_bytes(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// How many Socket.IO events and answers have left over it as a websocket. A packet has left when the kernel has
    /// taken all of it.
    pub fn left_packets(&self) -> u64 {
        self.0.left.load(Ordering::SeqCst)
    }

    /// How many of these packets the peer has confirmed.
    pub fn shown_packets(&self) -> u64 {
        self.0.shown.load(Ordering::SeqCst)
    }

    /// Asks the peer to confirm that it has read this many events and answers. The question is a websocket ping, which
    /// is sent once they have left. Neither applications nor the Socket.IO library see it.
    pub fn ask_shown(&self, packets: u64) {
        self.0.asked.fetch_max(packets, Ordering::SeqCst);
        if self.is_ping_due() {
            // The events may have left already, and the next write may be far away, so the reader sends the ping.
            self.0.reader.wake();
        }
    }

    /// Wakes a task whenever a packet leaves or is confirmed. One task at a time.
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

/// A long-poll that a connection carries. A connection carries one request at a time.
#[derive(Debug)]
pub struct Polled(ConnectionHandle);

impl Drop for Polled {
    fn drop(&mut self) {
        self.0.0.is_polled.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests;
