//! A whole node in this process, and clients that speak Engine.IO by HTTP polling, packet by packet. The tests see what
//! a socket is sent, and in which order, which a client library would hide.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use slotcast::clock;
use slotcast::config::Config;
use slotcast::domain::{Day, Schedule, UserId};
use slotcast::node::{self, Listeners, Stores};
use slotcast::store::embedded::EmbeddedStore;
use slotcast::store::{Publication, SlotStore};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::{default_config, token};

/// How long an expected event may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node that runs until the test ends.
struct Node {
    address: SocketAddr,
    store: Arc<EmbeddedStore>,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
    _folder: tempfile::TempDir,
}

impl Node {
    async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = default_config(folder.path());
        change(&mut config);
        let store = Arc::new(EmbeddedStore::open(folder.path()).unwrap());
        let health = store.health();
        let stores = Stores { store: store.clone(), subscriptions: store.clone(), is_shared: false, health };
        let public = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = public.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(node::run(config, stores, Listeners { public, admin: None }, shutdown.clone()));
        let node = Self { address, store, shutdown, running, _folder: folder };
        node.becomes_ready().await;
        node
    }

    async fn becomes_ready(&self) {
        let url = format!("http://{}/readyz", self.address);
        let ready = async {
            while reqwest::get(&url).await.unwrap().status() != 200 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, ready).await.is_ok());
    }

    async fn notify(&self, user: &str, event: &str) {
        let data = RawValue::from_string("{}".into()).unwrap();
        let user = UserId::new(user).unwrap();
        self.store.publish(Publication::ToUser { user, event: event.into(), data }).await.unwrap();
    }
}

/// A client without a library.
struct Client {
    http: reqwest::Client,
    url: String,
    packets: VecDeque<String>,
}

impl Client {
    /// Connects, and reads up to the answer.
    async fn connect(node: &Node, token: &str) -> Self {
        let mut client = Self::open(node).await;
        client.send(&[format!("40{}", json!({"token": token}))]).await;
        assert!(client.packet().await.starts_with("40"));
        client
    }

    /// An Engine.IO session that is not connected to the namespace yet.
    async fn open(node: &Node) -> Self {
        let http = reqwest::Client::new();
        let url = format!("http://{}/socket.io/?EIO=4&transport=polling", node.address);
        let opened = http.get(&url).send().await.unwrap().text().await.unwrap();
        let opened: Value = serde_json::from_str(&opened[1..]).unwrap();
        let url = format!("{url}&sid={}", opened["sid"].as_str().unwrap());
        Self { http, url, packets: VecDeque::new() }
    }

    async fn send(&self, packets: &[String]) {
        let sent = self.http.post(&self.url).body(packets.join("\u{1e}")).send().await.unwrap();
        assert_eq!(sent.status(), 200);
    }

    /// The next packet that is not a ping.
    async fn packet(&mut self) -> String {
        loop {
            while let Some(packet) = self.packets.pop_front() {
                match packet.as_str() {
                    "2" => self.send(&["3".into()]).await,
                    _ => return packet,
                }
            }
            let poll = self.http.get(&self.url).timeout(PATIENCE).send().await.unwrap();
            assert_eq!(poll.status(), 200);
            self.packets.extend(poll.text().await.unwrap().split('\u{1e}').map(str::to_owned));
        }
    }

    /// The next event.
    async fn event(&mut self) -> (String, Value) {
        let packet = self.packet().await;
        let event = packet.strip_prefix("42").unwrap_or_else(|| panic!("an event, not {packet}"));
        serde_json::from_str(event).unwrap()
    }

    /// Names of the next events, after `connection_confirmed`.
    async fn names(&mut self, count: usize) -> Vec<String> {
        assert_eq!(self.event().await.0, "connection_confirmed");
        let mut names = Vec::new();
        for _ in 0..count {
            names.push(self.event().await.0);
        }
        names
    }
}

fn user(id: &str) -> String {
    token(json!({"id_utente": id}))
}

#[tokio::test]
async fn what_is_sent_before_the_connection_is_confirmed_takes_effect_in_order() {
    let node = Node::start(|_| {}).await;
    let mut client = Client::open(&node).await;
    let connect = format!("40{}", json!({"token": user("7")}));
    client.send(&[connect]).await;
    // The client has not read anything, so it does not know that it is connected.
    let join = |space: u64| format!("42{space}{}", json!(["join_space", {"spazioId": space, "sedeId": 1}]));
    client.send(&(1..=50).map(join).collect::<Vec<_>>()).await;
    assert!(client.packet().await.starts_with("40"));
    assert_eq!(client.event().await.0, "connection_confirmed");
    for space in 1..=50 {
        let (name, joined) = client.event().await;
        assert_eq!((name.as_str(), &joined["spazioId"]), ("joined_space", &json!(space)));
        assert!(client.packet().await.starts_with(&format!("43{space}[{{\"ok\":true")));
    }
}

