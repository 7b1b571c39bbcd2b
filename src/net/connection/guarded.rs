//! The stream of a connection, under the control of its handle.

use std::io;
use std::pin::Pin;
use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::registry::Registry;
use super::{ConnectionHandle, Control};
use crate::net::frames::WrittenFrames;

/// How long a write may wait for the peer to read before the connection is closed.
pub const WRITE_STALL: Duration = Duration::from_secs(10);

/// The head of a server's websocket ping with eight bytes of payload. Every client answers with the same payload once it
/// has read everything before the ping.
pub(super) const PING_HEAD: [u8; 2] = [0x89, 8];

/// The head of a client's answer to the ping. A mask of four bytes and the masked payload follow.
pub(super) const PONG_HEAD: [u8; 2] = [0x8a, 0x88];
const PONG_LENGTH: usize = 14;

/// How many bytes of a handshake are gathered: more than the head and the first packets have.
pub(super) const GATHERED_BYTES: usize = 1_024;

/// How much is read from a websocket's peer while the peer reads nothing. The library answers each of the peer's pings,
/// and would keep any number of unread answers.
pub(super) const READ_WHILE_BEHIND: usize = 128 * 1024;

/// A stream under the control of a [`ConnectionHandle`].
#[derive(Debug)]
pub struct Guarded<S> {
    stream: S,
    handle: ConnectionHandle,
    /// Bytes that leave before anything else: a part of the handshake, or a ping.
    gathered: Vec<u8>,
    /// Whether the reader waits for room to send the gathered bytes.
    is_reader_to_send: bool,
    /// Follows the frames that have left over a websocket.
    frames: WrittenFrames,
    /// Runs while a write waits for the peer.
    stall: Option<Pin<Box<Sleep>>>,
    /// How many bytes came from a websocket's peer since a write began to wait for it; `None` while no write waits.
    read_behind: Option<usize>,
    registry: Weak<Registry>,
}

impl<S> Guarded<S> {
    /// Tells `registry` when it is dropped.
    pub(super) fn new(stream: S, handle: ConnectionHandle, registry: Weak<Registry>) -> Self {
        Self {
            stream,
            handle,
            gathered: Vec::new(),
            is_reader_to_send: false,
            frames: WrittenFrames::default(),
            stall: None,
            read_behind: None,
            registry,
        }
    }

    /// A handle to this connection.
    pub fn handle(&self) -> ConnectionHandle {
        self.handle.clone()
    }

    /// Counts the written bytes, and turns a write that waits too long into an error.
    fn check_stall(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = write {
            self.stall = None;
            let count = written.as_ref().map_or(0, |count| *count as u64);
            self.handle.0.written.fetch_add(count, Ordering::Relaxed);
            return Poll::Ready(written);
        }
        // Only a waiting writer must be woken by a kill. It registers before it reads the flag again, so that a kill in
        // between wakes it.
        self.handle.0.writer.register(cx.waker());
        self.handle.check_alive()?;
        self.read_behind.get_or_insert(0);
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_STALL)));
        ready!(stall.as_mut().poll(cx));
        self.handle.kill();
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer stopped reading")))
    }

    /// Whether the peer has sent as much as it may send while it does not read.
    fn is_held_back(&self) -> bool {
        let is_websocket = self.handle.0.is_websocket.load(Ordering::Acquire);
        is_websocket && self.read_behind.is_some_and(|read| read >= READ_WHILE_BEHIND)
    }

    /// Notes that the kernel has taken everything that there was to write.
    fn note_caught_up(&mut self) {
        if self.read_behind.take().is_some_and(|read| read >= READ_WHILE_BEHIND) {
            self.handle.0.reader.wake();
        }
    }

    /// Adds a requested ping if a frame may begin here. Its payload is the number of packets that have left by now.
    fn add_ping(&mut self) {
        if self.handle.is_ping_due() && self.frames.is_between_frames() && self.gathered.is_empty() {
            let left = self.handle.left_packets();
            self.handle.0.pinged.store(left, Ordering::SeqCst);
            self.gathered.extend(PING_HEAD);
            self.gathered.extend(left.to_be_bytes());
            // The outbox compares written with queued bytes, and did not queue this ping.
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

    /// Looks for the answer to a ping. An answer that came in two pieces is missed; the answer to a later ping replaces it.
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
    /// Gathers a part of the handshake. Answers `false` if the part must be written at once.
    fn gather<'a>(&mut self, parts: impl Iterator<Item = &'a [u8]>) -> bool {
        let gathers = self.handle.gathers_handshake() && self.gathered.len() < GATHERED_BYTES;
        if gathers {
            parts.for_each(|part| self.gathered.extend_from_slice(part));
        }
        gathers
    }

    /// Writes the gathered bytes, and ends the gathering.
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
        if let Some(registry) = self.registry.upgrade() {
            registry.forget(&self.handle);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let filled = buf.filled().len();
        // The task registers before it reads the flags, so that a change in between wakes it.
        self.handle.0.reader.register(cx.waker());
        self.handle.check_alive()?;
        let read = match self.handle.0.paused.load(Ordering::Acquire) || self.is_held_back() {
            true => Poll::Pending,
            false => Pin::new(&mut self.stream).poll_read(cx, buf),
        };
        let new = buf.filled().get(filled..).unwrap_or_default();
        self.handle.0.note_shown(new);
        self.read_behind = self.read_behind.map(|read| read.saturating_add(new.len()));
        // Room to write wakes only one task. If the writer waits for room, it must be that task.
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
        // The library flushes after whole frames, so a frame may begin here.
        self.add_ping();
        ready!(self.poll_send_gathered(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.note_caught_up();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_gathered(cx))?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
