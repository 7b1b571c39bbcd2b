//! The layers around every call: shapes, ids, origins, bodies, crowds.

use super::*;

#[tokio::test]
async fn unknown_paths_and_wrong_methods_have_the_one_shape() {
    let app = TestApp::start();
    for path in ["/api", "/api/", "/api/nothing", "/nothing"] {
        assert_eq!(app.get(path).await.refusal(), refused(404, "not_found"), "{path}");
    }
    let answer = app.get("/api/slots").await;
    assert_eq!((answer.refusal(), answer.header("allow")), (refused(405, "not_found"), "PUT"));
    let answer = app.delete("/api/slots/hold", "").await;
    assert_eq!((answer.refusal(), answer.header("allow")), (refused(405, "not_found"), "POST"));
    let answer = app.post("/api/spaces/1/3", "", json!({})).await;
    assert_eq!(answer.refusal(), refused(405, "not_found"));
    let mut allowed: Vec<&str> = answer.header("allow").split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["DELETE", "GET", "HEAD", "PUT"]);
}

#[tokio::test]
async fn a_call_has_a_request_id() {
    let app = TestApp::start();
    let with_id = async |id: &str| {
        let request = Request::get("/api/nothing").header("x-request-id", id).body(Body::empty()).unwrap();
        app.send(request).await.header("x-request-id").to_owned()
    };
    assert_eq!(with_id("trace-1").await, "trace-1");
    let made = with_id(&"x".repeat(500)).await;
    assert!((1..=64).contains(&made.len()), "{made}");
    assert_eq!(app.get("/api/nothing").await.header("x-request-id").len(), 32);
}

#[tokio::test]
async fn cors_allows_exactly_the_configured_origins() {
    let app = TestApp::start();
    let preflight = async |origin: &str| {
        let request = Request::options("/api/slots/1/hold")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type,idempotency-key");
        app.send(request.body(Body::empty()).unwrap()).await
    };
    let allowed = preflight("http://localhost:3000").await;
    assert_eq!(allowed.status, 200);
    assert_eq!(allowed.header("access-control-allow-origin"), "http://localhost:3000");
    assert_eq!(allowed.header("access-control-allow-credentials"), "true");
    assert_eq!(allowed.header("access-control-allow-methods"), "GET,POST,PUT,DELETE");
    assert_eq!(allowed.header("access-control-allow-headers"), "authorization,content-type,idempotency-key");
    for other in ["http://localhost:3001", "https://localhost:3000", "http://localhost:3000.evil.example", "null"] {
        assert_eq!(preflight(other).await.header("access-control-allow-origin"), "", "{other}");
    }
    let answer = Request::get("/api/holds").header("origin", "http://localhost:3000").body(Body::empty()).unwrap();
    let answer = app.send(answer).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("access-control-allow-origin"), "http://localhost:3000", "refusals can be read, too");
}

#[tokio::test]
async fn a_client_that_sends_five_mebibytes_slowly_reads_the_413() {
    let app = TestApp::start();
    let (address, token) = (app.serve().await, app.user("7"));
    for authorization in [format!("authorization: Bearer {token}\r\n"), String::new()] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (chunks, chunk) = (80, vec![b' '; 64 * 1024]);
        let length = chunks * chunk.len();
        let head =
            format!("POST /api/slots/hold HTTP/1.1\r\nhost: x\r\n{authorization}content-length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..chunks {
            stream.write_all(&chunk).await.expect("what is still sent is taken");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut answer = Vec::new();
        while !answer.ends_with(b"}") {
            assert_ne!(stream.read_buf(&mut answer).await.expect("no reset"), 0, "an answer");
        }
        let answer = String::from_utf8(answer).unwrap();
        let expected = if authorization.is_empty() { "HTTP/1.1 401 " } else { "HTTP/1.1 413 " };
        assert!(answer.starts_with(expected), "{answer}");
    }
}

#[tokio::test]
async fn five_hundred_holds_of_one_slot_at_once_are_one() {
    let app = std::sync::Arc::new(TestApp::start());
    let calls: Vec<_> = (0..500)
        .map(|user| {
            let app = app.clone();
            tokio::spawn(
                async move { app.post("/api/slots/1/hold", &app.user(&user.to_string()), slot(&app)).await.status },
            )
        })
        .collect();
    let mut statuses = Vec::new();
    for call in calls {
        statuses.push(call.await.unwrap());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == 409).count(), 499);
    let board = app.get(&format!("/api/slots/3/{}?sedeId=1", app.tomorrow())).await.data();
    assert_eq!(board["version"], 1);
}
