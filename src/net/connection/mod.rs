//! One TCP connection with a kill handle, a read gate and a write-stall deadline.
//!
//! A handshake of several writes leaves as one.
//!
//! The Socket.IO library can neither close a connection whose peer stopped reading (its writer waits for ever) nor stop
//! reading from one that sends faster than its events can be handled. Both are done here, below it.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::frames::WrittenFrames;

/// How long a write may wait for the peer to read before the connection is closed.
pub const WRITE_STALL: Duration = Duration::from_secs(10);

/// A ping of a websocket as a server sends it, before its payload of eight bytes. Every client answers with the same payload
/// when it has read all that came before.
const PING_HEAD: [u8; 2] = [0x89, 8];

/// A client's answer to it: this, a mask of four bytes, and the masked payload.
const PONG_HEAD: [u8; 2] = [0x8a, 0x88];
const PONG_LENGTH: usize = 14;

/// How much of a handshake is gathered: more than the head and the packets that follow it at once.
const GATHERED_BYTES: usize = 1_024;

/// A way to reach a connection from elsewhere; cheap to clone, harmless when the connection is gone.
#[derive(Clone, Debug)]
pub struct ConnectionHandle(Arc<Control>);

#[derive(Debug)]
struct Control {
    id: u64,
    /// The Engine.IO session that was upgraded to this connection.
    upgraded: OnceLock<String>,
    killed: AtomicBool,
    paused: AtomicBool,
    /// It is a websocket now.
    is_websocket: AtomicBool,
    /// It carries a long-poll now. Before and after, a proxy may send anybody's requests over it.
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
    /// How many of them the peer is to show that it has, with how many the last ping went out, and how many it has shown.
    asked: AtomicU64,
    pinged: AtomicU64,
    shown: AtomicU64,
    reader: AtomicWaker,
    writer: AtomicWaker,
    /// Of the one task that waits for what leaves, or for what the peer shows.
    progress: AtomicWaker,
}

impl ConnectionHandle {
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

    /// Has what is written from now on leave in one segment: the head that makes it a websocket, and the packet that follows
    /// at once. Ends when the peer is waited for, or has sent something.
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

    /// One of them is gone, or has shown its token.
    pub fn end_stranger(&self) {
        self.0.strangers.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether the connection is gone: nobody holds its stream any more.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed.load(Ordering::Acquire)
    }

    /// How much was written to the peer so far; the kernel may hold the last of it.
    pub fn written_bytes(&self) -> u64 {
        self.0.written.load(Ordering::Relaxed)
    }

    /// How many Socket.IO events and answers have left over it as a websocket: to the kernel, each whole.
    pub fn left_packets(&self) -> u64 {
        self.0.left.load(Ordering::SeqCst)
    }

    /// How many of them the peer has shown to have read.
    pub fn shown_packets(&self) -> u64 {
        self.0.shown.load(Ordering::SeqCst)
    }

