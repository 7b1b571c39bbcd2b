//! What the journal costs: Redis's CPU an act with it and without, by turns on one server, and the bytes of an entry in Redis
//! and in the file, as one line of JSON. `./scripts/bench journal` runs it and shows what it says.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a measurement")]

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use slotcast::domain::{
    Actor, Day, HoldToken, Origin, SiteId, SlotAct, SlotActKind, SlotNumber, SlotTime, SpaceId, SpaceKey, StoreTime,
    UserId,
};
use slotcast::store::embedded::EmbeddedStore;
use slotcast::store::redis::{RedisOptions, RedisStore};
use slotcast::store::{JournalBounds, SlotStore};

/// The sizes of the measurement.
struct Size {
    /// How often it is measured with and without, by turns: short turns, so that what else the machine does slows both.
    turns: u64,
    /// How many times a slot is held, booked and cancelled in one turn.
    rounds: u64,
    /// How many acts each of 50 callers does on the file.
    acts_of_a_caller: u32,
}

const WHOLE: Size = Size { turns: 41, rounds: 100, acts_of_a_caller: 800 };

/// The sizes with `--quick`, for trying.
const QUICK: Size = Size { turns: 5, rounds: 20, acts_of_a_caller: 200 };

/// How many users act.
const PEOPLE: u64 = 200;

const KEPT: JournalBounds = JournalBounds { days: 90, max: 1_000_000 };

const NOT_KEPT: JournalBounds = JournalBounds { days: 0, max: 1_000_000 };

fn act(user: &UserId, kind: SlotActKind) -> SlotAct {
    let start = StoreTime::from_millis(3_797_000_000_000);
    let number = SlotNumber::new(1).unwrap();
    SlotAct {
        space: SpaceKey { site: SiteId::new(1).unwrap(), space: SpaceId::new(1).unwrap() },
        day: Day::parse("2090-05-05").unwrap(),
        slots: vec![SlotTime { number, start, end: start.plus_millis(3_600_000), label: "09:00".into() }],
        revision: None,
        kind,
        idempotency: None,
        origin: Some(Origin {
            user: user.clone(),
            role: None,
            request_id: Some("9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d".into()),
        }),
    }
}

/// An act, again while a busy machine gives no answer in time.
async fn apply(store: &dyn SlotStore, act: SlotAct) {
    while store.apply(act.clone()).await.is_err() {}
}

/// Three acts, each of which changes something.
async fn round(store: &dyn SlotStore, number: u64) {
    let user = UserId::new(&format!("user-{}", number % PEOPLE)).unwrap();
    let token = HoldToken::from_random(u128::from(number).to_be_bytes());
    let own = || Actor::User(user.clone());
    let hold =
        SlotActKind::Hold { user: user.clone(), token, millis: 900_000, max_holds: Some(12), max_held: Some(64) };
    let cancel =
        SlotActKind::Release { actor: own(), token: None, booked_by: Some(Actor::Anyone), cancel_before: None };
    for kind in [hold, SlotActKind::Book { actor: own(), token: None }, cancel] {
        apply(store, act(&user, kind)).await;
    }
}

struct Server {
    port: u16,
    process: Child,
}

impl Server {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { port, process }
    }

    fn store(&self, journal: JournalBounds) -> RedisStore {
        let options = RedisOptions { journal, ..RedisOptions::default() };
        RedisStore::open(&format!("redis://127.0.0.1:{}", self.port), "slotcast", options).unwrap()
    }

    fn cli(&self, arguments: &[&str]) -> String {
        let output = Command::new("redis-cli").args(["-p", &self.port.to_string()]).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// No other key ends with this text.
    fn key(&self, end: &str) -> String {
        self.cli(&["KEYS", &format!("*:{end}")]).trim().to_owned()
    }

    /// The number that a command answers.
    fn number(&self, command: &[&str]) -> f64 {
        self.cli(command).trim().parse().unwrap()
    }

    /// The memory that a key takes.
    fn bytes(&self, key: &str) -> f64 {
        self.number(&["MEMORY", "USAGE", key, "SAMPLES", "0"])
    }

    /// The CPU time of the server's process, in microseconds.
    fn cpu(&self) -> f64 {
        let path = format!("/proc/{}/schedstat", self.process.id());
        let text = std::fs::read_to_string(path).unwrap();
        text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1_000.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Microseconds an act, of turns without the journal and with it, and how much more the latter are: medians.
struct Cost {
    without: Vec<f64>,
    with: Vec<f64>,
}

impl Cost {
    fn more_percent(&self) -> f64 {
        let pairs = self.without.iter().zip(&self.with);
        median(pairs.map(|(without, with)| (with / without - 1.0) * 100.0).collect())
    }
}

async fn measure_redis(size: &Size) -> serde_json::Value {
    let server = Server::start();
    let stores = [server.store(NOT_KEPT), server.store(KEPT)];
    for store in &stores {
        round(store, 0).await;
    }
    let mut cost = Cost { without: Vec::new(), with: Vec::new() };
    for turn in 0..size.turns {
        for (index, store) in stores.iter().enumerate() {
            let before = server.cpu();
            for number in 0..size.rounds {
                round(store, turn * size.rounds + number).await;
            }
            let micros = (server.cpu() - before) / (size.rounds * 3) as f64;
            [&mut cost.without, &mut cost.with][index].push(micros);
        }
    }
    let count = server.number(&["XLEN", &server.key("journal")]);
    serde_json::json!({
        "entries": count,
        "bytesAnEntry": server.bytes(&server.key("journal")) / count,
        "bytesAPerson": server.bytes(&server.key("people:*")) / PEOPLE as f64,
        "morePercent": cost.more_percent(),
        "microsWithout": median(cost.without),
        "microsWith": median(cost.with),
    })
}

/// Bytes of the file an entry: of files with the same acts, one with the journal and one without.
async fn measure_file(size: &Size) -> f64 {
    let mut sizes = Vec::new();
    for journal in [NOT_KEPT, KEPT] {
        let folder = tempfile::tempdir().unwrap();
        let store = std::sync::Arc::new(EmbeddedStore::open_with(folder.path(), journal).unwrap());
        let callers = (0..50_u64).map(|caller| {
            let store = store.clone();
            async move {
                for _ in 0..size.acts_of_a_caller {
                    let user = UserId::new(&format!("user-{caller}")).unwrap();
                    let kind =
                        SlotActKind::Update { to: slotcast::domain::act::StaffStatus::Blocked, data: None, user: None };
                    apply(store.as_ref(), act(&user, kind)).await;
                }
            }
        });
        futures_util::future::join_all(callers).await;
        drop(store);
        sizes.push(std::fs::metadata(folder.path().join("slotcast.redb")).unwrap().len() as f64);
    }
    (sizes[1] - sizes[0]) / f64::from(50 * size.acts_of_a_caller)
}

fn main() {
    let is_quick = std::env::args().any(|argument| argument == "--quick");
    let size = if is_quick { QUICK } else { WHOLE };
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let (redis, bytes_in_file) = (measure_redis(&size).await, measure_file(&size).await);
        println!("{}", serde_json::json!({ "redis": redis, "file": { "bytesAnEntry": bytes_in_file } }));
    });
}