#[tokio::test]
async fn a_thousand_events_in_one_request_are_each_answered_in_order_while_the_next_request_waits() {
    let node = Node::start(|_| {}).await;
    let mut client = Client::connect(&node, &user("7")).await;
    assert_eq!(client.event().await.0, "connection_confirmed");
    let sync = |id: usize| format!("42{id}{}", json!(["sync", {}]));
    client.send(&(0..1_000).map(sync).collect::<Vec<_>>()).await;
    client.send(&(1_000..1_100).map(sync).collect::<Vec<_>>()).await;
    for id in 0..1_100 {
        let answer = client.packet().await;
        assert!(answer.starts_with(&format!("43{id}[{{\"ok\":false")), "{id}: {answer}");
    }
}

#[tokio::test]
async fn one_that_does_not_read_is_told_to_begin_anew_and_nobody_else_notices() {
    let node = Node::start(|_| {}).await;
    let mut slow = Client::connect(&node, &user("7")).await;
    let mut other = Client::connect(&node, &user("8")).await;
    let syncs: Vec<String> = (0..500).map(|id| format!("42{id}{}", json!(["sync", {}]))).collect();
    for _ in 0..3 {
        slow.send(&syncs).await;
    }
    let refused = async {
        // The connection stays open, because it may carry other clients' requests.
        while slow.http.post(&slow.url).body("3").send().await.unwrap().status() != 400 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, refused).await.is_ok());
    let poll = slow.http.get(&slow.url).send().await.unwrap();
    assert_eq!((poll.status().as_u16(), poll.text().await.unwrap().contains("Session ID unknown")), (400, true));
    // The notification cannot have been received, so the next connection gets it.
    node.notify("7", "news").await;
    node.notify("8", "news").await;
    assert_eq!(other.names(1).await, ["news"]);
    slow = Client::connect(&node, &user("7")).await;
    assert_eq!(slow.names(1).await, ["news"]);
}

#[tokio::test]
async fn one_that_missed_much_in_several_rooms_comes_back() {
    let node = Node::start(|_| {}).await;
    let http = reqwest::Client::new();
    let today = Schedule::default().today(clock::wall()).date();
    let tomorrow = Day::from(today.saturating_add(jiff::Span::new().days(1))).to_string();
    let mut epoch = Value::Null;
    for space in [1, 2] {
        for act in ["hold", "release"].repeat(45) {
            let body = json!({"idSpazio": space, "sedeId": 1, "date": tomorrow, "slots": [1, 2, 3, 4, 5, 6, 7, 8, 9]});
            let call = http.post(format!("http://{}/api/slots/{act}", node.address)).bearer_auth(user("7"));
            let call = call.header("content-type", "application/json").body(body.to_string());
            let answer: Value = serde_json::from_str(&call.send().await.unwrap().text().await.unwrap()).unwrap();
            epoch = answer["data"]["epoch"].clone();
        }
    }
    let mut client = Client::connect(&node, &user("7")).await;
    let join = |space: u64| {
        let since = json!({"epoch": epoch, "version": 0});
        format!(
            "42{space}{}",
            json!(["join_space", {"spazioId": space, "sedeId": 1, "date": tomorrow, "since": since}])
        )
    };
    client.send(&[join(1), join(2)]).await;
    assert_eq!(client.event().await.0, "connection_confirmed");
    let (_, joined) = client.event().await;
    assert_eq!((&joined["version"], &joined["recovered"]), (&json!(810), &json!(true)));
    for version in 1..=810 {
        assert_eq!(client.event().await.1["version"], version);
    }
    assert!(client.packet().await.starts_with("431[{\"ok\":true"));
    assert_eq!(client.event().await.1["recovered"], false);
    assert_eq!(client.event().await.0, "slots_status_update");
    assert!(client.packet().await.starts_with("432[{\"ok\":true"));
}

#[tokio::test]
async fn events_beyond_the_rate_are_refused_malformed_ones_too() {
    let node = Node::start(|config| config.limits.event_rate = std::num::NonZeroU32::new(1)).await;
    let mut client = Client::connect(&node, &user("7")).await;
    assert_eq!(client.event().await.0, "connection_confirmed");
    let malformed: Vec<String> = (0..600).map(|_| format!("42{}", json!(["sync", {}, {}]))).collect();
    client.send(&malformed).await;
    let mut codes = Vec::new();
    for _ in 0..600 {
        codes.push(client.event().await.1["code"].clone());
    }
    assert!(codes[..512].iter().all(|code| code == "malformed"));
    assert!(codes[520..].iter().all(|code| code == "rate_limited"));
}

