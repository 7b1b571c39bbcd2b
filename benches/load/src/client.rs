//! One client: a raw websocket with its handshakes.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Instant;

use mio::net::TcpStream;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// The addresses that clients come from, in turn: one alone has too few ports.
const SOURCES: u8 = 16;

/// How far a client has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// The TCP connection is on its way.
    Connecting,
    /// The request for a websocket is sent.
    Upgrading,
    /// The websocket is there; Engine.IO's `open` is not.
    Opening,
    /// CONNECT is sent.
    Confirming,
    /// `join_space` is sent.
    Joining,
    /// The client is connected or joined, as requested.
    Settled,
}

/// The bytes that a client sends, which never change.
#[derive(Clone, Debug)]
pub struct Script {
    /// CONNECT with the token, as a frame; with `join_space` behind it for an early joiner.
    pub connect: Vec<u8>,
    /// `join_space` as a frame, sent on the answer to CONNECT; empty where nothing is joined or it was sent early.
    pub join: Vec<u8>,
    /// Whether `joined_space` settles it. If not, the answer to CONNECT does.
    pub joins: bool,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    /// The client's stage in the handshakes.
    pub stage: Stage,
    /// When it began to connect.
    pub began: Instant,
    script: std::rc::Rc<Script>,
    /// The beginning of a frame whose end has not come.
    rest: Vec<u8>,
}

