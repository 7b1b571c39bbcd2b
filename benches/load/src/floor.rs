//! The floor: the least that delivery can cost. This websocket server answers the handshakes of Engine.IO and Socket.IO as
//! far as the generator needs them. For each `PUT` it writes one prebuilt frame to each member of the space. It checks no
//! token, keeps no state, asks no store, and waits for no slow client.
//!
//! `PORT=3000 floor`

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior};

/// How often a client is pinged, as Engine.IO has it by default.
const PING_INTERVAL: Duration = Duration::from_secs(25);

/// Longer than any frame or request that the generator sends.
const READ_BYTES: usize = 2_048;

const OPENED: &str =
    r#"0{"sid":"floorfloorfloorfloor","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":100000}"#;
const CONNECTED: &str = r#"40{"sid":"floorfloorfloorfloor"}"#;

/// The members of each space, by its number.
type Spaces = Arc<Mutex<HashMap<u64, Vec<Arc<OwnedWriteHalf>>>>>;

fn main() -> anyhow::Result<()> {
    let port: u16 = std::env::var("PORT")?.parse()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(accept(port))
}

async fn accept(port: u16) -> anyhow::Result<()> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(([127, 0, 0, 1], port).into())?;
    let listener: TcpListener = socket.listen(4_096)?;
    let spaces = Spaces::default();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A client that goes away ends its task. Nobody needs to know.
        tokio::spawn(serve(stream, spaces.clone()));
    }
}

async fn serve(mut stream: TcpStream, spaces: Spaces) -> io::Result<()> {
    loop {
        let Some(request) = Request::read(&mut stream).await? else { return Ok(()) };
        if let Some(key) = request.websocket_key() {
            stream.write_all(upgrade(&key).as_bytes()).await?;
            let (read, write) = stream.into_split();
            return serve_websocket(read, Arc::new(write), spaces).await;
        }
        publish(&request, &spaces);
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{\"success\":true}";
        stream.write_all(answer.as_bytes()).await?;
    }
}

/// A request as text, head and body.
struct Request {
    head: String,
    body: String,
}

impl Request {
    /// The next request; `None` if the client has gone.
    async fn read(stream: &mut TcpStream) -> io::Result<Option<Self>> {
        let mut text = Vec::new();
        let mut buffer = [0; READ_BYTES];
        loop {
            let length = stream.read(&mut buffer).await?;
            if length == 0 {
                return Ok(None);
            }
            text.extend_from_slice(buffer.get(..length).unwrap_or_default());
            if let Some(request) = Self::parse(&text) {
                return Ok(Some(request));
            }
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = header(head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        (body.len() >= length).then(|| Self { head: head.to_owned(), body: body.to_owned() })
    }

    fn websocket_key(&self) -> Option<String> {
        header(&self.head, "sec-websocket-key").map(str::to_owned)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
}

fn upgrade(key: &str) -> String {
    let mut hash = sha1_smol::Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let accept = base64::engine::general_purpose::STANDARD.encode(hash.digest().bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
    )
}

/// Answers the handshakes, and pings. It has a buffer only while there is something to read.
async fn serve_websocket(read: OwnedReadHalf, write: Arc<OwnedWriteHalf>, spaces: Spaces) -> io::Result<()> {
    send(&write, OPENED);
    let mut pings = tokio::time::interval_at(Instant::now() + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            readable = read.readable() => {
                readable?;
                if !hear(&read, &write, &spaces)? {
                    leave(&write, &spaces);
                    return Ok(());
                }
            }
            _ = pings.tick() => send(&write, "2"),
        }
    }
}

/// Reads what has come. Returns whether the client is still there.
fn hear(read: &OwnedReadHalf, write: &Arc<OwnedWriteHalf>, spaces: &Spaces) -> io::Result<bool> {
    let mut buffer = [0; READ_BYTES];
    let length = match read.try_read(&mut buffer) {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
        Err(_) => 0,
    };
    // The generator masks with zeros and sends whole frames, so the text is readable as it is.
    let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
    if text.contains("40{") {
        send(write, CONNECTED);
        send(write, r#"42["connection_confirmed",{"message":"Connesso al sistema real-time"}]"#);
    }
    if let Some(space) = text.contains("join_space").then(|| number_after(&text, "\"spazioId\":")).flatten() {
        spaces.lock().unwrap_or_else(PoisonError::into_inner).entry(space).or_default().push(write.clone());
        send(write, &format!(r#"42["joined_space",{{"spazioId":{space}}}]"#));
    }
    Ok(length > 0)
}

fn leave(write: &Arc<OwnedWriteHalf>, spaces: &Spaces) {
    for members in spaces.lock().unwrap_or_else(PoisonError::into_inner).values_mut() {
        members.retain(|member| !Arc::ptr_eq(member, write));
    }
}

/// Builds the frame once, as long as slotcast's, and writes it to each member.
fn publish(request: &Request, spaces: &Spaces) {
    let Some(space) = number_after(&request.body, "\"idSpazio\":") else { return };
    let text = format!(
        r#"42["slot_update",{{"type":"slot_update","slotId":1,"status":"blocked","data":{body},"orario":"09:00","timestamp":"2026-01-01T00:00:00.000Z","epoch":"3f1f86f5a6f14c6e9d0f2a7b6c5d4e3f","version":1234567}}]"#,
        body = request.body
    );
    let frame = frame(&text);
    let spaces = spaces.lock().unwrap_or_else(PoisonError::into_inner);
    for member in spaces.get(&space).into_iter().flatten() {
        let _ = member.try_write(&frame);
    }
}

fn send(write: &OwnedWriteHalf, text: &str) {
    let _ = write.try_write(&frame(text));
}

/// A text frame of a server.
fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u16::try_from(text.len()) {
        Ok(length) if length < 126 => frame.push(length.to_le_bytes()[0]),
        Ok(length) => {
            frame.push(126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        Err(_) => {
            frame.push(127);
            frame.extend_from_slice(&(text.len() as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(text.as_bytes());
    frame
}

fn number_after(text: &str, key: &str) -> Option<u64> {
    let (_, rest) = text.split_once(key)?;
    let end = rest.find(|one: char| !one.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}