#[tokio::test]
async fn what_came_for_a_user_who_was_away_comes_first_in_order_and_once() {
    let node = Node::start(|_| {}).await;
    for event in ["one", "two"] {
        node.notify("7", event).await;
    }
    let mut client = Client::connect(&node, &user("7")).await;
    node.notify("7", "three").await;
    assert_eq!(client.names(3).await, ["one", "two", "three"]);
    // The client has received what a poll brought once it polls again.
    let poll = client.http.get(&client.url).timeout(PATIENCE).send();
    let waiting = tokio::spawn(async move { poll.await.unwrap().text().await.unwrap() });
    let received = async {
        while !node.store.messages_of(&UserId::new("7").unwrap(), None, usize::MAX).await.unwrap().messages.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, received).await.is_ok());
    let mut second = Client::connect(&node, &user("7")).await;
    node.notify("7", "four").await;
    assert_eq!(second.names(1).await, ["four"]);
    client.packets.extend(waiting.await.unwrap().split('\u{1e}').map(str::to_owned));
    assert_eq!(client.event().await.0, "four");
}

#[tokio::test]
async fn a_token_that_ends_soon_is_warned_of_at_once_and_again_only_for_a_new_one() {
    let node = Node::start(|_| {}).await;
    let ends_in = |seconds: i64| {
        let exp = clock::wall().as_millis() / 1_000 + seconds;
        token(json!({"id_utente": "7", "exp": exp}))
    };
    let mut client = Client::connect(&node, &ends_in(30)).await;
    assert_eq!(client.names(1).await, ["token_expiring"]);
    let refresh = |id: u64, token: String| format!("42{id}{}", json!(["refresh_token", {"token": token}]));
    client.send(&[refresh(1, ends_in(3_600)), refresh(2, user("8")), refresh(3, ends_in(40))]).await;
    assert!(client.packet().await.starts_with("431[{\"ok\":true"));
    assert!(client.packet().await.contains("forbidden"));
    assert!(client.packet().await.starts_with("433[{\"ok\":true"));
    assert_eq!(client.event().await.0, "token_expiring");
}

#[tokio::test]
async fn a_token_that_has_ended_ends_the_connection() {
    let node = Node::start(|_| {}).await;
    // The token has ended, but its leeway of ten seconds leaves time to connect.
    let exp = clock::wall().as_millis() / 1_000 - 5;
    let mut client = Client::connect(&node, &token(json!({"id_utente": "7", "exp": exp}))).await;
    assert_eq!(client.names(1).await, ["token_expiring"]);
    assert_eq!(client.packet().await, "41");
}

#[tokio::test]
async fn a_command_closes_the_sockets_that_a_user_has_and_no_later_one() {
    let node = Node::start(|_| {}).await;
    let mut clients = vec![Client::connect(&node, &user("7")).await, Client::connect(&node, &user("7")).await];
    let mut other = Client::connect(&node, &user("8")).await;
    node.store.publish(Publication::DisconnectUser(UserId::new("7").unwrap())).await.unwrap();
    for client in &mut clients {
        assert_eq!(client.event().await.0, "connection_confirmed");
        assert_eq!(client.packet().await, "41");
    }
    let mut later = Client::connect(&node, &user("7")).await;
    node.notify("7", "still").await;
    node.notify("8", "there").await;
    assert_eq!(later.names(1).await, ["still"]);
    assert_eq!(other.names(1).await, ["there"]);
}

#[tokio::test]
async fn a_node_that_leaves_refuses_new_sockets_and_ends_in_time() {
    let node = Node::start(|config| config.listen.drain_time = Duration::from_secs(5)).await;
    let mut client = Client::connect(&node, &user("7")).await;
    assert_eq!(client.event().await.0, "connection_confirmed");
    let polling = tokio::spawn(async move { client.http.get(&client.url).send().await.map(|poll| poll.status()) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    node.shutdown.cancel();
    // This is the node's drain time, and what a busy machine needs besides.
    let ended = tokio::time::timeout(Duration::from_secs(20), node.running).await;
    ended.expect("in time").unwrap().unwrap();
    let poll = polling.await.unwrap();
    assert!(
        poll.is_err() || matches!(poll, Ok(reqwest::StatusCode::SERVICE_UNAVAILABLE)),
        "cut, or too late: {poll:?}"
    );
    assert!(reqwest::get(format!("http://{}/socket.io/?EIO=4&transport=polling", node.address)).await.is_err());
}
