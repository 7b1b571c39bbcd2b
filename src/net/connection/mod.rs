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
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long a write may wait for the peer to read before the connection is closed.
pub const WRITE_STALL: Duration = Duration::from_secs(10);

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
    reader: AtomicWaker,
    writer: AtomicWaker,
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
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        }));
        self.lock().handles.insert(id, handle.clone());
        let registry = Arc::downgrade(&self.0);
        Guarded { stream, handle, gathered: Vec::new(), stall: None, registry }
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
    /// What was written of the handshake and is still here.
    gathered: Vec<u8>,
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
            self.gathered.drain(..written);
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
        // Registered before the flags are read, so that a change between the two wakes this task.
        self.handle.0.reader.register(cx.waker());
        self.handle.check_alive()?;
        let read = match self.handle.0.paused.load(Ordering::Acquire) {
            true => Poll::Pending,
            false => Pin::new(&mut self.stream).poll_read(cx, buf),
        };
        // Where there is no room for it, the reader is woken when there is.
        if let Poll::Ready(sent) = self.poll_send_gathered(cx) {
            sent?;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.handle.check_alive()?;
        if self.gather([buf].into_iter()) {
            return Poll::Ready(Ok(buf.len()));
        }
        ready!(self.poll_send_gathered(cx))?;
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.check_stall(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.handle.check_alive()?;
        if self.gather(bufs.iter().map(|buf| &**buf)) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        ready!(self.poll_send_gathered(cx))?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.check_stall(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.handle.check_alive()?;
        if self.handle.gathers_handshake() {
            return Poll::Ready(Ok(()));
        }
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
