//! Sends requests on to another node, and answers with that node's answers: long-polls, posts and upgrades.

use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::{Authority, Scheme};
use axum::http::{HeaderName, StatusCode, Uri, header};
use axum::response::Response;
use futures_util::future::{Either, select};
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// Marks a request that one node has sent to another. A marked request is never sent on again.
pub const FORWARDED: HeaderName = HeaderName::from_static("x-slotcast-forwarded");

/// The request headers that another node needs: for a body, for a websocket, and for the request's id in both logs.
const SENT_ON: [HeaderName; 8] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::UPGRADE,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_PROTOCOL,
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("traceparent"),
];

/// The headers of an answer that a client needs.
const SENT_BACK: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::UPGRADE,
    header::RETRY_AFTER,
    header::SEC_WEBSOCKET_ACCEPT,
    header::SEC_WEBSOCKET_PROTOCOL,
];

/// The statuses with which a node answers an Engine.IO request, besides switching protocols.
const STATUSES: [StatusCode; 6] = [
    StatusCode::OK,
    StatusCode::BAD_REQUEST,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::UPGRADE_REQUIRED,
    StatusCode::SERVICE_UNAVAILABLE,
];

/// The content types of these answers. No browser shows any of them as a page.
const CONTENT_TYPES: [&[u8]; 4] =
    [b"text/plain; charset=UTF-8", b"text/plain; charset=utf-8", b"application/octet-stream", b"application/json"];

/// How long another node may take to answer, which is longer than any poll or body takes.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(75);

/// How long another node may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long an idle connection to another node is kept. The other node keeps it longer.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long one side of a forwarded connection may continue after the other has ended.
const CLOSING_TIME: Duration = Duration::from_secs(5);

/// A client for requests to other nodes; cheap to clone.
#[derive(Clone, Debug)]
pub struct Proxy(Client<HttpConnector, Body>);

/// Why another node gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Its address cannot be called.
    #[error("{0:?} is not the address of a node")]
    Address(String),
    /// Something other than a node answered.
    #[error("the server there is not a node of slotcast: it answered {0}")]
    Answer(StatusCode),
    /// The other node accepted the request, and answered nothing.
    #[error("another node said nothing for {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
    /// The other node could not be reached, or broke off.
    #[error("another node did not answer: {0}")]
    Request(#[from] Error),
}

impl Default for Proxy {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .build(connector);
        Self(client)
    }
}

impl Proxy {
    /// Sends a request with this path and query to the node at `address` (host and port), and answers with that node's
    /// answer. Only the few headers of an Engine.IO request and its answer pass. Tokens, cookies and headers that an
    /// operator's proxy adds stay here. After an upgrade the two connections are joined until either ends.
    ///
    /// # Errors
    ///
    /// [`ProxyError`]. Then the client was answered nothing yet.
    pub async fn forward(&self, request: Request, path: &str, address: &str) -> Result<Response, ProxyError> {
        let (mut head, body) = request.into_parts();
        let near = head.extensions.remove::<OnUpgrade>();
        let uri = uri_at(address, path)?;
        let mut onward = Request::builder().method(head.method).uri(uri).header(FORWARDED, "1");
        for name in SENT_ON {
            for value in head.headers.get_all(&name) {
                onward = onward.header(&name, value);
            }
        }
        if head.headers.contains_key(header::UPGRADE) {
            onward = onward.header(header::CONNECTION, "Upgrade");
        }
        let onward = onward.body(body).map_err(|_| ProxyError::Address(address.to_owned()))?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.0.request(onward)).await;
        let mut answer = answer.map_err(|_| ProxyError::Silent)??;
        let fits = match answer.status() {
            StatusCode::SWITCHING_PROTOCOLS => near.is_some(),
            status => {
                STATUSES.contains(&status)
                    && answer
                        .headers()
                        .get(header::CONTENT_TYPE)
                        .is_none_or(|kind| CONTENT_TYPES.contains(&kind.as_bytes()))
            }
        };
        if !fits {
            return Err(ProxyError::Answer(answer.status()));
        }
        let mut response = Response::builder().status(answer.status());
        for name in SENT_BACK {
            if let Some(value) = answer.headers().get(&name) {
                response = response.header(&name, value);
            }
        }
        if let (StatusCode::SWITCHING_PROTOCOLS, Some(near)) = (answer.status(), near) {
            response = response.header(header::CONNECTION, "Upgrade");
            let far = hyper::upgrade::on(&mut answer);
            tokio::spawn(join(near, far));
        }
        let status = answer.status();
        response.body(Body::new(answer.into_body())).map_err(|_| ProxyError::Answer(status))
    }
}

fn uri_at(address: &str, path: &str) -> Result<Uri, ProxyError> {
    let no_address = || ProxyError::Address(address.to_owned());
    let authority: Authority = address.parse().map_err(|_| no_address())?;
    Uri::builder().scheme(Scheme::HTTP).authority(authority).path_and_query(path).build().map_err(|_| no_address())
}

/// Copies between two upgraded connections until either ends. Then copies the rest from the other side for a short time
/// only: a peer that never ends its side must not keep both open.
async fn join(near: OnUpgrade, far: OnUpgrade) {
    match tokio::try_join!(near, far) {
        Ok((near, far)) => copy_both_ways(TokioIo::new(near), TokioIo::new(far)).await,
        Err(error) => tracing::debug!(%error, "an upgrade was not completed"),
    }
}

async fn copy_both_ways(near: impl AsyncRead + AsyncWrite, far: impl AsyncRead + AsyncWrite) {
    let ((near_reader, near_writer), (far_reader, far_writer)) = (tokio::io::split(near), tokio::io::split(far));
    let outward = pin!(copy(near_reader, far_writer));
    let inward = pin!(copy(far_reader, near_writer));
    match select(outward, inward).await {
        Either::Left((_, inward)) => drop(tokio::time::timeout(CLOSING_TIME, inward).await),
        Either::Right((_, outward)) => drop(tokio::time::timeout(CLOSING_TIME, outward).await),
    }
}

/// Copies until the end or an error, and then ends the other side, too.
async fn copy(mut reader: impl AsyncRead + Unpin, mut writer: impl AsyncWrite + Unpin) {
    let copied = tokio::io::copy(&mut reader, &mut writer).await;
    let ended = copied.and(writer.shutdown().await);
    if let Err(error) = ended {
        tracing::debug!(%error, "a forwarded connection ended");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_end_its_side_is_let_go() {
        let (mut client, near) = tokio::io::duplex(64);
        let (mut owner, far) = tokio::io::duplex(64);
        let joined = tokio::spawn(copy_both_ways(near, far));
        owner.write_all(b"bye").await.unwrap();
        owner.shutdown().await.unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"bye");
        let ended_at = tokio::time::Instant::now();
        // The client hears the end, and keeps its own side open.
        joined.await.unwrap();
        assert!(ended_at.elapsed() <= CLOSING_TIME, "{:?}", ended_at.elapsed());
        drop(client);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_still_on_its_way_arrives_after_the_other_side_has_ended() {
        let (mut client, near) = tokio::io::duplex(64);
        let (mut owner, far) = tokio::io::duplex(64);
        let joined = tokio::spawn(copy_both_ways(near, far));
        client.shutdown().await.unwrap();
        assert_eq!(owner.read(&mut [0; 8]).await.unwrap(), 0);
        owner.write_all(b"last words").await.unwrap();
        drop(owner);
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"last words");
        joined.await.unwrap();
    }
}