    /// Has the peer show that it has read so many events and answers. It is asked as soon as they have left, by a ping of
    /// the websocket's own, which neither applications nor the Socket.IO library see.
    pub fn ask_shown(&self, packets: u64) {
        self.0.asked.fetch_max(packets, Ordering::SeqCst);
        if self.is_ping_due() {
            // They have left already: nothing else may be written for long.
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

/// The open connections of this node. By default there may be any number.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Registry>);

#[derive(Debug, Default)]
struct Registry {
    /// How many there may be, and what counts those that are refused.
    limit: Option<(usize, IntCounter)>,
    next_id: AtomicU64,
    /// Held for a map access only, never across an await.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    handles: HashMap<u64, ConnectionHandle>,
    /// Which connection an Engine.IO session was upgraded to. The session's own request head names the one that it
    /// began on.
    upgraded: HashMap<String, u64>,
}

impl Connections {
    /// At most `limit` at once; `refused` counts the others.
    pub fn limited(limit: usize, refused: IntCounter) -> Self {
        Self(Arc::new(Registry { limit: Some((limit, refused)), ..Registry::default() }))
    }

    /// Whether one more may be open; counted as refused when not.
    pub fn admits_one(&self) -> bool {
        let Some((limit, refused)) = &self.0.limit else { return true };
        let admits = self.count() < *limit;
        if !admits {
            refused.inc();
        }
        admits
    }

    /// Wraps a stream and registers it until the stream is dropped.
    pub fn guard<S>(&self, stream: S) -> Guarded<S> {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let handle = ConnectionHandle(Arc::new(Control {
            id,
            upgraded: OnceLock::new(),
            killed: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            is_websocket: AtomicBool::new(false),
            is_polled: AtomicBool::new(false),
            gathers: AtomicBool::new(false),
            written: AtomicU64::new(0),
            strangers: AtomicUsize::new(0),
            is_closed: AtomicBool::new(false),
            left: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            pinged: AtomicU64::new(0),
            shown: AtomicU64::new(0),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            progress: AtomicWaker::new(),
        }));
        self.lock().handles.insert(id, handle.clone());
        let registry = Arc::downgrade(&self.0);
        Guarded {
            stream,
            handle,
            gathered: Vec::new(),
            is_reader_to_send: false,
            frames: WrittenFrames::default(),
            stall: None,
            registry,
        }
    }

    /// Remembers that an Engine.IO session goes on over this connection.
    pub fn set_upgraded(&self, engine_id: &str, handle: &ConnectionHandle) {
        if handle.0.upgraded.set(engine_id.to_owned()).is_ok() {
            self.lock().upgraded.insert(engine_id.to_owned(), handle.0.id);
        }
    }

    /// The connection that an Engine.IO session was upgraded to, while it is open.
    pub fn upgraded(&self, engine_id: &str) -> Option<ConnectionHandle> {
        let open = self.lock();
        open.handles.get(open.upgraded.get(engine_id)?).cloned()
    }

    /// Those that carry a Socket.IO session now.
    pub fn with_sockets(&self) -> Vec<ConnectionHandle> {
        let open = self.lock();
        open.handles.values().filter(|handle| handle.carries_socket()).cloned().collect()
    }

    /// How many are open now.
    pub fn count(&self) -> usize {
        self.lock().handles.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream under the control of a [`ConnectionHandle`].
#[derive(Debug)]
pub struct Guarded<S> {
    stream: S,
    handle: ConnectionHandle,
    /// What is to leave before anything else: of the handshake, or a ping.
    gathered: Vec<u8>,
    /// The reader waits for room to send what was gathered.
    is_reader_to_send: bool,
    /// What has left as a websocket.
    frames: WrittenFrames,
    /// Runs while a write waits for the peer.
    stall: Option<Pin<Box<Sleep>>>,
    registry: Weak<Registry>,
}

impl<S> Guarded<S> {
    /// The way to reach this connection.
    pub fn handle(&self) -> ConnectionHandle {
        self.handle.clone()
    }

    /// Counts what was written, and turns a write that waits too long into an error.
    fn check_stall(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = write {
            self.stall = None;
            let count = written.as_ref().map_or(0, |count| *count as u64);
            self.handle.0.written.fetch_add(count, Ordering::Relaxed);
            return Poll::Ready(written);
        }
        // Only one that waits is to be woken. Registered before the flag is read again: a kill between the two wakes it.
        self.handle.0.writer.register(cx.waker());
        self.handle.check_alive()?;
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_STALL)));
        ready!(stall.as_mut().poll(cx));
        self.handle.kill();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer stopped reading")))
    }

    /// Adds the ping that was asked for where a frame may begin. What has left by now is its payload.
    fn add_ping(&mut self) {
        if self.handle.is_ping_due() && self.frames.is_between_frames() && self.gathered.is_empty() {
            let left = self.handle.left_packets();
            self.handle.0.pinged.store(left, Ordering::SeqCst);
            self.gathered.extend(PING_HEAD);
            self.gathered.extend(left.to_be_bytes());
            // Who compares what was written with what was queued knows nothing of it.
            self.handle.0.written.fetch_sub(self.gathered.len() as u64, Ordering::Relaxed);
        }
    }
}

impl Control {
    /// Follows the frames of a websocket as they are written.
    fn note_left(&self, frames: &mut WrittenFrames, written: &[u8]) {
        if self.is_websocket.load(Ordering::Acquire) {
            self.left.fetch_add(frames.take(written), Ordering::SeqCst);
            self.progress.wake();
        }
    }

    /// Looks for the answer to a ping. One that came in two pieces is missed: another ping will be answered.
    fn note_shown(&self, read: &[u8]) {
        let pinged = self.pinged.load(Ordering::SeqCst);
        if pinged == self.shown.load(Ordering::SeqCst) {
            return;
        }
        if let Some(shown) = last_pong(read).filter(|shown| *shown <= pinged) {
            self.shown.fetch_max(shown, Ordering::SeqCst);
            self.progress.wake();
        }
    }
}

/// The payload of the last answer to a ping of eight bytes.
fn last_pong(read: &[u8]) -> Option<u64> {
    let pong = read.windows(PONG_LENGTH).rfind(|bytes| bytes.starts_with(&PONG_HEAD))?;
    let (mask, payload) = pong.split_at(PONG_HEAD.len()).1.split_at(4);
    let bytes = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    Some(bytes.fold(0, |value, byte| (value << 8) | u64::from(byte)))
}

impl<S: AsyncWrite + Unpin> Guarded<S> {
    /// Keeps a part of the handshake; `false` when it is to be written at once.
    fn gather<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]>) -> bool {
        let gathers = self.handle.gathers_handshake() && self.gathered.len() < GATHERED_BYTES;
        if gathers {
            parts.for_each(|part| self.gathered.extend_from_slice(part));
        }
        gathers
    }

