//! Real Redis servers on free ports of loopback, which tests start and stop, and a proxy that can fall silent.
//!
//! ```ignore
//! let redis = RedisServer::start(&["--requirepass", "secret"]);
//! redis.cli(&["-a", "secret", "PING"]);
//! redis.kill();   // kill -9
//! redis.restart();
//! ```
//!
//! Each process ends with its handle.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use slotcast::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::lateness;

/// How long a test waits for a server. Sentinels take the longest: they look at a replica every 10 s, and only after
/// the second look do they tell an old primary that came back to follow the new one.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program that tests start: `redis-server`, or the one that `SLOTCAST_TEST_REDIS_SERVER` names, such as Valkey's.
pub fn server_program() -> PathBuf {
    // Tests bound how long calls to a server may take, so lateness is watched from the first server on.
    lateness::watch();
    std::env::var_os("SLOTCAST_TEST_REDIS_SERVER").map_or_else(|| "redis-server".into(), PathBuf::from)
}

/// A server or a sentinel.
pub struct RedisServer {
    /// The port without TLS; 0 if there is none.
    pub port: u16,
    arguments: Vec<String>,
    process: Mutex<Option<Child>>,
    folder: tempfile::TempDir,
}

impl RedisServer {
    /// Starts with AOF and `appendfsync always`, and waits until it answers.
    pub fn start(more: &[&str]) -> Self {
        Self::start_on(free_port(), more)
    }

    fn start_on(port: u16, more: &[&str]) -> Self {
        let port_text = port.to_string();
        // With this a replica is in step at once. The server would otherwise wait for more replicas to share the first
        // copy with.
        let quick = ["--repl-diskless-sync-delay", "0"];
        let usual = ["--port", &port_text, "--appendonly", "yes", "--appendfsync", "always"];
        let server = Self::start_with(port, &[&usual[..], &quick, more].concat());
        server.wait_until_answering();
        // Another process may have taken the port before the server started, and may answer there.
        if server.is_ready() { server } else { Self::start_on(free_port(), more) }
    }

    /// Waits until the server's log says that it is ready. False if the server ended.
    fn is_ready(&self) -> bool {
        let log = self.folder.path().join("redis.log");
        let is_said = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("Ready to accept connections"));
        let has_ended = || self.lock().as_mut().is_none_or(|child| child.try_wait().expect("its state").is_some());
        wait_until("the server is ready or has ended", || is_said() || has_ended());
        is_said()
    }

    /// Starts with exactly these arguments and a folder for its files. Does not wait.
    pub fn start_with(port: u16, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let server = Self {
            port,
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            process: Mutex::new(None),
            folder,
        };
        server.restart();
        server
    }

    /// The folder of its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `redis://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts the process, again or for the first time.
    pub fn restart(&self) {
        let mut command = Command::new(server_program());
        command.args(&self.arguments).arg("--dir").arg(self.folder.path()).arg("--bind").arg("127.0.0.1");
        command.args(["--save", ""]).args(["--logfile", "redis.log"]);
        let child = command.stdout(Stdio::null()).spawn().expect("the server is installed");
        *self.lock() = Some(child);
    }

    /// `kill -9`
    pub fn kill(&self) {
        if let Some(mut child) = self.lock().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// `kill -STOP`: it answers nothing and ends nothing.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// `kill -CONT`
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.lock().as_ref().map(Child::id).expect("it runs").to_string();
        let status = Command::new("kill").args([signal, &id]).status().expect("kill");
        assert!(status.success());
    }

    /// Waits until the server answers anything.
    pub fn wait_until_answering(&self) {
        wait_until("redis-server answers", || {
            let answer = run_cli(self.port, &["PING"]);
            answer.contains("PONG") || answer.contains("NOAUTH")
        });
    }

    /// Runs a command with `redis-cli`. Answers what that printed.
    pub fn cli(&self, arguments: &[&str]) -> String {
        run_cli(self.port, arguments)
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

/// A primary, a replica, and three sentinels that watch the primary as `main`.
pub struct Sentinels {
    /// The data servers. The first is the primary at the start.
    pub servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl Sentinels {
    /// Starts and waits until every sentinel knows all others.
    pub fn start() -> Self {
        let primary = RedisServer::start(&[]);
        let replica = RedisServer::start(&["--replicaof", "127.0.0.1", &primary.port.to_string()]);
        wait_until("the replica is in step", || {
            replica.cli(&["INFO", "replication"]).contains("master_link_status:up")
        });
        let sentinels: Vec<RedisServer> = (0..3).map(|_| start_sentinel(primary.port)).collect();
        for sentinel in &sentinels {
            wait_until("the sentinels know each other", || {
                let known = sentinel.cli(&["SENTINEL", "MASTER", "main"]);
                field(&known, "num-other-sentinels") == "2" && field(&known, "num-slaves") == "1"
            });
        }
        Self { servers: vec![primary, replica], sentinels }
    }

    /// `redis-sentinel://..`
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port)).collect();
        format!("redis-sentinel://{}/main", hosts.join(","))
    }

    /// The port of the primary, as the sentinels tell it.
    pub fn primary_port(&self) -> u16 {
        let answer = self.sentinels[0].cli(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"]);
        answer.lines().nth(1).and_then(|port| port.trim().parse().ok()).expect("a primary")
    }
}

