//! The generator's commands, each a line of JSON.

use std::net::SocketAddr;

use serde::Deserialize;

/// One line of the input, by its `command`.
#[derive(Debug, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Connects clients, and waits until they are connected or joined.
    Open(Open),
    /// Forgets the updates that were heard.
    Forget,
    /// Tells how many clients there are and what they heard since `forget`.
    Heard,
    /// Sends requests, and waits for their answers and for the updates that they cause.
    Publish(Publish),
    /// From now on, clients that lose their connection come back.
    ComeBack(ComeBack),
    /// Waits until all clients that were lost since `come_back` are back.
    AwaitBack {
        /// How long to wait, in ms.
        patience_ms: u64,
    },
    /// Closes all clients.
    Close,
}

/// Connects clients in addition to those that there are.
#[derive(Debug, Deserialize)]
pub struct Open {
    /// How many clients.
    pub count: usize,
    /// The addresses to connect to, in turn.
    pub targets: Vec<SocketAddr>,
    /// How many clients may be connecting at a time.
    pub parallel: usize,
    /// How many clients begin each second; 0 for as many as `parallel` allows.
    #[serde(default)]
    pub rate: u64,
    /// A file with one token a line; clients take them in turn.
    pub tokens: String,
    /// The spaces (of site 1) that the clients join in turn. If there is none, they join none.
    #[serde(default)]
    pub spaces: Vec<u64>,
    /// The day that `join_space` asks for; without one no snapshot is sent.
    #[serde(default)]
    pub date: Option<String>,
    /// Whether `join_space` leaves in the same write as the CONNECT, before the server has answered that.
    #[serde(default)]
    pub early: bool,
    /// How long to wait for all, in ms.
    pub patience_ms: u64,
}

/// Sends requests over connections that stay open.
#[derive(Debug, Deserialize)]
pub struct Publish {
    /// The addresses to connect to, in turn.
    pub targets: Vec<SocketAddr>,
    /// How many connections.
    pub connections: usize,
    /// How many requests are sent each second; 0 sends each connection's next one right after an answer.
    #[serde(default)]
    pub rate: u64,
    /// How long to send, in ms.
    #[serde(default)]
    pub for_ms: u64,
    /// Requests by connection: connection `i` goes round in list `i`, taken in turn.
    pub requests: Vec<Vec<Request>>,
    /// Whether each list is sent once, instead of repeatedly for `for_ms`.
    #[serde(default)]
    pub once: bool,
    /// How many clients hear each request that is answered with success.
    #[serde(default)]
    pub recipients: u64,
    /// How many requests may be ahead of their updates; 0 does not wait for updates.
    #[serde(default)]
    pub ahead: u64,
    /// The token of the requests.
    pub token: String,
}

/// One request. `@SENT@` in its body becomes the time at which it is sent, which comes back in the update.
#[derive(Clone, Debug, Deserialize)]
pub struct Request {
    /// Its method.
    pub method: String,
    /// Its path.
    pub path: String,
    /// The request's body, as JSON.
    pub body: String,
}

/// How clients come back: as `socket.io-client` does, whose defaults are 1,000 ms, 5,000 ms and 0.5.
#[derive(Clone, Debug, Deserialize)]
pub struct ComeBack {
    /// The addresses to connect to, in turn.
    pub targets: Vec<SocketAddr>,
    /// The pause before the first attempt in ms. It doubles before each further one.
    pub delay_ms: u64,
    /// The longest wait, in ms.
    pub delay_max_ms: u64,
    /// The fraction, from 0 to 1, by which a pause may be shorter or longer.
    pub randomization: f64,
}
