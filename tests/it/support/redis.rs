//! A real Redis server for one test.
//!
//! ```ignore
//! let server = RedisServer::start();
//! let store = server.store();
//! server.kill();      // kill -9
//! server.restart();   // with its append-only file
//! ```
//!
//! Each server has a free port of loopback and a folder of its own. The process and the folder end with the value.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use parking_lot::{Mutex, MutexGuard};
use slotcast::store::hub::{Hub, Watch};
use slotcast::store::redis::{RedisOptions, RedisStore, keys};
use slotcast::store::{Message, StoreError, Subscriptions, Topic};
use tempfile::TempDir;

use super::redis_server::{free_port, server_program};

/// A running Redis, which keeps everything (`appendonly`, `appendfsync always`) unless the arguments say otherwise.
pub struct RedisServer {
    port: u16,
    folder: TempDir,
    /// The process, or `None` while the server is down. The lock is held to start and end it.
    process: Mutex<Option<Child>>,
}

impl RedisServer {
    /// Starts on a free port.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts with more arguments.
    pub fn start_with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        // Another process may take the port before the server starts. Then the start fails, and another port is tried.
        for _ in 0..20 {
            let port = free_port();
            if let Some(child) = spawn(port, folder.path(), arguments) {
                return Self { port, folder, process: Mutex::new(Some(child)) };
            }
        }
        panic!("{} does not start: is it installed?", server_program().display());
    }

    /// One server for all tests of this process that need only a prefix of their own. It ends with the last of them.
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Mutex<Weak<RedisServer>>> = OnceLock::new();
        let mut shared = SHARED.get_or_init(Mutex::default).lock();
        shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(Self::start());
            *shared = Arc::downgrade(&server);
            server
        })
    }

    /// The address where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Its URL, as in `REDIS_URL`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// Opens a store with the prefix `slotcast`, like that of another node.
    pub fn store(&self) -> RedisStore {
        store_at(&self.url(), "slotcast")
    }

    /// Kills the process with `kill -9`.
    pub fn kill(&self) {
        if let Some(mut child) = self.lock().take() {
            child.kill().expect("killed");
            child.wait().expect("ended");
        }
    }

    /// Kills the process, and starts it again in the same folder with more arguments.
    pub fn restart_with(&self, arguments: &[&str]) {
        self.kill();
        *self.lock() = Some(spawn(self.port, self.folder.path(), arguments).expect("it starts again"));
    }

    /// Runs a command. Answers what the server said, with one line for each item of an array.
    pub fn cli(&self, arguments: &[&str]) -> String {
        ask(self.port, arguments).expect("an answer")
    }

    fn lock(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A Cluster of three primaries.
pub struct RedisCluster {
    servers: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts it, and waits until each server knows all the others.
    pub fn start() -> Self {
        let buses: Vec<u16> = (0..3).map(|_| free_port()).collect();
        let servers: Vec<RedisServer> = buses
            .iter()
            .map(|bus| RedisServer::start_with(&["--cluster-enabled", "yes", "--cluster-port", &bus.to_string()]))
            .collect();
        for (server, slots) in servers.iter().zip([("0", "5460"), ("5461", "10922"), ("10923", "16383")]) {
            assert_eq!(server.cli(&["CLUSTER", "ADDSLOTSRANGE", slots.0, slots.1]), "OK");
        }
        for (server, bus) in servers.iter().zip(&buses).skip(1) {
            let port = server.address().port().to_string();
            assert_eq!(servers[0].cli(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus.to_string()]), "OK");
        }
        let knows_all = |server: &RedisServer| {
            let info = server.cli(&["CLUSTER", "INFO"]);
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
        };
        for _ in 0..2_000 {
            if servers.iter().all(knows_all) {
                return Self { servers };
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the cluster does not come together");
    }

    /// One Cluster for all tests of this process that need only a prefix of their own. It ends with the last of them.
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Mutex<Weak<RedisCluster>>> = OnceLock::new();
        let mut shared = SHARED.get_or_init(Mutex::default).lock();
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    /// The servers.
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// The Cluster's URL, which names its first server.
    pub fn url(&self) -> String {
        self.servers.first().expect("a server").url().replacen("redis://", "redis-cluster://", 1)
    }

    /// The servers' addresses.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(RedisServer::url).collect()
    }

    /// Opens a store with a prefix, like that of another node.
    pub async fn store(&self, prefix: &str) -> RedisStore {
        RedisStore::open(&self.url(), prefix, RedisOptions::default()).expect("an address and a prefix")
    }
}

/// Opens a store with a prefix.
pub fn store_at(url: &str, prefix: &str) -> RedisStore {
    RedisStore::open(url, prefix, RedisOptions::default()).expect("an address and a prefix")
}

/// Starts a server, and waits until it answers. `None` if its process ends. Another server on the port is not taken for
/// it.
fn spawn(port: u16, folder: &Path, arguments: &[&str]) -> Option<Child> {
    let mut child = Command::new(server_program())
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(folder)
        .args(["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--daemonize", "no"])
        .args(["--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes"])
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .expect("the server is installed");
    loop {
        if child.try_wait().expect("its state").is_some() {
            return None;
        }
        // Until then it loads its data, or does not listen yet.
        let is_up = ask(port, &["PING"]).is_some_and(|answer| answer.trim() == "PONG");
        let its_own = format!("process_id:{}\r\n", child.id());
        if is_up && ask(port, &["INFO", "server"]).is_some_and(|answer| answer.contains(&its_own)) {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Sends one command and reads its answer.
fn ask(port: u16, arguments: &[&str]) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut request = format!("*{}\r\n", arguments.len());
    for argument in arguments {
        request.push_str(&format!("${}\r\n{argument}\r\n", argument.len()));
    }
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    read_answer(&mut BufReader::new(stream), &mut text)?;
    Some(text)
}

fn read_answer(reader: &mut impl BufRead, text: &mut String) -> Option<()> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let (kind, rest) = line.trim_end().split_at_checked(1)?;
    match kind {
        "+" | ":" | "-" => text.push_str(rest),
        "$" => {
            let Ok(length) = rest.parse::<usize>() else { return Some(()) };
            let mut bytes = vec![0; length + 2];
            reader.read_exact(&mut bytes).ok()?;
            text.push_str(&String::from_utf8_lossy(&bytes[..length]));
        }
        "*" => {
            for _ in 0..rest.parse::<i64>().ok()? {
                read_answer(reader, text)?;
                text.push('\n');
            }
        }
        _ => return None,
    }
    Some(())
}

/// Announcements by plain Redis pub/sub: one connection that hears every channel of the prefix.
pub struct PlainSubscriptions {
    hub: Hub,
    listening: tokio::task::JoinHandle<()>,
}

impl PlainSubscriptions {
    /// Subscribes to every channel of a prefix. From its return on, no message is missed.
    pub async fn connect(url: &str, prefix: &str) -> Self {
        Self::connect_through(url, prefix, |hub, topic, message| hub.announce(topic, message)).await
    }

    /// The same, but each message goes through a function before the watchers get it.
    pub async fn connect_through(
        url: &str,
        prefix: &str,
        mut hear: impl FnMut(&Hub, Topic, Message) + Send + 'static,
    ) -> Self {
        let mut connection = redis::Client::open(url).expect("an address").get_async_pubsub().await.expect("a server");
        connection.psubscribe(format!("{prefix}:{{b*")).await.expect("a subscription");
        let hub = Hub::default();
        let (listener, prefix) = (hub.clone(), prefix.to_owned());
        let listening = tokio::spawn(async move {
            let mut messages = connection.into_on_message();
            while let Some(message) = messages.next().await {
                let topic = keys::topic_of_channel(&prefix, message.get_channel_name());
                let parsed = keys::parse_message(message.get_payload_bytes());
                hear(&listener, topic.expect("a channel of ours"), parsed.expect("a payload of ours"));
            }
        });
        Self { hub, listening }
    }
}

#[async_trait]
impl Subscriptions for PlainSubscriptions {
    async fn watch(&self, topic: Topic) -> Result<Watch, StoreError> {
        Ok(self.hub.watch(topic))
    }
}

impl Drop for PlainSubscriptions {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// A proxy before a server. It loses replies, and delivers requests late.
pub struct LossyProxy {
    address: SocketAddr,
    plans: Arc<Mutex<Vec<Plan>>>,
    late: Arc<Mutex<Vec<LateRequest>>>,
    accepting: tokio::task::JoinHandle<()>,
}

/// What happens to the next request with a text.
struct Plan {
    text: &'static str,
    how: Loss,
}

#[derive(Clone, Copy)]
enum Loss {
    Reply,
    HeldBack,
}

/// A request that was held back. The server gets it when the test says so, over the connection on which it was sent.
struct LateRequest {
    request: Vec<u8>,
    server: tokio::net::TcpStream,
}

impl LossyProxy {
    /// Starts a proxy before a server.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (plans, late) = (Arc::<Mutex<Vec<Plan>>>::default(), Arc::<Mutex<Vec<LateRequest>>>::default());
        let (of_carriers, for_later) = (plans.clone(), late.clone());
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (plans, late) = (of_carriers.clone(), for_later.clone());
                tokio::spawn(async move { carry(client, server, &plans, &late).await });
            }
        });
        Self { address, plans, late, accepting }
    }

    /// Its URL, as in `REDIS_URL`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Passes on the next request with this text, and closes the connection instead of passing on the reply.
    pub fn lose_reply_of(&self, request_with: &'static str) {
        self.plans.lock().push(Plan { text: request_with, how: Loss::Reply });
    }

    /// Closes the connection of the next request with this text, and holds the request back until
    /// [`Self::deliver_late`].
    pub fn hold_back(&self, request_with: &'static str) {
        self.plans.lock().push(Plan { text: request_with, how: Loss::HeldBack });
    }

    /// Delivers the requests that were held back. Answers what the server replied to each.
    pub async fn deliver_late(&self) -> Vec<String> {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let late = std::mem::take(&mut *self.late.lock());
        let mut answers = Vec::new();
        for LateRequest { request, mut server } in late {
            server.write_all(&request).await.expect("the server takes it");
            let mut reply = vec![0; 1 << 16];
            let length = server.read(&mut reply).await.expect("the server answers");
            answers.push(String::from_utf8_lossy(&reply[..length]).into_owned());
        }
        answers
    }

    /// Whether every loss that was asked for has happened.
    pub fn has_lost_all(&self) -> bool {
        self.plans.lock().is_empty()
    }
}

impl Drop for LossyProxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn carry(
    mut client: tokio::net::TcpStream,
    server: SocketAddr,
    plans: &Mutex<Vec<Plan>>,
    late: &Mutex<Vec<LateRequest>>,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let Ok(mut server) = tokio::net::TcpStream::connect(server).await else { return };
    let (mut request, mut reply) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let Ok(length @ 1..) = read else { return };
                let bytes = &request[..length];
                let loss = {
                    let mut plans = plans.lock();
                    let found = plans.iter().position(|plan| contains(bytes, plan.text.as_bytes()));
                    found.map(|index| plans.remove(index).how)
                };
                if let Some(Loss::HeldBack) = loss {
                    late.lock().push(LateRequest { request: bytes.to_vec(), server });
                    return;
                }
                if server.write_all(bytes).await.is_err() {
                    return;
                }
                if loss.is_some() {
                    // The server has answered, so it has run the request. The client never hears of it.
                    let _ = server.read(&mut reply).await;
                    return;
                }
            }
            read = server.read(&mut reply) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&reply[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}
