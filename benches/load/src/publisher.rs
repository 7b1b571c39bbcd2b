//! A connection over which requests are sent, one at a time.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;

use crate::commands::Request;

/// One connection with its requests.
#[derive(Debug)]
pub struct Publisher {
    stream: TcpStream,
    target: SocketAddr,
    token: String,
    requests: Vec<Request>,
    next: usize,
    once: bool,
    /// When the request under way was sent, in nanoseconds since the generator's start; nothing while none is.
    pub sent: Option<u64>,
    answer: Vec<u8>,
}

impl Publisher {
    /// Connects, and waits for that.
    ///
    /// # Errors
    ///
    /// Nobody listens there.
    pub fn connect(target: SocketAddr, token: &str, requests: Vec<Request>, once: bool) -> io::Result<Self> {
        Ok(Self {
            stream: connect(target)?,
            target,
            token: token.to_owned(),
            requests,
            next: 0,
            once,
            sent: None,
            answer: Vec::new(),
        })
    }

    /// The connection, for registering it.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Connects anew, when the server has closed a connection on which nothing was asked for a while.
    ///
    /// # Errors
    ///
    /// Nobody listens there any more.
    pub fn reconnect(&mut self) -> io::Result<()> {
        self.stream = connect(self.target)?;
        Ok(())
    }

    /// Sends the next request at `now`. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub fn send(&mut self, now: u64) -> io::Result<bool> {
        if self.once && self.next >= self.requests.len() {
            return Ok(false);
        }
        let index = self.next.checked_rem(self.requests.len()).unwrap_or(0);
        let Some(request) = self.requests.get(index) else { return Ok(false) };
        self.next += 1;
        let body = request.body.replace("@SENT@", &now.to_string());
        let text = format!(
            "{} {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            request.method,
            request.path,
            self.target,
            self.token,
            body.len()
        );
        self.stream.write_all(text.as_bytes())?;
        self.sent = Some(now);
        Ok(true)
    }

    /// Reads what has come. Returns the status once the answer is whole.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub fn readable(&mut self, buffer: &mut [u8]) -> io::Result<Option<u16>> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.answer.extend_from_slice(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        let Some(status) = whole_status(&self.answer) else { return Ok(None) };
        self.answer.clear();
        self.sent = None;
        Ok(Some(status))
    }
}

fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = std::net::TcpStream::connect(target)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(TcpStream::from_std(stream))
}

/// The status of an answer that is whole, by its length or by its last chunk.
fn whole_status(answer: &[u8]) -> Option<u16> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?.to_ascii_lowercase();
    let body = answer.get(end..)?;
    let length = head.split_once("content-length:").and_then(|(_, rest)| rest.lines().next()?.trim().parse().ok());
    let is_whole = match length {
        Some(length) => body.len() >= length,
        None => body.ends_with(b"0\r\n\r\n"),
    };
    if is_whole { head.split(' ').nth(1)?.parse().ok() } else { None }
}