/// An event of a client.
pub enum Heard<'a> {
    /// The client has reached the last stage.
    Settled,
    /// A `slot_update`, as text.
    Update(&'a [u8]),
    /// A `slots_status_update`, which replaces updates that the client never gets.
    Snapshot,
    /// The server refused its CONNECT or its `join_space`, with these words.
    Refused(&'a [u8]),
}

impl Client {
    /// Begins to connect. `number` says which source address it has.
    ///
    /// # Errors
    ///
    /// There is no port or descriptor left.
    pub fn connect(number: usize, target: SocketAddr, script: std::rc::Rc<Script>) -> io::Result<Self> {
        let began = Instant::now();
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        let host = 1 + u8::try_from(number % usize::from(SOURCES)).unwrap_or(0);
        socket.bind(&SockAddr::from(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, host)), 0)))?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&SockAddr::from(target)) {
            Ok(()) => {}
            // Either error says that the connection is being made.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(115) => {}
            Err(error) => return Err(error),
        }
        let stream = TcpStream::from_std(socket.into());
        Ok(Self { stream, stage: Stage::Connecting, began, script, rest: Vec::new() })
    }

    /// The connection, for registering it.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Goes on when the connection is writable: asks for the websocket once.
    ///
    /// # Errors
    ///
    /// The connection could not be made.
    pub fn writable(&mut self) -> io::Result<()> {
        if self.stage != Stage::Connecting {
            return Ok(());
        }
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        if let Err(error) = self.stream.peer_addr() {
            return if error.kind() == io::ErrorKind::NotConnected { Ok(()) } else { Err(error) };
        }
        self.stage = Stage::Upgrading;
        self.stream.write_all(UPGRADE.as_bytes())
    }

    /// Reads all that has come, and tells of it.
    ///
    /// # Errors
    ///
    /// The connection has ended.
    pub fn readable(&mut self, buffer: &mut [u8], mut tell: impl FnMut(Heard<'_>)) -> io::Result<()> {
        loop {
            let length = match self.stream.read(buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            self.take(buffer.get(..length).unwrap_or_default(), &mut tell)?;
            // A short read has emptied the socket. Later bytes are another event.
            if length < buffer.len() {
                return Ok(());
            }
        }
    }

    fn take(&mut self, bytes: &[u8], tell: &mut impl FnMut(Heard<'_>)) -> io::Result<()> {
        if self.rest.is_empty() {
            let used = self.parse(bytes, tell)?;
            self.rest = bytes.get(used..).unwrap_or_default().to_vec();
            return Ok(());
        }
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let used = self.parse(&all, tell)?;
        self.rest = all.split_off(used);
        Ok(())
    }

    /// Handles all whole frames, and says how many bytes they took.
    fn parse(&mut self, bytes: &[u8], tell: &mut impl FnMut(Heard<'_>)) -> io::Result<usize> {
        let mut used = 0;
        if self.stage == Stage::Upgrading {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(0) };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            used = end + 4;
            self.stage = Stage::Opening;
        }
        while let Some((opcode, start, end)) = find_frame(bytes.get(used..).unwrap_or_default()) {
            let payload = bytes.get(used + start..used + end).unwrap_or_default();
            match opcode {
                1 => self.hear(payload, tell)?,
                8 => return Err(io::ErrorKind::ConnectionAborted.into()),
                _ => {}
            }
            used += end;
        }
        Ok(used)
    }

    fn hear(&mut self, text: &[u8], tell: &mut impl FnMut(Heard<'_>)) -> io::Result<()> {
        if text.starts_with(b"42[\"slot_update\"") {
            tell(Heard::Update(text));
        } else if text.starts_with(b"42[\"slots_status_update\"") {
            tell(Heard::Snapshot);
        } else if text == b"2" {
            self.stream.write_all(PONG)?;
        } else if text.starts_with(b"0{") && self.stage == Stage::Opening {
            self.stage = Stage::Confirming;
            self.stream.write_all(&self.script.connect)?;
        } else if text.starts_with(b"40") && self.stage == Stage::Confirming {
            self.confirmed(tell)?;
        } else if text.starts_with(b"42[\"joined_space\"") && self.stage == Stage::Joining {
            self.stage = Stage::Settled;
            tell(Heard::Settled);
        } else if [&b"44"[..], b"41", b"42[\"space_error\""].iter().any(|refusal| text.starts_with(refusal)) {
            tell(Heard::Refused(text));
        }
        Ok(())
    }

    fn confirmed(&mut self, tell: &mut impl FnMut(Heard<'_>)) -> io::Result<()> {
        if !self.script.joins {
            self.stage = Stage::Settled;
            tell(Heard::Settled);
            return Ok(());
        }
        self.stage = Stage::Joining;
        if self.script.join.is_empty() { Ok(()) } else { self.stream.write_all(&self.script.join) }
    }
}

/// The head of a browser's request, in its full length: servers keep heads or parts of them.
const UPGRADE: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\n\
Host: 127.0.0.1:3000\r\n\
Connection: Upgrade\r\n\
Pragma: no-cache\r\n\
Cache-Control: no-cache\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36\r\n\
Upgrade: websocket\r\n\
Origin: http://localhost:3000\r\n\
Sec-WebSocket-Version: 13\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Accept-Language: it-IT,it;q=0.9,en-US;q=0.8,en;q=0.7\r\n\
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n";

/// Engine.IO's pong as a frame.
const PONG: &[u8] = &[0x81, 0x81, 0, 0, 0, 0, b'3'];

/// A text frame of a client. Its mask is all zeros, which the protocol allows and which costs nothing.
pub fn client_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(text.len()) {
        Ok(length) if length < 126 => frame.push(0x80 | length.to_le_bytes()[0]),
        Ok(length) => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(text.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// The opcode of the first frame, with the beginning and the end of its payload; `None` until the frame is complete.
fn find_frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let opcode = bytes.first()? & 0x0f;
    let (start, length) = match bytes.get(1)? & 0x7f {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        short => (2, u64::from(short)),
    };
    let end = start + usize::try_from(length).ok()?;
    (bytes.len() >= end).then_some((opcode, start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a server sends it: without a mask.
    fn server_frame(text: &str) -> Vec<u8> {
        let mut frame = client_frame(text);
        let header = if text.len() < 126 { 2 } else { 4 };
        frame[1] &= 0x7f;
        frame.drain(header..header + 4);
        frame
    }

    #[test]
    fn a_frame_is_found_once_it_is_whole() {
        for length in [0, 1, 125, 126, 127, 300, 65_535] {
            let text = "x".repeat(length);
            let frame = server_frame(&text);
            let (opcode, start, end) = find_frame(&frame).unwrap_or_else(|| unreachable!("a whole frame of {length}"));
            assert_eq!((opcode, &frame[start..end], end), (1, text.as_bytes(), frame.len()), "a frame of {length}");
            for cut in 0..frame.len() {
                assert!(find_frame(&frame[..cut]).is_none(), "{cut} bytes of a frame of {length}");
            }
        }
    }

    #[test]
    fn a_client_says_that_it_masks() {
        let frame = client_frame("40");
        assert_eq!(frame, [0x81, 0x82, 0, 0, 0, 0, b'4', b'0']);
    }
}
