//! Acts per second through the Redis store, against the ceiling: the same script with the same arguments, driven by
//! `redis-benchmark` on the same server in the same run.
//!
//! `cargo bench --bench redis_acts` prints a line each. It needs `redis-server` and `redis-benchmark`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench that cannot be set up fails here")]
#![allow(clippy::print_stdout, reason = "its result")]
#![allow(missing_docs, reason = "nobody imports a bench")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use slotcast::clock;
use slotcast::domain::act::StaffStatus;
use slotcast::domain::{Day, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey, StoreTime};
use slotcast::store::SlotStore;
use slotcast::store::redis::{RedisOptions, RedisStore};

/// Callers at a time.
const CALLERS: usize = 64;

/// How long the store is driven.
const DURATION: Duration = Duration::from_secs(4);

/// The index of the act's deadline in its `EVALSHA`: after the name, the hash, the count, thirteen keys and four arguments.
const DEADLINE_AT: usize = 3 + 13 + 4;

fn main() {
    for (fsync, arguments) in [("no AOF", ["--appendonly", "no"]), ("appendfsync always", ["--appendfsync", "always"])]
    {
        let server = Server::start(&arguments);
        let store_rate = drive_store(server.port);
        let script = record_act(server.port);
        for pipeline in ["1", "16"] {
            let ceiling = drive_script(server.port, &script, pipeline);
            println!(
                "{fsync}: {store_rate:.0} acts/s through the store, {ceiling:.0} by redis-benchmark -c {CALLERS} -P {pipeline}: {:.2}",
                store_rate / ceiling
            );
        }
    }
}

fn act() -> SlotAct {
    let start = StoreTime::from_millis(3_797_000_000_000);
    let slot = SlotTime {
        number: SlotNumber::new(1).unwrap(),
        start,
        end: start.plus_millis(3_600_000),
        label: "09:00".into(),
    };
    SlotAct {
        space: SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(1).unwrap() },
        day: Day::parse("2090-05-05").unwrap(),
        slots: vec![slot],
        revision: None,
        kind: SlotActKind::Update { to: StaffStatus::Blocked, data: None, user: None },
        idempotency: None,
        origin: None,
    }
}

fn store_at(port: u16) -> RedisStore {
    RedisStore::open(&format!("redis://127.0.0.1:{port}"), "slotcast", RedisOptions::default()).unwrap()
}

/// Acts per second through the store, whose callers wait for their answers.
fn drive_store(port: u16) -> f64 {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = Arc::new(store_at(port));
        store.apply(act()).await.unwrap();
        let began = clock::instant();
        let callers = (0..CALLERS).map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut done = 0_u32;
                while clock::instant() - began < DURATION {
                    store.apply(act()).await.unwrap();
                    done += 1;
                }
                done
            })
        });
        let mut done = 0;
        for caller in callers.collect::<Vec<_>>() {
            done += caller.await.unwrap();
        }
        f64::from(done) / (clock::instant() - began).as_secs_f64()
    })
}

/// One act's `EVALSHA` as the store sends it, with a deadline that never comes.
fn record_act(port: u16) -> Vec<String> {
    let recorder = TcpListener::bind("127.0.0.1:0").unwrap();
    let recorder_port = recorder.local_addr().unwrap().port();
    let recording = std::thread::spawn(move || {
        let (mut client, _) = recorder.accept().unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut replies = server.try_clone().unwrap();
        let mut to_client = client.try_clone().unwrap();
        std::thread::spawn(move || std::io::copy(&mut replies, &mut to_client));
        let mut recorded = Vec::new();
        let mut buffer = [0; 16_384];
        while let Ok(length @ 1..) = client.read(&mut buffer) {
            recorded.extend_from_slice(&buffer[..length]);
            server.write_all(&buffer[..length]).unwrap();
        }
        String::from_utf8(recorded).unwrap()
    });
    tokio::runtime::Runtime::new().unwrap().block_on(async { store_at(recorder_port).apply(act()).await.unwrap() });
    let recorded = recording.join().unwrap();
    let last = recorded.rfind("\r\nEVALSHA\r\n").unwrap() + 2;
    // The name comes first, then length and text by turns.
    let mut arguments: Vec<String> = recorded[last..].split("\r\n").step_by(2).map(str::to_owned).collect();
    if arguments.last().is_some_and(String::is_empty) && recorded.ends_with("\r\n") {
        arguments.pop();
    }
    arguments[DEADLINE_AT] = "99999999999999".into();
    arguments
}

/// Runs of the script per second by `redis-benchmark`.
fn drive_script(port: u16, script: &[String], pipeline: &str) -> f64 {
    let output = Command::new("redis-benchmark")
        .args(["-p", &port.to_string(), "-c", &CALLERS.to_string(), "-P", pipeline, "-n", "40000", "--csv"])
        .args(script)
        .output()
        .expect("redis-benchmark is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().last().unwrap_or_else(|| panic!("no result: {output:?}")).to_owned();
    // The command comes first, perhaps with commas in it, then the rate and six latencies.
    let fields: Vec<&str> = line.rsplitn(8, ',').collect();
    fields[6].trim_matches('"').parse().unwrap_or_else(|_| panic!("no rate in {line:?}"))
}

struct Server {
    port: u16,
    process: Child,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--dir"])
            .arg(folder.path())
            .args(arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { port, process, _folder: folder }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
