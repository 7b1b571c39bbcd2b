//! Sends a request on to another node, and answers what that one answers: long-polls, posts and upgrades.

use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::{Authority, Scheme};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::Response;
use futures_util::future::{Either, select};
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

/// Marks a request that one node has sent to another, so that it is never sent on again.
pub const FORWARDED: HeaderName = HeaderName::from_static("x-slotcast-forwarded");

/// How long another node may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection to another node is kept for the next request; shorter than that node keeps it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// How long one side of a forwarded connection may go on after the other has ended.
const CLOSING_TIME: Duration = Duration::from_secs(5);

/// The way to the other nodes; cheap to clone.
#[derive(Clone, Debug)]
pub struct Proxy(Client<HttpConnector, Body>);

/// Why another node gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// Its address cannot be called.
    #[error("{0:?} is no address of a node")]
    Address(String),
    /// It could not be reached, or broke off.
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
    /// Sends the request to the node at `address` (host and port) and answers its answer. After an upgrade the two
    /// connections are one, until either ends.
    ///
    /// # Errors
    ///
    /// [`ProxyError`]; nothing was answered then.
    pub async fn forward(&self, mut request: Request, address: &str) -> Result<Response, ProxyError> {
        let near = request.extensions_mut().remove::<OnUpgrade>();
        *request.uri_mut() = uri_at(address, request.uri())?;
        request.extensions_mut().clear();
        request.headers_mut().remove(header::HOST);
        request.headers_mut().insert(FORWARDED, HeaderValue::from_static("1"));
        let mut response = self.0.request(request).await?;
        if let (StatusCode::SWITCHING_PROTOCOLS, Some(near)) = (response.status(), near) {
            tokio::spawn(join(near, hyper::upgrade::on(&mut response)));
        }
        // Of the other node's CORS headers this node's own layer replaces all but this one, to which it adds its own.
        response.headers_mut().remove(header::VARY);
        Ok(response.map(Body::new))
    }
}

fn uri_at(address: &str, uri: &Uri) -> Result<Uri, ProxyError> {
    let no_address = || ProxyError::Address(address.to_owned());
    let authority: Authority = address.parse().map_err(|_| no_address())?;
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority);
    Uri::from_parts(parts).map_err(|_| no_address())
}

/// Copies between two upgraded connections until either ends, and then a little longer what the other still sends: a
/// peer that never ends its own side must not keep the two open.
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

/// Copies until the end or an error, and passes the end on.
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
