use futures_util::FutureExt;
use prometheus::IntCounter;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::guarded::{GATHERED_BYTES, PING_HEAD, PONG_HEAD, READ_WHILE_BEHIND};
use super::*;

#[tokio::test]
async fn a_killed_connection_fails_its_waiting_reader() {
    let connections = Connections::default();
    let (near, _far) = tokio::io::duplex(64);
    let mut guarded = connections.guard(near);
    let handle = guarded.handle();
    let reader = tokio::spawn(async move { guarded.read_u8().await });
    tokio::task::yield_now().await;
    handle.kill();
    assert_eq!(reader.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    assert_eq!(connections.count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_stops_reading_is_closed_after_the_deadline() {
    let connections = Connections::default();
    let (near, _far) = tokio::io::duplex(16);
    let mut guarded = connections.guard(near);
    let started = tokio::time::Instant::now();
    let error = guarded.write_all(&[0; 64]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(started.elapsed().as_secs(), WRITE_STALL.as_secs());
    assert!(guarded.read_u8().await.is_err());
}

#[tokio::test]
async fn a_paused_connection_reads_again_when_resumed() {
    let connections = Connections::default();
    let (near, mut far) = tokio::io::duplex(64);
    let mut guarded = connections.guard(near);
    let handle = guarded.handle();
    handle.pause_reading();
    far.write_u8(7).await.unwrap();
    let mut reader = tokio::spawn(async move { guarded.read_u8().await.unwrap() });
    tokio::select! {
        biased;
        _ = &mut reader => panic!("read while paused"),
        () = tokio::task::yield_now() => {}
    }
    handle.resume_reading();
    assert_eq!(reader.await.unwrap(), 7);
}

#[tokio::test]
async fn a_handshake_leaves_at_once_when_the_peer_is_waited_for() {
    let connections = Connections::default();
    let (near, mut far) = tokio::io::duplex(64);
    let mut guarded = connections.guard(near);
    guarded.handle().gather_handshake();
    let mut heard = [0; 64];
    for part in ["head,", "open,"] {
        guarded.write_all(part.as_bytes()).await.unwrap();
        guarded.flush().await.unwrap();
        assert!(far.read(&mut heard).now_or_never().is_none(), "{part} was sent alone");
    }
    assert!(guarded.read_u8().now_or_never().is_none());
    assert_eq!(far.read(&mut heard).await.unwrap(), "head,open,".len());
    assert_eq!(guarded.handle().written_bytes(), "head,open,".len() as u64);
    guarded.write_all(b"later").await.unwrap();
    assert_eq!(far.read(&mut heard).await.unwrap(), "later".len());
}

#[tokio::test]
async fn a_handshake_that_is_too_long_for_the_peer_leaves_as_the_peer_reads() {
    let connections = Connections::default();
    let (near, mut far) = tokio::io::duplex(16);
    let mut guarded = connections.guard(near);
    guarded.handle().gather_handshake();
    let handshake = vec![7; 2 * GATHERED_BYTES];
    guarded.write_all(&handshake).await.unwrap();
    let reader = tokio::spawn(async move { guarded.read_u8().await });
    let mut heard = vec![0; handshake.len()];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, handshake);
    far.write_u8(9).await.unwrap();
    assert_eq!(reader.await.unwrap().unwrap(), 9);
}

#[tokio::test]
async fn what_was_gathered_leaves_before_the_end() {
    let connections = Connections::default();
    let (near, mut far) = tokio::io::duplex(64);
    let mut guarded = connections.guard(near);
    guarded.handle().gather_handshake();
    guarded.write_all(b"head").await.unwrap();
    guarded.shutdown().await.unwrap();
    let mut heard = Vec::new();
    far.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"head");
}

#[test]
fn one_connection_more_than_the_limit_is_refused_and_counted() {
    let refused = IntCounter::new("refused", "refused").unwrap();
    let connections = Connections::limited(1, refused.clone());
    assert!(connections.admits_one());
    let open = connections.guard(());
    assert!(!connections.admits_one());
    drop(open);
    assert!(connections.admits_one());
    assert_eq!(refused.get(), 1);
}

#[test]
fn only_what_carries_a_session_now_is_closed_as_one() {
    let connections = Connections::default();
    let guarded = connections.guard(());
    let handle = guarded.handle();
    let poll = handle.begin_poll();
    assert_eq!(connections.with_sockets().len(), 1);
    drop(poll);
    assert!(connections.with_sockets().is_empty());
    handle.kill_socket();
    assert!(handle.check_alive().is_ok());
    handle.mark_websocket();
    handle.kill_socket();
    assert!(handle.check_alive().is_err());
}

#[tokio::test]
async fn an_upgraded_session_is_forgotten_with_its_connection() {
    let connections = Connections::default();
    let (near, _far) = tokio::io::duplex(64);
    let guarded = connections.guard(near);
    connections.set_upgraded("engine-id", &guarded.handle());
    assert!(connections.upgraded("engine-id").is_some());
    drop(guarded);
    assert!(connections.upgraded("engine-id").is_none());
}

/// A client's answer to a ping.
fn pong(payload: u64) -> Vec<u8> {
    let mask = [7, 1, 200, 3];
    let bytes = payload.to_be_bytes();
    let masked = bytes.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    PONG_HEAD.into_iter().chain(mask).chain(masked).collect()
}

/// A ping as the peer gets it.
fn ping(payload: u64) -> Vec<u8> {
    PING_HEAD.into_iter().chain(payload.to_be_bytes()).collect()
}

const EVENT: &[u8] = b"\x81\x0542[1]";

/// A connection that has just become a websocket, and its peer's side.
async fn websocket(buffer: usize) -> (Guarded<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
    let (near, mut far) = tokio::io::duplex(buffer);
    let mut guarded = Connections::default().guard(near);
    guarded.handle().mark_websocket();
    let head = b"HTTP/1.1 101 OK\r\n\r\n";
    let mut heard = vec![0; head.len()];
    let (written, read) = tokio::join!(guarded.write_all(head), far.read_exact(&mut heard));
    assert!(written.is_ok() && read.is_ok());
    (guarded, far)
}

async fn hears(far: &mut tokio::io::DuplexStream, expected: &[u8]) {
    let mut heard = vec![0; expected.len()];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, expected);
}

#[tokio::test]
async fn what_has_left_is_shown_by_the_answer_to_a_ping_that_follows_it() {
    let (mut guarded, mut far) = websocket(64).await;
    let handle = guarded.handle();
    handle.ask_shown(2);
    for count in 1..=2 {
        guarded.write_all(EVENT).await.unwrap();
        guarded.flush().await.unwrap();
        hears(&mut far, EVENT).await;
        assert_eq!((handle.left_packets(), handle.shown_packets()), (count, 0));
    }
    hears(&mut far, &ping(2)).await;
    // A packet that never left cannot be confirmed.
    far.write_all(&pong(3)).await.unwrap();
    far.write_all(&pong(2)).await.unwrap();
    let mut read = [0; 64];
    while handle.shown_packets() == 0 {
        assert_ne!(guarded.read(&mut read).await.unwrap(), 0);
    }
    assert_eq!(handle.shown_packets(), 2);
    // The peer was asked once only.
    guarded.flush().await.unwrap();
    assert!(far.read(&mut read).now_or_never().is_none());
}

#[tokio::test]
async fn what_left_before_it_was_asked_for_is_asked_for_by_the_reader() {
    let (mut guarded, mut far) = websocket(64).await;
    let handle = guarded.handle();
    guarded.write_all(EVENT).await.unwrap();
    guarded.flush().await.unwrap();
    hears(&mut far, EVENT).await;
    let reader = tokio::spawn(async move { guarded.read_u8().await });
    tokio::task::yield_now().await;
    handle.ask_shown(1);
    hears(&mut far, &ping(1)).await;
    far.write_all(&pong(1)).await.unwrap();
    assert_eq!(reader.await.unwrap().unwrap(), PONG_HEAD[0]);
}

// Attack 2: bytes that the library queues and the outbox does not know of.
#[tokio::test]
async fn who_does_not_read_is_not_read_for_ever_and_is_read_again_once_all_is_written() {
    let (mut guarded, mut far) = websocket(4 * READ_WHILE_BEHIND).await;
    let sent = vec![7; 2 * READ_WHILE_BEHIND];
    far.write_all(&sent).await.unwrap();
    let answers = vec![8; 5 * READ_WHILE_BEHIND];
    let written = guarded.write(&answers).now_or_never().unwrap().unwrap();
    assert!(guarded.write(&answers[written..]).now_or_never().is_none(), "its peer has to read first");
    let mut read = vec![0; sent.len()];
    let mut count = 0;
    // The data is read in a few pieces, because tokio pauses a task that was ready at many polls in a row.
    while let Some(more) = guarded.read(&mut read[count..][..4_096]).now_or_never() {
        count += more.unwrap();
    }
    assert_eq!(count, READ_WHILE_BEHIND);
    let mut heard = vec![0; answers.len()];
    // A part of the waiting bytes is written, and the rest still waits.
    far.read_exact(&mut heard[..1_000]).await.unwrap();
    let more = guarded.write(&answers[written..]).now_or_never().unwrap().unwrap();
    assert_eq!(more, 1_000);
    assert!(guarded.write(&answers[written + more..]).now_or_never().is_none());
    assert!(guarded.read(&mut read).now_or_never().is_none(), "it is as far behind as before");
    let (mut reading, mut writing) = tokio::io::split(guarded);
    let reader = tokio::spawn(async move { reading.read_exact(&mut read[count..]).await.map(drop) });
    tokio::task::yield_now().await;
    far.read_exact(&mut heard[1_000..written + more]).await.unwrap();
    tokio::task::yield_now().await;
    assert!(!reader.is_finished());
    writing.write_all(&answers[written + more..]).await.unwrap();
    writing.flush().await.unwrap();
    reader.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_ping_waits_for_the_end_of_a_frame_and_for_the_writer_that_waits() {
    let (guarded, mut far) = websocket(EVENT.len()).await;
    let handle = guarded.handle();
    let (mut reading, mut writing) = tokio::io::split(guarded);
    let reader = tokio::spawn(async move { reading.read_u8().await });
    let frames = [EVENT, EVENT, EVENT].concat();
    let writer = tokio::spawn(async move {
        writing.write_all(&frames).await.unwrap();
        writing.flush().await.unwrap();
        writing
    });
    tokio::task::yield_now().await;
    handle.ask_shown(1);
    tokio::task::yield_now().await;
    hears(&mut far, EVENT).await;
    let mut rest = vec![0; 2 * EVENT.len() + ping(0).len()];
    far.read_exact(&mut rest).await.unwrap();
    let _writing = writer.await.unwrap();
    // The packets that had left at each of the three places where a frame may begin.
    let places = (0..=2).map(|before| {
        let events = [EVENT, EVENT];
        [events[..before].concat(), ping(before as u64 + 1), events[before..].concat()].concat()
    });
    assert!(places.into_iter().any(|expected| expected == rest), "{rest:?}");
    assert!(!reader.is_finished(), "nothing came");
}
