//! Request bodies of bounded size.
//!
//! A server that answers and closes while its client is still sending makes the kernel send a reset, and the client loses
//! the answer. So the rest of an unread body is read and thrown away for a while after the answer: hyper keeps the
//! connection open as long as somebody reads.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use crate::domain::{Code, Refusal};

/// The most bytes that a request's body may have.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// How long the rest of an unread body is read.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// How much of the rest of an unread body is read.
const DRAIN_BYTES: u64 = 64 * 1024 * 1024;

/// Reads the whole body. Answers `too_large` as soon as that is certain.
pub async fn read_body(body: Body) -> Result<Bytes, Refusal> {
    if body.size_hint().lower() > MAX_BODY_BYTES as u64 {
        return Err(too_large());
    }
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => Err(Refusal::because(Code::Malformed, "the body ended too early")),
    }
}

fn too_large() -> Refusal {
    Refusal::telling(Code::TooLarge, format_args!("{MAX_BODY_BYTES} byte"))
}

/// Makes sure that the sender of this request can read the answer, even if nobody reads the body.
pub async fn drain_when_unread(request: Request) -> Request {
    request.map(|body| if body.is_end_stream() { body } else { Body::new(DrainOnDrop { body: Some(body) }) })
}

/// A body whose rest is read when it is dropped.
struct DrainOnDrop {
    /// `None` once the whole body was read.
    body: Option<Body>,
}

impl HttpBody for DrainOnDrop {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.as_ref().map_or(hyper::body::SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for DrainOnDrop {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        // Without a runtime the connection is gone as well.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(DRAIN_TIME, drain(body)));
        }
    }
}

async fn drain(mut body: Body) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, |data| data.len() as u64);
        if read > DRAIN_BYTES {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::response::IntoResponse;
    use axum::routing::post;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::http::error::ApiError;

    /// A server with a path that reads its body, and a path that refuses before it does.
    async fn start_server() -> std::net::SocketAddr {
        async fn measure(body: Body) -> Result<String, ApiError> {
            Ok(read_body(body).await?.len().to_string())
        }
        let routes = Router::new()
            .route("/measure", post(measure))
            .route("/refuse", post(async || ApiError::from(Code::Unauthorized).into_response()))
            .layer(axum::middleware::map_request(drain_when_unread));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    /// Sends all of a body of 5 MiB, slowly, and only then reads the answer.
    async fn send_everything_then_read(path: &str, encoding: &str) -> String {
        let mut stream = TcpStream::connect(start_server().await).await.unwrap();
        let (chunks, chunk) = (80, vec![b'x'; 64 * 1024]);
        let head = match encoding {
            "chunked" => "transfer-encoding: chunked".to_owned(),
            _ => format!("content-length: {}", chunks * chunk.len()),
        };
        stream.write_all(format!("POST {path} HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n").as_bytes()).await.unwrap();
        for _ in 0..chunks {
            if encoding == "chunked" {
                stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await.unwrap();
            }
            stream.write_all(&chunk).await.unwrap();
            if encoding == "chunked" {
                stream.write_all(b"\r\n").await.unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if encoding == "chunked" {
            stream.write_all(b"0\r\n\r\n").await.unwrap();
        }
        read_answer(&mut stream).await
    }

    /// Reads until the body's closing brace.
    async fn read_answer(stream: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            assert_ne!(stream.read_buf(&mut answer).await.expect("no reset"), 0, "an answer");
        }
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn a_client_that_sends_everything_first_reads_the_413() {
        for encoding in ["length", "chunked"] {
            let answer = send_everything_then_read("/measure", encoding).await;
            assert!(answer.starts_with("HTTP/1.1 413 "), "{encoding}: {answer}");
            assert!(answer.contains("connection: close\r\n"), "{encoding}: {answer}");
            assert!(answer.contains(r#""code":"too_large""#), "{encoding}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_client_that_sends_everything_first_reads_a_refusal_that_did_not_need_the_body() {
        for encoding in ["length", "chunked"] {
            let answer = send_everything_then_read("/refuse", encoding).await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{encoding}: {answer}");
        }
    }

    #[tokio::test]
    async fn the_413_comes_at_once_while_the_client_is_still_sending() {
        let mut stream = TcpStream::connect(start_server().await).await.unwrap();
        let head = "POST /measure HTTP/1.1\r\nhost: x\r\ncontent-length: 5242880\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_answer(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        let rest = vec![b'x'; 5_242_880];
        stream.write_all(&rest).await.expect("what is still sent is taken");
        let mut end = Vec::new();
        assert_eq!(stream.read_to_end(&mut end).await.expect("closed without a reset"), 0);
    }

    #[tokio::test]
    async fn a_body_of_exactly_the_limit_is_taken() {
        let body = |bytes: usize| Body::from(vec![b'x'; bytes]);
        assert_eq!(read_body(body(MAX_BODY_BYTES)).await.unwrap().len(), MAX_BODY_BYTES);
        assert_eq!(read_body(body(MAX_BODY_BYTES + 1)).await.unwrap_err().code, Code::TooLarge);
    }
}
