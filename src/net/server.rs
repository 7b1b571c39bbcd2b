//! Accepts connections and serves HTTP/1.1 with upgrades on them.

use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tower_http::set_header::SetResponseHeaderLayer;

use super::connection::{Connections, Guarded};

/// How long a peer may take to send a request head, and how long a connection may idle between two requests. This is longer
/// than the 60 s for which proxies keep idle connections: the proxy closes first, and no request is lost.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// How long the kernel keeps sending data that the peer does not acknowledge.
const USER_TIMEOUT: Duration = Duration::from_secs(15);

/// The largest head of a request, and how much is read ahead. A token of 8 KiB with as many cookies fits three times. One
/// connection of a stranger can pin this much memory for [`HEAD_TIMEOUT`].
const HEAD_BYTES: usize = 48 * 1024;

/// The kernel's send buffer. A peer that stops reading can pin this much besides its queue.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// How many connections may wait to be accepted.
const LISTEN_QUEUE: u32 = 65_535;

/// The answer to a connection beyond the limit.
const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 5\r\nconnection: close\r\n\r\n";

/// How often refused connections are logged.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The peer's address, as an extension of each request.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub SocketAddr);

/// Listens with a queue that holds a storm of reconnecting clients. The kernel clamps it to its own limit. It drops
/// connections beyond the queue, whose peers all try again at the same moments, at doubling intervals.
///
/// # Errors
///
/// The address is taken, or does not belong to this machine.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    // The options are set before listening, because a connection inherits the options that its listener had when the peer
    // connected.
    set_options(SockRef::from(&socket));
    socket.listen(LISTEN_QUEUE)
}

/// Serves until `shutdown` is cancelled. Then accepts no more, and lets each connection end with its current request.
/// Returns once the last one has ended. Upgraded connections end when they are killed.
pub async fn serve(listener: TcpListener, router: Router, connections: Connections, shutdown: CancellationToken) {
    let tasks = TaskTracker::new();
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        () = accept(&listener, &router, &connections, &shutdown, &tasks) => {}
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// Serves refusals until the caller has something to serve. Never returns; the caller drops the future. Connections that
/// are open then still get one answer from `router`, because a caller that has just connected might not notice a connection
/// that closes without one.
pub async fn serve_meanwhile(listener: &TcpListener, router: Router) {
    let close = HeaderValue::from_static("close");
    let router = router.layer(SetResponseHeaderLayer::overriding(header::CONNECTION, close));
    accept(listener, &router, &Connections::default(), &CancellationToken::new(), &TaskTracker::new()).await;
}

async fn accept(
    listener: &TcpListener,
    router: &Router,
    connections: &Connections,
    shutdown: &CancellationToken,
    tasks: &TaskTracker,
) {
    set_options(SockRef::from(listener));
    let mut told_at = None;
    loop {
        match listener.accept().await {
            Ok((stream, _)) if !connections.admits_one() => {
                refuse(stream);
                tell_refused(&mut told_at, connections.count());
            }
            Ok((stream, peer)) => {
                // The connection is counted before the next one is accepted.
                let guarded = connections.guard(stream);
                tasks.spawn(serve_connection(guarded, peer, router.clone(), shutdown.clone()));
            }
            Err(error) => back_off(&error).await,
        }
    }
}

async fn serve_connection(guarded: Guarded<TcpStream>, peer: SocketAddr, router: Router, shutdown: CancellationToken) {
    let handle = guarded.handle();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(handle.clone());
        request.extensions_mut().insert(PeerAddress(peer));
        let router = router.clone();
        async move {
            Ok::<_, Infallible>(router.oneshot(request.map(Body::new)).await.unwrap_or_else(|never| match never {}))
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(guarded), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Sends a refusal. A failure does no harm, because nobody waits for a refused peer.
fn refuse(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.write(REFUSAL);
    }
}

fn tell_refused(told_at: &mut Option<Instant>, open: usize) {
    if told_at.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
        *told_at = Some(Instant::now());
        tracing::error!(open, "connections are refused: the limit of open files is reached; raise it (`ulimit -n`)");
    }
}

/// Sets the options on the listener, from which accepted connections inherit them. Setting them on each connection
/// would cost three system calls. A connection works without them, so failures are ignored.
fn set_options(socket: SockRef<'_>) {
    let options = [
        socket.set_tcp_nodelay(true),
        socket.set_send_buffer_size(SEND_BUFFER_BYTES),
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT)),
    ];
    for error in options.into_iter().filter_map(Result::err) {
        tracing::debug!(%error, "a socket option was refused");
    }
}

/// Waits a little, so that the node can recover. Without descriptors or memory, accepting would fail at once, over and
/// over.
async fn back_off(error: &std::io::Error) {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    if matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset) {
        return;
    }
    tracing::error!(%error, "cannot accept connections: if too many files are open, raise `ulimit -n`");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn connections_inherit_the_options_of_their_listener() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
        assert_eq!(socket.send_buffer_size().unwrap(), SockRef::from(&listener).send_buffer_size().unwrap());
        // The kernel doubles the size that it is asked for.
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * SEND_BUFFER_BYTES);
    }
}