fn start_sentinel(primary: u16) -> RedisServer {
    let port = free_port();
    let sentinel = RedisServer::start_with(port, &[]);
    sentinel.kill();
    let file = sentinel.folder().join("sentinel.conf");
    // The sentinels call a primary dead after two seconds. A busy machine answers within that.
    let text = format!(
        "port {port}\nsentinel monitor main 127.0.0.1 {primary} 2\nsentinel down-after-milliseconds main 2000\n\
         sentinel failover-timeout main 5000\n"
    );
    std::fs::write(&file, text).expect("a file");
    let mut command = Command::new(server_program());
    command.arg(&file).arg("--sentinel").arg("--logfile").arg(sentinel.folder().join("sentinel.log"));
    *sentinel.lock() = Some(command.stdout(Stdio::null()).spawn().expect("the server is installed"));
    sentinel.wait_until_answering();
    sentinel
}

/// A cluster of three primaries.
pub struct Cluster {
    /// Its nodes.
    pub servers: Vec<RedisServer>,
}

impl Cluster {
    /// Starts and waits until every node knows that all is well.
    pub fn start() -> Self {
        let servers: Vec<RedisServer> = (0..3).map(|_| start_cluster_node()).collect();
        let addresses: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        let mut arguments = vec!["--cluster", "create"];
        arguments.extend(addresses.iter().map(String::as_str));
        arguments.push("--cluster-yes");
        let output = Command::new("redis-cli").args(&arguments).output().expect("redis-cli is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        for server in &servers {
            wait_until("the cluster is well", || server.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok"));
        }
        Self { servers }
    }

    /// The Cluster's URL, which names its first node. A client finds the others through it.
    pub fn url(&self) -> String {
        format!("redis-cluster://127.0.0.1:{}", self.servers[0].port)
    }
}

fn start_cluster_node() -> RedisServer {
    let (port, bus) = (free_port(), free_port());
    let bus = bus.to_string();
    let more = ["--cluster-enabled", "yes", "--cluster-port", &bus, "--cluster-node-timeout", "2000"];
    // When one node is lost, the others go on, so tests can see what a client does with them.
    RedisServer::start_on(port, &[&more[..], &["--cluster-require-full-coverage", "no"]].concat())
}

/// A certificate authority, and a certificate for 127.0.0.1 that it signed.
pub struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    /// Makes the authority and the certificate.
    pub fn make() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_key = rcgen::KeyPair::generate().expect("a key");
        let authority_certificate = authority.self_signed(&authority_key).expect("a certificate");
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("parameters");
        let certificate = certificate.signed_by(&key, &issuer).expect("a certificate");
        let made = Self { folder };
        std::fs::write(made.path("ca.pem"), authority_certificate.pem()).expect("a file");
        std::fs::write(made.path("server.pem"), certificate.pem()).expect("a file");
        std::fs::write(made.path("server.key"), key.serialize_pem()).expect("a file");
        made
    }

    /// `ca.pem`, `server.pem` or `server.key`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A proxy on a free port that can fall silent. Then it reads on and passes nothing on, so neither side sees an error.
pub struct Proxy {
    /// The address where it listens.
    pub address: SocketAddr,
    silent: Arc<watch::Sender<bool>>,
}

impl Proxy {
    /// Starts a proxy before a server.
    pub async fn start(server: u16) -> Self {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let silent = Arc::new(watch::Sender::new(false));
        let is_silent = silent.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { continue };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                // Silence applies only to connections that existed when it began.
                let (born_silent, silent) = (*is_silent.borrow(), is_silent.subscribe());
                tokio::spawn(pass_on(from_client, to_server, silent.clone(), born_silent));
                tokio::spawn(pass_on(from_server, to_client, silent, born_silent));
            }
        });
        Self { address, silent }
    }

    /// Silences the present connections. New ones are served.
    pub fn silence(&self) {
        self.silent.send_replace(true);
    }
}

async fn pass_on(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    silent: watch::Receiver<bool>,
    born_silent: bool,
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let is_silenced = *silent.borrow() && !born_silent;
        if !is_silenced && to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}

/// Waits until something holds, without blocking the runtime for long.
pub fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let deadline: Instant = clock::instant() + PATIENCE;
    while !holds() {
        assert!(clock::instant() < deadline, "in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A free port. Each port is handed out once in a process, so that tests that run at once get different ones.
pub fn free_port() -> u16 {
    // The ports are below the range that the kernel gives to clients. Processes that run at once begin at different
    // ports.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 10_000 + (std::process::id() % 1_000) as u16 * 20;
    loop {
        let port = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)).clamp(10_000, 32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn run_cli(port: u16, arguments: &[&str]) -> String {
    let output = Command::new("redis-cli").args(["-p", &port.to_string()]).args(arguments).output();
    let output = output.expect("redis-cli is installed");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The line after a name, in what `redis-cli` prints of a map.
fn field<'a>(printed: &'a str, name: &str) -> &'a str {
    let mut lines = printed.lines();
    lines.find(|line| *line == name).and_then(|_| lines.next()).unwrap_or_default()
}