    /// Writes what was gathered; what is written later is not gathered any more.
    fn poll_send_gathered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.gathered.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.handle.0.gathers.store(false, Ordering::Release);
        while !self.gathered.is_empty() {
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.gathered);
            let written = ready!(self.check_stall(cx, written))?;
            let Self { gathered, frames, handle, .. } = self;
            handle.0.note_left(frames, gathered.get(..written).unwrap_or_default());
            gathered.drain(..written);
        }
        self.gathered = Vec::new();
        Poll::Ready(Ok(()))
    }
}

impl<S> Drop for Guarded<S> {
    fn drop(&mut self) {
        self.handle.0.is_closed.store(true, Ordering::Release);
        let Some(registry) = self.registry.upgrade() else { return };
        let mut open = registry.open.lock().unwrap_or_else(PoisonError::into_inner);
        let id = self.handle.0.id;
        open.handles.remove(&id);
        if let Some(engine_id) = self.handle.0.upgraded.get()
            && open.upgraded.get(engine_id) == Some(&id)
        {
            open.upgraded.remove(engine_id);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let filled = buf.filled().len();
        // Registered before the flags are read, so that a change between the two wakes this task.
        self.handle.0.reader.register(cx.waker());
        self.handle.check_alive()?;
        let read = match self.handle.0.paused.load(Ordering::Acquire) {
            true => Poll::Pending,
            false => Pin::new(&mut self.stream).poll_read(cx, buf),
        };
        self.handle.0.note_shown(buf.filled().get(filled..).unwrap_or_default());
        // One task is woken when there is room to write: where the writer waits for that, it must stay the one.
        if self.stall.is_none() || self.is_reader_to_send {
            self.add_ping();
            let sent = self.poll_send_gathered(cx);
            self.is_reader_to_send = sent.is_pending();
            if let Poll::Ready(sent) = sent {
                sent?;
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.handle.check_alive()?;
        self.is_reader_to_send = false;
        if self.gather([buf].into_iter()) {
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(self.poll_send_gathered(cx))?;
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        let written = ready!(self.check_stall(cx, written))?;
        let Self { frames, handle, .. } = &mut *self;
        handle.0.note_left(frames, buf.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.handle.check_alive()?;
        self.is_reader_to_send = false;
        if self.gather(bufs.iter().map(|buf| &**buf)) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        ready!(self.poll_send_gathered(cx))?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        let written = ready!(self.check_stall(cx, written))?;
        let Self { frames, handle, .. } = &mut *self;
        let mut to_note = written;
        for buf in bufs {
            let part = buf.get(..to_note.min(buf.len())).unwrap_or_default();
            handle.0.note_left(frames, part);
            to_note -= part.len();
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.handle.check_alive()?;
        if self.handle.gathers_handshake() {
            return Poll::Ready(Ok(()));
        }
        self.is_reader_to_send = false;
        // The library flushes when it has written whole frames.
        self.add_ping();
        ready!(self.poll_send_gathered(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_gathered(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
